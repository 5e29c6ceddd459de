"""A broker that does what real ones do on bad days: it loses announcements, its log's end, its whole log, or its wire.

The log itself keeps every promise of `hybrid/broker/base.py`; what breaks is asked for by the test.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hybrid.broker.base import Append, Appended, BrokerHealth, BrokerListener, Page
from hybrid.errors import BrokerError
from hybrid.model import START, UNVERIFIED_TAG, Position, Publication
from hybrid.protocol.recovery import first_after, take_page


class FaultyLog:
    """One channel: what is kept, and the head."""

    def __init__(self) -> None:
        self.entries: list[Publication] = []
        self.head = START


class FaultyBroker:
    """Implements `Broker`. Every call takes a turn of the event loop, as calls over a wire do."""

    def __init__(self, history_size: int = 1_000) -> None:
        self.history_size = history_size
        self.logs: dict[str, FaultyLog] = {}
        self.subscribed: set[str] = set()
        self.calls: list[str] = []
        self.is_away = False
        self.lost_announcements = 0  # that many of the next announcements are lost
        self.parents: dict[Position, Position] = {}  # of every publication that ever was, the one before it
        self.holding: asyncio.Event | None = None  # calls wait for it, when there is one
        self._listener: BrokerListener | None = None
        self._lives = 0
        self._tags = 0

    # -- what a test asks for

    @property
    def listener(self) -> BrokerListener:
        assert self._listener is not None
        return self._listener

    def head(self, channel: str) -> Position:
        return self._log(channel).head

    def publish(self, channel: str, data: bytes = b"1") -> Publication:
        """Append at once, and announce it."""
        log = self._log(channel)
        if not log.head.epoch:
            self._lives += 1
        self._tags += 1
        publication = Publication(
            channel, log.head.offset + 1, log.head.epoch or f"life{self._lives}", f"{self._tags:08x}", data
        )
        self.parents[publication.position] = log.head
        log.head = publication.position
        log.entries = [*log.entries, publication][-self.history_size :] if self.history_size else []
        if self.lost_announcements:
            self.lost_announcements -= 1
        elif channel in self.subscribed and self._listener is not None and not self.is_away:
            self._listener.published(publication)
        return publication

    def lose_end(self, channel: str, count: int) -> None:
        """A replica without the last entries was promoted: their offsets are used again in the same epoch."""
        log = self._log(channel)
        if 0 < count < len(log.entries):
            del log.entries[-count:]
            log.head = log.entries[-1].position

    def lose_log(self, channel: str) -> None:
        """Everything is gone; the next append begins a new epoch."""
        self.logs.pop(channel, None)

    def empty(self, channel: str) -> Position:
        """Purge at once, and announce it."""
        log = self._log(channel)
        if log.head == START:
            return START
        self._lives += 1
        former = log.head.epoch
        log.entries, log.head = [], Position(1, f"life{self._lives}", UNVERIFIED_TAG)
        self.parents[log.head] = START
        if self.lost_announcements:
            self.lost_announcements -= 1
        elif channel in self.subscribed and self._listener is not None and not self.is_away:
            self._listener.purged(channel, log.head, former)
        return log.head

    # -- the contract

    async def open(self, listener: BrokerListener) -> None:
        self._listener = listener

    async def close(self) -> None:
        self._listener = None

    async def health(self) -> BrokerHealth:
        return BrokerHealth(not self.is_away, "It is away." if self.is_away else "")

    async def append(self, appends: Sequence[Append]) -> list[Appended | BrokerError]:
        await self._called("append")
        return [Appended(self.publish(append.channel, append.data).position) for append in appends]

    async def purge(self, channel: str) -> Position:
        await self._called(f"purge {channel}")
        return self.empty(channel)

    async def subscribe(self, channel: str) -> None:
        await self._called(f"subscribe {channel}")
        self.subscribed.add(channel)

    async def unsubscribe(self, channel: str) -> None:
        await self._called(f"unsubscribe {channel}")
        self.subscribed.discard(channel)

    async def heads(self, channels: Sequence[str]) -> list[Position]:
        heads = [self.head(channel) for channel in channels]  # read first: what comes meanwhile is not in them
        await self._called(f"heads {len(channels)}")
        return heads

    async def read(self, channel: str, after: Position, *, limit: int, max_bytes: int) -> Page:
        await self._called(f"read {channel} {after.offset}")
        log = self._log(channel)
        first = first_after(log.entries, log.head, after)
        return Page(take_page(log.entries, first, limit=limit, max_bytes=max_bytes), log.head)

    async def history(self, channel: str, *, limit: int, max_bytes: int, is_reverse: bool) -> Page:
        await self._called(f"history {channel}")
        log = self._log(channel)
        return Page(log.entries[::-1][:limit] if is_reverse else log.entries[:limit], log.head)

    async def _called(self, call: str) -> None:
        self.calls.append(call)
        await asyncio.sleep(0)
        if self.holding is not None:
            await self.holding.wait()
        if self.is_away:
            raise BrokerError

    def _log(self, channel: str) -> FaultyLog:
        return self.logs.setdefault(channel, FaultyLog())
