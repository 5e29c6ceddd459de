"""What the backend has answered about tokens, for as long as it said. Sans-I/O; bounded.

An answer belongs to the token that it was given about: with its end it is over, a revoked token is refused before
anybody looks here, and a fresh token is asked about anew.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, TypeAlias

from hybrid.auth.grants import Action
from hybrid.auth.hooks import Verdict
from hybrid.clock import Clock
from hybrid.model import Principal

SETTLED_S: Final = 1.0
"""An answer is used for at least so long, also one without `cache_s`, and also a failure: what asks together, or again
at once, is one question."""

Key: TypeAlias = tuple[bytes, str, str, str, str, str]


class Verdicts:
    """The newest answers, at most `size`; past it the oldest is forgotten, and asked for again."""

    __slots__ = ("_clock", "_kept", "_size")

    def __init__(self, clock: Clock, size: int) -> None:
        self._clock = clock
        self._size = size
        self._kept: OrderedDict[Key, tuple[Verdict, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, key: Key) -> Verdict | None:
        """The answer that is still good."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        verdict, until_s = kept
        if until_s <= self._clock.monotonic_s():
            del self._kept[key]
            return None
        return verdict

    def settle(self, key: Key) -> None:
        """Keep an answer, if there is one, for `SETTLED_S` from now at least, even where that was over."""
        kept = self._kept.get(key)
        if kept is not None:
            self._kept[key] = (kept[0], max(kept[1], self._clock.monotonic_s() + SETTLED_S))

    def keep(self, key: Key, principal: Principal, verdict: Verdict, cache_s: float = SETTLED_S) -> None:
        """Remember an answer for `cache_s` seconds, at least `SETTLED_S`, at most to the end of the token."""
        left_s = principal.expires_at_s - self._clock.wall_s()
        kept_s = max(SETTLED_S, min(cache_s, left_s))
        self._kept[key] = (verdict, self._clock.monotonic_s() + kept_s)
        self._kept.move_to_end(key)
        if len(self._kept) > self._size:
            self._kept.popitem(last=False)


def key_of(principal: Principal, action: Action, channel: str) -> Key:
    """What an answer is known by."""
    return (principal.token_hash, principal.issuer, principal.subject, principal.client, action, channel)
