"""When a late event loop counts as overloaded, and when it no more does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from hybrid.engine.lag import LOOK_S, LOOKS_GOOD, LOOKS_LATE, Lag
from hybrid.limits import Limits

LIMITS = Limits(lag_max_s=0.5, lag_resume_s=0.1)


def after(lag: Lag, *looks_s: float) -> bool:
    for lag_s in looks_s:
        lag.seen(lag_s)
    return lag.is_lagging


def test_some_late_looks_in_a_row_make_it() -> None:
    lag = Lag(LIMITS)
    assert not after(lag, 3_600.0, 0.0, 3_600.0), "a machine that slept"
    assert not after(lag, 0.5, 0.5, 0.5, 0.5), "the bound itself is in time"
    assert not after(lag, *[0.6] * (LOOKS_LATE - 1), 0.0, *[0.6] * (LOOKS_LATE - 1))
    assert after(lag, 0.6)
    assert lag.lag_s == 0.6


def test_it_ends_well_below_the_bound_and_not_at_once() -> None:
    lag = Lag(LIMITS)
    assert after(lag, *[1.0] * LOOKS_LATE)
    assert after(lag, *[0.3] * 100), "in between nothing changes"
    assert after(lag, *[0.05] * (LOOKS_GOOD - 1), 0.2, *[0.05] * (LOOKS_GOOD - 1))
    assert not after(lag, 0.05)
    assert not after(lag, *[0.3] * 100)
    assert after(lag, *[1.0] * LOOKS_LATE)


class Loop:
    """An event loop with one timer, which is called when a test says so."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.timers: list[tuple[float, Callable[..., object], tuple[Any, ...]]] = []

    def time(self) -> float:
        return self.now_s

    def call_at(self, when_s: float, callback: Callable[..., object], *arguments: Any) -> None:
        self.timers.append((when_s, callback, arguments))

    def fire(self, late_s: float) -> None:
        ((when_s, callback, arguments),) = self.timers
        self.timers.clear()
        self.now_s = when_s + late_s
        callback(*arguments)


def test_the_probe_says_how_late_it_comes() -> None:
    lag, loop = Lag(LIMITS), Loop()
    lag._arm(cast(asyncio.AbstractEventLoop, loop), loop.time())
    for late_s in (0.0, 0.25, 7.0, 0.001):
        loop.fire(late_s)
        assert abs(lag.lag_s - late_s) < 1e-9
        assert loop.timers[0][0] == loop.now_s + LOOK_S, "one timer, and what was late is not caught up"


async def test_it_looks_once_it_was_started_and_no_more_when_closed() -> None:
    lag = Lag(LIMITS)
    lag.start()
    (handle,) = [lag._handle]
    assert handle is not None
    assert not handle.cancelled()
    lag.close()
    lag.close()
    assert handle.cancelled()
