"""One question for many askers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from hybrid.clock import Clock

_Answer = TypeVar("_Answer")


class Shared(Generic[_Answer]):
    """Asks once for all who want to know at the same time, and for those who come within `kept_s` after the answer."""

    def __init__(self, ask: Callable[[], Coroutine[Any, Any, _Answer]], clock: Clock, kept_s: float) -> None:
        self._ask = ask
        self._clock = clock
        self._kept_s = kept_s
        self._asking: asyncio.Task[_Answer] | None = None
        self._answered_s = float("-inf")

    async def __call__(self) -> _Answer:
        """The answer; raises as the question does. Cancelling it leaves the question to the others."""
        is_old = self._clock.monotonic_s() - self._answered_s >= self._kept_s
        if self._asking is None or (self._asking.done() and is_old):
            self._asking = asyncio.get_running_loop().create_task(self._asked())
        return await asyncio.shield(self._asking)

    async def _asked(self) -> _Answer:
        try:
            return await self._ask()
        finally:
            self._answered_s = self._clock.monotonic_s()
