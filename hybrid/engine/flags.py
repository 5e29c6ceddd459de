"""Booleans of an object that share one slot: of a leg each client has one, and each slot is eight bytes."""

from __future__ import annotations

from typing import Any, overload


class Flag:
    """A boolean attribute that is one bit of the owner's `_flags`, a whole number that the owner begins with."""

    __slots__ = ("_bit",)

    def __init__(self, bit: int) -> None:
        """`bit` is a power of two, and the owner's alone."""
        self._bit = bit

    @overload
    def __get__(self, owner: None, kind: type) -> Flag: ...

    @overload
    def __get__(self, owner: Any, kind: type) -> bool: ...

    def __get__(self, owner: Any, kind: type) -> Flag | bool:
        """Whether it is set."""
        return self if owner is None else bool(owner._flags & self._bit)

    def __set__(self, owner: Any, value: bool) -> None:
        """Set or clear it."""
        if value:
            owner._flags |= self._bit
        else:
            owner._flags &= ~self._bit
