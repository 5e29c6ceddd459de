"""What a token's scope permits. Pure: no I/O, no clock, no tokens.

A scope that concerns us is one of

    hybrid:subscribe:<pattern>      read a channel, and its history and presence where the namespace offers them
    hybrid:publish:<pattern>        publish to a channel
    hybrid:revoke                   revoke tokens of the same issuer, and end their sessions
    hybrid:metrics                  read what the server counts

or, for who manages the server (docs/server-api.md), one of

    hybrid:channels:<pattern>       see which channels are in use, and by how many
    hybrid:purge:<pattern>          empty the history of a channel
    hybrid:assign:<pattern>         subscribe others to a channel, and unsubscribe them
    hybrid:sessions                 see who is connected
    hybrid:disconnect               end what others have open
    hybrid:nodes                    see the nodes
    hybrid:drain                    send the clients of a node to the others
    hybrid:admin                    look at /admin: what all nodes count

where `<pattern>` is the exact name of a channel, or a prefix followed by one `*` at its end. A scope token holds
visible ASCII without `"` and `\\` (RFC 6749, section 3.3), so everything else in a name is percent-encoded, and
`%` always is. `{sub}` and `{client_id}` stand for the token's own subject and client, as `encoded_name` writes them:
`hybrid:subscribe:user:{sub}` is everybody's own channel. Scopes of other kinds are somebody else's and are ignored; one
of ours that cannot be read makes the whole scope unusable, because what was meant to be granted can then only be
guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, Literal
from urllib.parse import quote, unquote_to_bytes

from hybrid.limits import CHANNEL_NAME_MAX_BYTES
from hybrid.model import Grant, Principal

Action = Literal[
    "subscribe",
    "publish",
    "revoke",
    "metrics",
    "channels",
    "purge",
    "assign",
    "sessions",
    "disconnect",
    "nodes",
    "drain",
    "admin",
]

GRANTS_MAX: Final = 256
"""Grants of one token: as many as a session may have channels, and all that an 8 KB token has room for."""

REVOKE_SCOPE: Final = "hybrid:revoke"
METRICS_SCOPE: Final = "hybrid:metrics"

_PREFIXES: Final[tuple[tuple[str, Action], ...]] = (
    ("hybrid:subscribe:", "subscribe"),
    ("hybrid:publish:", "publish"),
    ("hybrid:channels:", "channels"),
    ("hybrid:purge:", "purge"),
    ("hybrid:assign:", "assign"),
)
_WHOLE: Final[dict[str, Action]] = {
    REVOKE_SCOPE: "revoke",
    METRICS_SCOPE: "metrics",
    "hybrid:sessions": "sessions",
    "hybrid:disconnect": "disconnect",
    "hybrid:nodes": "nodes",
    "hybrid:drain": "drain",
    "hybrid:admin": "admin",
}
"""Scopes without a pattern: they are not about channels."""
_SCOPES: Final = {action: scope for scope, action in _WHOLE.items()}
MANAGING_SCOPES: Final = (
    *("hybrid:channels:*", "hybrid:purge:*", "hybrid:assign:*"),
    *("hybrid:sessions", "hybrid:disconnect", "hybrid:nodes", "hybrid:drain", "hybrid:admin"),
)
"""All that can be granted to who manages the server, beside REVOKE_SCOPE."""
ADMIN_SCOPE: Final = " ".join(("hybrid:publish:*", REVOKE_SCOPE, *MANAGING_SCOPES))
"""All that can be done on the page `/admin`, as one scope string."""
_BRACES: Final = re.compile(r"\{([A-Za-z0-9_.:/-]+)\}")
_ENCODED: Final = re.compile(r"(?:[\x21\x23-\x24\x26-\x5b\x5d-\x7e]|%[0-9A-Fa-f]{2})+")
_PLAIN: Final = frozenset(range(0x21, 0x7F)) - frozenset(b'"\\%*')


class ScopeError(ValueError):
    """A scope of ours cannot be read, or there are too many. Its message never quotes the scope."""


def scopes_to_grants(scope: str, names: Mapping[str, str] | None = None) -> tuple[Grant, ...]:
    """The grants that a scope string gives, in its order, without repeats; at most `GRANTS_MAX`.

    `names` are what `{sub}` and `{client_id}` stand for; without them such a pattern is read as it is written. Raises
    ScopeError if one of our scopes has a malformed pattern or there are too many of them.
    """
    grants: dict[Grant, None] = {}
    for item in scope.split(" "):
        if item in _WHOLE:
            grants[Grant(_WHOLE[item], "*")] = None
        for prefix, action in _PREFIXES:
            if item.startswith(prefix):
                grants[Grant(action, _decoded(item[len(prefix) :], names))] = None
                break
        if len(grants) > GRANTS_MAX:
            raise ScopeError(f"more than {GRANTS_MAX} grants")
    return tuple(grants)


def grant_to_scope(grant: Grant) -> str:
    """The scope token that `scopes_to_grants` reads back as this grant."""
    if grant.action in _SCOPES:
        return _SCOPES[grant.action]
    is_prefix = grant.pattern.endswith("*")
    name = grant.pattern[:-1] if is_prefix else grant.pattern
    encoded = "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in name.encode())
    return f"hybrid:{grant.action}:{encoded}{'*' if is_prefix else ''}"


def is_granted(principal: Principal, action: Action, channel: str) -> bool:
    """True when one of the principal's grants permits the action on the channel. Does not look at any clock."""
    for grant in principal.grants:
        if grant.action == action:
            pattern = grant.pattern
            if pattern == channel or (pattern[-1:] == "*" and channel.startswith(pattern[:-1])):
                return True
    return False


