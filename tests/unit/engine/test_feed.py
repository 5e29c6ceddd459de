from __future__ import annotations

import asyncio
import gc
import tracemalloc

import pytest

from hybrid.engine.encodings import PLAIN_EVENT, SESSION_JSON
from hybrid.engine.ring import UNVERIFIED_TAG
from hybrid.errors import ChannelError
from hybrid.limits import Limits
from hybrid.model import START, Position
from tests.support.hubs import Stage, offsets, staged
from tests.support.links import FakeLink, Reader
from tests.support.virtual_time import in_virtual_time, settle


def position(stage: Stage, offset: int, channel: str = "a") -> Position:
    """The position at an offset of the log as it is now."""
    found = stage.broker.head(channel)
    while found.offset > offset:
        found = stage.broker.parents[found]
    return found


# -- starting


@in_virtual_time
async def test_nothing_is_delivered_before_start_and_nothing_is_missed() -> None:
    async with staged() as stage:
        reader = Reader(stage.hub)
        started = await reader.feed.add("a", None)
        assert started == (START, True)
        stage.publish(3)
        await asyncio.sleep(0.01)
        assert reader.link.segments == []
        reader.feed.start(["a"])
        await settle()
        assert offsets(reader.link.payloads) == [1, 2, 3]


@in_virtual_time
async def test_start_makes_live_at_once_what_is_at_flushed_whatever_else_is_behind() -> None:
    async with staged() as stage:
        stage.publish(5, "b")
        reader = Reader(stage.hub)
        await reader.feed.add("b", START)
        await reader.feed.add("a", None)
        await reader.feed.add("c", None)
        reader.feed.start(["b", "a", "c", "unknown"])
        assert (stage.channel("a").live_links, stage.channel("c").live_links) == (1, 1)
        reader.feed.start(["b", "a", "c"])  # again: nothing
        await settle()
        assert offsets(reader.link.payloads) == [1, 2, 3, 4, 5]
        assert stage.channel("b").live_links == 1


@pytest.mark.parametrize("where", ["ring", "log"])
@in_virtual_time
async def test_a_position_is_continued_from_the_ring_or_the_log(where: str) -> None:
    async with staged() as stage:
        if where == "ring":
            await Reader(stage.hub).follow("a")
        stage.publish(50)
        await asyncio.sleep(0.01)
        reader = Reader(stage.hub)
        started = await reader.feed.add("a", position(stage, 20))
        assert started == (position(stage, 20), True)
        reader.feed.start(["a"])
        await settle()
        assert offsets(reader.link.payloads) == list(range(21, 51))
        assert any(call.startswith("read") for call in stage.broker.calls) == (where == "log")
        stage.publish()
        assert offsets(reader.link.payloads)[-1] == 51


@pytest.mark.parametrize("warm", [True, False])
@in_virtual_time
async def test_what_cannot_be_continued_starts_anew_and_says_so(warm: bool) -> None:
    async with staged(history_size=10) as stage:
        if warm:
            await Reader(stage.hub).follow("a", None)
        stage.publish(50)
        await asyncio.sleep(0.01)
        head = stage.broker.head("a")
        for wrong in (
            Position(45, head.epoch, "ffffffff"),
            Position(45, "other", "00000001"),
            Position(51, head.epoch, "00000001"),
            *([] if warm else [position(stage, 30), START]),
        ):
            reader = Reader(stage.hub)
            assert await reader.feed.add("a", wrong) == (head, False)
            reader.feed.start(["a"])
            assert reader.link.segments == []
            assert reader.resets == []  # the answer to `add` said it
            reader.feed.close()


