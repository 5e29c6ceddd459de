"""Reading the broker's log for readers whom the ring cannot serve: one read for all who ask the same at once.

After a node or a network came back, thousands of readers want the same page. At most `recoveries_max` reads are in
flight, the others wait for their turn, first come first served. A page's entries are shared too, so that its payloads
are made once.
"""

from __future__ import annotations

import asyncio

from hybrid.broker.base import Broker
from hybrid.engine.ring import Entry
from hybrid.engine.tasks import Tasks
from hybrid.errors import UnrecoverablePosition
from hybrid.limits import Limits
from hybrid.model import START, UNVERIFIED_TAG, Position, Publication


class LogPage:
    """Publications that follow a position without a hole, at least one or the position is the head; and the head."""

    __slots__ = ("entries", "head")

    def __init__(self, publications: list[Publication], head: Position) -> None:
        self.entries = [Entry(publication) for publication in publications]
        self.head = head


_ANY_BYTES = 2**62
"""The count bounds these reads: a page cut by bytes could not be told from a log that begins there."""
_UNVERIFIED_LIMIT = 16
"""Publications read from the beginning of the history at once: that call is bounded by count only."""


class Reads:
    """The reads in flight."""

    __slots__ = ("_broker", "_in_flight", "_limits", "_room", "_tasks")

    def __init__(self, broker: Broker, limits: Limits, tasks: Tasks) -> None:
        self._broker = broker
        self._limits = limits
        self._tasks = tasks
        self._room = asyncio.Semaphore(limits.recoveries_max)
        self._in_flight: dict[tuple[str, Position, int], asyncio.Future[LogPage]] = {}

    def __len__(self) -> int:
        return len(self._in_flight)

    def page(self, channel: str, after: Position, max_bytes: int) -> asyncio.Future[LogPage]:
        """The page after a position, data of at most `max_bytes` in all but at least one publication.

        The future is shared: shield it before awaiting it. It fails with UnrecoverablePosition (see `Broker.read`) or
        BrokerError.
        """
        key = (channel, after, max_bytes)
        future = self._in_flight.get(key)
        if future is None:
            future = asyncio.get_running_loop().create_future()
            future.add_done_callback(_retrieved)
            if self._tasks.spawn(self._read(key, future)) is None:
                future.cancel()
            else:
                self._in_flight[key] = future
        return future

    async def start_of(self, channel: str, behind: int, until: Position) -> Position:
        """The position `behind` publications before the head, at most `until`; or that before the oldest that is kept.

        The latter is START, or has the UNVERIFIED_TAG where the entry before the oldest is gone. `until` itself if
        nothing is kept. Raises BrokerError. Cancel-safe.
        """
        async with self._room:
            newest = await self._broker.history(channel, limit=behind + 1, max_bytes=_ANY_BYTES, is_reverse=True)
        if newest.head.epoch != until.epoch or newest.head.offset - behind >= until.offset:
            return until
        start = until
        for publication in newest.publications:
            if publication.offset == newest.head.offset - behind:
                return publication.position
            if publication.offset <= until.offset:
                start = _before(publication)
        return start

    async def _read(self, key: tuple[str, Position, int], future: asyncio.Future[LogPage]) -> None:
        channel, after, max_bytes = key
        try:
            async with self._room:
                page = await self._read_log(channel, after, max_bytes)
        except asyncio.CancelledError:
            future.cancel()
            raise
        except Exception as error:
            future.set_exception(error)
        else:
            future.set_result(page)
        finally:
            del self._in_flight[key]

    async def _read_log(self, channel: str, after: Position, max_bytes: int) -> LogPage:
        if after.offset and after.tag == UNVERIFIED_TAG:
            page = await self._broker.history(channel, limit=_UNVERIFIED_LIMIT, max_bytes=_ANY_BYTES, is_reverse=False)
            kept = page.publications
            if page.head.epoch != after.epoch or not kept or kept[0].offset > after.offset + 1:
                raise UnrecoverablePosition(page.head)
            following = [publication for publication in kept if publication.offset > after.offset]
            if not following:
                raise UnrecoverablePosition(page.head)
            return LogPage(following, page.head)
        # A publication has one byte of data at least, and what is written for it much more: there is no use in
        # reading more of them than that makes.
        limit = max(1, max_bytes // 64)
        page = await self._broker.read(channel, after, limit=limit, max_bytes=max_bytes)
        if page.publications[0].offset != after.offset + 1 if page.publications else page.head.offset > after.offset:
            # The broker broke its word; its readers are told rather than led past a hole.
            raise UnrecoverablePosition(page.head)
        return LogPage(page.publications, page.head)


def _before(publication: Publication) -> Position:
    """The position of a reader who wants this publication next."""
    if publication.offset == 1:
        return START
    return Position(publication.offset - 1, publication.epoch, UNVERIFIED_TAG)


def _retrieved(future: asyncio.Future[LogPage]) -> None:
    """Nobody may wait for it any more; that is no reason for a warning."""
    if not future.cancelled():
        future.exception()
