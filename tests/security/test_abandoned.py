"""Clients that leave in every improper way, by the hundred: afterwards everything is back where it was."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest

from hybrid.limits import Limits
from hybrid.links.hypercorn_requests import kept_connections
from hybrid.web import launcher
from tests.support.bytewise import EVENTS, JSON, WEBSOCKET, bystander, connect, frame, request, text, until
from tests.support.server import RunningServer, running_server, settings_for

AT_ONCE = 40
HANDOFF = pytest.mark.parametrize("handoff", [True, False], ids=["hand-off", "asgi"])
COUNTS = pytest.mark.parametrize(
    "count", [pytest.param(200, id="200"), pytest.param(1_000, id="1000", marks=pytest.mark.slow)]
)
LIMITS = Limits(
    auth_timeout_s=0.3,
    close_timeout_s=0.3,
    heartbeat_interval_s=0.3,
    session_kept_s=0.3,
    poll_wait_max_s=0.5,
    unauthenticated_per_address_max=1_000,
    channel_linger_s=0.3,
)

Scene = Callable[[RunningServer], Awaitable[None]]


def descriptors() -> int:
    """Open sockets of this process, those of the test included. 0 where the system does not tell."""
    if not sys.platform.startswith("linux"):
        return 0
    return sum(1 for name in os.listdir("/proc/self/fd") if os.path.islink(f"/proc/self/fd/{name}") and is_socket(name))


def is_socket(name: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    except OSError:
        return False


def state(server: RunningServer) -> dict[str, int]:
    engine = server.engine
    return {
        "open": len(engine.open),
        "background tasks": len(engine.tasks),
        "sessions": len(engine.registry),
        "in the doorway": engine.door.count,
        "ticket streams": len(engine.ticket_streams),
        "tasks": len(asyncio.all_tasks()),
        "sockets": descriptors(),
    }


@asynccontextmanager
async def nothing_left(handoff: bool, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RunningServer]:
    """A server that has to be at the end as it was at the beginning, while somebody else's stream went on."""
    monkeypatch.setattr(launcher, "_KEEP_ALIVE_S", 0.5)
    async with running_server(settings_for(handoff=handoff, limits=LIMITS)) as server, bystander(server) as other:
        await other.still_hears()
        await one_kept(server)
        before = state(server)

        def left() -> dict[str, int]:
            """What is there now and was not before; what was still ending then may be less now."""
            return {name: count for name, count in state(server).items() if count > before[name]}

        yield server
        with suppress(TimeoutError):  # to see what it is
            await until(lambda: not left())
        assert not left(), [task for task in asyncio.all_tasks() if not task.done()]
        await other.still_hears()


async def one_kept(server: RunningServer) -> None:
    """The first connection that is kept leaves two tasks of Hypercorn's behind, which wait for the end of all."""
    tasks = len(asyncio.all_tasks())
    connection = await connect(server)
    connection.send(request("GET", "/v1/ping"))
    await connection.answer()
    await connection.close()
    await until(lambda: not kept_connections() and len(asyncio.all_tasks()) <= tasks + 2)


