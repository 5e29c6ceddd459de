from __future__ import annotations

import asyncio
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.engine.wheel import SLOT_S, Wheel, rest
from tests.support.clock import FakeClock
from tests.support.virtual_time import clock, in_virtual_time


class Note:
    """A timer that notes when it fired."""

    def __init__(self, clock: FakeClock, fired: list[tuple[Note, float]]) -> None:
        self.clock = clock
        self.fired = fired

    def wheel_fired(self) -> None:
        self.fired.append((self, self.clock.monotonic_s()))


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 30)), max_size=30))
def test_timers_fire_once_never_early_and_at_most_a_slot_late(steps: list[tuple[float, float]]) -> None:
    clock = FakeClock()
    wheel = Wheel(clock)
    fired: list[tuple[Note, float]] = []
    due: dict[Note, float] = {}
    for delay_s, wait_s in steps:
        timer = Note(clock, fired)
        due[timer] = clock.monotonic_s() + delay_s
        wheel.schedule(timer, delay_s)
        end_s = clock.monotonic_s() + wait_s
        while clock.monotonic_s() + SLOT_S < end_s:
            clock.advance(SLOT_S)
            wheel.advance(clock.monotonic_s())
    for _ in range(500):
        clock.advance(SLOT_S)
        wheel.advance(clock.monotonic_s())
    assert {timer for timer, _ in fired} == set(due)
    assert len(fired) == len(due)
    for timer, fired_s in fired:
        # A slot for the wheel, and one for this test's own steps.
        assert due[timer] <= fired_s <= due[timer] + 2 * SLOT_S
    assert len(wheel) == 0


def test_cancelled_and_moved_timers() -> None:
    clock = FakeClock()
    wheel = Wheel(clock)
    fired: list[tuple[Note, float]] = []
    cancelled, moved = Note(clock, fired), Note(clock, fired)
    wheel.schedule(cancelled, 1)
    wheel.schedule(moved, 1)
    wheel.schedule(moved, 5)
    wheel.cancel(cancelled)
    wheel.cancel(cancelled)
    assert len(wheel) == 1
    wheel.advance(clock.monotonic_s() + 4)
    assert fired == []
    wheel.advance(clock.monotonic_s() + 5.25)
    assert [timer for timer, _ in fired] == [moved]


def test_a_timer_may_schedule_itself_and_cancel_its_neighbour() -> None:
    clock = FakeClock()
    wheel = Wheel(clock)
    counts = {"first": 0, "second": 0}

    class First:
        def wheel_fired(self) -> None:
            counts["first"] += 1
            wheel.cancel(second)
            wheel.schedule(self, 0)

    class Second:
        def wheel_fired(self) -> None:
            counts["second"] += 1

    first, second = First(), Second()
    wheel.schedule(first, 1)
    wheel.schedule(second, 1)
    wheel.advance(clock.monotonic_s() + 1.25)
    # Scheduling itself for "now" is for the next slot: a wheel never turns without end.
    assert counts == {"first": 1, "second": 0}
    wheel.advance(clock.monotonic_s() + 10_000)
    assert counts == {"first": 2, "second": 0}


def test_a_timer_that_fails_harms_no_other(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    wheel = Wheel(clock)
    fired: list[tuple[Note, float]] = []

    class Bad:
        def wheel_fired(self) -> None:
            raise ValueError

    wheel.schedule(Bad(), 1)
    wheel.schedule(Note(clock, fired), 1)
    with caplog.at_level(logging.ERROR):
        wheel.advance(clock.monotonic_s() + 2)
    assert len(fired) == 1
    assert "a timer failed" in caplog.text


def test_after_a_day_of_sleep_only_full_slots_are_looked_at() -> None:
    clock = FakeClock()
    wheel = Wheel(clock)
    fired: list[tuple[Note, float]] = []
    wheel.schedule(Note(clock, fired), 1)
    wheel.schedule(Note(clock, fired), 2)
    wheel.advance(clock.monotonic_s() + 86_400 * 365 * 100)  # would take minutes slot by slot
    assert len(fired) == 2


@in_virtual_time
async def test_the_loop_has_one_timer_and_only_while_something_is_scheduled() -> None:
    loop = clock()
    wheel = Wheel(loop)
    timers = [Note(loop, []) for _ in range(1_000)]  # type: ignore[arg-type]
    for timer in timers:
        wheel.schedule(timer, 10)
    assert len(loop._scheduled) == 1  # type: ignore[attr-defined]
    await asyncio.sleep(11)
    assert all(len(timer.fired) == 1 for timer in timers)
    assert len(wheel) == 0
    assert wheel._handle is None


@in_virtual_time
async def test_rest_waits_and_can_be_cancelled() -> None:
    loop = clock()
    wheel = Wheel(loop)
    before_s = loop.now_s
    await rest(wheel, 3)
    assert 3 <= loop.now_s - before_s <= 3.5
    task = asyncio.ensure_future(rest(wheel, 3))
    await asyncio.sleep(0)
    assert len(wheel) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(wheel) == 0
    wheel.schedule(Note(loop, []), 1)  # type: ignore[arg-type]
    wheel.close()
    assert len(wheel) == 0
    assert wheel._handle is None


def test_what_is_scheduled_while_late_slots_fire_is_not_forgotten() -> None:
    clock = FakeClock()
    wheel = Wheel(clock)
    fired: list[tuple[Note, float]] = []
    later = Note(clock, fired)

    class Scheduling:
        def wheel_fired(self) -> None:
            wheel.schedule(later, 0)

    wheel.schedule(Scheduling(), SLOT_S)
    wheel.schedule(Note(clock, fired), 3 * SLOT_S)
    clock.advance(4 * SLOT_S)  # the very moment of a slot that is empty so far
    wheel.advance(clock.monotonic_s())
    clock.advance(SLOT_S)
    wheel.advance(clock.monotonic_s())
    assert [timer for timer, _ in fired][-1] is later
    assert len(wheel) == 0
