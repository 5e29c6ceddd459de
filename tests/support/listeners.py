"""A broker's listener that remembers what it heard and lets a test wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from hybrid.model import Position, PresenceEntry, Publication

_WAIT_MAX_S = 10.0


class RecordingListener:
    """Implements `BrokerListener`. `on_publication` is called after each publication was recorded."""

    def __init__(self) -> None:
        self.publications: list[Publication] = []
        self.presence: list[tuple[str, PresenceEntry, bool]] = []
        self.purges: list[tuple[str, Position, str]] = []
        self.gaps: list[Sequence[str] | None] = []
        self.on_publication: Callable[[Publication], None] | None = None
        self._changed = asyncio.Event()

    def published(self, publication: Publication) -> None:
        self.publications.append(publication)
        self._changed.set()
        if self.on_publication is not None:
            self.on_publication(publication)

    def presence_changed(self, channel: str, entry: PresenceEntry, has_joined: bool) -> None:
        self.presence.append((channel, entry, has_joined))
        self._changed.set()

    def purged(self, channel: str, position: Position, former: str) -> None:
        self.purges.append((channel, position, former))
        self._changed.set()

    def gap(self, channels: Sequence[str] | None) -> None:
        self.gaps.append(channels)
        self._changed.set()

    def of(self, channel: str) -> list[Publication]:
        return [publication for publication in self.publications if publication.channel == channel]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something heard to make `condition` true. Raises TimeoutError."""
        async with asyncio.timeout(_WAIT_MAX_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()