def is_covered(grant: Grant, by: Grant) -> bool:
    """True when whatever `grant` permits, `by` permits too."""
    if grant.action != by.action:
        return False
    return grant.pattern == by.pattern or (by.pattern.endswith("*") and grant.pattern.startswith(by.pattern[:-1]))


def names_in(pattern: str) -> tuple[str, ...]:
    """The names in braces of a pattern, or of a whole scope."""
    return tuple(_BRACES.findall(pattern)) if "{" in pattern else ()


def encoded_name(value: str) -> str:
    """A value as it stands in a channel's name: letters, digits and `-._~@|+` as they are, all else percent-encoded.

    Two values never give one name, and none can be taken for a separator or a wildcard.
    """
    return quote(value, safe="@|+", errors="surrogatepass")


def filled(pattern: str, names: Mapping[str, str], encode: Callable[[str], str] = encoded_name) -> str:
    """The pattern with every `{name}` that is in `names` replaced by its value, encoded.

    An empty value is a fault: `user:{sub}` would become somebody else's, or everybody's; so is a `*` right behind a
    name, without a separator. Raises ScopeError.
    """

    if pattern.endswith("}*") and _BRACES.search(pattern) and pattern[:-1].endswith(_filling(names)):
        raise ScopeError("a wildcard right behind a name: kim would be given what is kimberly's")

    def fill(found: re.Match[str]) -> str:
        if found[1] not in names:
            return found[0]
        if not names[found[1]]:
            raise ScopeError("a pattern that names a claim which is empty")
        return encode(names[found[1]])

    return _BRACES.sub(fill, pattern) if "{" in pattern else pattern


def _filling(names: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"{{{name}}}" for name in names)


def parse_pattern(text: str) -> str:
    """A pattern written as it is: a channel's name, or a prefix and one `*`. Raises ScopeError."""
    name = text.removesuffix("*")
    if "*" in name or len(name.encode("utf-8", "surrogatepass")) > CHANNEL_NAME_MAX_BYTES or not text:
        raise ScopeError("a pattern that no channel's name can match")
    return text


def _decoded(text: str, names: Mapping[str, str] | None) -> str:
    """A pattern as it stands in a scope: percent-encoded, values like everything else."""
    return _pattern(filled(text, names, lambda value: encoded_name(value).replace("%", "%25")) if names else text)


def _pattern(text: str) -> str:
    is_prefix = text.endswith("*")
    if is_prefix:
        text = text[:-1]
    if text:
        if "*" in text or not _ENCODED.fullmatch(text):
            raise ScopeError("a pattern with characters that it may not have")
        raw = unquote_to_bytes(text)
        if len(raw) > CHANNEL_NAME_MAX_BYTES or b"*" in raw:
            raise ScopeError("a pattern that no channel's name can match")
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            raise ScopeError("a pattern that is not UTF-8") from None
    elif not is_prefix:
        raise ScopeError("an empty pattern")
    return text + "*" if is_prefix else text
