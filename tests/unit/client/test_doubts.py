"""Mute, held, dying and slow transports, and servers that are away, by a server that does what each test tells it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from hybrid.client import Client, LegEvent, Timing, Unreachable
from hybrid.errors import AuthError
from tests.support.scripted import PATIENCE_S, Message, Request, Scripted, WebSocketLeg, attached, position, subscribed
from tests.unit.client.test_session import read, subscribing, until

QUICK = Timing(
    backoff_base_s=0.01,
    backoff_max_s=0.02,
    head_start_s=60.0,
    last_resort_s=60.0,
    patience_s=0.1,
    probation_s=0.01,
    settled_after_s=0.0,
)
BOTH = ("websocket", "sse")


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    async with Scripted().running() as running:
        yield running


@asynccontextmanager
async def connecting(server: Scripted, transport: Any = BOTH, **options: Any) -> AsyncIterator[Client]:
    options.setdefault("timing", QUICK)
    async with Client(server.url, None, transport, dial=server.dial, **options) as client:
        yield client


async def opened(server: Scripted, **more: Any) -> tuple[WebSocketLeg, Message]:
    """A WebSocket that is current, and its attach."""
    leg = await server.websocket()
    attach = await leg.receive()
    await leg.send(attached(attach, **more))
    assert (await leg.receive())["method"] == "confirm"
    await leg.send(subscribed())
    return leg, attach


async def streaming(server: Scripted, **more: Any) -> Request:
    """An event stream that is current."""
    stream = await server.request()
    assert stream.headers["accept"] == "text/event-stream"
    await stream.begin_stream(attached(stream.json, **more))
    await (await server.request()).reply()
    await stream.event(subscribed())
    return stream


async def test_a_stream_is_asked_when_it_is_ready_and_answered_with_the_number(server: Scripted) -> None:
    async with connecting(server) as client:
        leg, _ = await opened(server, echo_interval_s=0.5)
        assert await leg.asked() == 1
        await leg.send({"heartbeat": {"at_ms": 1, "echo": 1}})
        subscription = await subscribing(client, leg)
        await leg.publish(1)
        assert await read(subscription, 1) == [1]
        assert client.stats.attaches == 1


async def test_an_event_stream_is_asked_beside_what_is_posted(server: Scripted) -> None:
    async with connecting(server, "sse") as client:
        stream = await server.request()
        await stream.begin_stream(attached(stream.json, echo_interval_s=0.5), subscribed())
        publishing = asyncio.create_task(client.publish("news", 1))
        posts = [await server.request(), await server.request()]
        (ask,) = [post for post in posts if post.commands[0]["method"] == "heartbeat"]
        assert ask.commands == [{"method": "heartbeat", "echo": 1, "attempt": 1}]
        await ask.respond({"replies": []})
        await stream.event({"heartbeat": {"at_ms": 1, "echo": 1}})
        (post,) = [post for post in posts if post is not ask]
        await post.reply(position=position(1))
        await publishing


async def test_a_mute_stream_is_left_for_another_transport(server: Scripted) -> None:
    async with connecting(server) as client:
        leg, _ = await opened(server, echo_interval_s=0.5)
        await leg.asked()
        stream = await streaming(server)
        assert stream.json["tried"] == [{"transport": "websocket", "reason": "mute"}]
        await client.connected()
        assert (client.transport, server.pings >= 1) == ("sse", True)


async def test_a_server_that_is_away_demotes_nobody(server: Scripted) -> None:
    server.is_there = False
    async with connecting(server):
        leg, _ = await opened(server, echo_interval_s=0.5)
        await leg.asked()
        _, attach = await opened(server)
        assert "tried" not in attach
        assert server.pings >= 1


async def test_as_long_as_anything_comes_there_is_hope(server: Scripted) -> None:
    async with connecting(server, timing=replace(QUICK, patience_s=0.5)) as client:
        leg, _ = await opened(server, echo_interval_s=0.5)
        number = await leg.asked()
        for _ in range(7):
            await asyncio.sleep(0.1)  # a fifth of the patience: more than it in all
            await leg.send({"heartbeat": {"at_ms": 1}})
        await leg.send({"heartbeat": {"at_ms": 1, "echo": number}})
        await subscribing(client, leg)
        assert client.stats.attaches == 1


async def test_what_is_cut_soon_after_it_worked_is_tried_last(server: Scripted) -> None:
    timing = Timing(backoff_base_s=0.3, backoff_max_s=0.3, head_start_s=60.0, last_resort_s=60.0, settled_after_s=60.0)
    async with connecting(server, timing=timing) as client:
        leg, _ = await opened(server)
        await client.connected()
        client._session.legs._backoff._random = lambda: 1.0  # the plain request is answered before
        leg.cut()
        stream = await streaming(server)
        assert stream.json["tried"] == [{"transport": "websocket", "reason": "dying"}]


async def test_a_leg_that_attached_and_carries_nothing_loses_to_the_next(server: Scripted) -> None:
    async with connecting(server) as client:
        leg = await server.websocket()
        await leg.send(attached(await leg.receive()))
        assert (await leg.receive())["method"] == "confirm"
        stream = await streaming(server)
        assert stream.json["tried"] == [{"transport": "websocket", "reason": "held"}]
        await client.connected()
        assert client.transport == "sse"


async def test_a_better_transport_has_to_live_before_it_is_used(server: Scripted) -> None:
    server.refuse_websockets = True
    timing = Timing(backoff_base_s=0.01, head_start_s=60.0, probe_interval_s=0.02, probation_s=30.0)
    async with connecting(server, timing=timing) as client:
        await streaming(server)
        await client.connected()
        server.refuse_websockets = False
        for _ in range(2):
            leg = await server.websocket()
            await leg.send(attached(await leg.receive(), is_resumed=True))
            await until(lambda: client.log[-1].what == "attached")
            leg.cut()
            await until(lambda: client.log[-1].what == "ended")
        assert (client.transport, client.stats.moves) == ("sse", 0)


async def test_a_move_that_is_held_is_a_fault_of_that_transport(server: Scripted) -> None:
    async with connecting(server) as client:
        await opened(server)
        moving = asyncio.create_task(client.move_to("sse"))
        stream = await server.request()
        await stream.begin_stream(attached(stream.json, is_resumed=True))
        assert (await server.request()).path == "/v1/command"
        with pytest.raises(ConnectionError, match="sse"):
            await moving
        await opened(server)
        await client.connected()
        assert client.transport == "websocket"


async def test_what_worked_is_not_given_up_for_a_server_that_is_away(server: Scripted) -> None:
    async with connecting(server) as client:
        leg, _ = await opened(server)
        await client.connected()
        server.is_there = False
        server.refuse_websockets = True
        await leg.close(1001)
        await until(lambda: sum("426" in event.detail for event in client.log) >= 2)
        assert server.is_quiet, "no event stream was tried"
        server.refuse_websockets = False
        await opened(server)


async def test_states_legs_and_errors_are_told(server: Scripted) -> None:
    states: list[str] = []
    legs: list[LegEvent] = []
    errors: list[Exception] = []

    def on_state(state: str, reason: str) -> None:
        states.append(state)
        raise ZeroDivisionError  # of the application: logged, and nothing else

    server.refuse_websockets = True
    server.is_there = False
    told: dict[str, Any] = {"on_state": on_state, "on_leg": legs.append, "on_error": errors.append}
    async with connecting(server, "websocket", **told) as client:
        await until(lambda: errors)
        assert isinstance(errors[0], Unreachable)
        assert not errors[0].is_server_there
        assert list(errors[0].attempts) == ["websocket"]
        assert str(errors[0]).startswith("websocket: HTTP 426")
        assert str(errors[0]).endswith("no server")
        server.refuse_websockets = False
        leg = await server.websocket()
        await leg.open()
        await client.connected()
        assert (client.state, client.session) == ("connected", "s1")
        assert client.limits is not None
        assert client.limits.data_max_bytes == 65_536
        leg.cut()
        leg = await server.websocket()
        await leg.open()
        await client.connected()
        assert client.stats.reconnects == 1
        asking = asyncio.create_task(client.history("news"))
        await leg.reply(await leg.receive(), publications=[], head=position(4))
        assert (await asking).head.offset == 4
        assert client.stats.latency_s is not None
        await leg.close(4503)
        await until(lambda: client.state == "disconnected")
        assert isinstance(errors[-1], AuthError)
    assert states == ["connecting", "connected", "connecting", "connected", "connecting", "disconnected"]
    assert legs == list(client.log)


async def test_wake_ends_the_wait_for_another_try(server: Scripted) -> None:
    timing = Timing(backoff_base_s=60.0, backoff_patient_s=60.0, backoff_max_s=60.0)
    async with connecting(server, "websocket", timing=timing) as client:
        leg = await server.websocket()
        await leg.open()
        await client.connected()
        leg.cut()
        await until(lambda: client.log[-1].what == "waiting")
        client.wake()
        await (await server.websocket()).open()


async def test_wake_asks_a_leg_that_is_open(server: Scripted) -> None:
    timing = Timing(backoff_base_s=0.01, backoff_max_s=0.02, patience_s=0.05)
    async with connecting(server, "websocket", timing=timing) as client:
        leg = await server.websocket()
        await leg.open(echo_interval_s=0.5)
        await leg.send({"heartbeat": {"at_ms": 1, "echo": await leg.asked()}})
        client.wake()
        assert await leg.asked() == 2
        await (await server.websocket()).open()
        assert server.pings == 0, "after sleep a silence needs no explanation"


async def test_leaving_waits_for_no_plain_request(server: Scripted) -> None:
    held = asyncio.Event()
    reading = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        reading.set()
        await held.wait()
        writer.close()

    async with await asyncio.start_server(hold, "127.0.0.1", 0) as mute:

        def dial(transport: str) -> tuple[str, int]:
            return server.dial(transport) if transport == "websocket" else mute.sockets[0].getsockname()[:2]

        async with asyncio.timeout(PATIENCE_S / 2):  # such a request has five seconds
            async with Client(server.url, None, "websocket", dial=dial, timing=QUICK):
                leg = await server.websocket()
                await leg.open()
                leg.cut()
                await reading.wait()
        held.set()
