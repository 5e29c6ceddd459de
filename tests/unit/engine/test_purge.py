"""A purge as a node's readers see it: a reset, and then whatever was published behind it, whichever way they get it."""

from __future__ import annotations

import asyncio
import logging

import pytest

from hybrid.model import START, Position, PresenceEntry
from hybrid.protocol.states import ChannelState
from tests.support.hubs import offsets, staged
from tests.support.links import Reader
from tests.support.virtual_time import in_virtual_time, settle


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


@in_virtual_time
async def test_live_readers_are_reset_and_get_what_follows_at_once() -> None:
    async with staged() as stage:
        readers = [Reader(stage.hub) for _ in range(3)]
        for reader in readers:
            await reader.follow("a")
        stage.publish(2)
        await asyncio.sleep(0.01)
        start = stage.broker.empty("a")
        stage.publish(2)
        await asyncio.sleep(0.01)
        for reader in readers:
            assert offsets(reader.link.payloads) == [1, 2, -1, 2, 3]
            assert reader.feed.position("a") == stage.broker.head("a")
        assert stage.broker.head("a").epoch == start.epoch
        assert not any(call.startswith("read") for call in stage.broker.calls)


@in_virtual_time
async def test_what_gathers_for_the_next_flush_is_purged_with_the_rest() -> None:
    async with staged() as stage:
        reader = Reader(stage.hub)
        await reader.follow("a")
        stage.publish(3)  # the first is written at once, the others gather
        stage.broker.empty("a")
        stage.publish(1)
        await asyncio.sleep(0.01)
        assert offsets(reader.link.payloads) == [1, -1, 2]


@in_virtual_time
async def test_a_slow_reader_is_reset_when_it_reads_on() -> None:
    async with staged() as stage:
        reader = Reader(stage.hub)
        await reader.follow("a")
        stage.publish(1)
        await asyncio.sleep(0.01)
        reader.feed.link_paused()
        stage.publish(3)
        await asyncio.sleep(0.01)
        stage.broker.empty("a")
        stage.publish(1)
        await asyncio.sleep(0.01)
        reader.feed.link_resumed()
        await asyncio.sleep(0.01)
        told = offsets(reader.link.payloads)
        assert told[0] == 1
        assert told[1] < 0
        assert told[2:] == list(range(1 - told[1], 3)), "on from the position that the reset told, without a hole"


@in_virtual_time
async def test_whoever_was_reset_and_cut_off_goes_on_behind_the_purge() -> None:
    async with staged() as stage:
        stage.publish(2)
        start = stage.broker.empty("a")
        stage.publish(2)
        reader = Reader(stage.hub)
        assert await reader.feed.add("a", start) == (start, True)
        reader.feed.start(["a"])
        await asyncio.sleep(0.01)
        assert offsets(reader.link.payloads) == [2, 3]


@in_virtual_time
async def test_whoever_has_read_nothing_yet_is_told_as_well() -> None:
    async with staged() as stage:
        stage.publish(2)
        stage.broker.empty("a")
        reader = Reader(stage.hub)
        started = await reader.feed.add("a", START)
        assert not started.was_recovered
        assert started.position == stage.broker.head("a")


@in_virtual_time
async def test_a_purge_that_nobody_announced_is_found_by_the_next_publication() -> None:
    async with staged() as stage:
        reader = Reader(stage.hub)
        await reader.follow("a")
        stage.publish(2)
        await asyncio.sleep(0.01)
        stage.broker.lost_announcements = 1
        stage.broker.empty("a")
        stage.publish(2)
        await asyncio.sleep(0.5)
        told = offsets(reader.link.payloads)
        assert told[:2] == [1, 2]
        assert told[2] < 0
        assert reader.feed.position("a") == stage.broker.head("a")


@in_virtual_time
async def test_a_purge_while_the_channel_is_healed() -> None:
    async with staged() as stage:
        reader = Reader(stage.hub)
        await reader.follow("a")
        stage.publish(2)
        await asyncio.sleep(0.01)
        stage.broker.holding = asyncio.Event()
        stage.hub.gap(None)
        await settle()
        assert stage.channel().state is ChannelState.HEALING
        stage.broker.empty("a")
        stage.publish(1)
        stage.broker.holding.set()
        await asyncio.sleep(0.5)
        told = offsets(reader.link.payloads)
        assert told[:2] == [1, 2]
        assert told[2] < 0
        assert reader.feed.position("a") == stage.broker.head("a")


@in_virtual_time
@pytest.mark.parametrize("tells_former", [True, False], ids=["as now", "by an older node"])
async def test_announcements_of_purges_that_a_healing_was_ahead_of(tells_former: bool) -> None:
    async with staged() as stage:
        reader = Reader(stage.hub)
        await reader.follow("a")
        stage.publish(2)
        await asyncio.sleep(0.01)
        announced: list[tuple[Position, str]] = []
        head = stage.broker.head("a")
        stage.broker.lost_announcements = 6  # they are late
        for _ in range(2):
            announced.append((stage.broker.empty("a"), head.epoch if tells_former else ""))
            late = stage.broker.publish("a"), stage.broker.publish("a")
            head = stage.broker.head("a")
        stage.hub.gap(None)
        await asyncio.sleep(0.5)
        assert offsets(reader.link.payloads) == [1, 2, -3]
        for purged, former in announced:
            stage.hub.purged("a", purged, former)
            await asyncio.sleep(0.5)
            assert stage.channel().head == head
        for publication in late:
            stage.hub.published(publication)
        stage.publish(1)
        await asyncio.sleep(0.5)
        assert offsets(reader.link.payloads) == [1, 2, -3, 4], "no reset to what was, and nothing again"


@in_virtual_time
async def test_a_purge_behind_one_that_nobody_announced() -> None:
    async with staged() as stage:
        reader = Reader(stage.hub)
        await reader.follow("a")
        stage.publish(2)
        await asyncio.sleep(0.01)
        stage.broker.lost_announcements = 2
        stage.broker.empty("a")
        stage.publish(1)
        stage.broker.empty("a")
        stage.publish(1)
        await asyncio.sleep(0.5)
        told = offsets(reader.link.payloads)
        assert told[:2] == [1, 2]
        assert told[2] < 0
        assert reader.feed.position("a") == stage.broker.head("a")


@in_virtual_time
async def test_nobody_listens() -> None:
    async with staged() as stage:
        stage.publish(2)
        stage.hub.purged("a", stage.broker.empty("a"), "life1")
        assert "a" not in stage.hub._channels


@in_virtual_time
async def test_who_came_just_before_a_purge_is_told_and_the_channel_comes_to_rest() -> None:
    async with staged() as stage:
        reader = Reader(stage.hub)
        await reader.follow("a")
        stage.publish(3)
        await asyncio.sleep(0.01)
        stage.publish(1)
        stage.hub.presence_changed("a", PresenceEntry("early"), True)  # waits for the next flush, behind offset 4
        stage.broker.empty("a")
        await asyncio.sleep(0.01)
        channel = stage.channel()
        assert not channel._announcements
        flushes = stage.hub.stats().flushes
        await asyncio.sleep(1)
        assert stage.hub.stats().flushes == flushes
        stage.hub.presence_changed("a", PresenceEntry("late"), True)
        await asyncio.sleep(0.01)
        told = [payload for payload in reader.link.payloads if b'"join"' in payload]
        assert b'"late"' in told[-1]
