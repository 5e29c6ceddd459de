from __future__ import annotations

import asyncio

import pytest

from hybrid.broker.base import Append
from hybrid.broker.memory import MemoryBroker
from hybrid.engine.encodings import PLAIN_JSON
from hybrid.engine.hub import Hub
from hybrid.engine.wheel import Wheel
from hybrid.limits import Limits
from hybrid.model import START
from tests.support.hubs import offsets, staged
from tests.support.links import Reader
from tests.support.virtual_time import clock, in_virtual_time, settle


@in_virtual_time
async def test_on_the_memory_broker() -> None:
    limits = Limits()
    broker = MemoryBroker(clock(), limits)
    hub = Hub(broker, limits, clock())
    await hub.open()
    reader = Reader(hub, PLAIN_JSON)
    await reader.follow("a")
    append = Append(channel="a", data=b"1", history_size=10, history_ttl_s=60)
    await broker.append([append] * 3)
    await asyncio.sleep(0.01)
    assert offsets(reader.link.payloads) == [1, 2, 3]
    located = await hub.locate("a", None, 2)
    collected = await hub.collect({"a": located.position}, encoding=PLAIN_JSON, wait_s=0, max_bytes=1_000)
    assert offsets(collected.payloads) == [2, 3]
    assert await hub.position_now("a") == reader.feed.position("a")
    stats = hub.stats()
    assert (stats.channels["HOT"], stats.live_links, stats.publications, stats.flushes) == (1, 1, 3, 2)
    assert stats.ring_bytes > 0
    reader.feed.close()
    await hub.close()


@in_virtual_time
async def test_publications_of_channels_nobody_listens_to_cost_nothing() -> None:
    async with staged() as stage:
        stage.broker.subscribed.add("a")
        stage.publish(5)
        assert stage.hub.stats().publications == 0
        assert sum(stage.hub.stats().channels.values()) == 0


@in_virtual_time
async def test_polled_and_lingering_channels_flush_without_timers() -> None:
    async with staged() as stage:
        await stage.hub.position_now("a")
        timers = len(clock()._scheduled)  # type: ignore[attr-defined]
        stage.publish(5)
        assert stage.channel().flushed == stage.broker.head("a")
        assert len(clock()._scheduled) == timers  # type: ignore[attr-defined]
        assert stage.hub.stats().flushes == 0


@in_virtual_time
async def test_locate_tells_what_was_lost() -> None:
    async with staged(history_size=2) as stage:
        stage.publish(9)
        head = stage.broker.head("a")
        assert await stage.hub.locate("a", head, 0) == (head, True)
        assert await stage.hub.locate("a", START, 0) == (head, False)
        assert stage.hub.stats().channels["LINGERING"] == 1


@in_virtual_time
async def test_closing_ends_all_that_runs() -> None:
    async with staged() as stage:
        stage.broker.is_away = True
        adding = asyncio.ensure_future(Reader(stage.hub).feed.add("a", None))
        await settle()
        assert len(stage.hub._tasks) == 1
        await stage.hub.close()
        assert len(stage.hub._tasks) == 0
        assert len(stage.hub.wheel) == 0
        adding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await adding


@in_virtual_time
async def test_a_wheel_that_was_given_is_left_to_its_owner() -> None:
    limits = Limits()
    wheel = Wheel(clock())
    hub = Hub(MemoryBroker(clock(), limits), limits, clock(), wheel)
    await hub.open()

    class Timer:
        def wheel_fired(self) -> None: ...

    wheel.schedule(Timer(), 5)
    assert hub.wheel is wheel
    await hub.close()
    assert len(wheel) == 1
    wheel.close()
