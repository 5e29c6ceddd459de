"""The animals of the zoo, by name, in the order in which they are shown."""

from __future__ import annotations

from typing import Final

from tests.proxy.zoo.animals.base import Absent, Animal, Origin, Route

__all__ = ["ANIMALS", "Absent", "Animal", "Origin", "Route"]

_ALL: Final[tuple[Animal, ...]] = ()

ANIMALS: Final[dict[str, Animal]] = {animal.name: animal for animal in _ALL}
