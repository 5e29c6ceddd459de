"""A channel's life with the broker: COLD, SUBSCRIBING, READING, HOT, HEALING, LINGERING."""

from __future__ import annotations

import asyncio
import logging

import pytest

from hybrid.broker.base import Page
from hybrid.broker.memory import MemoryBroker
from hybrid.engine.hub import Hub
from hybrid.limits import Limits
from hybrid.model import START, Position, Publication
from hybrid.protocol.states import ChannelState
from tests.support.faulty_broker import FaultyBroker
from tests.support.hubs import offsets, staged
from tests.support.links import FakeLink, Reader
from tests.support.virtual_time import clock, in_virtual_time, settle


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


@in_virtual_time
async def test_the_head_is_read_only_after_the_broker_has_acknowledged() -> None:
    async with staged() as stage:
        stage.publish(3)
        reader = Reader(stage.hub)
        await reader.follow("a")
        assert stage.broker.calls == ["subscribe a", "heads 1"]
        assert stage.channel().state is ChannelState.HOT
        assert reader.feed.position("a") == stage.broker.head("a")
        stage.publish(1)
        assert offsets(reader.link.payloads) == [4]
        await Reader(stage.hub).follow("a")
        assert stage.broker.calls == ["subscribe a", "heads 1"]  # one for all


@in_virtual_time
async def test_what_comes_while_the_head_is_read_is_held_and_joined_to_it() -> None:
    async with staged() as stage:
        stage.publish(3)
        reader = Reader(stage.hub)
        start = stage.broker.head("a")
        adding = asyncio.ensure_future(reader.feed.add("a", start))
        for _ in range(10):
            if "heads 1" not in stage.broker.calls:
                await asyncio.sleep(0)
        assert stage.channel().state is ChannelState.READING
        stage.publish(2)  # the head that is on its way does not have them
        started = await adding
        assert started == (start, True)
        reader.feed.start(["a"])
        await asyncio.sleep(0.01)
        assert offsets(reader.link.payloads) == [4, 5]


@in_virtual_time
async def test_what_comes_before_the_acknowledgement_is_history() -> None:
    async with staged() as stage:
        reader = Reader(stage.hub)
        stage.broker.subscribed.add("a")
        stage.broker.holding = asyncio.Event()
        adding = asyncio.ensure_future(reader.feed.add("a", None))
        await settle()
        stage.publish(2)
        assert stage.channel().state is ChannelState.SUBSCRIBING
        stage.hub.gap(None)  # says nothing new
        stage.broker.holding.set()
        assert (await adding).position == stage.broker.head("a")


@in_virtual_time
async def test_more_than_may_be_held_is_read_from_the_log() -> None:
    async with staged(Limits(ring_max_bytes=5_000)) as stage:
        reader = Reader(stage.hub)
        await reader.follow("a")
        stage.publish(1)
        stage.broker.holding = asyncio.Event()
        stage.hub.gap(["a"])
        await settle()
        stage.publish(50)
        assert stage.channel().state is ChannelState.HEALING
        assert stage.channel()._held_bytes <= 5_000
        stage.broker.holding.set()
        await asyncio.sleep(1)
        assert stage.channel().state is ChannelState.HOT
        assert offsets(reader.link.payloads) == list(range(1, 52))


@in_virtual_time
async def test_a_missed_publication_is_read_from_the_log() -> None:
    async with staged() as stage:
        reader = Reader(stage.hub)
        await reader.follow("a")
        stage.publish(1)
        stage.broker.lost_announcements = 3
        stage.publish(4)
        assert stage.channel().state is ChannelState.HEALING
        await asyncio.sleep(0.01)
        assert offsets(reader.link.payloads) == [1, 2, 3, 4, 5]
        assert stage.broker.calls[2:] == ["read a 1"]  # no use in comparing heads


