"""How a node leaves: every client is told to come back elsewhere, at a rate that the others can take, then cut."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Final

from hybrid.engine.census import Census
from hybrid.engine.departure import Departure, plan_departure
from hybrid.engine.nodes import Nodes
from hybrid.engine.polled import PolledLeg
from hybrid.engine.presence import PresenceKeeper
from hybrid.engine.registry import Registry
from hybrid.engine.tasks import Tasks
from hybrid.limits import Limits

_log = logging.getLogger(__name__)
_TELLING_MAX_S: Final = 1.0  # for the other nodes to be told of a drain


class Leaving:
    """See the module's text."""

    def __init__(
        self, limits: Limits, census: Census, registry: Registry, presence: PresenceKeeper, nodes: Nodes, tasks: Tasks
    ) -> None:
        self.has_begun = False
        """Nobody is taken in from then on."""
        self._limits = limits
        self._census = census
        self._registry = registry
        self._presence = presence
        self._nodes = nodes
        self._tasks = tasks

    def begin(self) -> None:
        """Begin to `drain`, unless that has begun."""
        if not self.has_begun:
            self.has_begun = True
            self._tasks.spawn(self.drain(self._limits.shutdown_grace_s))

    async def drain(self, grace_s: float) -> None:
        """Tell every client to come back elsewhere, close its link, and abort what is left after `grace_s`.

        How fast they are told is what the other nodes offer to take: see `Departure`. Cancelling it aborts at once.
        """
        self.has_begun = True
        try:
            async with asyncio.timeout(grace_s):
                await self._tell_nodes(grace_s)
                await self._send_away(plan_departure(len(self._census), self._nodes.others, grace_s, self._limits))
                await self._census.emptied()
        except TimeoutError:
            _log.warning("%d clients did not leave in time and are cut", len(self._census))
        finally:
            self.abort_all()

    def abort_all(self) -> int:
        """Abort every open link; how many there were."""
        streams = self._census.streams()
        for stream in streams:
            stream.link.abort()
        return len(streams)

    async def _tell_nodes(self, grace_s: float) -> None:
        """That this one drains, and learn what they offer; where the broker is away, what was known has to do."""
        with suppress(TimeoutError):
            async with asyncio.timeout(min(_TELLING_MAX_S, grace_s / 10)):
                await self._nodes.tell()

    async def _send_away(self, departure: Departure) -> None:
        polled = [
            runner.session.current
            for runner in self._registry.runners()
            if isinstance(runner.session.current, PolledLeg)
        ]
        for leg in polled:
            leg.end("draining", delay_ms=departure.delay_ms())
        self._census.wake_polls()
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        for place, stream in enumerate(self._census.streams()):
            if place % departure.batch == 0 and place:
                await asyncio.sleep(max(0.0, start_s + departure.told_after_s(place) - loop.time()))
            stream.end("draining", delay_ms=departure.delay_ms())
        await self._presence.hand_over()
