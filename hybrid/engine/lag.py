"""How late the event loop is, and whether that is too much to let anybody else in.

One timer looks four times a second how late it comes. A single late look says nothing (a collection of garbage, a
machine that slept), so it takes some in a row; and letting in begins again well below the bound, after a second, so
that those who were refused do not make it flap.

    calm ──3 looks above lag_max_s──► lagging ──4 looks below lag_resume_s──► calm
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Final

from hybrid.limits import Limits

_log = logging.getLogger(__name__)
LOOK_S: Final = 0.25
"""Between two looks."""
LOOKS_LATE: Final = 3
LOOKS_GOOD: Final = 4
LOOKS_KEPT: Final = 8
"""For whoever asks how late it was at worst: of two seconds."""


class Lag:
    """See the module's text. One per process. `seen` is all there is to it but the timer.

    `lag_s` is how late the last look was, `is_lagging` whether new sessions are to be refused.
    """

    __slots__ = ("_handle", "_limits", "_looks", "_recent", "is_lagging", "lag_s")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._looks = 0  # in a row that speak for a change
        self._handle: asyncio.TimerHandle | None = None
        self._recent: deque[float] = deque(maxlen=LOOKS_KEPT)
        self.lag_s = 0.0
        self.is_lagging = False

    @property
    def worst_s(self) -> float:
        """The latest of the last `LOOKS_KEPT` looks."""
        return max(self._recent, default=0.0)

    def start(self) -> None:
        """Look from now on."""
        loop = asyncio.get_running_loop()
        self._arm(loop, loop.time())

    def close(self) -> None:
        """Look no more. Safe to call twice."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def seen(self, lag_s: float) -> None:
        """The loop is this late."""
        self.lag_s = lag_s
        self._recent.append(lag_s)
        is_for_change = lag_s < self._limits.lag_resume_s if self.is_lagging else lag_s > self._limits.lag_max_s
        self._looks = self._looks + 1 if is_for_change else 0
        if self._looks == (LOOKS_GOOD if self.is_lagging else LOOKS_LATE):
            self._looks = 0
            self.is_lagging = not self.is_lagging
            if self.is_lagging:
                _log.warning("the event loop is %.1f s late: new sessions are refused until it is not", lag_s)
            else:
                _log.warning("the event loop is in time again: new sessions are let in")

    def _arm(self, loop: asyncio.AbstractEventLoop, now_s: float) -> None:
        self._handle = loop.call_at(now_s + LOOK_S, self._look, loop, now_s + LOOK_S)

    def _look(self, loop: asyncio.AbstractEventLoop, due_s: float) -> None:
        now_s = loop.time()
        self.seen(max(0.0, now_s - due_s))
        self._arm(loop, now_s)
