"""Streams are asked, not believed: a heartbeat with a number is asked for whenever there is a doubt about a leg.

A network can leave a stream open and pass nothing on it, or each event with the next one only. What was asked for comes
within a round trip, or something is wrong; what then, is decided by whoever watches (`legs`).
"""

from __future__ import annotations

import asyncio
from typing import Final

from hybrid.client.leg import Leg

_OVERDUE_INTERVALS: Final = 1.25
"""A heartbeat of the server has not come: ask."""
_APART_S: Final = 1.0  # a client asks at most once a second


class Vigil:
    """Watches one stream that carries the session. `patience_s`: see `Timing`."""

    def __init__(self, leg: Leg, patience_s: float) -> None:
        assert leg.attached is not None
        self._leg = leg
        self._patience_s = patience_s + min(patience_s, 2 * leg.latency_s)
        self._overdue_s = leg.attached.heartbeat_interval_s * _OVERDUE_INTERVALS
        self._loop = asyncio.get_running_loop()

    async def until_in_doubt(self) -> None:
        """Ask soon, and whenever nothing has come for too long or somebody has a doubt; return when no answer came.

        Cancel-safe.
        """
        if self._leg.ready_s is not None:
            await asyncio.sleep(max(0.0, self._leg.ready_s + self._leg.asks_after_s - self._loop.time()))
        while True:
            asked_s = self._loop.time()
            if not await self._is_answered():
                return
            if not self._leg.is_doubted.is_set():
                self._leg.is_woken = False  # otherwise it was woken behind this question
            await self._until_overdue()
            await asyncio.sleep(max(0.0, asked_s + _APART_S - self._loop.time()))

    async def _is_answered(self) -> bool:
        """Where much is on its way the answer is behind it: as long as anything comes there is hope."""
        leg = self._leg
        number = leg.ask()
        asked_s = self._loop.time()
        while leg.echoed != number:
            left_s = max(leg.heard_s, asked_s) + self._patience_s - self._loop.time()
            if left_s <= 0:
                return False
            leg.has_echoed.clear()
            try:
                async with asyncio.timeout(left_s):
                    await leg.has_echoed.wait()
            except TimeoutError:
                continue
        return True

    async def _until_overdue(self) -> None:
        leg = self._leg
        while not leg.is_doubted.is_set():
            left_s = leg.heard_s + self._overdue_s - self._loop.time()
            if left_s <= 0:
                break
            try:
                async with asyncio.timeout(left_s):
                    await leg.is_doubted.wait()
            except TimeoutError:
                continue
        leg.is_doubted.clear()
