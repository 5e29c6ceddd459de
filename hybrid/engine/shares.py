"""How many of something each key has, without remembering the keys: that would cost more than what is counted.

Keys are counted by their hash, some together. So a count is never too small, and nearly always right; where it reaches
a limit, `Shares.reaches` counts that key alone, once, and follows it from then on. Whose keys share a place is not for
others to choose: Python hashes text with a secret of the process.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable, Iterable
from typing import Final

PLACES: Final = 65_536
"""Four bytes each; a process has 15,000 streams unless it is told otherwise."""
FOLLOWED_MAX: Final = 64
"""Keys that are counted alone: no more can be near a limit that is worth having."""


class Shares:
    """See the module's text. Not thread-safe."""

    __slots__ = ("_counts", "_followed")

    def __init__(self) -> None:
        self._counts = array("I", bytes(4 * PLACES))
        self._followed: dict[Hashable, int] = {}

    def change(self, key: Hashable, by: int) -> None:
        """The key has so many more, or fewer."""
        self._counts[hash(key) % PLACES] += by
        if self._followed and key in self._followed:  # rarely any are, and a tuple's hash is not kept with it
            self._followed[key] += by

    def at_most(self, key: Hashable) -> int:
        """How many the key has, and perhaps some of others."""
        return self._counts[hash(key) % PLACES]

    def reaches(self, key: Hashable, limit: int, everybody: Callable[[], Iterable[Hashable]]) -> bool:
        """Whether the key has `limit` or more; `everybody` gives the key of each that is counted, now."""
        if self.at_most(key) < limit:
            self._followed.pop(key, None)
            return False
        count = self._followed.get(key)
        if count is None:
            if len(self._followed) >= FOLLOWED_MAX:
                self._followed.clear()
            count = self._followed[key] = sum(other == key for other in everybody())
        return count >= limit
