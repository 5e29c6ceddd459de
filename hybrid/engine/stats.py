"""What this node counts, as an operator's page asks for it every two seconds.

Nothing is counted for this: what is open is looked at when somebody asks, in slices, and what happened is counted
anyway. An answer counts for a second, so that ten operators cost what one does.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from hybrid.engine.survey import NOTHING, SLOW, survey
from hybrid.engine.transport_counts import TRANSPORTS
from hybrid.protocol.orders import NodeStats

if TYPE_CHECKING:
    from hybrid.engine.engine import Engine

KEPT_S: Final = 1.0


class Stats:
    """See the module's text. One per process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = asyncio.Lock()
        self._last: NodeStats | None = None

    async def read(self) -> NodeStats:
        """What is so now, or was within `KEPT_S`. Cancel-safe."""
        async with self._lock:  # who comes while another looks gets what that one finds
            if self._last is None or self._engine.clock.monotonic_s() - self._last.at_s >= KEPT_S:
                self._last = await self._look()
            return self._last

    async def _look(self) -> NodeStats:
        engine = self._engine
        found = await survey(engine)
        connections = dict.fromkeys(TRANSPORTS, 0)
        slow = 0
        for (transport, _, state), number in found.streams.items():
            connections[transport] = connections.get(transport, 0) + number
            slow += number if state == SLOW else 0
        sessions = dict.fromkeys((*TRANSPORTS, NOTHING), 0)
        for (_, transport), number in found.sessions.items():
            sessions[transport] = sessions.get(transport, 0) + number
        # Who polls is connected between two polls as well; a plain poll is known only while it waits.
        plain = len([poll for poll in engine.open.waiting() if poll.principals()])
        connections["longpoll"] += sessions["longpoll"] + plain
        tally = engine.hub.shared.tally
        return NodeStats(
            node=engine.router.node,
            at_s=round(engine.clock.monotonic_s(), 3),
            connections=connections,
            sessions=sessions,
            slow=slow,
            behind=found.behind,
            buffered_bytes=found.buffered_bytes,
            channels=engine.hub.channel_count,
            subscriptions=found.subscriptions.total() + found.polled,
            published=engine.counts.published["appended"],
            deliveries=tally.deliveries,
            flushed_bytes=tally.bytes,
            refused=engine.counts.refusals.total(),
            cpu_s=round(time.process_time(), 3),
            lag_s=round(engine.lag.worst_s, 6),
            is_draining=engine.leaving.has_begun,
        )
