"""What a token's scope permits. Pure: no I/O, no clock, no tokens.

A scope that concerns us is one of

    hybrid:subscribe:<pattern>      read a channel, and its history and presence where the namespace offers them
    hybrid:publish:<pattern>        publish to a channel

where `<pattern>` is the exact name of a channel, or a prefix followed by one `*` at its end. A scope token holds
visible ASCII without `"` and `\\` (RFC 6749, section 3.3), so everything else in a name is percent-encoded, and
`%` always is. Scopes of other kinds are somebody else's and are ignored; one of ours that cannot be read makes the
whole scope unusable, because what was meant to be granted can then only be guessed.
"""

from __future__ import annotations

import re
from typing import Final, Literal
from urllib.parse import unquote_to_bytes

from hybrid.limits import CHANNEL_NAME_MAX_BYTES
from hybrid.model import Grant, Principal

Action = Literal["subscribe", "publish"]

GRANTS_MAX: Final = 256
"""Grants of one token: as many as a session may have channels, and all that an 8 KB token has room for."""

_PREFIXES: Final[tuple[tuple[str, Action], ...]] = (
    ("hybrid:subscribe:", "subscribe"),
    ("hybrid:publish:", "publish"),
)
_ENCODED: Final = re.compile(r"(?:[\x21\x23-\x24\x26-\x5b\x5d-\x7e]|%[0-9A-Fa-f]{2})+")
_PLAIN: Final = frozenset(range(0x21, 0x7F)) - frozenset(b'"\\%*')


class ScopeError(ValueError):
    """A scope of ours cannot be read, or there are too many. Its message never quotes the scope."""


def scopes_to_grants(scope: str) -> tuple[Grant, ...]:
    """The grants that a scope string gives, in its order, without repeats; at most `GRANTS_MAX`.

    Raises ScopeError if one of our scopes has a malformed pattern or there are too many of them.
    """
    grants: dict[Grant, None] = {}
    for item in scope.split(" "):
        for prefix, action in _PREFIXES:
            if item.startswith(prefix):
                grants[Grant(action, _pattern(item[len(prefix) :]))] = None
                if len(grants) > GRANTS_MAX:
                    raise ScopeError(f"more than {GRANTS_MAX} grants")
                break
    return tuple(grants)


def grant_to_scope(grant: Grant) -> str:
    """The scope token that `scopes_to_grants` reads back as this grant."""
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
