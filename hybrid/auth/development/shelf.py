"""Keeps credentials for a while and never more than so many. It holds their digests: a dump of it opens nothing."""

from __future__ import annotations

from hashlib import sha256
from typing import Generic, TypeVar

from hybrid.clock import Clock

_Value = TypeVar("_Value")


class Shelf(Generic[_Value]):
    """Values under the SHA-256 of a credential, each until its time is over; past `size_max` the oldest goes."""

    def __init__(self, clock: Clock, *, size_max: int, lifetime_s: float) -> None:
        self._clock = clock
        self._size_max = size_max
        self._lifetime_s = lifetime_s
        self._entries: dict[bytes, tuple[float, _Value]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, credential: str, value: _Value, *, lifetime_s: float | None = None) -> None:
        """Keep `value` for `lifetime_s` seconds, the shelf's own lifetime when None."""
        now_s = self._clock.monotonic_s()
        # Oldest first. An entry that was given a shorter life than those before it stays until it is looked at or its
        # turn comes, so one look at the front is enough.
        while self._entries and next(iter(self._entries.values()))[0] <= now_s:
            self._drop_oldest()
        while len(self._entries) >= self._size_max:
            self._drop_oldest()
        self._entries[_digest(credential)] = (now_s + (self._lifetime_s if lifetime_s is None else lifetime_s), value)

    def get(self, credential: str) -> _Value | None:
        """The value, or None when there is none any more."""
        return self._living(self._entries.get(_digest(credential)))

    def pop(self, credential: str) -> _Value | None:
        """The value, for the last time."""
        return self._living(self._entries.pop(_digest(credential), None))

    def _living(self, entry: tuple[float, _Value] | None) -> _Value | None:
        return entry[1] if entry is not None and entry[0] > self._clock.monotonic_s() else None

    def _drop_oldest(self) -> None:
        del self._entries[next(iter(self._entries))]


def _digest(credential: str) -> bytes:
    return sha256(credential.encode("utf-8", "surrogatepass")).digest()