@in_virtual_time
async def test_a_reader_from_a_node_that_has_heard_more_is_not_wrong() -> None:
    async with staged() as stage:
        stay = Reader(stage.hub)
        await stay.follow("a")
        stage.publish(3)
        await asyncio.sleep(0.01)
        stage.broker.lost_announcements = 2
        stage.publish(2)
        reader = Reader(stage.hub)
        assert await reader.feed.add("a", position(stage, 5)) == (position(stage, 5), True)
        reader.feed.start(["a"])
        await asyncio.sleep(0.01)
        stage.publish(1)
        await asyncio.sleep(0.01)
        assert offsets(reader.link.payloads) == [6]
        assert offsets(stay.link.payloads) == [1, 2, 3, 4, 5, 6]  # and it healed the others


@pytest.mark.parametrize(("kept", "wanted", "expected"), [
    (1_000, 3, [8, 9, 10]),
    (1_000, 10, list(range(1, 11))),
    (1_000, 99, list(range(1, 11))),
    (4, 4, [7, 8, 9, 10]),  # also the oldest that is kept, whose predecessor's tag nobody knows any more
    (4, 99, [7, 8, 9, 10]),
    (1, 1, [10]),
    (0, 5, []),
])  # fmt: skip
@in_virtual_time
async def test_history_gives_the_last_that_are_kept(kept: int, wanted: int, expected: list[int]) -> None:
    async with staged(history_size=kept) as stage:
        stage.publish(10)
        reader = Reader(stage.hub)
        await reader.follow("a", history=wanted)
        await settle()
        assert offsets(reader.link.payloads) == expected
        stage.publish(1)
        assert offsets(reader.link.payloads) == [*expected, 11]
        again = Reader(stage.hub)  # from the ring, where it reaches back that far
        await again.follow("a", history=1)
        await settle()
        assert offsets(again.link.payloads) == [11]


@in_virtual_time
async def test_the_position_before_the_oldest_publication_continues_until_that_is_gone() -> None:
    async with staged(history_size=4) as stage:
        stage.publish(10)
        before = Reader(stage.hub)
        started = await before.feed.add("a", None, 99)
        assert started.position == Position(6, "life1", UNVERIFIED_TAG)
        reader = Reader(stage.hub)
        assert await reader.feed.add("a", started.position) == (started.position, True)
        stage.publish(2)
        # It was promised, so it is kept or told: the ring has 11 and 12, the log 9 to 12.
        reader.feed.start(["a"])
        await settle()
        assert offsets(reader.link.payloads) == [-12]
        assert reader.fell_behind == ["a"]


@in_virtual_time
async def test_adding_twice_removing_and_closing_meanwhile() -> None:
    async with staged() as stage:
        reader = Reader(stage.hub)
        stage.broker.holding = asyncio.Event()
        adding = asyncio.ensure_future(reader.feed.add("a", None))
        other = asyncio.ensure_future(reader.feed.add("b", None))
        cancelled = asyncio.ensure_future(reader.feed.add("c", None))
        await settle()
        with pytest.raises(ChannelError) as twice:
            await reader.feed.add("a", None)
        assert twice.value.row.name == "already_subscribed"
        assert reader.feed.position("a") is None
        assert reader.feed.remove("a") is None
        cancelled.cancel()
        await settle()
        assert reader.feed.channels() == ["b"]
        reader.feed.close()
        stage.broker.holding.set()
        for task in (adding, other):
            with pytest.raises(ChannelError) as ended:
                await task
            assert ended.value.row.name == "not_subscribed"
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        with pytest.raises(ChannelError):
            await reader.feed.add("d", None)
        assert reader.feed.remove("a") is None
        await settle()
        assert stage.hub.stats().channels["LINGERING"] == 3


# -- slow links


@in_virtual_time
async def test_a_slow_link_leaves_with_what_was_written_and_reads_on_when_it_has_drained() -> None:
    async with staged() as stage:
        slow, fast = Reader(stage.hub, link=FakeLink(high_water_bytes=300)), Reader(stage.hub)
        for reader in (slow, fast):
            await reader.follow("a")
        for _ in range(20):
            stage.publish()
            await asyncio.sleep(0.003)
        assert offsets(slow.link.payloads) == [1, 2, 3, 4]  # the fourth passed the mark
        assert slow.feed.position("a") == position(stage, 4)
        assert stage.channel().live_links == 1
        slow.link.drain()
        await settle()
        assert offsets(slow.link.payloads) == list(range(1, 21))
        slow.link.drain()
        await settle()
        assert stage.channel().live_links == 2
        assert slow.resets == []


