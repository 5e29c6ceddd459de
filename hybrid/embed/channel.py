"""One channel, as the application itself uses it: it is not asked for rights, only held to what is well-formed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any

import msgspec

from hybrid.broker.base import Appended
from hybrid.client.values import ReceivedPublication, received
from hybrid.engine.engine import Engine
from hybrid.engine.local import LocalReader
from hybrid.engine.operations import SERVER
from hybrid.errors import UnrecoverablePosition
from hybrid.model import Position, PresenceEntry, Publication
from hybrid.protocol.channels import parse_channel
from hybrid.protocol.publications import plain_json
from hybrid.protocol.pushes import WirePublication

_decode = msgspec.json.Decoder(WirePublication).decode


class Channel:
    """A channel of an app that is being served. Made by `Hybrid.channel`."""

    def __init__(self, engine: Callable[[], Engine], name: str) -> None:
        """Raises ProtocolError for what is no name."""
        self.name = parse_channel(name)
        self._engine = engine

    async def publish(self, data: Any, *, key: str | None = None, type: str | None = None) -> Appended:
        """Publish a JSON-able value, or bytes; returns where it stands.

        `key` makes a repeat within five minutes safe. Raises HybridError: `forbidden` for a channel without a
        namespace, `too_large`, `broker_unavailable` (nothing took effect). Cancelling it leaves the outcome unknown.
        """
        return await self._engine().publish(self.name, data, key=key, type=type)

    async def history(
        self, after: Position | None = None, limit: int = 100, reverse: bool = False
    ) -> list[ReceivedPublication]:
        """Publications that are kept: after a position, or the first `limit`, or (reverse) the newest first.

        Raises HybridError: `not_offered`, `unrecoverable`. Cancel-safe.
        """
        page = await self._engine().operations.history(SERVER, self.name, after=after, limit=limit, is_reverse=reverse)
        return [of_publication(publication) for publication in page.publications]

    async def presence(self) -> list[PresenceEntry]:
        """Who is on the channel now, on all nodes. Raises HybridError `not_offered`. Cancel-safe."""
        return await self._engine().operations.presence(SERVER, self.name)

    def subscribe(
        self,
        position: Position | None = None,
        *,
        history: int = 0,
        on_reset: Callable[[Position], None] | None = None,
        buffer_max_bytes: int | None = None,
    ) -> LocalSubscription:
        """The channel's publications from all nodes: after `position`, or the last `history` and on, or from now.

        It begins with the iteration, or at once with `async with`. `buffer_max_bytes` (`limits.high_water_bytes` where
        it is not given) may wait for a slow reader; what comes meanwhile is read from the log when he has caught up.
        """
        limit = buffer_max_bytes if buffer_max_bytes is not None else self._engine().limits.high_water_bytes
        if limit < 1 or not 0 <= history <= 1000:
            raise ValueError("buffer_max_bytes must be positive, and history lies between 0 and 1000")
        return LocalSubscription(self._engine(), self.name, position, history, on_reset, limit)


class LocalSubscription(AsyncIterator[ReceivedPublication]):
    """Iterate over it: offsets rise by exactly one. One reader at a time.

    `position` is that of the last publication taken: keep it, and go on from there another day. Where some are lost,
    because the log does not reach back to where the reader is, `on_reset(position)` is called in their place; without
    that, the iteration raises UnrecoverablePosition, whose `head` is where to go on. It ends when it is closed, and
    when the server ends. A cancelled wait loses nothing: iterate again. Left alone, it is closed when nobody holds it;
    `async with` closes it for certain.
    """

    def __init__(
        self,
        engine: Engine,
        channel: str,
        position: Position | None,
        history: int,
        on_reset: Callable[[Position], None] | None,
        buffer_max_bytes: int,
    ) -> None:
        self.channel = channel
        self.position = position
        self._engine = engine
        self._history = history
        self._on_reset = on_reset
        self._buffer_max_bytes = buffer_max_bytes
        self._loop = asyncio.get_running_loop()
        self._reader: LocalReader | None = None
        self._is_closed = False

    async def __aenter__(self) -> LocalSubscription:
        try:
            await self._start()
        except BaseException:  # or what was begun would go on: nobody leaves a block that was not entered
            self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __aiter__(self) -> LocalSubscription:
        return self

    async def __anext__(self) -> ReceivedPublication:
        """The next publication. Cancel-safe."""
        if self._reader is None:
            await self._start()
        reader = self._reader
        while reader is not None:
            item = await reader.next()
            if isinstance(item, bytes):
                publication = received(_decode(item))
                self.position = publication.position
                return publication
            if item is None:
                break
            self._lost(item)
        raise StopAsyncIteration

    @property
    def buffered_bytes(self) -> int:
        """What waits to be taken, as JSON."""
        return 0 if self._reader is None else self._reader.buffered()

    def close(self) -> None:
        """End at once. Safe to call twice."""
        self._is_closed = True
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def __del__(self) -> None:
        reader = self._reader if hasattr(self, "_reader") else None
        if reader is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(reader.close)  # nobody knows in which thread rubbish is collected

    async def _start(self) -> None:
        if self._is_closed or self._reader is not None:
            return
        reader, started = await self._engine.read_locally(
            self.channel, self.position, self._history, self._buffer_max_bytes
        )
        if self._is_closed:  # meanwhile
            reader.close()
            return
        self._reader = reader
        if not started.was_recovered:
            self._lost(started.position)
        elif self.position is None:
            self.position = started.position

    def _lost(self, head: Position) -> None:
        self.position = head
        if self._on_reset is None:
            raise UnrecoverablePosition(head)
        self._on_reset(head)


def of_publication(publication: Publication) -> ReceivedPublication:
    """A publication of the log as its reader gets it."""
    return received(_decode(plain_json(publication)))
