"""What a log in memory keeps: added at its end, let go at its beginning, and read from anywhere, each in no time.

A `deque` walks to the place that is read: in a log of 100,000 that took a millisecond, for each reader who came back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeVar, overload

T = TypeVar("T")

_HOLES_MIN: Final = 32  # fewer are not worth closing


class Kept(Sequence[T]):
    """See the module's text. All steps are O(1), amortised; a slice takes as long as it is."""

    __slots__ = ("_first", "_items")

    def __init__(self) -> None:
        self._items: list[Any] = []
        self._first = 0

    def __len__(self) -> int:
        return len(self._items) - self._first

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> list[T]: ...

    def __getitem__(self, index: int | slice) -> T | list[T]:
        """One of them, or (as a list) some that follow each other."""
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step < 0:
                raise ValueError("what is kept is read forward")
            found: list[T] = self._items[self._first + start : self._first + max(start, stop) : step]
            return found
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        item: T = self._items[index if index < 0 else self._first + index]
        return item

    def append(self, item: T) -> None:
        """Add it behind the newest."""
        self._items.append(item)

    def drop_oldest(self) -> None:
        """Let the oldest go; there must be one."""
        self._items[self._first] = None
        self._first += 1
        if self._first > _HOLES_MIN and self._first * 2 > len(self._items):
            del self._items[: self._first]
            self._first = 0

    def clear(self) -> None:
        """Let all go."""
        self._items.clear()
        self._first = 0