@in_virtual_time
async def test_known_publications_are_dropped() -> None:
    async with staged(Limits(ring_max_bytes=2_000)) as stage:
        stage.publish(2)
        reader = Reader(stage.hub)
        await reader.follow("a")
        made = [stage.broker.publish("a") for _ in range(10)]
        await asyncio.sleep(0.01)
        for publication in made:  # older than the ring, in it, and its head
            stage.hub.published(publication)
        assert stage.channel().state is ChannelState.HOT
        await asyncio.sleep(0.01)
        assert offsets(reader.link.payloads) == list(range(3, 13))


@in_virtual_time
async def test_another_entry_at_a_known_offset_is_no_repetition() -> None:
    async with staged() as stage:
        reader = Reader(stage.hub)
        await reader.follow("a")
        stage.publish(5)
        await asyncio.sleep(0.01)
        stage.broker.lose_end("a", 2)
        stage.publish(1)  # offset 4 again
        await asyncio.sleep(0.01)
        assert reader.resets == [("a", stage.broker.head("a"))]
        assert reader.feed.position("a") == stage.broker.head("a")
        stage.publish(1)
        assert offsets(reader.link.payloads) == [1, 2, 3, 4, 5, -4, 5]


@in_virtual_time
async def test_a_gap_compares_heads_at_once_and_reads_only_what_differs() -> None:
    async with staged() as stage:
        readers = {name: Reader(stage.hub) for name in "abcdefgh"}
        for name, reader in readers.items():
            await reader.follow(name)
            stage.publish(1, name)
        stage.broker.lost_announcements = 1
        stage.publish(1, "c")
        stage.broker.calls.clear()
        stage.hub.gap(None)
        await asyncio.sleep(0.01)
        assert stage.broker.calls == ["heads 8", "read c 1"]
        assert {name: offsets(reader.link.payloads) for name, reader in readers.items()} == {
            name: [1, 2] if name == "c" else [1] for name in "abcdefgh"
        }
        assert stage.hub.stats().channels["HOT"] == 8
        stage.hub.gap(["a", "unknown"])
        await settle()
        assert stage.broker.calls[2:] == ["heads 1"]


@in_virtual_time
async def test_many_heads_are_compared_in_batches() -> None:
    async with staged() as stage:
        reader = Reader(stage.hub)
        for number in range(300):
            await reader.follow(f"c{number}")
        stage.broker.calls.clear()
        stage.hub.gap(None)
        await settle()
        assert stage.broker.calls == ["heads 256", "heads 44"]
        assert stage.hub.stats().channels["HOT"] == 300


@in_virtual_time
async def test_what_is_published_during_the_comparison_is_read_after_our_head() -> None:
    """It may follow an entry that we never had (below), and only the log tells."""
    async with staged() as stage:
        reader = Reader(stage.hub)
        await reader.follow("a")
        stage.publish(1)
        stage.broker.calls.clear()
        stage.hub.gap(None)
        stage.publish(1)  # before the heads are read, and held
        await asyncio.sleep(0.01)
        assert stage.broker.calls == ["heads 1", "read a 1"]
        assert offsets(reader.link.payloads) == [1, 2]


@in_virtual_time
async def test_a_held_publication_that_follows_our_head_by_number_may_follow_another_entry() -> None:
    """A replica without our last entry was promoted, and the next two were published before and after we listened."""
    async with staged() as stage:
        reader = Reader(stage.hub)
        await reader.follow("a")
        stage.publish(3)
        await asyncio.sleep(0.01)
        stage.broker.lose_end("a", 1)
        stage.broker.lost_announcements = 1
        stage.publish(1)  # 3 again, unheard
        stage.hub.gap(None)
        stage.publish(1)  # 4, heard and held, and the head that is compared
        await asyncio.sleep(0.01)
        assert offsets(reader.link.payloads) == [1, 2, 3, -4]
        assert reader.resets == [("a", stage.broker.head("a"))]
        stage.publish(1)
        await asyncio.sleep(0.01)
        assert offsets(reader.link.payloads) == [1, 2, 3, -4, 5]


