"""Reading a channel inside of the process: in order, once, from bounded memory, and told of what is lost."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from hybrid import Hybrid, HybridError, Message, Position
from hybrid.errors import UnrecoverablePosition
from hybrid.limits import Limits
from tests.embed.apps import embedded


@asynccontextmanager
async def served(limits: Limits | None = None) -> AsyncIterator[Hybrid]:
    app, hybrid = embedded(limits=limits or Limits())
    async with asyncio.timeout(20), app.test_app():
        yield hybrid


async def publish(hybrid: Hybrid, channel: str, numbers: range) -> None:
    await hybrid.publish_many([Message(channel, number) for number in numbers])


async def until_idle(hybrid: Hybrid, channel: str) -> None:
    """Until everything published was written to whoever is LIVE."""
    node = hybrid.engine.hub.channel(channel)
    while node.flushed.offset < node.head.offset:  # noqa: ASYNC110
        await asyncio.sleep(0)


async def test_it_reads_what_was_and_what_comes() -> None:
    async with served() as hybrid:
        await publish(hybrid, "chat:a", range(5))
        lobby = hybrid.channel("chat:a")
        async with lobby.subscribe(history=2) as reading:
            await publish(hybrid, "chat:a", range(5, 8))
            assert [(await anext(reading)).data for _ in range(5)] == [3, 4, 5, 6, 7]
            position = reading.position
        with pytest.raises(StopAsyncIteration):
            await anext(reading)
        await lobby.publish(8)
        seen = []
        async for publication in lobby.subscribe(position):
            seen.append((publication.offset, publication.data))
            if len(seen) == 1:
                await lobby.publish(b"\x01", type="bytes")
            else:
                assert (publication.type, publication.is_binary) == ("bytes", True)
                break
        assert seen == [(9, 8), (10, b"\x01")]


async def test_who_is_slow_holds_little_and_misses_nothing() -> None:
    async with served() as hybrid:
        async with hybrid.channel("chat:a").subscribe(buffer_max_bytes=2_000) as reading:
            for start in range(0, 90, 10):
                await publish(hybrid, "chat:a", range(start, start + 10))
                await until_idle(hybrid, "chat:a")
                assert reading.buffered_bytes < 4_000  # the bound, and a flush more
            assert hybrid.engine.hub.channel("chat:a").live_links == 0
            assert [(await anext(reading)).data for _ in range(90)] == list(range(90))
            await publish(hybrid, "chat:a", range(90, 91))
            assert (await anext(reading)).data == 90


@pytest.mark.parametrize("asks", [False, True])
async def test_a_loss_is_told_in_its_place(asks: bool) -> None:
    limits = Limits(ring_max_bytes=2_000)
    async with served(limits) as hybrid:
        heads: list[Position] = []
        going_on: list[asyncio.Task[None]] = []

        def lost(head: Position) -> None:
            heads.append(head)
            going_on.append(asyncio.create_task(publish(hybrid, "short:a", range(60, 61))))

        async with hybrid.channel("short:a").subscribe(
            buffer_max_bytes=300, on_reset=lost if asks else None
        ) as reading:
            for start in range(0, 60, 5):
                await publish(hybrid, "short:a", range(start, start + 5))
                await until_idle(hybrid, "short:a")
            seen: list[int] = []
            while not seen or seen[-1] < 60:
                try:
                    seen.append((await anext(reading)).data)
                except UnrecoverablePosition as error:
                    assert not asks
                    lost(error.head)
        assert seen[:-1] == list(range(len(seen) - 1))
        assert [head.offset for head in heads] == [60]
        assert len(seen) < 40


async def test_a_position_that_cannot_be_continued() -> None:
    async with served() as hybrid:
        await publish(hybrid, "chat:a", range(3))
        strange = Position(2, "other", "00000001")
        with pytest.raises(UnrecoverablePosition) as raised:
            await anext(hybrid.channel("chat:a").subscribe(strange))
        assert raised.value.head.offset == 3
        reading = hybrid.channel("chat:a").subscribe(strange)
        with pytest.raises(UnrecoverablePosition):
            await anext(reading)
        await publish(hybrid, "chat:a", range(3, 4))
        assert (await anext(reading)).offset == 4
        reading.close()


async def test_what_was_never_entered_or_ended_while_it_began_is_not_left_open() -> None:
    async with served() as hybrid:
        await publish(hybrid, "chat:a", range(3))
        with pytest.raises(UnrecoverablePosition):
            async with hybrid.channel("chat:a").subscribe(Position(2, "other", "00000001")):
                pass
        assert not hybrid.engine.local_readers
        reading = hybrid.channel("chat:cold").subscribe()
        beginning = asyncio.ensure_future(anext(reading, None))
        while not hybrid.engine.local_readers:  # noqa: ASYNC110 -- nothing tells that it has begun
            await asyncio.sleep(0)
        reading.close()
        assert await beginning is None
        assert not hybrid.engine.local_readers


async def test_a_cancelled_wait_loses_nothing() -> None:
    async with served() as hybrid:
        async with hybrid.channel("chat:a").subscribe() as reading:
            waiting = asyncio.ensure_future(anext(reading))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
            await publish(hybrid, "chat:a", range(2))
            assert [(await anext(reading)).data for _ in range(2)] == [0, 1]


async def test_nothing_is_left_behind() -> None:
    async with served() as hybrid:

        async def read_for_ever() -> None:
            async for publication in hybrid.channel("chat:a").subscribe():
                assert publication.data == 0

        task = asyncio.create_task(read_for_ever())
        while not hybrid.engine.local_readers or not hybrid.engine.hub.channel("chat:a").live_links:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await publish(hybrid, "chat:a", range(1))
        task.cancel()
        await asyncio.wait([task])
        del task
        gc.collect()
        await asyncio.sleep(0)
        assert not hybrid.engine.local_readers
        async for _ in hybrid.channel("chat:a").subscribe(history=1):
            break
        gc.collect()
        await asyncio.sleep(0)
        assert not hybrid.engine.local_readers
        assert not hybrid.engine.hub.channel("chat:a").is_wanted


async def test_the_end_of_the_server_ends_a_background_task_at_once() -> None:
    app, hybrid = embedded()
    seen: list[int] = []
    begun = asyncio.Event()

    async def read() -> None:
        async with hybrid.channel("chat:a").subscribe() as reading:
            begun.set()
            async for publication in reading:
                seen.append(publication.data)
        seen.append(-1)

    @app.before_serving
    async def start() -> None:
        app.add_background_task(read)

    async with asyncio.timeout(4):  # Quart itself would wait 5 s for the task
        async with app.test_app():
            await begun.wait()
            await hybrid.publish("chat:a", 1)
            await until_idle(hybrid, "chat:a")
    assert seen == [1, -1]


async def test_what_is_wrong_is_said() -> None:
    async with served() as hybrid:
        with pytest.raises(HybridError, match="name"):
            hybrid.channel("")
        with pytest.raises(HybridError, match="no such channel"):
            await anext(hybrid.channel("nowhere:a").subscribe())
        for options in ({"buffer_max_bytes": 0}, {"history": 1_001}, {"history": -1}):
            with pytest.raises(ValueError, match="history lies"):
                hybrid.channel("chat:a").subscribe(**options)  # type: ignore[arg-type]
        assert not hybrid.engine.local_readers
