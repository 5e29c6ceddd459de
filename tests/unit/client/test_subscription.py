"""One channel's state: order, repeats, gaps, a bounded buffer, resets in their place."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.client.subscription import Outcome, State, Subscription
from hybrid.client.values import ReceivedPublication
from hybrid.errors import ChannelError
from hybrid.model import START, Position


class Owner:
    def __init__(self) -> None:
        self.rooms = 0
        self.left: list[Subscription] = []

    async def unsubscribe(self, subscription: Subscription) -> None:
        self.left.append(subscription)
        subscription.end()

    def has_room(self, subscription: Subscription) -> None:
        self.rooms += 1


def publication(offset: int, epoch: str = "k") -> ReceivedPublication:
    return ReceivedPublication("news", Position(offset, epoch, f"{offset:08x}"), offset)


def position(offset: int, epoch: str = "k") -> Position:
    return publication(offset, epoch).position if offset else START


def made(received: int | None = None, *, buffer_max: int = 100, owner: Owner | None = None) -> Subscription:
    start = None if received is None else position(received)
    return Subscription(owner or Owner(), "news", start, 0, buffer_max)


def live(received: int, *, buffer_max: int = 100, owner: Owner | None = None) -> Subscription:
    subscription = made(received, buffer_max=buffer_max, owner=owner)
    subscription.ask()
    subscription.go_on(position(received), was_recovered=True)
    return subscription


async def taken(subscription: Subscription, count: int) -> list[int]:
    return [(await anext(subscription)).offset for _ in range(count)]


async def test_publications_come_in_order_and_repeats_do_not() -> None:
    subscription = live(4)
    outcomes = [subscription.receive(publication(offset)) for offset in (5, 5, 4, 6, 5, 7)]
    assert outcomes == [
        Outcome.TAKEN,
        Outcome.DROPPED,
        Outcome.DROPPED,
        Outcome.TAKEN,
        Outcome.DROPPED,
        Outcome.TAKEN,
    ]
    assert await taken(subscription, 3) == [5, 6, 7]


async def test_a_hole_and_another_epoch_are_gaps() -> None:
    subscription = live(4)
    assert subscription.receive(publication(6)) is Outcome.GAP
    assert subscription.receive(publication(5, "other")) is Outcome.GAP
    assert subscription.received == position(4)
    assert subscription.buffered == 0


async def test_the_start_continues_into_any_epoch_but_only_with_the_first() -> None:
    assert live(0).receive(publication(1, "any")) is Outcome.TAKEN
    assert live(0).receive(publication(2, "any")) is Outcome.GAP


async def test_position_is_what_the_application_took_and_received_what_the_client_has() -> None:
    subscription = live(4)
    subscription.receive(publication(5))
    subscription.receive(publication(6))
    assert (subscription.position, subscription.received) == (position(4), position(6))
    await anext(subscription)
    assert subscription.position == position(5)


async def test_what_comes_before_the_answer_is_held_and_sorted_out_by_it() -> None:
    """Answers to posted commands travel apart from the stream: leftovers of the former subscription come first."""
    subscription = made(10)
    subscription.ask()
    for offset in (20, 21, 11, 12, 13):
        assert subscription.receive(publication(offset)) is Outcome.HELD
    assert subscription.go_on(position(10), was_recovered=True) == 3
    assert await taken(subscription, 3) == [11, 12, 13]


async def test_what_is_held_is_bounded() -> None:
    subscription = made(0, buffer_max=3)
    subscription.ask()
    for offset in range(1, 6):
        subscription.receive(publication(offset))
    assert subscription.go_on(START, was_recovered=True) == 3
    assert subscription.receive(publication(4)) is Outcome.OVERFLOW


async def test_the_buffer_is_bounded_and_room_is_told_once_half_is_free() -> None:
    owner = Owner()
    subscription = live(0, buffer_max=4, owner=owner)
    outcomes = [subscription.receive(publication(offset)) for offset in range(1, 6)]
    assert outcomes == [Outcome.TAKEN] * 4 + [Outcome.OVERFLOW]
    subscription.state = State.PAUSED
    assert subscription.receive(publication(6)) is Outcome.DROPPED
    assert await taken(subscription, 1) == [1]
    assert (owner.rooms, subscription.has_room) == (0, False)
    assert await taken(subscription, 1) == [2]
    assert (owner.rooms, subscription.has_room) == (1, True)


async def test_a_reset_is_met_in_its_place() -> None:
    subscription = live(4)
    told: list[tuple[int, Position | None]] = []
    subscription.on_reset = lambda at: told.append((at.offset, subscription.position))
    subscription.receive(publication(5))
    subscription.reset(position(9, "new"))
    assert subscription.receive(publication(10, "new")) is Outcome.TAKEN
    assert await taken(subscription, 1) == [5]
    assert told == []
    assert await taken(subscription, 1) == [10]
    assert told == [(9, position(9, "new"))]


async def test_resets_in_a_row_are_one() -> None:
    subscription = live(4)
    for offset in range(10, 1000):
        subscription.reset(position(offset))
    assert subscription.buffered == 1


async def test_an_answer_that_is_no_recovery_is_a_reset_but_not_for_a_new_reader() -> None:
    subscription = made()
    subscription.ask()
    subscription.go_on(position(7), was_recovered=False)
    assert (subscription.buffered, subscription.position) == (0, position(7))
    subscription.ask()
    subscription.go_on(position(20), was_recovered=False)
    assert (subscription.buffered, subscription.received) == (1, position(20))


async def test_the_end_comes_after_what_is_in_the_buffer() -> None:
    subscription = live(0)
    subscription.receive(publication(1))
    await subscription.unsubscribe()
    assert [item.offset async for item in subscription] == [1]
    assert subscription.receive(publication(2)) is Outcome.DROPPED


async def test_the_end_by_an_error_is_raised_after_what_is_in_the_buffer() -> None:
    subscription = live(0)
    subscription.receive(publication(1))
    subscription.end(ChannelError("forbidden"))
    assert await taken(subscription, 1) == [1]
    for _ in range(2):
        with pytest.raises(ChannelError):
            await anext(subscription)


async def test_who_waits_for_the_answer_gets_the_error() -> None:
    for error in (ChannelError("forbidden"), None):
        subscription = made()
        subscription.end(error)
        with pytest.raises(ChannelError):
            await subscription.ready


async def test_a_reader_that_waits_is_woken_and_can_be_cancelled_without_loss() -> None:
    subscription = live(0)
    reader = asyncio.create_task(anext(subscription))
    await asyncio.sleep(0)
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    reader = asyncio.create_task(anext(subscription))
    await asyncio.sleep(0)
    subscription.receive(publication(1))
    assert (await reader).offset == 1


@given(st.lists(st.integers(1, 12), max_size=60))
def test_whatever_arrives_is_read_rising_by_one(offsets: list[int]) -> None:
    async def read() -> list[int]:
        subscription = live(0, buffer_max=5)
        got: list[int] = []
        for offset in offsets:
            outcome = subscription.receive(publication(offset))
            if outcome is Outcome.OVERFLOW:
                got += await taken(subscription, subscription.buffered)
        return got + await taken(subscription, subscription.buffered)

    got = asyncio.run(read())
    assert got == list(range(1, len(got) + 1))


@pytest.mark.parametrize(
    ("asked_from", "told", "is_behind"),
    [
        (Position(0), position(1), True),
        (position(3), position(5), True),
        (position(3), position(3, "other"), True),
        (position(3), position(3), False),
        (position(3), position(1), False),
        (position(3), Position(0), False),
        (Position(0), Position(0), False),
    ],
)
async def test_an_answer_that_would_skip_something_is_noticed(
    asked_from: Position, told: Position, is_behind: bool
) -> None:
    """A move to another node named a channel whose first answer was still on its way: it went on from further ahead.

    What lay between was never delivered, and on a quiet channel nothing showed it.
    """
    subscription = made()
    subscription.go_on(asked_from, was_recovered=True)
    subscription.ask()
    subscription.go_on(told, was_recovered=True)
    assert subscription.is_behind is is_behind
    assert subscription.received == asked_from


async def test_a_reset_that_comes_before_the_answer_keeps_its_place() -> None:
    """On one-way transports the answer travels apart, and nothing else may follow for long."""
    subscription = made()
    resets: list[Position] = []
    subscription.on_reset = resets.append
    subscription.ask()
    assert subscription.receive(publication(5, "old")) is Outcome.HELD
    subscription.hear_reset(position(2, "new"))
    assert subscription.receive(publication(3, "new")) is Outcome.HELD
    assert subscription.go_on(position(4, "old"), was_recovered=True) == 2
    assert not subscription.is_behind
    assert subscription.received == position(3, "new")
    assert await taken(subscription, 2) == [5, 3]
    assert resets == [position(2, "new")]
    assert subscription.resets == 1


async def test_a_reset_of_before_the_answer_costs_another_question_and_loses_nothing() -> None:
    """What is left of a former subscription; one that goes back in the same epoch is told of a log that went back."""
    subscription = made(2)
    subscription.ask()
    subscription.hear_reset(position(3))
    assert subscription.receive(publication(6)) is Outcome.HELD
    subscription.go_on(position(5), was_recovered=False)
    assert subscription.received == position(3)
    assert subscription.is_behind, "it is asked again, from 3 on"
    assert subscription.resets == 2


async def test_resets_before_the_answer_are_bounded_and_what_had_no_room_is_missed() -> None:
    subscription = made(1, buffer_max=2)
    subscription.ask()
    for epoch in "abc":
        subscription.hear_reset(position(1, epoch))
    subscription.go_on(position(1), was_recovered=True)
    assert subscription.resets == 2
    assert subscription.is_behind


async def test_a_reset_of_what_is_not_wanted_or_over_says_nothing() -> None:
    subscription = made(1)
    subscription.hear_reset(position(9, "x"))
    assert (subscription.resets, subscription.received) == (0, position(1))
    subscription.end()
    subscription.hear_reset(position(9, "x"))
    assert subscription.resets == 0
