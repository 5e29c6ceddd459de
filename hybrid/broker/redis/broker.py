"""The broker over Redis: implements `Broker`, and with its parts the other contracts that nodes share.

Appending and announcing are one script (`appends`). What was announced is put together from its parts again without
looking into `data`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from time import time
from typing import Any, Final

from hybrid.broker.base import Append, Appended, BrokerHealth, BrokerListener, Page, Present
from hybrid.broker.redis import scripts
from hybrid.broker.redis.address import Address
from hybrid.broker.redis.appends import Appends
from hybrid.broker.redis.keys import LAYOUT, Keys
from hybrid.broker.redis.line import Command
from hybrid.broker.redis.presence import RedisPresence
from hybrid.broker.redis.servers import Servers
from hybrid.broker.redis.topics import Topics
from hybrid.errors import BrokerError, SettingsError, UnrecoverablePosition
from hybrid.limits import OFFSET_MAX, Limits
from hybrid.model import START, Position, PresenceEntry, Publication

_log = logging.getLogger(__name__)

_READING: Final = "reading"  # pages are large, and no publish should queue behind them
_JOINED: Final = ord("+")
_LEFT: Final = ord("-")
_BINARY: Final = ord("b")
_PURGED: Final = ord("x")


class RedisBroker:
    """Implements `Broker` and `PresenceStore`. `skew_ms` is added to the servers' clock: for tests that move time."""

    def __init__(
        self, address: Address, prefix: str, limits: Limits, *, skew_ms: Callable[[], int] = lambda: 0
    ) -> None:
        self._address = address
        self._skew_ms = skew_ms
        self._listener: BrokerListener | None = None
        self._channel_of: dict[bytes, str] = {}
        self._heard_by: dict[bytes, Callable[[bytes], None]] = {}
        self._missed_by: dict[bytes, Callable[[], None]] = {}
        self._refusal: SettingsError | None = None
        self._is_closed = False
        self._checking: asyncio.Task[None] | None = None
        self.keys = Keys(prefix)
        self.servers = Servers(address)
        self.topics = Topics(self.servers, self._heard, self._missed)
        self._appends = Appends(self.servers, self.keys, limits, skew_ms)
        self._presence = RedisPresence(self.servers, self.keys, skew_ms)

    # -- life

    async def open(self, listener: BrokerListener) -> None:
        """See `Broker.open`. Servers that are away now are no reason to fail, they are awaited in the background.

        Raises SettingsError when what is found there is of a newer hybrid.
        """
        self._listener = listener
        self.servers.start()
        try:
            await self._check_layout()
        except BrokerError as error:
            _log.warning("%s cannot be used yet: %s", self._address, error)
            self._checking = asyncio.get_running_loop().create_task(self._check_later())

    async def close(self) -> None:
        """See `Broker.close`."""
        self._is_closed = True
        self._listener = None
        if self._checking is not None:
            self._checking.cancel()
            await asyncio.gather(self._checking, return_exceptions=True)
        await self.topics.close()
        await self.servers.close()
        await self._appends.close()

    async def health(self) -> BrokerHealth:
        """See `Broker.health`."""
        try:
            self.check()
            info = await self.servers.run(self.keys.layout, "INFO", "memory")
        except (BrokerError, SettingsError) as error:
            return BrokerHealth(False, str(error))
        if not self.topics.is_connected:
            return BrokerHealth(False, "The connections that listen to Redis are being opened again.")
        values = dict(line.split(b":", 1) for line in info.splitlines() if b":" in line)
        policy = values.get(b"maxmemory_policy", b"noeviction").decode()
        if policy != "noeviction" and values.get(b"maxmemory", b"0") != b"0":
            return BrokerHealth(
                False, f"Redis may evict logs: its maxmemory-policy is {policy} and has to be noeviction."
            )
        return BrokerHealth(True)

    async def _check_layout(self) -> None:
        found = await self.servers.run(self.keys.layout, "SET", self.keys.layout, LAYOUT, "NX", "GET")
        if found is not None and int(found) > LAYOUT:
            self._refusal = SettingsError(
                detail=f"The keys in {self._address} are of layout {int(found)}, and this version of hybrid knows "
                f"{LAYOUT} at most: run a newer version, or set another key_prefix."
            )
            raise self._refusal

    async def _check_later(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            try:
                await self._check_layout()
            except BrokerError:
                continue
            except SettingsError as error:
                _log.critical("%s", error)
            return

    def check(self) -> None:
        """Raises BrokerError once closed, or where what was found can never be used."""
        if self._is_closed:
            raise BrokerError(None, "The broker is closed.")
        if self._refusal is not None:
            raise BrokerError(None, str(self._refusal))

    # -- appending

    async def append(self, appends: Sequence[Append]) -> list[Appended | BrokerError]:
        """See `Broker.append`. An append without a key whose answer was lost is `outcome_unknown`, never repeated."""
        self.check()
        await self.servers.ready()
        return await self._appends.append(appends)

    async def purge(self, channel: str) -> Position:
        """See `Broker.purge`. On the appends' line: what this node sent before is gone, what it sends then is not."""
        self.check()
        await self.servers.ready()
        cursor = await self._appends.purge(channel)
        return _position(cursor) if cursor else START

    # -- listening

    async def subscribe(self, channel: str) -> None:
        """See `Broker.subscribe`."""
        self.check()
        topic = self.keys.of(channel).topic
        self._channel_of[topic] = channel
        try:
            await self.topics.subscribe(topic)
        except BaseException:
            self._channel_of.pop(topic, None)
            raise

    async def unsubscribe(self, channel: str) -> None:
        """See `Broker.unsubscribe`."""
        topic = self.keys.of(channel).topic
        self._channel_of.pop(topic, None)
        self.topics.unsubscribe(topic)

    async def listen(
        self, topic: bytes, heard: Callable[[bytes], None], missed: Callable[[], None] | None = None
    ) -> None:
        """Hear what is announced on a topic that is no channel's, and that some was missed. Raises BrokerError."""
        self._heard_by[topic] = heard
        if missed is not None:
            self._missed_by[topic] = missed
        await self.topics.subscribe(topic)

    def _heard(self, topic: bytes, message: bytes) -> None:
        channel = self._channel_of.get(topic)
        try:
            if channel is None:
                self._heard_by[topic](message)
            elif self._listener is not None:
                self._announced(self._listener, channel, message)
        except Exception:
            _log.exception("a message from Redis could not be delivered")

    @staticmethod
    def _announced(listener: BrokerListener, channel: str, message: bytes) -> None:
        kind = message[0]
        if kind in (_JOINED, _LEFT):
            listener.presence_changed(channel, RedisPresence.entry(message[1:]), kind == _JOINED)
            return
        head, _, data = message.partition(b"\n")
        cursor, _, type_ = head[1:].decode("ascii").partition(" ")
        position = _position(cursor)
        if kind == _PURGED:
            listener.purged(channel, position, data.decode("ascii"))
            return
        offset, epoch, tag = position.offset, position.epoch, position.tag
        listener.published(Publication(channel, offset, epoch, tag, data, type_ or None, kind == _BINARY))

    def _missed(self, topics: list[bytes]) -> None:
        for topic in self._missed_by.keys() & topics:
            self._missed_by[topic]()
        channels = [self._channel_of[topic] for topic in topics if topic in self._channel_of]
        if channels and self._listener is not None:
            self._listener.gap(channels)

    # -- reading

    async def heads(self, channels: Sequence[str]) -> list[Position]:
        """See `Broker.heads`. One round trip, however many."""
        self.check()
        await self.servers.ready()
        asked = []
        for channel in channels:
            keys = self.keys.of(channel)
            command: Command = ("HMGET", keys.head, "e", "o", "t", "u")
            asked.append((self.servers.line(keys.topic, _READING).send(*command), keys.topic, command))
        now_ms = time() * 1000 + self._skew_ms()
        heads = []
        for future, topic, command in asked:
            epoch, offset, tag, until = await self.servers.answer(future, topic, command, purpose=_READING)
            is_gone = epoch is None or int(until) <= now_ms
            heads.append(START if is_gone else Position(int(offset), epoch.decode(), tag.decode()))
        return heads

    async def read(self, channel: str, after: Position, *, limit: int, max_bytes: int) -> Page:
        """See `Broker.read`."""
        keys = self.keys.of(channel)
        is_exact, page = await self._page(
            scripts.READ, channel, keys.head, keys.log, after.offset, after.epoch, after.tag, limit, _bounded(max_bytes)
        )
        if not is_exact:
            raise UnrecoverablePosition(page.head)
        return page

    async def history(self, channel: str, *, limit: int, max_bytes: int, is_reverse: bool) -> Page:
        """See `Broker.history`."""
        keys = self.keys.of(channel)
        _, page = await self._page(
            scripts.HISTORY, channel, keys.head, keys.log, limit, _bounded(max_bytes), "r" if is_reverse else "f"
        )
        return page

    async def _page(
        self, script: scripts.Script, channel: str, head: bytes, log: bytes, *arguments: bytes | str | int
    ) -> tuple[bool, Page]:
        self.check()
        is_exact, epoch, offset, tag, entries = await self.servers.run_script(
            script, (head, log), *arguments, self._skew_ms(), purpose=_READING
        )
        position = Position(int(offset), epoch.decode(), tag.decode()) if epoch else START
        return bool(is_exact), Page([_publication(channel, position.epoch, entry) for entry in entries], position)

    # -- presence

    async def join(self, channel: str, entry: PresenceEntry, session: str, lease_s: float) -> bool:
        """See `PresenceStore.join`."""
        self.check()
        return await self._presence.join(channel, entry, session, lease_s)

    async def leave(self, channel: str, entry: PresenceEntry, session: str) -> bool:
        """See `PresenceStore.leave`."""
        self.check()
        return await self._presence.leave(channel, entry, session)

    async def entries(self, channel: str, limit: int) -> list[PresenceEntry]:
        """See `PresenceStore.entries`."""
        self.check()
        return await self._presence.entries(channel, limit)

    async def count(self, channel: str) -> Present:
        """See `PresenceStore.count`."""
        self.check()
        return await self._presence.count(channel)

    async def expire(self) -> None:
        """See `PresenceStore.expire`."""
        self.check()
        await self._presence.expire()


def _bounded(max_bytes: int) -> int:
    return min(max_bytes, OFFSET_MAX)  # Lua's numbers are exact up to there


def _position(cursor: str) -> Position:
    epoch, offset, tag = cursor.split("-")
    return Position(int(offset), epoch, tag)


def _publication(channel: str, epoch: str, entry: list[Any]) -> Publication:
    offset, _, tag = entry[0].partition(b"-")
    _, _, _, data, _, type_, _, kind = entry[1]
    return Publication(
        channel, int(offset), epoch, f"{int(tag):08x}", data, type_.decode() if type_ else None, kind == b"b"
    )
