"""What is still to be told, in order, and how much was dropped. Sans-I/O; bounded.

add -> [ waiting ... ] -> next (a batch, the same one until it is `told` or `given_up`)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from hybrid.hooks.messages import Event

PAUSE_MIN_S: Final = 0.5
PAUSE_MAX_S: Final = 30.0
"""Between two attempts; a receiver that has come back is noticed within it."""


class Batch(msgspec.Struct, frozen=True):
    """Events that are told together. `dropped` before them, since the last batch that was told."""

    id: str
    events: tuple[Event, ...]
    dropped: int
    since_s: float
    """When it was first tried, monotonic."""


class EventQueue:
    """One for each receiver. `make_id` gives the id of each batch."""

    __slots__ = ("_batch_max", "_current", "_dropped", "_make_id", "_size", "_waiting", "dropped_in_all", "told_in_all")

    def __init__(self, size: int, batch_max: int, make_id: Callable[[], str]) -> None:
        self._size = size
        self._batch_max = batch_max
        self._make_id = make_id
        self._waiting: deque[Event] = deque()
        self._current: Batch | None = None
        self._dropped = 0
        self.dropped_in_all = 0
        self.told_in_all = 0

    def __len__(self) -> int:
        return len(self._waiting) + (0 if self._current is None else len(self._current.events))

    def add(self, event: Event) -> bool:
        """Put an event at the end. False: there is no room, it was dropped and counted."""
        if len(self) >= self._size:
            self._drop(1)
            return False
        self._waiting.append(event)
        return True

    def next(self, now_s: float) -> Batch | None:
        """What to tell now: what was tried last, until it is settled; None where there is nothing."""
        if self._current is None and (self._waiting or self._dropped):
            count = min(len(self._waiting), self._batch_max)
            events = tuple(self._waiting.popleft() for _ in range(count))
            self._current = Batch(self._make_id(), events, self._dropped, now_s)
        return self._current

    def told(self, batch: Batch) -> None:
        """The receiver has taken it."""
        self._dropped -= batch.dropped
        self.told_in_all += len(batch.events)
        self._current = None

    def given_up(self, batch: Batch) -> None:
        """It was tried for too long: the next batch says how many are missing."""
        self._current = None
        self._drop(len(batch.events))

    def _drop(self, count: int) -> None:
        self._dropped += count
        self.dropped_in_all += count


def pause_s(attempt: int, chance: float) -> float:
    """How long to wait behind the `attempt`th failure in a row, from 1; `chance` is drawn from 0 to 1 (full jitter)."""
    return min(PAUSE_MAX_S, PAUSE_MIN_S * 2.0 ** min(attempt, 16)) * (0.5 + chance / 2)
