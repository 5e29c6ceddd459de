"""The store that the nodes share, and each node's own connection to it, which fails as connections do.

The store keeps every promise of `hybrid/broker/base.py` but one, when it is told to: a replica that lacks the last
entries takes over, or everything is gone. A purge is no such loss: it is asked for, and
told. Connections lose announcements, answers and themselves.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

from hybrid.broker.base import Append, Appended, BrokerHealth, BrokerListener, Page
from hybrid.errors import BrokerError, KeyConflict
from hybrid.model import START, UNVERIFIED_TAG, Position, Publication
from hybrid.protocol.recovery import first_after, take_page

_ROUND_TRIP_MAX_S = 0.004


@dataclass
class Log:
    """One channel: `kept` can be read, `whole` has what was trimmed, too; `keys` make appends repeatable."""

    kept: list[Publication] = field(default_factory=list)
    whole: list[Publication] = field(default_factory=list)
    head: Position = START
    keys: dict[str, tuple[bytes, Position]] = field(default_factory=dict)


class Store:
    """All logs. `lost` are positions that were appended, perhaps answered, and are in no log any more.

    `purges`: for each channel, the places that purges have taken.
    """

    def __init__(self, random: Random) -> None:
        self.logs: dict[str, Log] = {}
        self.lost: set[tuple[str, Position]] = set()
        self.purges: dict[str, list[Position]] = {}
        self.connections: list[Connection] = []
        self._random = random
        self._lives = 0

    def log(self, channel: str) -> Log:
        """A channel's log; an empty one where there was none."""
        return self.logs.setdefault(channel, Log())

    def append(self, wanted: Append) -> Appended:
        """One atomic step. Raises KeyConflict."""
        log = self.log(wanted.channel)
        digest = hashlib.sha256(wanted.data).digest()
        if wanted.key is not None and wanted.key in log.keys:
            known, position = log.keys[wanted.key]
            if known != digest:
                raise KeyConflict
            return Appended(position, was_repeated=True)
        if not log.head.epoch:
            self._lives += 1
        publication = Publication(
            wanted.channel,
            log.head.offset + 1,
            log.head.epoch or f"life{self._lives}",
            f"{self._random.getrandbits(32):08x}",
            wanted.data,
            wanted.type,
            wanted.is_binary,
        )
        log.head = publication.position
        log.whole.append(publication)
        log.kept.append(publication)
        del log.kept[: max(0, len(log.kept) - wanted.history_size)]
        if wanted.key is not None:
            log.keys[wanted.key] = digest, log.head
        for connection in self.connections:
            connection.announced(publication)
        return Appended(log.head)

    def purge(self, channel: str) -> Position:
        """One atomic step: the log is empty, and another epoch begins. Keys that were used stay used."""
        former = self.log(channel)
        if not former.head.epoch:
            return START
        self.lost |= {(channel, publication.position) for publication in former.whole}
        self._lives += 1
        log = self.logs[channel] = Log(head=Position(1, f"life{self._lives}", UNVERIFIED_TAG), keys=former.keys)
        self.purges.setdefault(channel, []).append(log.head)
        for connection in self.connections:
            connection.purged(channel, log.head, former.head.epoch)
        return log.head

    def lose_end(self, channel: str, count: int) -> None:
        """A replica without the last entries takes over: their offsets are used again, in the same epoch."""
        log = self.log(channel)
        count = min(count, len(log.kept) - 1)  # what a purge has emptied has no end to lose
        if count > 0:
            self._forget(log, channel, log.whole[-count:])
            del log.kept[-count:], log.whole[-count:]
            log.head = log.whole[-1].position
            self._tell_gap()

    def lose_log(self, channel: str) -> None:
        """Everything is gone; the next append begins another epoch."""
        log = self.logs.pop(channel, None)
        if log is not None:
            self._forget(log, channel, log.whole)
            self._tell_gap()

    def _forget(self, log: Log, channel: str, publications: Iterable[Publication]) -> None:
        gone = {publication.position for publication in publications}
        self.lost |= {(channel, position) for position in gone}
        log.keys = {key: known for key, known in log.keys.items() if known[1] not in gone}

    def _tell_gap(self) -> None:
        # As of Redis: whoever was connected to the former primary has to connect to the new one.
        for connection in self.connections:
            connection.reconnected()