@in_virtual_time
async def test_what_is_held_when_the_broker_fails_over_during_a_healing_waits_for_the_next_one() -> None:
    async with staged() as stage:
        reader = Reader(stage.hub)
        await reader.follow("a")
        stage.publish(3)
        await asyncio.sleep(0.01)
        stage.hub.gap(None)
        await asyncio.sleep(0)
        assert stage.broker.calls[-1] == "heads 1"  # on its way: it says 3, and that is ours
        stage.broker.lose_end("a", 1)
        stage.broker.lost_announcements = 1
        stage.publish(1)
        stage.hub.gap(None)
        stage.publish(1)
        await asyncio.sleep(0.01)
        assert offsets(reader.link.payloads) == [1, 2, 3, -4]


@in_virtual_time
async def test_what_is_held_when_the_broker_fails_over_while_the_head_is_read_waits_for_a_healing() -> None:
    async with staged() as stage:
        stage.publish(3)
        reader = Reader(stage.hub)
        adding = asyncio.ensure_future(reader.feed.add("a", stage.broker.head("a")))
        for _ in range(10):
            if "heads 1" not in stage.broker.calls:
                await asyncio.sleep(0)
        assert stage.channel().state is ChannelState.READING  # and the head on its way is the one that was asked for
        stage.broker.lose_end("a", 1)
        stage.broker.lost_announcements = 1
        stage.publish(1)
        stage.hub.gap(None)
        stage.publish(1)
        assert await adding == (stage.broker.head("a"), False)


@in_virtual_time
async def test_a_gap_during_a_healing_is_another_healing() -> None:
    async with staged() as stage:
        reader = Reader(stage.hub)
        await reader.follow("a")
        stage.publish(1)
        stage.broker.lost_announcements = 1
        stage.publish(2)
        stage.broker.holding = asyncio.Event()
        await settle()
        assert stage.broker.calls[-1] == "read a 1"
        stage.broker.lost_announcements = 1
        stage.publish(1)
        stage.hub.gap(None)  # the read on its way cannot know of this one
        stage.broker.holding.set()
        await asyncio.sleep(0.01)
        assert offsets(reader.link.payloads) == [1, 2, 3, 4]
        assert stage.channel().state is ChannelState.HOT


@in_virtual_time
async def test_a_long_gap_is_healed_page_by_page_and_pushes_nothing_out_of_the_ring() -> None:
    limits = Limits(ring_max_bytes=20_000, recovery_page_max_bytes=4_000, flush_max_bytes=1_000)
    async with staged(limits) as stage:
        reader = Reader(stage.hub)
        await reader.follow("a")
        stage.broker.lost_announcements = 200
        stage.publish(200, data=b"1" * 500)
        stage.hub.gap(None)
        await asyncio.sleep(5)
        assert offsets(reader.link.payloads) == list(range(1, 201))
        assert reader.resets == []
        reads = [call for call in stage.broker.calls if call.startswith("read")]
        assert len(reads) == 25  # all by the healing, none by the reader


@in_virtual_time
async def test_a_log_that_does_not_continue_resets_everybody_once() -> None:
    async with staged(history_size=5) as stage:
        live = [Reader(stage.hub) for _ in range(3)]
        for reader in live:
            await reader.follow("a")
        paused = Reader(stage.hub, link=FakeLink(high_water_bytes=1))
        await paused.follow("a")
        stage.publish(2)
        await asyncio.sleep(0.01)
        stage.broker.lose_log("a")
        stage.publish(3)
        await asyncio.sleep(0.01)
        assert [offsets(reader.link.payloads) for reader in live] == [[1, 2, -3]] * 3
        stage.publish(1)
        paused.link.drain()
        await asyncio.sleep(0.01)
        assert [offsets(reader.link.payloads) for reader in live] == [[1, 2, -3, 4]] * 3
        assert offsets(paused.link.payloads) == [1, -4]  # told when it can be told
        assert paused.fell_behind == []  # the log broke, not the client


