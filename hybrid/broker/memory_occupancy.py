"""Which channels are read at all, in one process: implements `OccupancyStore`. Leases are of no use in it."""

from __future__ import annotations

from hybrid.clock import Clock


class MemoryOccupancy:
    """See the module's text."""

    is_shared = False

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._held: dict[str, set[str]] = {}

    async def hold(self, channel: str, node: str, lease_s: float) -> int | None:
        """See `OccupancyStore.hold`."""
        nodes = self._held.setdefault(channel, set())
        is_first = not nodes
        nodes.add(node)
        return self._now_ms() if is_first else None

    async def release(self, channel: str, node: str) -> int | None:
        """See `OccupancyStore.release`."""
        nodes = self._held.get(channel, set())
        if node not in nodes:
            return None
        nodes.discard(node)
        if nodes:
            return None
        del self._held[channel]
        return self._now_ms()

    async def expire(self) -> list[tuple[str, int]]:
        """See `OccupancyStore.expire`."""
        return []

    def _now_ms(self) -> int:
        return int(self._clock.wall_s() * 1000)
