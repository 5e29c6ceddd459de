"""Presence of the sessions that live here: joins, renewals before the lease ends, leaves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Coroutine
from typing import Any

from hybrid.broker.base import PresenceStore
from hybrid.engine.tasks import Tasks
from hybrid.engine.wheel import Wheel
from hybrid.errors import HybridError
from hybrid.model import PresenceEntry, Principal

_log = logging.getLogger(__name__)

LEASE_S = 90.0
"""After a node's death its clients stay visible no longer than this."""
_RENEW_S = 30.0  # a third: two renewals may fail
HAND_OVER_S = 15.0
"""How long the clients of a node that drains are still seen: they are at another one before, and nobody saw them go."""
_EXPIRE_S = 2.0  # between two looks for leases that ran out
_RENEWED_AT_ONCE = 128


class PresenceKeeper:
    """Keeps the leases of this process; one timer for all."""

    __slots__ = (
        "_here",
        "_is_renewing",
        "_is_scheduled",
        "_polled",
        "_rounds",
        "_store",
        "_tasks",
        "_wheel",
        "_writing",
    )

    def __init__(self, store: PresenceStore, wheel: Wheel, tasks: Tasks) -> None:
        self._store = store
        self._wheel = wheel
        self._tasks = tasks
        self._here: dict[str, dict[str, PresenceEntry]] = {}  # session -> channel -> who
        self._is_scheduled = False
        self._is_renewing = False
        self._rounds = 0
        # session -> channel -> when polls last renewed its lease here; those of a round ago go
        self._polled: dict[str, dict[str, float]] = {}
        self._writing: set[asyncio.Task[None]] = set()

    def join(self, principal: Principal, session: str, channel: str) -> None:
        """The session is on the channel from now on. Anonymous principals are nobody in particular."""
        if principal.is_anonymous:
            return
        entry = PresenceEntry(principal.subject, principal.client)
        self._here.setdefault(session, {})[channel] = entry
        self._write(self._joined(channel, session, entry))

    def leave(self, session: str, channel: str) -> None:
        """The session is on the channel no more."""
        channels = self._here.get(session)
        entry = channels.pop(channel, None) if channels is not None else None
        if channels is not None and not channels:
            del self._here[session]
        if entry is not None:
            self._write(self._left(channel, session, entry))

    def settle(self, session: str, channels: Collection[str] = ()) -> None:
        """These are all the channels that the session is still on."""
        for channel in [here for here in self._here.get(session, ()) if here not in channels]:
            self.leave(session, channel)

    def release(self, session: str) -> None:
        """The session is polled from now on: its polls renew its leases, and their running out ends them."""
        self._here.pop(session, None)

    def polled(self, principal: Principal, session: str, channel: str) -> None:
        """A poll renews presence for one lease; it ends by timeout only, since any node may answer the next poll."""
        now_s = asyncio.get_running_loop().time()
        if principal.is_anonymous or self._polled.get(session, {}).get(channel, 0.0) > now_s - _RENEW_S:
            return  # a busy channel is polled many times a second
        self._polled.setdefault(session, {})[channel] = now_s
        self._write(self._joined(channel, session, PresenceEntry(principal.subject, principal.client)))

    def end_polled(self, session: str, principal: Principal) -> None:
        """No poll of the session will renew its leases any more: it leaves now, as far as they were renewed here."""
        for channel in self._polled.pop(session, ()):
            self._write(self._left(channel, session, PresenceEntry(principal.subject, principal.client)))

    def leave_polled(self, session: str, principal: Principal, channel: str) -> None:
        """A polled session is on the channel no more, as far as its lease was renewed here."""
        if self._polled.get(session, {}).pop(channel, None) is not None:
            self._write(self._left(channel, session, PresenceEntry(principal.subject, principal.client)))

    def start(self) -> None:
        """Begin to look for leases that ran out, also where nobody is present: those of a node that died."""
        self._schedule()

    async def hand_over(self) -> None:
        """The clients were sent to other nodes: let them be seen until they are there, or for a moment."""
        here, self._here = self._here, {}
        leases = [(s, channel, entry) for s, channels in here.items() for channel, entry in channels.items()]
        for first in range(0, len(leases), _RENEWED_AT_ONCE):
            batch = leases[first : first + _RENEWED_AT_ONCE]
            await asyncio.gather(*(self._joined(channel, s, entry, HAND_OVER_S) for s, channel, entry in batch))

    def rejoin(self) -> None:
        """This node was away for longer than its lease: whoever is here may have been taken for gone."""
        if self._here:
            self._tasks.spawn(self._renew())

    def wheel_fired(self) -> None:
        """Let the store turn old leases into leaves; now and then renew everything."""
        self._is_scheduled = False
        self._rounds += 1
        if self._rounds * _EXPIRE_S >= _RENEW_S:
            self._rounds = 0
            old_s = asyncio.get_running_loop().time() - _RENEW_S
            renewed = (
                (session, {channel: at_s for channel, at_s in channels.items() if at_s > old_s})
                for session, channels in self._polled.items()
            )
            self._polled = {session: channels for session, channels in renewed if channels}
            self._tasks.spawn(self._renew())
        else:
            self._tasks.spawn(self._expire())

    async def written(self) -> None:
        """Return when the store has all that was said until now. Cancel-safe."""
        if self._writing:
            await asyncio.wait(list(self._writing))

    def _write(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._tasks.spawn(coroutine)
        if task is not None:
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._wheel.schedule(self, _EXPIRE_S)

    async def _joined(self, channel: str, session: str, entry: PresenceEntry, lease_s: float = LEASE_S) -> None:
        try:
            await self._store.join(channel, entry, session, lease_s)
        except HybridError as error:
            _log.warning("presence on a channel could not be written: %s", error)

    async def _left(self, channel: str, session: str, entry: PresenceEntry) -> None:
        try:
            await self._store.leave(channel, entry, session)
        except HybridError as error:
            _log.warning("presence on a channel could not be ended; its lease will: %s", error)

    async def _renew(self) -> None:
        if self._is_renewing:
            return
        self._is_renewing = True
        try:
            here = [(s, channel, entry) for s, channels in self._here.items() for channel, entry in channels.items()]
            for first in range(0, len(here), _RENEWED_AT_ONCE):
                batch = here[first : first + _RENEWED_AT_ONCE]
                await asyncio.gather(*(self._renewed(*item) for item in batch))
        finally:
            self._is_renewing = False
        await self._expire()

    async def _renewed(self, session: str, channel: str, entry: PresenceEntry) -> None:
        if channel in self._here.get(session, ()):  # it may have left while others were renewed
            await self._joined(channel, session, entry)

    async def _expire(self) -> None:
        try:
            await self._store.expire()
        except HybridError as error:
            _log.debug("presence leases could not be looked through: %s", error)
        self._schedule()