@in_virtual_time
async def test_a_reset_in_the_middle_of_a_fan_out_ends_that() -> None:
    async with staged(Limits(fan_out_slice=2)) as stage:
        readers = [Reader(stage.hub) for _ in range(6)]
        for reader in readers:
            await reader.follow("a")
        stage.publish(1)
        assert [len(reader.link.segments) for reader in readers] == [1, 1, 0, 0, 0, 0]
        new = Position(7, "other", "00000007")
        stage.channel().restart(new)
        await settle()
        assert [offsets(reader.link.payloads) for reader in readers] == [[1, -7]] * 2 + [[-7]] * 4
        assert all(reader.feed.position("a") == new for reader in readers)
        assert stage.channel().live_links == 6


@in_virtual_time
async def test_an_announced_publication_that_is_in_no_log_is_not_waited_for() -> None:
    """The broker fell back to an older copy: what was announced and held can never follow the head again."""
    async with staged() as stage:
        reader = Reader(stage.hub)
        await reader.follow("a")
        stage.publish(2)
        await asyncio.sleep(0.01)
        stage.hub.published(Publication("a", 9, "life1", "99999999", b"1"))
        assert stage.channel().state is ChannelState.HEALING
        await asyncio.sleep(0.01)
        assert stage.channel().state is ChannelState.HOT
        assert stage.broker.calls.count("read a 2") == 1
        stage.publish(1)
        assert offsets(reader.link.payloads) == [1, 2, 3]


@in_virtual_time
async def test_a_broker_that_is_away_is_asked_again_with_growing_pauses_and_clients_stay() -> None:
    async with staged() as stage:
        stage.broker.is_away = True
        reader = Reader(stage.hub)
        adding = asyncio.ensure_future(reader.feed.add("a", None))
        await asyncio.sleep(60)
        assert not adding.done()
        assert 12 <= stage.broker.calls.count("subscribe a") <= 30
        stage.broker.is_away = False
        await asyncio.sleep(5.5)
        assert adding.done()
        reader.feed.start(["a"])
        stage.broker.is_away = True
        stage.broker.calls.clear()
        stage.publish(2)  # appended, but we do not hear of it
        stage.hub.gap(None)
        await asyncio.sleep(60)
        assert 12 <= stage.broker.calls.count("heads 1") <= 30
        assert stage.channel().state is ChannelState.HEALING
        stage.broker.is_away = False
        await asyncio.sleep(5.5)
        assert offsets(reader.link.payloads) == [1, 2]


@in_virtual_time
async def test_a_broker_that_fails_in_a_way_nobody_foresaw_is_asked_again_too() -> None:
    class Odd(FaultyBroker):
        is_odd = True

        async def _called(self, call: str) -> None:
            await super()._called(call)
            if self.is_odd:
                raise KeyError(call)

    async with staged() as stage:
        odd = stage.broker.__class__ = Odd  # type: ignore[assignment]
        adding = asyncio.ensure_future(Reader(stage.hub).feed.add("a", None))
        await asyncio.sleep(5)
        assert not adding.done()
        odd.is_odd = False
        await asyncio.sleep(6)
        assert adding.done()


@in_virtual_time
async def test_nobody_waits_for_ever_for_a_channel_that_nobody_wants_any_more() -> None:
    async with staged() as stage:
        stage.broker.is_away = True
        reader = Reader(stage.hub)
        adding = asyncio.ensure_future(reader.feed.add("a", None))
        await asyncio.sleep(1)
        adding.cancel()
        await asyncio.sleep(10)
        assert stage.hub.stats().channels == dict.fromkeys(stage.hub.stats().channels, 0)
        calls = len(stage.broker.calls)
        await asyncio.sleep(60)
        assert len(stage.broker.calls) == calls