@in_virtual_time
async def test_catch_up_writes_no_more_than_a_turn_to_a_link_that_does_not_drain() -> None:
    async with staged(Limits(catch_up_turn_bytes=1_000)) as stage:
        for channel in "ab":
            stage.publish(200, channel, b"1" * 50)
        reader = Reader(stage.hub, link=FakeLink(high_water_bytes=1_500))
        for channel in "ab":
            await reader.feed.add(channel, START)
        reader.feed.start("ab")
        turns = []
        for _ in range(40):
            await settle()
            turns.append(len(reader.link.segments))
            assert reader.link.buffered() <= 2_500
            reader.link.drain()
        assert turns[:3] == [2, 4, 6]  # one of each channel, then it is full
        channels = [segment.count(b'"channel":"a"') > 0 for segment in reader.link.segments[:6]]  # type: ignore[arg-type]
        assert channels == [True, False] * 3
        assert offsets(reader.link.payloads).count(200) == 2
        assert stage.channel("a").live_links == stage.channel("b").live_links == 1


@pytest.mark.parametrize("goes_on", [True, False])
@in_virtual_time
async def test_a_slow_link_that_neither_ring_nor_history_reaches_is_asked_about(goes_on: bool) -> None:
    async with staged(Limits(ring_max_bytes=5_000), history_size=5) as stage:
        slow = Reader(stage.hub, link=FakeLink(high_water_bytes=1), goes_on=goes_on)
        await slow.follow("a")
        await slow.follow("b")
        stage.publish(1)
        for _ in range(50):
            stage.publish(1)
            await asyncio.sleep(0.003)
        slow.link.drain()
        await asyncio.sleep(0.01)
        assert slow.fell_behind == ["a"]
        if goes_on:
            assert slow.resets == [("a", position(stage, 51))]
            slow.link.drain()
            stage.publish(1)
            await settle()
            assert offsets(slow.link.payloads) == [1, -51, 52]
        else:
            assert slow.link.is_closed
            assert offsets(slow.link.payloads) == [1]
            assert stage.hub.stats().live_links == 0


@in_virtual_time
async def test_a_paused_feed_reads_nothing_and_keeps_no_page() -> None:
    async with staged(Limits(ring_max_bytes=2_000, catch_up_turn_bytes=2_000)) as stage:
        reader = Reader(stage.hub, link=FakeLink(high_water_bytes=1))
        await reader.follow("a")
        stage.publish(1)
        stage.publish(100)
        await asyncio.sleep(0.01)
        stage.broker.calls.clear()
        await asyncio.sleep(10)
        assert stage.broker.calls == []
        assert reader.feed._page is None
        while stage.channel().live_links == 0:
            reader.link.drain()
            await settle()
        assert offsets(reader.link.payloads) == list(range(1, 102))


@in_virtual_time
async def test_more_than_a_ring_holds_in_one_moment_comes_from_the_log() -> None:
    async with staged(Limits(ring_max_bytes=5_000)) as stage:
        reader = Reader(stage.hub)
        await reader.follow("a")
        stage.publish(100)
        await asyncio.sleep(0.05)
        assert offsets(reader.link.payloads) == list(range(1, 101))
        assert reader.resets == []
        assert stage.channel().live_links == 1


