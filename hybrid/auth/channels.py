"""Channels that a token, or the backend's word on it, names: its sessions are told to be on them, and may be.

Names, not patterns: nobody can be on all channels that begin so.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hybrid.auth.grants import GRANTS_MAX, ScopeError, parse_pattern
from hybrid.model import Grant


def channels_of(value: object) -> tuple[str, ...]:
    """The names in a claim, each once, in its order; nothing where it is absent (None).

    Raises ScopeError for what is no list of names, or more than `GRANTS_MAX` of them.
    """
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ScopeError("channels that are no list of names")
    if len(value) > GRANTS_MAX:
        raise ScopeError(f"more than {GRANTS_MAX} channels")
    if any("*" in parse_pattern(name) for name in value):
        raise ScopeError("a channel with a wildcard")
    # Interned, for many clients are on the same ones.
    return tuple(dict.fromkeys(map(sys.intern, value)))


def with_channels(grants: tuple[Grant, ...], channels: Sequence[str]) -> tuple[Grant, ...]:
    """These grants, and the right to read these channels."""
    added = dict.fromkeys(Grant("subscribe", name) for name in channels)
    return (*grants, *(grant for grant in added if grant not in grants)) if channels else grants
