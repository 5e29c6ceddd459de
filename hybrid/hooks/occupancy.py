"""Which channels are read at all, over all nodes: each node says what it reads, and the store knows whether others do.

A node reads a channel from its first reader until `channel_linger_s` after its last one, so that a reload is no event.
The node whose step made the difference tells it. What a node reads is leased, so that a channel whose only node died is
vacated when its lease is over, which any other node tells.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final

from hybrid.broker.base import OccupancyStore
from hybrid.errors import BrokerError
from hybrid.hooks.telling import Teller

_log = logging.getLogger(__name__)

LEASE_S: Final = 90.0
RENEW_S: Final = 30.0
"""A third: two renewals may fail."""
HAND_OVER_S: Final = 15.0
"""How long the channels of a node that ends stay occupied: its clients are at another one before."""
LOOK_S: Final = 2.0
"""Between two looks for leases that ran out; also how long a store that is away is left alone."""
_AT_ONCE: Final = 64


class Occupancy:
    """The half of `engine.observer.Observer` that concerns channels. One per process."""

    def __init__(
        self, teller: Teller, store: OccupancyStore, events: frozenset[str], is_told: Callable[[str], bool]
    ) -> None:
        """`is_told` says of a channel whether it is told about."""
        self.node = ""
        self._teller = teller
        self._store = store
        self._events = events
        self._is_told = is_told
        self._here: dict[str, None] = {}
        self._changed: dict[str, None] = {}  # and not yet said to the store
        self._working: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to keep leases, and to look for those that ran out."""
        self._looking = asyncio.get_running_loop().create_task(self._look())
        self._begin()

    def channel_followed(self, channel: str) -> None:
        """See `Observer.channel_followed`."""
        if self._is_told(channel):
            self._here[channel] = None
            self._change(channel)

    def channel_left(self, channel: str) -> None:
        """See `Observer.channel_left`."""
        if channel in self._here:
            del self._here[channel]
            self._change(channel)

    async def close(self) -> None:
        """This node ends: where others may go on, soon; where there are none, its channels are vacated now."""
        looking, self._looking = self._looking, None  # so that nothing begins any more
        if looking is not None:
            looking.cancel()
            await asyncio.wait({looking})
        if self._working is not None:
            await asyncio.wait({self._working}, timeout=LOOK_S)
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait({self._working})
        try:
            async with asyncio.timeout(LOOK_S):
                if self._store.is_shared:
                    await self._hold_all(HAND_OVER_S)
                else:
                    here, self._here = self._here, {}
                    for channel in here:
                        await self._say(channel)
        except (BrokerError, TimeoutError) as error:
            _log.warning("which channels are read here could not be handed over: %s", error)

    # -- inside

    def _change(self, channel: str) -> None:
        self._changed[channel] = None
        self._begin()

    def _begin(self) -> None:
        if self._changed and self._working is None and self._looking is not None:
            self._working = asyncio.get_running_loop().create_task(self._work())
            self._working.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._working = None
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            _log.error("which channels are read cannot be told", exc_info=error)
        else:
            self._begin()  # something changed when it had just looked

    async def _work(self) -> None:
        """Say what has changed; what changed back meanwhile is said as it is now."""
        while self._changed:
            batch = list(self._changed)[:_AT_ONCE]
            for channel in batch:
                del self._changed[channel]
            try:
                await self._together(self._say(channel) for channel in batch)
            except BrokerError as error:
                _log.warning("which channels are read cannot be said to the store: %s", error)
                self._changed = dict.fromkeys(batch) | self._changed
                await asyncio.sleep(LOOK_S)

    async def _say(self, channel: str) -> None:
        if channel in self._here:
            await self._hold(channel, LEASE_S)
            return
        at_ms = await self._store.release(channel, self.node)
        if at_ms is not None:
            self._tell_vacated(channel, at_ms)

    async def _hold(self, channel: str, lease_s: float) -> None:
        at_ms = await self._store.hold(channel, self.node, lease_s)
        if at_ms is not None and "occupied" in self._events:
            self._teller.tell("occupied", at_ms, channel=channel)

    def _tell_vacated(self, channel: str, at_ms: int) -> None:
        if "vacated" in self._events:
            self._teller.tell("vacated", at_ms, channel=channel)

    async def _hold_all(self, lease_s: float) -> None:
        here = list(self._here)
        for first in range(0, len(here), _AT_ONCE):
            batch = here[first : first + _AT_ONCE]
            await self._together(self._hold(channel, lease_s) for channel in batch if channel in self._here)

    async def _look(self) -> None:
        rounds = 0
        while True:
            try:
                for channel, at_ms in await self._store.expire():
                    self._tell_vacated(channel, at_ms)
                if rounds * LOOK_S >= RENEW_S:
                    rounds = 0
                    if self._store.is_shared:
                        await self._hold_all(LEASE_S)
            except BrokerError as error:
                _log.debug("leases on channels could not be looked through: %s", error)
            except Exception:
                _log.exception("leases on channels could not be looked through")
            rounds += 1
            await asyncio.sleep(LOOK_S)

    async def _together(self, steps: Iterable[Coroutine[Any, Any, None]]) -> None:
        """Every step, then the first one's failure, if one has failed: none goes on behind the caller's back."""
        results = await asyncio.gather(*steps, return_exceptions=True)
        for result in results:
            if result is not None:
                raise result
