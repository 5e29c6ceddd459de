"""An event loop whose time is made by hand: timers fire in order, at once, as soon as nothing else is left to do.

So tests of intervals of seconds take no time and depend on no machine. For code without sockets: while time is
virtual nothing can come from outside, and a loop with nothing to do and no timer would wait for ever; it raises.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Deadlock(Exception):
    """Nothing is ready, nothing is timed, and the test has not ended."""


class _Selector(selectors.DefaultSelector):
    loop: VirtualTimeLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock
        self.loop.now_s += max(0.0, timeout)
        return super().select(0)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Its `time()` is `now_s`, and moves only when the loop would sleep. Also a `Clock`."""

    def __init__(self) -> None:
        selector = _Selector()
        selector.loop = self
        self.now_s = 1_000.0
        super().__init__(selector)

    def time(self) -> float:
        return self.now_s

    def monotonic_s(self) -> float:
        return self.now_s

    def wall_s(self) -> float:
        return 1_700_000_000.0 + self.now_s


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a test in virtual time. What was left running is cancelled at the end."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)


def clock() -> VirtualTimeLoop:
    """The running loop as the clock of what is tested."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    return loop


async def settle(turns: int = 50) -> None:
    """Let everything run that is ready, and what follows from it; time does not move."""
    for _ in range(turns):
        await asyncio.sleep(0)


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Make a test of a coroutine function that runs in virtual time."""

    @functools.wraps(test)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        run(test(*args, **kwargs))

    return wrapper
