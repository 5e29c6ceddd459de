"""The way without an animal, for comparison."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.proxy.zoo.animals import ANIMALS, Animal, Origin, Route


@asynccontextmanager
async def _release(origin: Origin, _: Path) -> AsyncIterator[Route]:
    yield Route(f"http://{origin.host}:{origin.port}")


DIRECT: Final = Animal("direct", "Nothing in between.", (), _release)
WAYS: Final[dict[str, Animal]] = {
    DIRECT.name: DIRECT,
    **{name: animal for name, animal in ANIMALS.items() if not animal.is_port_bound},
}
"""All that is measured, by name, in the order in which it is shown: what the switch can stand in front of."""
