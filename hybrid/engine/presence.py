"""Presence of the sessions that live here: joins, renewals before the lease ends, leaves."""

from __future__ import annotations

import logging
from collections.abc import Collection

from hybrid.broker.base import PresenceStore
from hybrid.engine.tasks import Tasks
from hybrid.engine.wheel import Wheel
from hybrid.errors import HybridError
from hybrid.model import PresenceEntry, Principal

_log = logging.getLogger(__name__)

LEASE_S = 90.0
"""After a node's death its clients stay visible no longer than this."""
_RENEW_S = 30.0  # a third: two renewals may fail


class PresenceKeeper:
    """Keeps the leases of this process; one renewal timer for all, and none while nobody is present."""

    __slots__ = ("_here", "_is_scheduled", "_store", "_tasks", "_wheel")

    def __init__(self, store: PresenceStore, wheel: Wheel, tasks: Tasks) -> None:
        self._store = store
        self._wheel = wheel
        self._tasks = tasks
        self._here: dict[str, dict[str, PresenceEntry]] = {}  # session -> channel -> who
        self._is_scheduled = False

    def join(self, principal: Principal, session: str, channel: str) -> None:
        """The session is on the channel from now on. Anonymous principals are nobody in particular."""
        if principal.is_anonymous:
            return
        entry = PresenceEntry(principal.subject, principal.client)
        self._here.setdefault(session, {})[channel] = entry
        self._tasks.spawn(self._joined(channel, session, entry))
        self._schedule()

    def leave(self, session: str, channel: str) -> None:
        """The session is on the channel no more."""
        channels = self._here.get(session)
        entry = channels.pop(channel, None) if channels is not None else None
        if channels is not None and not channels:
            del self._here[session]
        if entry is not None:
            self._tasks.spawn(self._left(channel, session, entry))

    def settle(self, session: str, channels: Collection[str] = ()) -> None:
        """These are all the channels that the session is still on."""
        for channel in [here for here in self._here.get(session, ()) if here not in channels]:
            self.leave(session, channel)

    def release(self, session: str) -> None:
        """The session is polled from now on: its polls renew its leases, and their running out ends them."""
        self._here.pop(session, None)

    def polled(self, principal: Principal, session: str, channel: str) -> None:
        """A poll renews presence for one lease; it ends by timeout only, since any node may answer the next poll."""
        if not principal.is_anonymous:
            entry = PresenceEntry(principal.subject, principal.client)
            self._tasks.spawn(self._joined(channel, session, entry))
            self._schedule()

    def wheel_fired(self) -> None:
        """Renew everything, and let the store turn old leases into leaves."""
        self._is_scheduled = False
        self._tasks.spawn(self._renew())

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._wheel.schedule(self, _RENEW_S)

    async def _joined(self, channel: str, session: str, entry: PresenceEntry) -> None:
        try:
            await self._store.join(channel, entry, session, LEASE_S)
        except HybridError as error:
            _log.warning("presence on a channel could not be written: %s", error)

    async def _left(self, channel: str, session: str, entry: PresenceEntry) -> None:
        try:
            await self._store.leave(channel, entry, session)
        except HybridError as error:
            _log.warning("presence on a channel could not be ended; its lease will: %s", error)

    async def _renew(self) -> None:
        for session, channels in list(self._here.items()):
            for channel, entry in list(channels.items()):
                if channel in self._here.get(session, ()):
                    await self._joined(channel, session, entry)
        try:
            await self._store.expire()
        except HybridError as error:
            _log.warning("presence leases could not be looked through: %s", error)
        self._schedule()  # for ever from the first join on: polled sessions have leases that only the store knows