@in_virtual_time
async def test_a_healing_that_nobody_waits_for_any_more_is_given_up() -> None:
    async with staged() as stage:
        reader = Reader(stage.hub)
        await reader.follow("a")
        stage.broker.is_away = True
        stage.hub.gap(None)
        await asyncio.sleep(1)
        reader.feed.close()
        await asyncio.sleep(10)
        assert sum(stage.hub.stats().channels.values()) == 0


# -- lingering


@in_virtual_time
async def test_a_channel_without_listeners_lingers_and_goes_cold() -> None:
    async with staged(Limits(channel_linger_s=60)) as stage:
        reader = Reader(stage.hub)
        await reader.follow("a")
        reader.feed.close()
        assert stage.channel().state is ChannelState.LINGERING
        await asyncio.sleep(50)
        stage.publish(3)  # it still hears
        back = Reader(stage.hub)
        await back.follow("a", START)
        await settle()
        assert offsets(back.link.payloads) == [1, 2, 3]
        assert not any(call.startswith("read") for call in stage.broker.calls)  # from the ring
        await asyncio.sleep(50)
        assert stage.channel().state is ChannelState.HOT
        back.feed.close()
        await asyncio.sleep(59)
        assert stage.channel().state is ChannelState.LINGERING
        await asyncio.sleep(2)
        assert stage.hub.stats().channels == dict.fromkeys(stage.hub.stats().channels, 0)
        assert stage.hub.stats().ring_bytes == 0
        assert stage.broker.subscribed == set()


@in_virtual_time
async def test_a_lingering_channel_heals_and_lingers_on() -> None:
    async with staged(Limits(channel_linger_s=60)) as stage:
        reader = Reader(stage.hub)
        await reader.follow("a")
        reader.feed.close()
        stage.broker.lost_announcements = 1
        stage.publish(2)
        assert stage.channel().state is ChannelState.HEALING
        await settle()
        assert stage.channel().state is ChannelState.LINGERING
        assert stage.channel().head == stage.broker.head("a")
        stage.hub.gap(None)
        await settle()
        assert stage.channel().state is ChannelState.LINGERING
        await asyncio.sleep(61)
        assert sum(stage.hub.stats().channels.values()) == 0


@in_virtual_time
async def test_a_channel_wanted_again_while_it_is_unsubscribed_is_subscribed_after_that() -> None:
    async with staged(Limits(channel_linger_s=1)) as stage:
        reader = Reader(stage.hub)
        await reader.follow("a")
        reader.feed.close()
        stage.broker.holding = asyncio.Event()
        await asyncio.sleep(2)
        assert stage.channel().state is ChannelState.COLD
        back = Reader(stage.hub)
        adding = asyncio.ensure_future(back.feed.add("a", None))
        await settle()
        assert stage.broker.calls == ["subscribe a", "heads 1", "unsubscribe a"]
        stage.broker.holding.set()
        await adding
        back.feed.start(["a"])
        assert stage.broker.calls[2:] == ["unsubscribe a", "subscribe a", "heads 1"]
        stage.publish(1)
        assert offsets(back.link.payloads) == [1]


@in_virtual_time
async def test_an_unsubscribe_that_fails_is_not_tried_for_ever() -> None:
    async with staged(Limits(channel_linger_s=1)) as stage:
        reader = Reader(stage.hub)
        await reader.follow("a")
        reader.feed.close()
        stage.broker.is_away = True
        await asyncio.sleep(10)
        assert stage.broker.calls.count("unsubscribe a") == 1
        assert sum(stage.hub.stats().channels.values()) == 0
        stage.hub.published(Publication("a", 1, "life1", "00000001", b"1"))  # still delivered: nobody minds


