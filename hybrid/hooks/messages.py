"""What stands in the bodies: questions, answers, events. docs/webhooks.md shows each; a test compares.

Unknown members of an answer are ignored, so that a backend may say more to itself; members of ours with a wrong type
make the whole answer void, for what was meant can then only be guessed.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from hybrid.auth.grants import GRANTS_MAX
from hybrid.model import Principal

REASON_MAX: Final = 200
"""Characters of a reason: it travels in a close frame or a problem document, to whoever was refused."""
CACHE_MAX_S: Final = 86_400.0
"""However long a backend wants an answer to be used."""

EVENTS: Final = ("connected", "disconnected", "occupied", "vacated")
"""All that can be told."""
EventType = Literal["connected", "disconnected", "occupied", "vacated"]

_Seconds = Annotated[float, Meta(ge=0)]
_Patterns = Annotated[list[str], Meta(max_length=GRANTS_MAX)]


class Who(msgspec.Struct, frozen=True, omit_defaults=True):
    """A principal, without anything that could be used in its place."""

    issuer: str
    subject: str
    client: str = ""
    expires_at: float | None = None
    """Unix seconds."""
    sign_in: str = ""


class AskConnect(msgspec.Struct, frozen=True, tag="connect", tag_field="ask"):
    """May this token come in? `claims` are the token's, verified."""

    principal: Who
    claims: dict[str, Any]


class AskSubscribe(msgspec.Struct, frozen=True, tag="subscribe", tag_field="ask"):
    """May it read this channel, its history and presence?"""

    principal: Who
    channel: str


class AskPublish(msgspec.Struct, frozen=True, tag="publish", tag_field="ask"):
    """May it write to this channel?"""

    principal: Who
    channel: str


class AskCall(msgspec.Struct, frozen=True, tag="call", tag_field="ask", omit_defaults=True):
    """What does this call give? `key` recognises a repeat."""

    principal: Who
    name: str
    data: msgspec.Raw
    key: str | None = None


class Grants(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Channels that may be read and written: names, or a prefix and one `*`."""

    subscribe: _Patterns = []
    publish: _Patterns = []


class Answer(msgspec.Struct, frozen=True):
    """To `connect`, `subscribe` and `publish`. `grants`, `channels` and `expires_in_s` count for `connect` only."""

    allow: bool
    reason: str = ""
    cache_s: _Seconds = 0.0
    grants: Grants | None = None
    channels: _Patterns | None = None
    """Names of those that its sessions are subscribed to when they begin, and which it may read."""
    expires_in_s: _Seconds | None = None


class CallAnswer(msgspec.Struct, frozen=True):
    """To `call`: the result, or why there is none."""

    result: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"null"))  # a schema could not show it
    error: str = ""


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that happened. `id` is its own; `at_ms` Unix milliseconds."""

    type: EventType
    id: str
    at_ms: int
    session: str = ""
    principal: Who | None = None
    transport: str = ""
    reason: str = ""
    channel: str = ""


class Told(msgspec.Struct, frozen=True):
    """One batch of events. `dropped` were lost before it, for want of room or time."""

    node: str
    events: tuple[Event, ...]
    dropped: int = 0


def who(principal: Principal) -> Who:
    """A principal as a backend is told of it."""
    ends = principal.expires_at_s
    expires_at = None if ends == float("inf") else ends
    return Who(principal.issuer, principal.subject, principal.client, expires_at, principal.sign_in)


def reason_of(text: str) -> str:
    """A backend's reason as it may be told to a client: printable, and not too long."""
    return "".join(c if c.isprintable() else " " for c in text[:REASON_MAX]).strip()
