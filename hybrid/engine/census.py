"""What is open now: streams and waiting polls, counted against the bound and waited for at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from hybrid.engine.link import Link


class Stream(Protocol):
    """Anything with an open link that a drain has to end."""

    @property
    def link(self) -> Link:
        """Its link."""

    def end(self, error: str, *, delay_ms: int = 0) -> None:
        """Say goodbye and close."""


class Census:
    """The open streams of a process, and how many polls wait."""

    __slots__ = ("_emptied", "_polls", "_streams", "_waiting")

    def __init__(self) -> None:
        self._streams: set[Stream] = set()
        self._polls = 0
        self._waiting: set[asyncio.Future[None]] = set()
        self._emptied: asyncio.Event | None = None

    def __len__(self) -> int:
        return len(self._streams) + self._polls

    def streams(self) -> list[Stream]:
        """The open streams."""
        return list(self._streams)

    def add(self, stream: Stream) -> None:
        """A stream was opened."""
        self._streams.add(stream)

    def discard(self, stream: Stream) -> None:
        """A stream has ended."""
        self._streams.discard(stream)
        self._tell()

    @contextmanager
    def poll(self) -> Iterator[asyncio.Future[None]]:
        """Count a request that waits; the future inside is resolved when it should answer at once."""
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(ended)
        self._polls += 1
        try:
            yield ended
        finally:
            self._waiting.discard(ended)
            ended.cancel()
            self._polls -= 1
            self._tell()

    def wake_polls(self) -> None:
        """Let every waiting poll answer now."""
        for ended in self._waiting:
            if not ended.done():
                ended.set_result(None)

    async def emptied(self) -> None:
        """Return when nothing is open. Cancel-safe."""
        self._emptied = asyncio.Event()
        self._tell()
        await self._emptied.wait()

    def _tell(self) -> None:
        if self._emptied is not None and not len(self):
            self._emptied.set()
