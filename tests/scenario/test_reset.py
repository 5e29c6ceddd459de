"""What cannot be continued exactly is told, once, with the position from which it goes on: never an endless wait."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hybrid.limits import Limits
from hybrid.model import Position
from tests.support.raw import attach_of
from tests.support.wire import TRANSPORTS
from tests.support.world import LIMITS, Pipe, Reader, World, settings, world

CHANNEL = "short:lobby"
SHORT_RING: Limits = replace(LIMITS, ring_max_bytes=600)
"""Holds two or three publications, so that only the log can save a reader."""


@pytest.mark.parametrize("kept", [0, 5])
async def test_a_history_that_is_too_short_is_told(pipe: Pipe, handoff: bool, kept: int) -> None:
    chosen = settings(handoff, limits=SHORT_RING, short={"history_size": kept})
    async with world(chosen) as here:
        client = await here.client(pipe)
        reader = await here.read(client, CHANNEL)
        await _one_by_one(here, reader, range(3))
        await _away(here, pipe, 3, 40)
        await reader.until(lambda: bool(reader.resets))
        assert [position.offset for position in reader.resets] == [40]
        await _one_by_one(here, reader, range(40, 50))
        reader.check_between_resets(1)
        assert reader.data == [0, 1, 2, *range(40, 50)]
        assert client.stats.resets == 1
        assert client.stats.gaps == 0


@pytest.mark.parametrize("is_enough", [True, False])
async def test_the_last_entry_that_was_read_has_to_be_kept(pipe: Pipe, handoff: bool, is_enough: bool) -> None:
    """20 were missed. To go on exactly, the log must also hold the one before them: its tag proves the place."""
    chosen = settings(handoff, limits=SHORT_RING, short={"history_size": 21 if is_enough else 20})
    async with world(chosen) as here:
        client = await here.client(pipe)
        reader = await here.read(client, CHANNEL)
        await _one_by_one(here, reader, range(3))
        await _away(here, pipe, 3, 23)
        if is_enough:
            await reader.until(23)
            reader.check()
        else:
            await reader.until(lambda: bool(reader.resets))
            assert [position.offset for position in reader.resets] == [23]


@pytest.mark.memory("its log ends with the process")
async def test_a_server_without_memory_tells_a_reset(pipe: Pipe, handoff: bool) -> None:
    """The server comes back with an empty broker, so a new epoch: the client is told, and goes on from there."""
    chosen = settings(handoff)
    async with world(chosen) as here:
        client = await here.client(pipe)
        reader = await here.read(client, CHANNEL)
        for number in range(10):
            await here.publish(CHANNEL, number)
        await reader.until(10)
        await here.restart(chosen)
        await reader.until(lambda: bool(reader.resets))
        for number in range(5):
            await here.publish(CHANNEL, 100 + number)
        await reader.until(15)
        assert [position.offset for position in reader.resets] == [0]
        assert reader.data == [*range(10), *range(100, 105)]
        assert reader.offsets[10:] == [1, 2, 3, 4, 5]


@pytest.mark.memory("its log ends with the process")
async def test_publications_behind_a_restart_are_not_missed(pipe: Pipe, handoff: bool) -> None:
    """The new log has grown before the client is back: it goes on from a position of the new epoch."""
    chosen = settings(handoff)
    async with world(chosen) as here:
        client = await here.client(pipe)
        reader = await here.read(client, CHANNEL)
        for number in range(3):
            await here.publish(CHANNEL, number)
        await reader.until(3)
        wire = here.cabling[pipe.transport]
        wire.is_refusing = True
        wire.cut()
        await here.restart(chosen)
        for number in range(20):
            await here.publish(CHANNEL, 100 + number)
        wire.is_refusing = False
        await reader.until(lambda: bool(reader.resets))
        last = await here.publish(CHANNEL, 120)
        await reader.until_offset(21)
        reader.check_between_resets(1)
        assert reader.publications[-1].position == last


@pytest.mark.parametrize(
    "behind",
    [Position(50, "old", "0badc0de"), Position(3, "old", "0badc0de")],
    ids=["another epoch ahead", "another epoch"],
)
async def test_a_stored_position_of_another_life_is_reset(pipe: Pipe, handoff: bool, behind: Position) -> None:
    async with world(handoff) as here:
        for number in range(10):
            head = await here.publish(CHANNEL, number)
        reader = await here.read(await here.client(pipe), CHANNEL, behind)
        await reader.until(lambda: bool(reader.resets))
        assert reader.resets == [head]
        await here.publish(CHANNEL, 10)
        await reader.until(1)
        assert reader.offsets == [11]


@pytest.mark.parametrize("is_tag_wrong", [False, True], ids=["ahead of the head", "another tag"])
async def test_a_position_that_the_log_never_had_is_reset(pipe: Pipe, handoff: bool, is_tag_wrong: bool) -> None:
    async with world(handoff) as here:
        for number in range(10):
            head = await here.publish(CHANNEL, number)
        foreign = Position(10, head.epoch, "0badc0de") if is_tag_wrong else Position(11, head.epoch, head.tag)
        reader = await here.read(await here.client(pipe), CHANNEL, foreign)
        await reader.until(lambda: bool(reader.resets))
        assert reader.resets == [head]
        await here.publish(CHANNEL, 10)
        await reader.until(1)
        assert reader.offsets == [11]


async def test_the_start_of_a_log_that_was_cut_off_is_reset(pipe: Pipe, handoff: bool) -> None:
    """Position 0 continues while publication 1 is kept, and is told a reset when it is not."""
    chosen = settings(handoff, limits=SHORT_RING, short={"history_size": 5})
    async with world(chosen) as here:
        for number in range(5):
            await here.publish(CHANNEL, number)
        whole = await here.read(await here.client(pipe), CHANNEL, Position(0))
        await whole.until(5)
        whole.check()
        head = await here.publish(CHANNEL, 5)
        cut_off = await here.read(await here.client(pipe), CHANNEL, Position(0))
        await cut_off.until(lambda: bool(cut_off.resets))
        assert cut_off.resets == [head]


async def test_the_answer_to_an_attach_says_where_it_goes_on(transport: str, handoff: bool) -> None:
    """On the wire: `recovered` false with the new position, in the answer to the attach and not behind it."""
    async with world(handoff) as here:
        for number in range(3):
            head = await here.publish(CHANNEL, number)
        foreign = {"offset": 9, "epoch": "other", "tag": "0badc0de"}
        leg = await here.raw(transport, attach_of(1, {"channel": CHANNEL, "position": foreign}))
        (told,) = (await leg.next("subscribed"))["subscribed"]["channels"]
        assert told["recovered"] is False
        assert told["position"] == {"offset": 3, "epoch": head.epoch, "tag": head.tag}
        await here.publish(CHANNEL, 3)
        assert await leg.publications(1) == [4]
        assert not any("reset" in push for push in leg.seen)


async def test_every_transport_tells_the_same_reset(handoff: bool) -> None:
    chosen = settings(handoff, limits=SHORT_RING, short={"history_size": 5})
    async with world(chosen) as here:
        first = await here.publish(CHANNEL, 0)
        for number in range(1, 30):
            await here.publish(CHANNEL, number)
        told = []
        for transport in TRANSPORTS:
            position = {"offset": 1, "epoch": first.epoch, "tag": first.tag}
            leg = await here.raw(transport, attach_of(1, {"channel": CHANNEL, "position": position}))
            told.append((await leg.next("subscribed"))["subscribed"]["channels"])
        assert told[0] == told[1] == told[2]
        assert told[0][0]["recovered"] is False


async def _one_by_one(here: World, reader: Reader, numbers: range) -> None:
    """Each is read before the next is published: a burst would be more than the small ring holds."""
    for number in numbers:
        position = await here.publish(CHANNEL, number)
        await reader.until_offset(position.offset)


async def _away(here: World, pipe: Pipe, start: int, stop: int) -> None:
    """Publish while the client is cut off, and let it come back."""
    wire = here.cabling[pipe.transport]
    wire.is_refusing = True
    wire.cut()
    for number in range(start, stop):
        await here.publish(CHANNEL, number)
    wire.is_refusing = False
