"""One question for many askers."""

from __future__ import annotations

import asyncio

import pytest

from hybrid.web.shared import Shared
from tests.support.clock import FakeClock


class Oracle:
    def __init__(self) -> None:
        self.count = 0
        self.gate = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> int:
        self.count += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return self.count


async def test_many_at_once_are_one_question_and_so_are_those_who_come_soon_after() -> None:
    oracle, clock = Oracle(), FakeClock()
    shared = Shared(oracle.__call__, clock, 0.5)
    askers = [asyncio.ensure_future(shared()) for _ in range(10)]
    await asyncio.sleep(0)
    askers[0].cancel()
    oracle.gate.set()
    answers = await asyncio.gather(*askers, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert answers[1:] == [1] * 9
    clock.advance(0.49)
    assert await shared() == 1
    clock.advance(0.01)
    assert await shared() == 2


async def test_an_error_is_for_all_who_asked_and_asked_again_after_that() -> None:
    oracle, clock = Oracle(), FakeClock()
    oracle.gate.set()
    oracle.error = OSError("away")
    shared = Shared(oracle.__call__, clock, 0.5)
    for _ in range(2):
        with pytest.raises(OSError, match="away"):
            await shared()
    assert oracle.count == 1
    clock.advance(1)
    oracle.error = None
    assert await shared() == 2
