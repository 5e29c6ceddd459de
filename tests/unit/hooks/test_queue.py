"""What waits to be told: in order, in batches, bounded, nothing dropped in silence."""

from __future__ import annotations

from itertools import count

import pytest

from hybrid.hooks.messages import Event
from hybrid.hooks.queue import PAUSE_MAX_S, EventQueue, pause_s


def event(number: int) -> Event:
    return Event("connected", f"evt_{number}", number)


def queue_of(size: int, batch_max: int) -> EventQueue:
    numbers = count(1)
    return EventQueue(size, batch_max, lambda: f"msg_{next(numbers)}")


def test_batches_are_in_order_and_stay_until_they_are_told() -> None:
    queue = queue_of(10, 2)
    assert queue.next(0.0) is None
    for number in range(3):
        assert queue.add(event(number))
    first = queue.next(5.0)
    assert first is not None
    assert (first.id, [e.at_ms for e in first.events], first.dropped, first.since_s) == ("msg_1", [0, 1], 0, 5.0)
    queue.add(event(3))
    assert queue.next(9.0) is first, "the same batch, under the same id, until it was taken"
    queue.told(first)
    second = queue.next(9.0)
    assert second is not None
    assert (second.id, [e.at_ms for e in second.events]) == ("msg_2", [2, 3])
    queue.told(second)
    assert queue.next(9.0) is None
    assert len(queue) == 0


def test_what_has_no_room_is_counted_and_told_with_the_next_batch() -> None:
    queue = queue_of(2, 1)
    assert [queue.add(event(number)) for number in range(4)] == [True, True, False, False]
    first = queue.next(0.0)
    assert first is not None
    assert first.dropped == 2
    assert not queue.add(event(4)), "what is on its way takes room as well"
    queue.told(first)
    second = queue.next(0.0)
    assert second is not None
    assert ([e.at_ms for e in second.events], second.dropped) == ([1], 1)
    queue.told(second)
    assert queue.next(0.0) is None
    assert queue.dropped_in_all == 3


def test_what_was_given_up_is_told_though_nothing_else_is() -> None:
    queue = queue_of(10, 2)
    for number in range(2):
        queue.add(event(number))
    batch = queue.next(0.0)
    assert batch is not None
    queue.given_up(batch)
    last = queue.next(1.0)
    assert last is not None
    assert (last.events, last.dropped) == ((), 2)
    queue.told(last)
    assert queue.next(1.0) is None


@pytest.mark.parametrize(("attempt", "most"), [(1, 1.0), (2, 2.0), (5, 16.0), (6, PAUSE_MAX_S), (10_000, PAUSE_MAX_S)])
def test_pauses_grow_to_a_bound_and_half_of_each_is_left_to_chance(attempt: int, most: float) -> None:
    assert pause_s(attempt, 1.0) == most
    assert pause_s(attempt, 0.0) == most / 2
