"""Who is on which channel, in one process. Synchronous; `MemoryBroker` offers it as a `PresenceStore`."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import TypeAlias

from hybrid.broker.base import Present
from hybrid.broker.deadlines import Deadlines
from hybrid.clock import Clock
from hybrid.model import PresenceEntry

Announce: TypeAlias = Callable[[str, PresenceEntry, bool], None]
"""Called with channel, entry and whether it came (or left)."""


class MemoryPresence:
    """Sessions counted per principal and channel, each held by a lease.

    Leases that ran out count as left from that moment on: every call first turns them into leaves, so that nobody is
    ever seen who is not there. Their number is bounded by that of the process's sessions and their channels.
    """

    def __init__(self, clock: Clock, announce: Announce) -> None:
        self._clock = clock
        self._announce = announce
        # channel -> principal -> sessions; both dicts keep the order of coming.
        self._channels: dict[str, dict[PresenceEntry, set[str]]] = {}
        self._leases: Deadlines[tuple[str, PresenceEntry, str]] = Deadlines()

    def join(self, channel: str, entry: PresenceEntry, session: str, lease_s: float) -> bool:
        """See `PresenceStore.join`."""
        self.expire()
        self._leases.set((channel, entry, session), self._clock.monotonic_s() + lease_s)
        entries = self._channels.setdefault(channel, {})
        sessions = entries.get(entry)
        if sessions is not None:
            sessions.add(session)
            return False
        entries[entry] = {session}
        self._announce(channel, entry, True)
        return True

    def leave(self, channel: str, entry: PresenceEntry, session: str) -> bool:
        """See `PresenceStore.leave`."""
        self.expire()
        self._leases.drop((channel, entry, session))
        return self._remove(channel, entry, session)

    def entries(self, channel: str, limit: int) -> list[PresenceEntry]:
        """See `PresenceStore.entries`."""
        self.expire()
        return list(islice(self._channels.get(channel, ()), limit))

    def count(self, channel: str) -> Present:
        """See `PresenceStore.count`."""
        self.expire()
        entries = self._channels.get(channel, {})
        return Present(len(entries), sum(map(len, entries.values())))

    def expire(self) -> None:
        """See `PresenceStore.expire`."""
        now_s = self._clock.monotonic_s()
        while (lease := self._leases.pop(now_s)) is not None:
            self._remove(*lease)

    def _remove(self, channel: str, entry: PresenceEntry, session: str) -> bool:
        entries = self._channels.get(channel)
        sessions = entries.get(entry) if entries is not None else None
        if entries is None or sessions is None or session not in sessions:
            return False
        sessions.remove(session)
        if sessions:
            return False
        del entries[entry]
        if not entries:
            del self._channels[channel]
        self._announce(channel, entry, False)
        return True