async def repeated(count: int, scene: Callable[[], Awaitable[None]]) -> None:
    """Some at a time, so that the machine's limits are not what is tested."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with places:
            await scene()

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(one())


def beginnings(server: RunningServer) -> list[bytes]:
    """How each kind of request begins that stays open or takes a while."""
    bearer = server.bearer()
    attach = b'{"method":"attach","attempt":1,"confirm":true,"subscriptions":[{"channel":"a"}]}'
    return [
        request("GET", "/v1/channels/a", {**EVENTS, **bearer}),
        request("GET", "/v1/channels?name=a&name=b", {**EVENTS, **bearer}),
        request("GET", "/v1/channels/a?after=0", bearer),
        request("GET", "/v1/channels/a", {**WEBSOCKET, **bearer}),
        request("GET", "/v1/stream", {**WEBSOCKET, **bearer}),
        request("POST", "/v1/stream", {**JSON, **EVENTS, **bearer}, attach),
        request("POST", "/v1/stream", {**JSON, **bearer}, attach),
        request("GET", "/v1/history/a", bearer),
        request("POST", "/v1/channels/a", {**JSON, **bearer}, b"1"),
        request("GET", "/v1/nothing", bearer),
    ]


@HANDOFF
@COUNTS
async def test_pipelined_requests(handoff: bool, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second request behind each kind of the first, one that nobody reads."""
    async with nothing_left(handoff, monkeypatch) as server:
        kinds = beginnings(server)
        numbers = iter(range(count))

        async def scene() -> None:
            number = next(numbers)
            connection = await connect(server)
            connection.send(kinds[number % len(kinds)] + kinds[number // len(kinds) % len(kinds)])
            await connection.head()
            await connection.close()

        await repeated(count, scene)


@HANDOFF
@COUNTS
async def test_head_requests(handoff: bool, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async with nothing_left(handoff, monkeypatch) as server:
        bearer = server.bearer()
        targets = [
            ("/v1/channels/a", {**EVENTS, **bearer}),
            ("/v1/channels/a?after=0", bearer),
            ("/v1/history/a", bearer),
            ("/v1/stream", {**EVENTS, **bearer}),
        ]
        numbers = iter(range(count))

        async def scene() -> None:
            target, headers = targets[next(numbers) % len(targets)]
            connection = await connect(server)
            for _ in range(2):  # the second shows that the first had no body
                connection.send(request("HEAD", target, headers))
                assert (await connection.answer(is_head=True)).status in (200, 404)
            await connection.close()

        await repeated(count, scene)


@HANDOFF
@COUNTS
@pytest.mark.parametrize("way", ["reset", "half-closed", "aborted"])
async def test_clients_that_go(handoff: bool, count: int, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reset after the answer began, half-closed behind the request, or gone before any of it was answered."""
    async with nothing_left(handoff, monkeypatch) as server:
        kinds = beginnings(server)
        numbers = iter(range(count))

        async def scene() -> None:
            connection = await connect(server)
            connection.send(kinds[next(numbers) % len(kinds)])
            if way == "half-closed":
                connection.writer.write_eof()
                await connection.ended()
            elif way == "reset":
                with suppress(TimeoutError):  # a poll, which waits
                    await asyncio.wait_for(connection.reader.read(1), 1)
                connection.reset()
            else:
                connection.reset()
            await connection.close()

        await repeated(count, scene)


@HANDOFF
async def test_event_streams_that_are_not_read(handoff: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async with nothing_left(handoff, monkeypatch) as server, AsyncExitStack() as stack:
        for number in range(300):
            connection = await connect(server)
            connection.reader._transport.pause_reading()  # type: ignore[attr-defined]
            stack.push_async_callback(connection.close)
            stack.callback(connection.reset)
            connection.send(request("GET", "/v1/channels/a", {**EVENTS, **server.bearer(str(number % 10))}))
        await until(lambda: len(server.engine.open) == 301)
        for _ in range(40):
            await server.engine.publish("a", "x" * 50_000)
        assert all(stream.link.buffered() < 400_000 for stream in server.engine.open.streams())


@HANDOFF
async def test_strangers_that_stay_silent(handoff: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async with nothing_left(handoff, monkeypatch) as server:
        numbers = iter(range(300))

        async def scene() -> None:
            connection = await connect(server)
            number = next(numbers)
            connection.send(request("GET", ("/v1/stream", "/v1/channels/a")[number % 2], WEBSOCKET))
            assert (await connection.head()).status == 101
            if number % 3 == 0:
                connection.send(frame(b'{"method":', is_final=False))
            assert (await connection.close_code())[0] == 4408
            if number % 5 == 0:
                connection.send(frame(b"\x0f\xa0", 8))  # the others leave the closing handshake open
            await connection.close()

        await repeated(300, scene)


@HANDOFF
async def test_heads_that_drip(handoff: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is cut off at the idle timeout, however steadily it goes on."""
    async with nothing_left(handoff, monkeypatch) as server:

        async def scene() -> None:
            connection = await connect(server)
            connection.send(b"GET /v1/channels/a HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")
            ended = asyncio.create_task(connection.ended())
            while not ended.done():
                connection.send(b"x")
                await asyncio.wait((ended,), timeout=0.1)
            await connection.close()

        await asyncio.wait_for(asyncio.gather(*(scene() for _ in range(300))), 30)


@HANDOFF
async def test_polls_that_nobody_waits_for(handoff: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async with nothing_left(handoff, monkeypatch) as server:
        bearer = server.bearer()

        async def scene() -> None:
            connection = await connect(server)
            connection.send(request("GET", "/v1/channels/a?after=0", bearer))
            await connection.close()

        await repeated(300, scene)


@HANDOFF
async def test_sessions_that_are_left_behind(handoff: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async with nothing_left(handoff, monkeypatch) as server:
        bearer = server.bearer()
        attach = {"method": "attach", "attempt": 1, "confirm": True, "subscriptions": [{"channel": "a"}]}

        async def scene() -> None:
            connection = await connect(server)
            connection.send(request("GET", "/v1/stream", {**WEBSOCKET, **bearer}))
            assert (await connection.head()).status == 101
            connection.send(text(attach))
            assert "attached" in await connection.push()
            connection.reset()
            await connection.close()

        await repeated(200, scene)
