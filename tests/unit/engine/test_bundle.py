from __future__ import annotations

import asyncio

import pytest

from hybrid.engine.bundle import Bundles
from hybrid.errors import ChannelError
from hybrid.limits import Limits
from hybrid.model import START
from hybrid.protocol.cursor import parse_composite
from tests.support.hubs import Stage, staged
from tests.support.links import FakeLink, Reader
from tests.support.virtual_time import in_virtual_time, settle


async def bundled(stage: Stage, *channels: str, link: FakeLink | None = None, **positions: object) -> Reader:
    reader = Reader(stage.hub, link=link, bundle=channels)
    for channel in channels:
        await reader.feed.add(channel, positions.get(channel))  # type: ignore[arg-type]
    reader.feed.start(channels)
    return reader


def ids(reader: Reader) -> list[dict[str, int]]:
    """The offsets in the ids that were written."""
    found = []
    for payload in reader.link.payloads:
        if payload.startswith(b"id: "):
            text = payload.split(b"\n")[0][4:].decode()
            found.append({name: position.offset for name, position in parse_composite(text).items()})
    return found


@in_virtual_time
async def test_readers_of_the_same_channels_share_bytes_that_name_them_all() -> None:
    async with staged() as stage:
        readers = [await bundled(stage, "a", "b"), await bundled(stage, "b", "a")]
        other = await bundled(stage, "b", "c")
        for channel in "abca":
            stage.publish(1, channel)
            await asyncio.sleep(0.01)
        assert ids(readers[0]) == [{"a": 1, "b": 0}, {"a": 1, "b": 1}, {"a": 2, "b": 1}]
        assert ids(other) == [{"b": 1, "c": 0}, {"b": 1, "c": 1}]
        assert all(
            first is second for first, second in zip(readers[0].link.segments, readers[1].link.segments, strict=True)
        )
        assert len(stage.hub.shared.bundles) == 2
        for reader in (*readers, other):
            reader.feed.close()
        assert len(stage.hub.shared.bundles) == 0


@in_virtual_time
async def test_who_is_behind_in_one_channel_has_ids_of_its_own_and_then_joins() -> None:
    async with staged() as stage:
        stage.publish(3, "a")
        stage.publish(2, "b")
        reader = await bundled(stage, "a", "b", a=START)
        assert stage.hub.stats().live_links == 0  # also not in b, where there is nothing to catch up
        await settle()
        assert ids(reader) == [{"a": 1, "b": 2}, {"a": 2, "b": 2}, {"a": 3, "b": 2}]
        assert stage.hub.stats().live_links == 2


@in_virtual_time
async def test_nothing_is_written_before_all_channels_are_known() -> None:
    async with staged() as stage:
        stage.publish(3, "a")
        reader = Reader(stage.hub, bundle=["a", "b"])
        await reader.feed.add("a", START)
        reader.feed.start(["a"])
        await settle()
        assert reader.link.segments == []
        with pytest.raises(ChannelError) as caught:
            await reader.feed.add("c", None)
        assert caught.value.row.name == "forbidden"
        await reader.feed.add("b", None)
        await settle()
        assert reader.link.segments == []
        reader.feed.start(["b"])
        await settle()
        assert ids(reader)[-1] == {"a": 3, "b": 0}


@in_virtual_time
async def test_a_channel_that_is_removed_leaves_the_others_going() -> None:
    async with staged() as stage:
        reader = await bundled(stage, "a", "b", "c")
        stay = await bundled(stage, "a", "b", "c")
        stage.publish(1, "b")
        assert reader.feed.remove("b") == stage.broker.head("b")
        stage.publish(1, "c")
        await settle()
        assert ids(reader) == [{"a": 0, "b": 1, "c": 0}, {"a": 0, "c": 1}]
        assert ids(stay) == [{"a": 0, "b": 1, "c": 0}, {"a": 0, "b": 1, "c": 1}]
        assert stage.hub.stats().live_links == 5
        assert len(stage.hub.shared.bundles) == 2


@in_virtual_time
async def test_a_pause_leaves_all_channels_and_a_drain_joins_all() -> None:
    async with staged() as stage:
        reader = await bundled(stage, "a", "b", link=FakeLink(high_water_bytes=1))
        stage.publish(1, "a")
        assert stage.hub.stats().live_links == 0
        stage.publish(1, "b")
        await asyncio.sleep(0.01)
        assert ids(reader) == [{"a": 1, "b": 0}]
        for _ in range(3):
            reader.link.drain()
            await settle()
        assert ids(reader) == [{"a": 1, "b": 0}, {"a": 1, "b": 1}]
        assert stage.hub.stats().live_links == 2


@in_virtual_time
async def test_a_flush_waits_while_another_channel_writes_to_the_same_bundle() -> None:
    async with staged(Limits(fan_out_slice=1)) as stage:
        readers = [await bundled(stage, "a", "b") for _ in range(4)]
        plain = Reader(stage.hub)
        await plain.follow("c")
        stage.publish(1, "a")
        stage.publish(1, "b")  # has to wait
        stage.publish(1, "c")  # has nothing to do with it
        assert stage.channel("b").is_waiting_its_turn
        assert len(plain.link.segments) == 1
        assert [len(reader.link.segments) for reader in readers] == [1, 0, 0, 0]
        await asyncio.sleep(0.01)
        assert [ids(reader) for reader in readers] == [[{"a": 1, "b": 0}, {"a": 1, "b": 1}]] * 4


@in_virtual_time
async def test_who_waits_longest_is_next() -> None:
    """Channels that keep writing must not keep one from writing that shares a bundle with each of them."""
    async with staged(Limits(fan_out_slice=1, flush_interval_s=0.0)) as stage:
        for pair in ("ab", "bc"):
            for _ in range(5):
                await bundled(stage, *pair)
        await Reader(stage.hub).follow("b")
        order: list[str] = []
        begin = type(stage.channel("a")).flush_admitted
        for name in "abc":
            assert stage.channel(name).flushed == START
        stage.publish(1, "a")
        stage.publish(1, "c")  # both are being written: a to the first bundle, c to the second
        stage.publish(1, "b")  # needs both
        assert stage.channel("b").is_waiting_its_turn
        stage.publish(1, "a")
        stage.publish(1, "c")
        while stage.channel("b").flushed == START:
            order = [name for name in "ac" if stage.channel(name).flushed.offset > 1]
            await asyncio.sleep(0)
        assert order == []  # nobody went twice before b went once
        await asyncio.sleep(1)
        assert {name: stage.channel(name).flushed.offset for name in "abc"} == {"a": 2, "b": 1, "c": 2}
        assert begin is type(stage.channel("a")).flush_admitted


@in_virtual_time
async def test_a_reset_of_one_channel_is_told_and_the_rest_goes_on() -> None:
    async with staged() as stage:
        readers = [await bundled(stage, "a", "b") for _ in range(2)]
        stage.publish(2, "a")
        stage.publish(1, "b")
        await asyncio.sleep(0.01)
        stage.broker.lose_log("a")
        stage.hub.gap(None)
        await asyncio.sleep(0.01)
        stage.publish(1, "b")
        await asyncio.sleep(0.01)
        assert [reader.resets for reader in readers] == [[("a", START)]] * 2
        assert ids(readers[0])[-1] == {"a": 0, "b": 2}
        assert readers[0].link.segments[-1] is readers[1].link.segments[-1]  # sharing again


def test_an_empty_registry_admits_everybody() -> None:
    assert Bundles(lambda callback: None).admits(None)  # type: ignore[arg-type]
