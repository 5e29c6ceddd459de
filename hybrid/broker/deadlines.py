"""Things that end at a time, found when it has come: a heap in which moving or dropping an item costs nothing now.

Moved and dropped items stay in the heap as husks until their old time comes or until they are the majority, so the
heap is never more than twice as large as what it stands for.
"""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

_HUSKS_ALLOWED = 64


class Deadlines(Generic[Key]):
    """A deadline, in seconds of any one clock, for each of some keys. Not thread-safe."""

    def __init__(self) -> None:
        self._due_s: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self._due_s)

    def set(self, key: Key, due_s: float) -> None:
        """Let `key` end at `due_s`, whatever it was before."""
        self._due_s[key] = due_s
        # The counter decides between equal times: keys need no order of their own.
        self._count += 1
        heappush(self._heap, (due_s, self._count, key))
        if len(self._heap) > 2 * len(self._due_s) + _HUSKS_ALLOWED:
            self._heap = [(due, number, key) for number, (key, due) in enumerate(self._due_s.items())]
            self._count = len(self._heap)
            heapify(self._heap)

    def drop(self, key: Key) -> None:
        """Let `key` never end. Unknown keys are ignored."""
        self._due_s.pop(key, None)

    def pop(self, now_s: float) -> Key | None:
        """One key whose time has come, removed, earliest first; None when there is none. Call it until it is None."""
        heap = self._heap
        while heap and heap[0][0] <= now_s:
            due_s, _, key = heappop(heap)
            if self._due_s.get(key) == due_s:
                del self._due_s[key]
                return key
        return None
