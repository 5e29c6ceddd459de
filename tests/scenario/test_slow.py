"""One reader that does not read, among two hundred that do: they are not held up, and it loses nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from hybrid.engine.engine import ANSWER_MAX_BYTES
from hybrid.engine.leg import StreamLeg
from tests.bench.dialects import CHANNEL, HYBRID_SSE, HYBRID_WEBSOCKET
from tests.support.raw import RawPolls, attach_of, post
from tests.support.world import LIMITS, Pipe, World, settings, until, world

FAST = 200
COUNT = 120
SIZE = 4_096
ROUGH = replace(LIMITS, ring_max_bytes=65_536)
"""A ring that holds less than the slow one misses: the rest is read from the history."""


class Counting(asyncio.Protocol):
    """A subscriber that costs little: it counts the marks of publications."""

    def __init__(self, request: bytes, greeting: bytes) -> None:
        self.request, self.greeting = request, greeting
        self.seen = bytearray()
        self.count = 0
        self.is_subscribed = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        if self.greeting:
            assert self.transport is not None
            self.transport.write(self.greeting)
            self.greeting = b""
        if not self.is_subscribed:
            self.seen += data
            self.is_subscribed = b'"subscribed"' in self.seen
            if not self.is_subscribed:
                return
            data = bytes(self.seen)
            self.seen.clear()
        self.count += data.count(b"%")


@pytest.mark.one_node("it looks into the node")
async def test_a_reader_that_hangs_holds_up_nobody_and_loses_nothing(transport: str, handoff: bool) -> None:
    async with world(settings(handoff, limits=ROUGH), limit_s=40) as here:
        slow = await here.raw(transport, attach_of(1, CHANNEL), buffer_bytes=4_096)
        await slow.next("subscribed")
        fast = await _subscribe_many(here)
        hung = None
        if isinstance(slow, RawPolls):
            for number in range(COUNT // 2):
                await here.publish(CHANNEL, _data(number))
            hung = asyncio.create_task(post(slow.door, "/v1/stream", slow.poll()))
            await asyncio.sleep(0)
        for number in range(COUNT // 2 if hung else 0, COUNT):
            await here.publish(CHANNEL, _data(number))
            await asyncio.sleep(0)
        await until(lambda: all(subscriber.count == COUNT for subscriber in fast))
        assert not any("publication" in push for push in slow.seen), "all that while it has read nothing"
        if hung is None:
            (link,) = [s.link for s in here.server.engine.open.streams() if _is_paused(s)]
            assert link.buffered() <= ROUGH.high_water_bytes + ROUGH.flush_max_bytes
            assert here.server.engine.hub.stats().live_links == FAST
        else:
            answer = await hung
            assert len(str(answer.body)) <= ANSWER_MAX_BYTES + 2 * SIZE
            slow.take_answer(answer)  # type: ignore[attr-defined]
        assert await slow.publications(COUNT) == list(range(1, COUNT + 1))
        assert not any("reset" in push for push in slow.seen)
        await here.publish(CHANNEL, "and on")
        assert await slow.publications(1) == [COUNT + 1]


@pytest.mark.one_node("it looks into the node")
async def test_a_client_behind_a_held_wire_catches_up(pipe: Pipe, handoff: bool) -> None:
    """The cable takes nothing for a while; the leg lags, reads the log later, and is never reconnected for it."""
    async with world(settings(handoff, limits=ROUGH)) as here:
        client = await here.client(pipe)
        slow = await here.read(client, CHANNEL)
        if pipe.transport == "longpoll":
            await until(lambda: here.server.engine.hub.stats().polls_waiting == 1)
        held = here.cabling[pipe.transport].on()
        for connection in held:
            connection.hold()
        fast = await here.read(await here.client(Pipe("websocket"), "bob"), CHANNEL)
        for number in range(COUNT):
            await here.publish(CHANNEL, _data(number))
            if number % 10 == 9:
                await fast.until(number + 1)
        fast.check()
        assert slow.items == []
        for connection in held:
            connection.release()
        await slow.until(COUNT)
        slow.check()
        assert client.stats.resets == client.stats.gaps == 0
        assert client.stats.attaches == 1


@pytest.mark.parametrize("on_lag", ["reset", "close"])
async def test_a_reader_slower_than_the_history_is_told(handoff: bool, on_lag: str) -> None:
    """Its namespace decides: a reset in the stream, or the end of the leg, and then the reset at the next attach."""
    chosen = settings(handoff, limits=ROUGH, bench={"history_size": 10, "on_lag": on_lag})
    async with world(chosen) as here:
        client = await here.client(Pipe("websocket"))
        reader = await here.read(client, CHANNEL)
        held = await here.cabling["websocket"].until_connected("/v1/stream")
        for connection in held:
            connection.hold()
        for number in range(COUNT):
            await here.publish(CHANNEL, _data(number))
        for connection in held:
            connection.release()
        await reader.until(lambda: bool(reader.resets))
        await here.publish(CHANNEL, "last")
        await reader.until(lambda: "last" in reader.data)
        reader.check_between_resets(1)
        assert client.stats.resets == 1
        assert client.stats.attaches == (1 if on_lag == "reset" else 2)


@pytest.mark.parametrize("buffer_max", [1, 4, 50])
async def test_an_application_that_reads_slowly_loses_nothing(pipe: Pipe, handoff: bool, buffer_max: int) -> None:
    """The client's own buffer is full: the channel is left, and joined again behind what was read.

    Over an event stream the answer to the new join may come behind all of its publications. Those for which there was
    no room while it was waited for were dropped without a word, and when nothing more was published, the reader waited
    for ever for what the server had sent long ago.
    """
    async with world(handoff) as here:
        client = await here.client(pipe, buffer_max=buffer_max)
        subscription = await client.subscribe(CHANNEL)
        for number in range(200):
            await here.publish(CHANNEL, number)
        got = []
        for _ in range(200):
            got.append((await anext(subscription)).data)
            await asyncio.sleep(0)
            assert subscription.buffered <= buffer_max
        assert got == list(range(200))
        assert client.stats.resets == 0


def _data(number: int) -> str:
    return f"%{number:05}".ljust(SIZE, ".")


def _is_paused(stream: object) -> bool:
    return isinstance(stream, StreamLeg) and stream.link.buffered() > 0


async def _subscribe_many(here: World) -> list[Counting]:
    fast = []
    loop = asyncio.get_running_loop()
    token = here.server.token("fast")
    for number in range(FAST):
        dialect = (HYBRID_WEBSOCKET, HYBRID_SSE)[number % 2]
        request = dialect.opening.format(host=f"127.0.0.1:{here.server.port}", token=token).encode()
        subscriber = Counting(request, dialect.frame(token))
        transport, _ = await loop.create_connection(lambda made=subscriber: made, "127.0.0.1", here.server.port)
        here.close_later(transport.abort)
        fast.append(subscriber)
        await until(lambda made=subscriber: made.is_subscribed)
    return fast
