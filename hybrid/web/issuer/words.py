"""Sentences for people: what a scope permits, and names to take."""

from __future__ import annotations

from hashlib import sha256
from typing import Final, NamedTuple

from hybrid.auth.grants import scopes_to_grants

_FIRST: Final = ("quiet", "bright", "swift", "gentle", "clever", "merry", "patient", "bold")
_SECOND: Final = ("heron", "otter", "lynx", "robin", "marten", "curlew", "badger", "swallow")
_ACTIONS: Final = {
    "subscribe": "Read",
    "publish": "Publish to",
    "channels": "See the use of",
    "purge": "Empty the history of",
    "assign": "Subscribe others to",
}
_WHOLE: Final = {
    "revoke": "Revoke tokens and end the sessions of others",
    "metrics": "Read what the server counts",
    "sessions": "See who is connected",
    "disconnect": "End the connections of others",
    "nodes": "See the nodes of the server",
    "drain": "Send the clients of a node to the others",
    "admin": "Look at what all nodes count",
}


class Permission(NamedTuple):
    """One line of what is asked for: `words`, and `name`, that of a channel or the beginning of names, or ""."""

    words: str
    name: str


def permissions(scope: str) -> list[Permission]:
    """What a scope permits, line by line, in its order. Raises ScopeError, which a checked scope does not."""
    lines = []
    for grant in scopes_to_grants(scope):
        if grant.action in _WHOLE:
            lines.append(Permission(_WHOLE[grant.action], ""))
            continue
        verb, pattern = _ACTIONS[grant.action], grant.pattern
        if pattern == "*":
            lines.append(Permission(f"{verb} every channel", ""))
        elif pattern.endswith("*"):
            lines.append(Permission(f"{verb} the channels that begin with", pattern[:-1]))
        else:
            lines.append(Permission(f"{verb} the channel", pattern))
    return lines


def suggested_name(browser_id: str) -> str:
    """A name to sign in with, the same for a browser each time."""
    digest = sha256(browser_id.encode()).digest()
    return f"{_FIRST[digest[0] % len(_FIRST)]}-{_SECOND[digest[1] % len(_SECOND)]}"
