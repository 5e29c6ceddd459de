"""What a route of the table says of itself."""

from __future__ import annotations

from typing import Any, Final

import msgspec

JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"
PROBLEM: Final = "application/problem+json"

CREDENTIALS: Final = ("none", "optional", "needed")
"""Whether a route looks at a token. `optional`: a namespace may be open to anyone."""


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """Something a request says beside its body: in the `path`, the `query` or a `header`."""

    name: str
    place: str
    kind: Any = str
    meaning: str
    example: Any = None
    is_needed: bool = False
    may_repeat: bool = False


class Content(msgspec.Struct, frozen=True):
    """A body: its media type, what is in it (any type msgspec knows, or one of several;

    None: bytes or text as they are), an example.
    """

    media_type: str
    kind: Any = None
    example: Any = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that is no error. `headers` are those beyond what every answer has, each with its meaning."""

    status: int = 200
    meaning: str
    contents: tuple[Content, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one path.

    `operation` is its name, by which the dispatcher finds what serves it. `path` is a template: `{channel}` stands for
    one percent-encoded segment. `errors` are the names of `hybrid.errors` that it can answer with, beside those that
    every route shares and those of its credential. `repeats` says what happens when the request comes twice.
    """

    operation: str
    method: str
    path: str
    group: str
    summary: str
    text: str = ""
    credential: str = "needed"
    scope: str = ""
    parameters: tuple[Parameter, ...] = ()
    takes: tuple[Content, ...] = ()
    answers: tuple[Answer, ...]
    errors: tuple[str, ...] = ()
    repeats: str = ""
    has_head: bool = False

    @property
    def segments(self) -> tuple[str, ...]:
        """The template's parts, without the empty one before the first slash."""
        return tuple(self.path.split("/")[1:])

    @property
    def all_errors(self) -> tuple[str, ...]:
        """Every error that it can answer with, by name."""
        shared: tuple[str, ...] = EVERYWHERE
        if self.credential != "none":
            shared += WITH_CREDENTIAL
        if self.takes:
            shared += WITH_BODY
        return tuple(dict.fromkeys((*self.errors, *shared)))


EVERYWHERE: Final = ("bad_request", "origin_refused", "internal")
"""A token in the URL or a malformed query; a page, or a name of this server, that is not in the lists; a fault."""
WITH_CREDENTIAL: Final = (
    "unauthorized",
    "proof_refused",
    "token_expired",
    "token_refused",
    "forbidden_or_revoked",
    "limit_exceeded",
    "rate_limited",
    "keys_unavailable",
    "broker_unavailable",
    "draining",
)
"""What the check of a token says: also that its issuer, or where used proofs are kept, cannot be asked."""
WITH_BODY: Final = ("too_large",)
