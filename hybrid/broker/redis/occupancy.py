"""Which channels are read at all, over all nodes: implements `OccupancyStore`.

Each step is atomic, and the node whose step made the difference is the one that tells. Leases end the reading of a node
that died, which nodes look for in what is due (`due`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from hybrid.broker.redis import scripts
from hybrid.broker.redis.due import DueList
from hybrid.broker.redis.keys import Keys
from hybrid.broker.redis.servers import Servers

_PURPOSE: Final = "occupancy"
"""A line of its own, on which one node's steps arrive in their order."""
_KEPT_LEASES: Final = 10  # the key of a channel that no node looks after any more goes by itself, well behind the last
_LEASE_MAX_MS: Final = 90_000


class RedisOccupancy:
    """See the module's text."""

    is_shared = True

    def __init__(self, servers: Servers, keys: Keys, skew_ms: Callable[[], int] = lambda: 0) -> None:
        self._servers = servers
        self._keys = keys
        self._skew_ms = skew_ms
        self._due = DueList(servers, keys.occupied_due, keys.occupied_claimed, skew_ms, purpose=_PURPOSE)

    async def hold(self, channel: str, node: str, lease_s: float) -> int | None:
        """See `OccupancyStore.hold`."""
        change, at_ms, end = await self._step(channel, node, round(lease_s * 1000))
        await self._due.add(channel, end)
        return at_ms if change > 0 else None

    async def release(self, channel: str, node: str) -> int | None:
        """See `OccupancyStore.release`."""
        change, at_ms, _ = await self._step(channel, node, 0)
        return at_ms if change < 0 else None

    async def expire(self) -> list[tuple[str, int]]:
        """See `OccupancyStore.expire`."""
        vacated = []

        async def look(channel: str) -> bytes:
            change, at_ms, end = await self._step(channel, "", 0)
            if change < 0:
                vacated.append((channel, at_ms))
            return end

        await self._due.settle(look)
        return vacated

    async def _step(self, channel: str, node: str, lease_ms: int) -> tuple[int, int, bytes]:
        change, now_ms, end = await self._servers.run_script(
            scripts.OCCUPY,
            (self._keys.of(channel).occupied,),
            node,
            lease_ms,
            _LEASE_MAX_MS * _KEPT_LEASES,
            self._skew_ms(),
            purpose=_PURPOSE,
        )
        return int(change), int(now_ms), end