class Connection:
    """One node's way to the store. Implements `Broker`.

    `is_away`: every call fails, what is announced is lost, and the node is told of a gap afterwards. `is_deaf`:
    announcements are lost and nobody is told; the node finds it out by comparing heads.
    """

    def __init__(self, store: Store, random: Random) -> None:
        self.is_away = False
        self.is_deaf = False
        self._store = store
        self._random = random
        self._subscribed: set[str] = set()
        self._listener: BrokerListener | None = None
        self._wire_s = 0.0  # when what was announced last arrives
        self._on_way: deque[tuple[Publication | tuple[str, Position, str], int]] = deque()
        self._life = 0  # what is on its way when the connection breaks never arrives
        store.connections.append(self)

    def goes(self) -> None:
        """The connection breaks, and no other can be made."""
        self.is_away = True
        self._life += 1

    def reconnected(self) -> None:
        """There is a connection again: whatever was announced meanwhile was missed."""
        self.is_away = False
        self._life += 1
        if self._listener is not None:
            self._listener.gap(None)

    def hears(self) -> None:
        """It is deaf no more."""
        self.is_deaf = False

    def announced(self, publication: Publication) -> None:
        """Called by the store."""
        self._announced(publication.channel, publication)

    def purged(self, channel: str, position: Position, former: str) -> None:
        """Called by the store; in order with what is announced."""
        self._announced(channel, (channel, position, former))

    def _announced(self, channel: str, what: Publication | tuple[str, Position, str]) -> None:
        if channel not in self._subscribed or self.is_away or self.is_deaf:
            return
        loop = asyncio.get_running_loop()
        self._wire_s = max(self._wire_s, loop.time() + self._random.uniform(0, _ROUND_TRIP_MAX_S))
        self._on_way.append((what, self._life))
        loop.call_at(self._wire_s, self._arrived)

    def _arrived(self) -> None:
        what, life = self._on_way.popleft()  # timers of one moment fire in any order
        channel = what.channel if isinstance(what, Publication) else what[0]
        if self._listener is None or life != self._life or channel not in self._subscribed:
            return
        if isinstance(what, Publication):
            self._listener.published(what)
        else:
            self._listener.purged(*what)

    # -- the contract

    async def open(self, listener: BrokerListener) -> None:
        self._listener = listener

    async def close(self) -> None:
        self._listener = None
        if self in self._store.connections:
            self._store.connections.remove(self)

    async def health(self) -> BrokerHealth:
        return BrokerHealth(not self.is_away)

    async def append(self, appends: Sequence[Append]) -> list[Appended | BrokerError]:
        await self._half_way()
        answers: list[Appended | BrokerError] = []
        for wanted in appends:
            try:
                answers.append(self._store.append(wanted))
            except KeyConflict as error:
                answers.append(error)
        try:
            await self._half_way()
        except BrokerError:  # all of them took effect, and nobody is answered; their keys make a repeat safe
            unknown = [BrokerError("broker_unavailable" if wanted.key else "outcome_unknown") for wanted in appends]
            return [*unknown]
        return answers

    async def purge(self, channel: str) -> Position:
        await self._half_way()
        position = self._store.purge(channel)
        await self._half_way()
        return position

    async def subscribe(self, channel: str) -> None:
        await self._half_way()
        self._subscribed.add(channel)
        await self._half_way()

    async def unsubscribe(self, channel: str) -> None:
        await self._half_way()
        self._subscribed.discard(channel)

    async def heads(self, channels: Sequence[str]) -> list[Position]:
        await self._half_way()
        heads = [self._store.log(channel).head for channel in channels]
        await self._half_way()
        return heads

    async def read(self, channel: str, after: Position, *, limit: int, max_bytes: int) -> Page:
        await self._half_way()
        log = self._store.log(channel)
        page = Page(
            take_page(log.kept, first_after(log.kept, log.head, after), limit=limit, max_bytes=max_bytes), log.head
        )
        await self._half_way()
        return page

    async def history(self, channel: str, *, limit: int, max_bytes: int, is_reverse: bool) -> Page:
        await self._half_way()
        log = self._store.log(channel)
        page = Page(log.kept[::-1][:limit] if is_reverse else log.kept[:limit], log.head)
        await self._half_way()
        return page

    async def _half_way(self) -> None:
        life = self._life
        await asyncio.sleep(self._random.uniform(0, _ROUND_TRIP_MAX_S / 2))
        if self.is_away or life != self._life:
            raise BrokerError