@in_virtual_time
async def test_a_broker_that_breaks_its_word_about_pages_cannot_lead_readers_astray() -> None:
    class Holes(FaultyBroker):
        async def read(self, channel: str, after: Position, *, limit: int, max_bytes: int) -> Page:
            page = await super().read(channel, after, limit=limit, max_bytes=max_bytes)
            return Page(page.publications[1:], page.head)

    async with staged() as stage:
        reader = Reader(stage.hub)
        await reader.follow("a")
        stage.publish(1)
        stage.broker.__class__ = Holes
        stage.broker.lost_announcements = 3
        stage.publish(4)
        await asyncio.sleep(0.01)
        assert offsets(reader.link.payloads) == [1, -5]  # told, not skipped
        other = Reader(stage.hub)
        assert await other.feed.add("a", START) == (stage.broker.head("a"), False)


# -- losses that nothing tells of


@in_virtual_time
async def test_a_silent_loss_on_a_quiet_channel_is_found_within_30_s() -> None:
    async with staged() as stage:
        reader = Reader(stage.hub)
        await reader.follow("a")
        await reader.follow("b")
        stage.publish(1)
        stage.broker.lost_announcements = 2
        stage.publish(2)
        await asyncio.sleep(30)
        assert offsets(reader.link.payloads) == [1, 2, 3]
        assert [call for call in stage.broker.calls if call.startswith("read")] == ["read a 1"]


@in_virtual_time
async def test_a_log_that_was_replaced_in_silence_is_told_as_a_reset_within_30_s() -> None:
    """As long as ours was, in the same epoch: only the tag differs."""
    async with staged() as stage:
        reader = Reader(stage.hub)
        await reader.follow("a")
        stage.publish(3)
        stage.broker.lose_end("a", 1)
        stage.broker.lost_announcements = 1
        stage.publish(1)
        await asyncio.sleep(30)
        assert offsets(reader.link.payloads) == [1, 2, 3, -3]
        stage.publish(1)
        assert offsets(reader.link.payloads)[-1] == 4


@in_virtual_time
async def test_what_is_on_its_way_is_not_missed() -> None:
    """A head that is ahead of what was delivered, for a moment: nothing is read, and the channel stays HOT."""
    async with staged(Limits(head_check_interval_s=5.0)) as stage:
        reader = Reader(stage.hub)
        await reader.follow("a")
        late: list[Publication] = []
        for _ in range(20):
            stage.broker.lost_announcements = 1
            late.append(stage.broker.publish("a"))
            await asyncio.sleep(0.9)
            stage.hub.published(late[-1])
            assert stage.channel().state is ChannelState.HOT
        assert offsets(reader.link.payloads) == list(range(1, 21))
        assert len([call for call in stage.broker.calls if call.startswith("heads")]) > 3
        assert not [call for call in stage.broker.calls if call.startswith("read")]


@in_virtual_time
async def test_a_look_while_the_broker_is_away_changes_nothing() -> None:
    async with staged() as stage:
        reader = Reader(stage.hub)
        await reader.follow("a")
        stage.broker.is_away = True
        stage.publish(1)  # announced to nobody
        await asyncio.sleep(60)
        assert stage.channel().state is ChannelState.HOT
        stage.broker.is_away = False
        await asyncio.sleep(30)
        assert offsets(reader.link.payloads) == [1]


@in_virtual_time
async def test_a_look_at_many_channels_lets_others_have_their_turn() -> None:
    """A broker in memory answers without a turn of the loop: 10,000 channels took it for 60 ms, every 20 s."""
    hub = Hub(MemoryBroker(clock(), Limits()), Limits(), clock())
    await hub.open()
    try:
        for number in range(1_000):
            hub.channel(f"c{number}").hold()
        await settle()
        assert hub.stats().channels["HOT"] == 1_000
        hub.wheel_fired()
        turns = 0
        while hub.shared.upkeep._is_looking:  # type: ignore[attr-defined]
            turns += 1
            await asyncio.sleep(0)
        assert turns >= 4, "256 at a time"
    finally:
        await hub.close()
