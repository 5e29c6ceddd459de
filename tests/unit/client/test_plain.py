"""Plain channels: each transport, across cuts, with resets and refusals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hybrid.client.backoff import Backoff
from hybrid.client.credentials import Credentials
from hybrid.client.endpoint import Endpoint
from hybrid.client.plain import PlainItem, PlainPublication, PlainReader, PlainReset, Unreachable
from hybrid.errors import AuthError, ChannelError, LimitError
from tests.support.scripted import PATIENCE_S, Scripted, position, publication


def cursor(offset: int) -> str:
    return f"k-{offset}-{offset:08x}"


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    async with Scripted().running() as running:
        yield running


class Reading:
    """A reader with a task that collects what it yields."""

    def __init__(self, server: Scripted, transport: str, get_token: Any = None, **options: Any) -> None:
        self.endpoint = Endpoint(server.url, dial=server.dial, connect_timeout_s=2.0)
        self.reader = PlainReader(
            self.endpoint, Credentials(get_token), "a/b", transport, backoff=Backoff(0.001, 0.002), **options
        )
        self._items: asyncio.Queue[PlainItem | BaseException] = asyncio.Queue()

    async def __aenter__(self) -> Reading:
        await self.endpoint.open()
        self._task = asyncio.create_task(self._collect())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.endpoint.close()

    async def _collect(self) -> None:
        try:
            async for item in self.reader.items():
                self._items.put_nowait(item)
        except Exception as error:
            self._items.put_nowait(error)

    async def next(self) -> PlainItem:
        async with asyncio.timeout(PATIENCE_S):
            item = await self._items.get()
        if isinstance(item, BaseException):
            raise item
        return item


def answer(at: int, *publications: dict[str, Any], recovered: bool = True) -> dict[str, Any]:
    return {"cursor": cursor(at) if at else "0", "recovered": recovered, "publications": list(publications)}


async def test_polls_go_on_after_each_cursor_and_across_a_cut(server: Scripted) -> None:
    async with Reading(server, "longpoll", lambda: "t", history=2) as reading:
        request = await server.request()
        assert request.path == "/v1/channels/a%2Fb?wait=25&history=2"
        assert request.headers["authorization"] == "Bearer t"
        await request.respond(answer(2, publication(1), publication(2, type="x")))
        assert await reading.next() == PlainPublication(cursor(1), 1)
        assert await reading.next() == PlainPublication(cursor(2), 2, "x")
        request = await server.request()
        assert request.path.endswith(f"?wait=25&after={cursor(2)}")
        request.cut()
        request = await server.request()
        assert request.path.endswith(f"after={cursor(2)}")
        await request.respond(answer(9, recovered=False))
        assert await reading.next() == PlainReset(cursor(9))
        assert (await server.request()).path.endswith(f"after={cursor(9)}")


async def test_an_event_stream_goes_on_after_its_last_id_even_when_nothing_came(server: Scripted) -> None:
    async with Reading(server, "sse") as reading:
        request = await server.request()
        assert request.path == "/v1/channels/a%2Fb"
        assert request.headers["accept"] == "text/event-stream"
        await request.begin_stream()
        await request.raw(f"retry: 3000\n\nid: {cursor(4)}\n\n: beat\n\n")
        request.cut()
        request = await server.request()
        assert request.path == f"/v1/channels/a%2Fb?after={cursor(4)}"
        await request.begin_stream()
        await request.raw(f'id: {cursor(5)}\nevent: t.x\ndata: {{"a": 1}}\n\n')
        assert await reading.next() == PlainPublication(cursor(5), {"a": 1}, "t.x")
        data = f'{{"channel": "a/b", "cursor": "{cursor(8)}"}}'
        await request.raw(f"id: {cursor(8)}\nevent: hybrid.reset\ndata: {data}\n\n")
        assert await reading.next() == PlainReset(cursor(8))
        request.cut()
        assert (await server.request()).path.endswith(f"after={cursor(8)}")


async def test_a_websocket_learns_where_it_starts_before_it_opens(server: Scripted) -> None:
    async with Reading(server, "websocket", lambda: "t", history=1) as reading:
        request = await server.request()
        assert request.path.endswith("history=1")
        await request.respond(answer(3, publication(3)))
        assert await reading.next() == PlainPublication(cursor(3), 3)
        leg = await server.websocket()
        assert leg.headers["Authorization"] == "Bearer t"
        assert leg.socket.request is not None
        assert leg.socket.request.path == f"/v1/channels/a%2Fb?after={cursor(3)}"
        leg.cut()
        leg = await server.websocket()
        assert leg.socket.request is not None
        assert leg.socket.request.path.endswith(f"after={cursor(3)}")
        await leg.send(publication(4))
        assert await reading.next() == PlainPublication(cursor(4), 4)
        await leg.send({"channel": "a/b", "reset": position(7)})
        assert await reading.next() == PlainReset(cursor(7))
        await leg.close(1012)
        leg = await server.websocket()
        assert leg.socket.request is not None
        assert leg.socket.request.path.endswith(f"after={cursor(7)}")
        await leg.close(4503)
        with pytest.raises(AuthError):
            await reading.next()


@pytest.mark.parametrize("transport", ["sse", "longpoll", "websocket"])
async def test_a_refusal_is_raised(server: Scripted, transport: str) -> None:
    async with Reading(server, transport) as reading:
        await (await server.request()).refuse(3403, 403)
        with pytest.raises(ChannelError, match="because"):
            await reading.next()


@pytest.mark.parametrize("transport", ["sse", "longpoll"])
async def test_busy_at_first_is_raised_and_later_waited_for(server: Scripted, transport: str) -> None:
    async with Reading(server, transport) as reading:
        await (await server.request()).refuse(4429, 429, retry_after_s=9.0)
        with pytest.raises(LimitError) as caught:
            await reading.next()
        assert caught.value.retry_after_s == 9.0
    async with Reading(server, "longpoll") as reading:
        await (await server.request()).respond(answer(1, publication(1)))
        await reading.next()
        await (await server.request()).refuse(4429, 429, retry_after_s=0.01)
        await (await server.request()).respond(answer(2, publication(2)))
        assert await reading.next() == PlainPublication(cursor(2), 2)


@pytest.mark.parametrize("transport", ["sse", "longpoll", "websocket"])
async def test_what_is_no_hybrid_server_is_unreachable(server: Scripted, transport: str) -> None:
    async with Reading(server, transport) as reading:
        await (await server.request()).respond(b"<html>hello</html>", Content_Type="text/html")
        with pytest.raises(Unreachable):
            await reading.next()
    async with Reading(server, transport) as reading:
        await (await server.request()).respond(b"not here", 404)
        with pytest.raises(Unreachable, match="HTTP 404"):
            await reading.next()


async def test_an_expired_token_is_replaced_once(server: Scripted) -> None:
    tokens = iter(["one", "two", "three"])
    async with Reading(server, "longpoll", lambda: next(tokens)) as reading:
        await (await server.request()).respond(answer(1, publication(1)))
        await reading.next()
        await (await server.request()).refuse(4401, 401)
        request = await server.request()
        assert request.headers["authorization"] == "Bearer two"
        await request.refuse(4401, 401)
        with pytest.raises(AuthError):
            await reading.next()


async def test_nobody_there_is_unreachable(server: Scripted) -> None:
    refused = Scripted()
    async with refused.running():
        ports = dict(refused._ports)
    server._ports = ports
    for transport in ("sse", "longpoll", "websocket"):
        async with Reading(server, transport, after="0") as reading:
            with pytest.raises(Unreachable):
                await reading.next()
