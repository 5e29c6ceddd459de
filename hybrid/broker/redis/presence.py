"""Who is on which channel, counted by Redis: implements `PresenceStore`.

Each call is one atomic step on the keys of one channel, and every step first turns leases that ran out into leaves, so
nobody is ever seen who is not there. So that leaves are told also where nobody asks, nodes look at what is due (`due`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from hybrid.broker.base import Present
from hybrid.broker.redis import scripts
from hybrid.broker.redis.due import DueList
from hybrid.broker.redis.keys import Keys
from hybrid.broker.redis.servers import Servers
from hybrid.model import PresenceEntry

_PURPOSE: Final = "presence"
"""A line of its own: joins and leaves of one session must arrive in their order."""


class RedisPresence:
    """See the module's text."""

    def __init__(self, servers: Servers, keys: Keys, skew_ms: Callable[[], int]) -> None:
        self._servers = servers
        self._keys = keys
        self._skew_ms = skew_ms
        self._due = DueList(servers, keys.due, keys.claimed, skew_ms, purpose=_PURPOSE)
        self._publish: Final = "SPUBLISH" if servers.is_cluster else "PUBLISH"

    @staticmethod
    def entry(principal: bytes) -> PresenceEntry:
        """The entry that a principal's text in Redis stands for."""
        subject, client = msgspec.json.decode(principal, type=tuple[str, str])
        return PresenceEntry(subject, client)

    async def join(self, channel: str, entry: PresenceEntry, session: str, lease_s: float) -> bool:
        """See `PresenceStore.join`."""
        principal = _principal(entry)
        keys = self._keys.of(channel)
        lease_ms = round(lease_s * 1000)
        is_first, end = await self._servers.run_script(
            scripts.JOIN,
            keys.presence(),
            keys.topic,
            self._publish,
            principal,
            _member(principal, session),
            lease_ms,
            self._skew_ms(),
            purpose=_PURPOSE,
        )
        await self._due.add(channel, end)
        return bool(is_first)

    async def leave(self, channel: str, entry: PresenceEntry, session: str) -> bool:
        """See `PresenceStore.leave`."""
        is_last, *_ = await self._look(channel, _member(_principal(entry), session))
        return bool(is_last)

    async def entries(self, channel: str, limit: int) -> list[PresenceEntry]:
        """See `PresenceStore.entries`."""
        _, _, listed, _, _ = await self._look(channel, limit=limit)
        return [self.entry(principal) for principal in listed]

    async def count(self, channel: str) -> Present:
        """See `PresenceStore.count`."""
        _, _, _, principals, sessions = await self._look(channel, limit=-1)
        return Present(principals, sessions)

    async def expire(self) -> None:
        """See `PresenceStore.expire`."""

        async def look(channel: str) -> bytes:
            _, end, *_ = await self._look(channel)
            return end

        await self._due.settle(look)

    async def _look(
        self, channel: str, member: bytes = b"", *, limit: int = 0
    ) -> tuple[int, bytes, list[bytes], int, int]:
        keys = self._keys.of(channel)
        is_last, end, listed, principals, sessions = await self._servers.run_script(
            scripts.LEAVE,
            keys.presence()[:3],
            keys.topic,
            self._publish,
            member,
            limit,
            self._skew_ms(),
            purpose=_PURPOSE,
        )
        return is_last, end, listed, principals, sessions


def _principal(entry: PresenceEntry) -> bytes:
    return msgspec.json.encode((entry.subject, entry.client))


def _member(principal: bytes, session: str) -> bytes:
    return b"%d:%b%b" % (len(principal), principal, session.encode())
