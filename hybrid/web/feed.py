"""The demo's feed: what the machine is doing, measured now and published several times a second.

Nothing is made up. Where a figure cannot be had, its channel stays silent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import psutil

from hybrid.clock import Clock
from hybrid.errors import HybridError

Publish = Callable[[str, dict[str, Any]], Awaitable[object]]
"""Takes a channel and JSON-able data; raises HybridError."""

CPU: Final = "demo:cpu"
MEMORY: Final = "demo:memory"
NETWORK: Final = "demo:network"
NETWORK_EVERY: Final = 2
"""Rounds per network figure: rates over a single short round jump about with every packet."""

_log = logging.getLogger(__name__)


async def run_feed(publish: Publish, clock: Clock, interval_s: float = 0.2) -> None:
    """Publish until cancelled, every `interval_s` seconds.

    In every round `demo:cpu` `{"at_ms", "percent", "cores": [...]}` and `demo:memory` `{"at_ms", "percent",
    "used_bytes", "total_bytes"}`, in every second one `demo:network` `{"at_ms", "in_bytes_per_s", "out_bytes_per_s"}`:
    all interfaces together, the loopback too, so that the demo sees its own traffic. `at_ms` is Unix time in
    milliseconds, percentages go from 0 to 100. A round that cannot be published is skipped: figures of the past are of
    no use later. The readings take well below a millisecond and never wait, so they are made on the event loop. Raises
    what psutil raises where the system keeps its figures to itself.
    """
    figures = _Figures(clock)
    is_failing = False
    rounds = 0
    while True:
        await asyncio.sleep(interval_s)
        rounds += 1
        readings = [(CPU, figures.cpu()), (MEMORY, figures.memory())]
        if rounds % NETWORK_EVERY == 0:
            readings.append((NETWORK, figures.network()))
        try:
            for channel, data in readings:
                if data is not None:
                    await publish(channel, data)
        except HybridError as error:
            if not is_failing:  # an outage lasts many rounds and is told once
                _log.warning("the demo's feed cannot publish: %s", error)
            is_failing = True
        else:
            is_failing = False


class _Figures:
    """Readings of this machine. Loads and rates are those since the reading before."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        psutil.cpu_percent(percpu=True)  # the first call only starts the count
        self._counted = self._count()

    def cpu(self) -> dict[str, Any] | None:
        cores = psutil.cpu_percent(percpu=True)
        if not cores:
            return None
        return {"at_ms": self._at_ms(), "percent": round(sum(cores) / len(cores), 1), "cores": cores}

    def memory(self) -> dict[str, Any] | None:
        memory = psutil.virtual_memory()
        return {
            "at_ms": self._at_ms(),
            "percent": memory.percent,
            "used_bytes": memory.total - memory.available,
            "total_bytes": memory.total,
        }

    def network(self) -> dict[str, Any] | None:
        before, now = self._counted, self._count()
        self._counted = now
        if before is None or now is None:
            return None
        span_s = now[0] - before[0]
        if span_s <= 0:
            return None
        received, sent = (max(0, round((now[place] - before[place]) / span_s)) for place in (1, 2))
        return {"at_ms": self._at_ms(), "in_bytes_per_s": received, "out_bytes_per_s": sent}

    def _count(self) -> tuple[float, int, int] | None:
        """Monotonic seconds, bytes received, bytes sent; None on a machine without network interfaces."""
        counters = psutil.net_io_counters()
        if counters is None:
            return None
        return self._clock.monotonic_s(), counters.bytes_recv, counters.bytes_sent

    def _at_ms(self) -> float:
        # Tenths: between two processes of one machine a publication is often on its way for less than a millisecond.
        return round(self._clock.wall_s() * 1000, 1)