@in_virtual_time
async def test_a_broker_that_is_away_holds_a_catch_up_back_and_does_not_end_it() -> None:
    async with staged() as stage:
        stage.publish(30)
        reader = Reader(stage.hub)
        await reader.feed.add("a", position(stage, 10))
        stage.broker.is_away = True
        reader.feed.start(["a"])
        await asyncio.sleep(3)
        assert reader.link.segments == []
        assert 2 <= stage.broker.calls.count("read a 10") <= 6  # asked again about once a second
        stage.broker.is_away = False
        await asyncio.sleep(2)
        assert offsets(reader.link.payloads) == list(range(11, 31))


@in_virtual_time
async def test_a_link_that_was_full_before_its_feed_began_is_waited_for() -> None:
    """It had said so when nobody listened, and says it only once: without this its buffer would grow without end."""
    async with staged(Limits(low_water_bytes=100)) as stage:
        link = FakeLink(high_water_bytes=400)
        link.write(b"x" * 500)
        reader = Reader(stage.hub, link=link)
        await reader.follow("a")
        stage.publish(3)
        await asyncio.sleep(5)
        assert len(link.segments) == 1
        assert stage.channel().live_links == 0
        link.on_resumed = lambda: None  # nor does it say when it has drained
        link.drain()
        await asyncio.sleep(0.5)
        assert offsets(link.payloads[0:]) == [1, 2, 3]
        assert len(stage.hub.wheel) <= 2  # of the rings, and of the look for silent losses
        unread = Reader(stage.hub, link=link)
        unread.feed.close()


# -- ends


@in_virtual_time
async def test_remove_and_close_take_effect_at_once() -> None:
    async with staged() as stage:
        reader = Reader(stage.hub)
        await reader.follow("a")
        await reader.follow("b")
        stage.publish(2)
        assert reader.feed.position("a") == position(stage, 1)
        assert reader.feed.remove("a") == position(stage, 1)
        assert reader.feed.remove("a") is None
        assert reader.feed.channels() == ["b"]
        await asyncio.sleep(0.01)
        assert offsets(reader.link.payloads) == [1]
        reader.feed.close()
        reader.feed.close()
        stage.publish(1, "b")
        assert offsets(reader.link.payloads) == [1]
        assert stage.hub.stats().live_links == 0


@in_virtual_time
async def test_an_owner_that_fails_loses_its_link_and_no_other() -> None:
    async with staged() as stage:
        readers = [Reader(stage.hub) for _ in range(3)]
        for reader in readers:
            await reader.follow("a")
        stage.publish(3)
        await asyncio.sleep(0.01)

        def fail(channel: str, position: Position) -> None:
            raise RuntimeError

        readers[1].feed_reset = fail  # type: ignore[method-assign]
        stage.broker.lose_log("a")
        stage.hub.gap(None)
        await asyncio.sleep(0.01)
        stage.publish(1)
        await asyncio.sleep(0.01)
        assert readers[1].link.is_aborted
        assert [offsets(readers[number].link.payloads) for number in (0, 2)] == [[1, 2, 3, 0, 1]] * 2


@in_virtual_time
async def test_an_idle_client_costs_less_than_half_a_kilobyte_here() -> None:
    count = 2_000
    async with staged() as stage:
        links = [FakeLink() for _ in range(count)]
        await Reader(stage.hub).follow("a")
        gc.collect()
        tracemalloc.start()
        try:
            events = Reader(stage.hub)
            before, _ = tracemalloc.get_traced_memory()
            feeds = []
            for link in links:
                feed = stage.hub.feed(link, SESSION_JSON, events)
                await feed.add("a", None)
                feed.start(["a"])
                feeds.append(feed)
            gc.collect()
            used = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        assert stage.channel().live_links == count + 1
        assert used / count < 500


@in_virtual_time
async def test_two_encodings_on_one_channel_are_two_groups_and_empty_groups_go() -> None:
    async with staged() as stage:
        readers = [Reader(stage.hub, SESSION_JSON), Reader(stage.hub, PLAIN_EVENT)]
        for reader in readers:
            await reader.follow("a")
        assert len(stage.channel().groups) == 2
        readers[0].feed.close()
        assert len(stage.channel().groups) == 1
