"""Connections that were taken over behind their first answer, with a real Hypercorn, on asyncio and uvloop."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest
from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config

from hybrid.engine.flight import SlowLinks
from hybrid.limits import Limits
from hybrid.links import hypercorn_requests
from hybrid.links.asgi import Receive, Scope, Send
from hybrid.links.head import Head
from hybrid.links.hypercorn_requests import keep_connection
from hybrid.links.kept import KeptConnection, KeptConnections
from hybrid.links.kept_request import AHEAD_MAX_BYTES, KeptRequest
from hybrid.web import launcher
from tests.support.asgi_server import (
    HANDSHAKE,
    PATIENCE_S,
    RawClient,
    connected,
    on_each_loop,
    restored,
    serving,
    true_soon,
)

GET = b"GET /kept HTTP/1.1\r\nHost: test\r\n\r\n"
Answer = tuple[bytes, dict[bytes, bytes], bytes]


def post(body: bytes, path: bytes = b"/kept") -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n%b" % (path, len(body), body)


class App:
    """Answers with what it was sent; everything below `/kept` is kept. `served` tells by whom each was served."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.servers: list[Any] = []
        self.served: list[str] = []
        self.special: dict[str, Callable[[Scope, Receive, Send], Awaitable[None]]] = {}
        self.scopes: list[Scope] = []
        self.slow = SlowLinks(limits or Limits(), asyncio.get_running_loop().call_soon)

    @property
    def connection(self) -> KeptConnection:
        [connection] = self.kept._open
        return connection

    @property
    def kept(self) -> KeptConnections:
        """Those of the server that served last."""
        return hypercorn_requests._kept[self.servers[-1]]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        self.served.append("us" if isinstance(receive.__self__, KeptRequest) else "Hypercorn")  # type: ignore[attr-defined]
        self.scopes.append(scope)
        if self.served[-1] == "Hypercorn":
            self.servers.append(send.__self__.send.__self__.send.__self__.context)  # type: ignore[attr-defined]
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": "hello"})
            await receive()
            return
        if scope["path"] in self.special:
            await self.special[scope["path"]](scope, receive, send)
            return
        body, has_more = b"", True
        while has_more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            has_more = message["more_body"]
        answer = b"%b %b %b" % (scope["method"].encode(), scope["raw_path"], body)
        headers = [(b"content-length", b"%d" % len(answer)), (b"x-mine", b"yes")]
        shown = b"" if scope["method"] == "HEAD" else answer
        may_keep = self.served[-1] == "Hypercorn" and scope["path"].startswith("/kept")
        if may_keep and await keep_connection(send, _is_ours, 200, headers, shown, self.slow):
            return
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


def _is_ours(head: Head) -> bool:
    return head.raw_path.startswith(b"/kept")


async def answer(client: RawClient, *, has_body: bool = True) -> Answer:
    status, headers = await client.head()
    body = b""
    if has_body and headers.get(b"transfer-encoding") == b"chunked":
        async with asyncio.timeout(PATIENCE_S):
            while size := int(await client.reader.readuntil(b"\r\n"), 16):
                body += (await client.reader.readexactly(size + 2))[:-2]
            await client.reader.readexactly(2)
    elif has_body:
        body = await client.exactly(int(headers[b"content-length"]))
    return status, headers, body


async def kept(client: RawClient) -> None:
    """Have the first request answered."""
    await client.send(GET)
    assert (await answer(client))[2] == b"GET /kept "


@on_each_loop
async def test_the_second_request_is_served_by_us_and_answered_the_same() -> None:
    app = App()
    async with serving(app) as server, connected(server.port, post(b"one")) as client:
        first = await answer(client)
        await client.send(post(b"two"))
        second = await answer(client)
        assert app.served == ["Hypercorn", "us"]
        assert second == (first[0], {**first[1], b"date": second[1][b"date"]}, b"POST /kept two")
        by_hypercorn, by_us = app.scopes
        assert by_us == by_hypercorn
        await client.send(b"HEAD /kept?a=%25b HTTP/1.1\r\nHost: test\r\nX-A: 1\r\n\r\n" + GET)
        status, headers, _ = await answer(client, has_body=False)
        assert (status, headers[b"content-length"]) == (b"HTTP/1.1 200 ", b"11")
        assert (await answer(client))[2] == b"GET /kept "
        assert app.scopes[2]["query_string"] == b"a=%25b"
        assert app.scopes[2]["headers"] == [(b"host", b"test"), (b"x-a", b"1")]


@on_each_loop
async def test_between_requests_there_is_no_task_and_for_each_there_is_one() -> None:
    app = App()
    async with serving(app) as server:
        before = len(asyncio.all_tasks()) + 2  # Hypercorn's for the first one, which wait for the end of all
        async with connected(server.port) as first, connected(server.port) as client:
            await kept(first)
            await kept(client)
            await true_soon(lambda: len(asyncio.all_tasks()) == before)
            counts: list[int] = []

            async def count(scope: Scope, receive: Receive, send: Send) -> None:
                counts.append(len(asyncio.all_tasks()) - before)
                await send({"type": "http.response.start", "status": 204, "headers": []})
                await send({"type": "http.response.body"})

            app.special["/kept/count"] = count
            await client.send(b"GET /kept/count HTTP/1.1\r\nHost: test\r\n\r\n")
            status, headers, _ = await answer(client, has_body=False)
            assert status == b"HTTP/1.1 204 "
            assert b"content-length" not in headers
            assert counts == [1]


@on_each_loop
async def test_an_answer_is_one_write() -> None:
    app = App()
    async with serving(app) as server, connected(server.port) as client:
        await kept(client)
        written: list[bytes] = []
        connection = app.connection
        transport: Any = connection._transport

        class Counting:
            def __getattr__(self, name: str) -> Any:
                return getattr(transport, name)

            def write(self, data: bytes) -> None:
                written.append(data)
                transport.write(data)

        connection._transport = Counting()  # type: ignore[assignment]
        for _ in range(3):
            await client.send(post(b"x"))
            await answer(client)
        assert len(written) == 3


@on_each_loop
async def test_pipelined_requests_are_answered_in_order() -> None:
    app = App()
    async with serving(app) as server, connected(server.port) as client:
        await client.send(GET + post(b"a") + post(b"b") + GET + post(b"c"))
        bodies = [(await answer(client))[2] for _ in range(5)]
        assert bodies == [b"GET /kept ", b"POST /kept a", b"POST /kept b", b"GET /kept ", b"POST /kept c"]
        assert app.served == ["Hypercorn", *["us"] * 4]


@on_each_loop
async def test_a_request_may_come_in_single_bytes() -> None:
    app = App()
    async with serving(app) as server, connected(server.port) as client:
        await kept(client)
        for byte in post(b"slow"):
            app.connection.data_received(bytes((byte,)))
        assert (await answer(client))[2] == b"POST /kept slow"


BACK = {
    "another path": (b"GET /other HTTP/1.1\r\nHost: test\r\n\r\n", b"GET /other "),
    "the last request": (b"GET /kept HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n", b"GET /kept "),
    "HTTP/1.0": (b"GET /kept HTTP/1.0\r\nHost: test\r\n\r\n", b"GET /kept "),
    "chunks": (
        b"POST /kept HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        b"POST /kept ab",
    ),
    "bare line breaks": (b"GET /kept HTTP/1.1\nHost: test\n\n", None),
}


@pytest.mark.parametrize("name", BACK)
@on_each_loop
async def test_what_is_not_for_us_goes_back_and_is_served(name: str) -> None:
    app = App()
    raw, body = BACK[name]
    async with serving(app) as server, connected(server.port) as client:
        await kept(client)
        if body is None:
            await client.send(raw + b"\r\n\r\n")  # the server in front shall judge
            status, _ = await client.head()
            assert status.startswith(b"HTTP/1.1 ")
            return
        await client.send(raw)
        assert (await answer(client))[2] == body
        assert app.served == ["Hypercorn", "Hypercorn"]


@on_each_loop
async def test_a_connection_comes_and_goes_as_often_as_it_likes() -> None:
    app = App()
    async with serving(app) as server, connected(server.port) as client:
        for _ in range(3):
            await client.send(GET + GET + b"GET /other HTTP/1.1\r\nHost: test\r\n\r\n")
            assert [(await answer(client))[2] for _ in range(3)] == [b"GET /kept ", b"GET /kept ", b"GET /other "]
        assert app.served == ["Hypercorn", "us", "Hypercorn"] * 3
        assert len(app.kept) == 0


@on_each_loop
async def test_a_handshake_on_a_kept_connection_is_answered() -> None:
    app = App()
    async with serving(app) as server, connected(server.port) as client:
        await kept(client)
        await client.send(HANDSHAKE % b"")
        status, _ = await client.head()
        assert status.startswith(b"HTTP/1.1 101")
        assert await client.frame() == (1, b"hello")


@on_each_loop
async def test_an_expectation_is_met() -> None:
    app = App()
    async with serving(app) as server, connected(server.port) as client:
        await kept(client)
        await client.send(b"POST /kept HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert (await client.head())[0] == b"HTTP/1.1 100 "
        await client.send(b"ok")
        assert (await answer(client))[2] == b"POST /kept ok"


@on_each_loop
async def test_heads_are_bounded_as_before() -> None:
    app = App()
    async with serving(app) as server:
        for size, by in ((17_000, "Hypercorn"), (12_000, "us")):
            head = b"GET /kept HTTP/1.1\r\nHost: test\r\nX: " + b"x" * size
            async with connected(server.port) as client:
                await kept(client)
                await client.send(head)
                if by == "Hypercorn":
                    assert (await client.head())[0] == b"HTTP/1.1 431 "
                    continue
                await client.send(b"\r\n\r\n")
                assert (await client.head())[0] == b"HTTP/1.1 200 "
                assert app.served[-1] == by


@on_each_loop
async def test_an_idle_connection_ends_in_time() -> None:
    app = App()
    with restored(launcher, "_KEEP_ALIVE_S", 0.1):
        async with serving(app) as server, connected(server.port) as client:
            await kept(client)
            for _ in range(2):
                await client.send(GET)
                await answer(client)
            await client.send(b"GET /kept HTTP/1.1\r\n")  # half a head is no request
            assert await client.rest() == b""
            await true_soon(lambda: len(app.kept) == 0)


@on_each_loop
async def test_a_connection_has_as_many_requests_as_before() -> None:
    app = App()
    async with serving(app) as server, connected(server.port) as client:
        closing = 0
        for number in range(1, 1_001):
            await client.send(GET)
            closing = number if (await answer(client))[1].get(b"connection") == b"close" else 0
        assert closing == 1_000
        assert await client.rest() == b""


@pytest.mark.parametrize("missing", ["HAS_PARSER", "ASGIWrapper"])
@on_each_loop
async def test_where_something_is_not_as_known_hypercorn_serves_on(missing: str) -> None:
    app = App()
    with restored(hypercorn_requests, missing, False if missing == "HAS_PARSER" else int):
        async with serving(app) as server, connected(server.port) as client:
            for _ in range(2):
                await client.send(post(b"x"))
                assert (await answer(client))[2] == b"POST /kept x"
            assert app.served == ["Hypercorn", "Hypercorn"]


# -- what goes wrong


@on_each_loop
async def test_an_application_that_fails_is_answered_for(caplog: pytest.LogCaptureFixture) -> None:
    app = App()

    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["query_string"]:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("on purpose")

    app.special["/kept/fail"] = fail
    with caplog.at_level(logging.CRITICAL):
        async with serving(app) as server:
            async with connected(server.port) as client:
                await kept(client)
                await client.send(b"GET /kept/fail HTTP/1.1\r\nHost: test\r\n\r\n")
                status, headers, _ = await answer(client)
                assert (status, headers[b"connection"]) == (b"HTTP/1.1 500 ", b"close")
                assert await client.rest() == b""
            async with connected(server.port) as client:
                await kept(client)
                await client.send(b"GET /kept/fail?late HTTP/1.1\r\nHost: test\r\n\r\n")
                _, headers = await client.head()
                assert headers[b"transfer-encoding"] == b"chunked"
                assert await client.rest() in (b"4\r\nhalf\r\n", b"")  # and not the last chunk


@on_each_loop
async def test_a_header_cannot_break_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    app = App()

    async def inject(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b\r\nc: d")]})
        await send({"type": "http.response.body"})

    app.special["/kept/inject"] = inject
    with caplog.at_level(logging.CRITICAL):
        async with serving(app) as server, connected(server.port) as client:
            await kept(client)
            await client.send(b"GET /kept/inject HTTP/1.1\r\nHost: test\r\n\r\n")
            status, headers, _ = await answer(client)
            assert status == b"HTTP/1.1 500 "
            assert b"c" not in headers


@on_each_loop
async def test_an_answer_before_the_body_is_the_last_one() -> None:
    app = App()

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 403, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"no"})

    app.special["/kept/refuse"] = refuse
    async with serving(app) as server, connected(server.port) as client:
        await kept(client)
        await client.send(post(b"x" * 9, b"/kept/refuse")[:-1])
        assert (await answer(client))[2] == b"no"
        assert await client.rest() == b""


@on_each_loop
async def test_who_goes_away_is_noticed_and_who_only_ends_his_half_is_answered() -> None:
    app = App()
    gone: asyncio.Queue[str] = asyncio.Queue()

    async def wait(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.put_nowait("gone")
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"late"})

    app.special["/kept/wait"] = wait
    async with serving(app) as server:
        async with connected(server.port) as client:
            await kept(client)
            await client.send(b"GET /kept/wait HTTP/1.1\r\nHost: test\r\n\r\n")
            await true_soon(lambda: len(app.served) == 2)
            client.reset()
            async with asyncio.timeout(PATIENCE_S):
                await gone.get()
        async with connected(server.port) as client:
            await kept(client)
            await client.send(b"GET /kept/wait HTTP/1.1\r\nHost: test\r\n\r\n")
            client.writer.write_eof()
            assert (await answer(client))[2] == b"late"
            assert await client.rest() == b""
        await true_soon(lambda: len(app.kept) == 0)


@on_each_loop
async def test_an_unread_body_and_a_pipeline_hold_the_peer_back() -> None:
    app = App()
    go_on = asyncio.Event()

    async def later(scope: Scope, receive: Receive, send: Send) -> None:
        await go_on.wait()
        size, has_more = 0, True
        while has_more:
            message = await receive()
            size += len(message["body"])
            has_more = message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"%d" % size})

    app.special["/kept/later"] = later
    body = b"x" * 4_000_000
    async with serving(app) as server, connected(server.port) as client:
        await kept(client)
        sending = asyncio.create_task(client.send(post(body, b"/kept/later") + post(body, b"/kept/later")))
        await true_soon(lambda: app.kept._open != set() and app.connection._is_reading_paused)
        request = app.connection._request
        assert request is not None
        assert AHEAD_MAX_BYTES < len(request._body) < 10 * AHEAD_MAX_BYTES
        go_on.set()
        assert [(await answer(client))[2] for _ in range(2)] == [b"4000000"] * 2
        await sending


@on_each_loop
async def test_a_peer_that_does_not_read_holds_its_application_up() -> None:
    app = App()
    sent: list[int] = []

    async def flood(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(100):
            await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": number < 99})
            sent.append(number)

    app.special["/kept/flood"] = flood
    async with serving(app) as server, connected(server.port, limit=1_000) as client:
        await kept(client)
        await client.send(b"GET /kept/flood HTTP/1.1\r\nHost: test\r\n\r\n")
        await true_soon(lambda: len(app.served) == 2 and app.connection._drained is not None)
        assert len(sent) < 99
        client.reader._limit = 200_000  # type: ignore[attr-defined]
        assert len((await answer(client))[2]) == 10_000_000
        assert len(sent) == 100


@pytest.mark.parametrize("which", ["first", "second"])
@on_each_loop
async def test_answers_that_are_not_read_are_bounded_together(which: str, caplog: pytest.LogCaptureFixture) -> None:
    size = 1_000_000
    app = App(Limits(buffered_max_bytes=2_000_000))

    async def much(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"%d" % size)]
        if which == "first" and await keep_connection(send, _is_ours, 200, headers, b"x" * size, app.slow):
            return
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"x" * size})

    app.special["/kept/much"] = much
    async with serving(app) as server, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(server.port, limit=1_000)) for _ in range(4)]
        for number, client in enumerate(clients):
            if which == "second":
                await kept(client)
            await client.send(b"GET /kept/much HTTP/1.1\r\nHost: test\r\n\r\n")
            await true_soon(lambda number=number: len(app.slow) + app.slow.cut == number + 1)  # type: ignore[misc]
        await true_soon(lambda: app.slow.cut == 2)
        assert 0 < app.slow.held_bytes <= 2_000_000
        assert "buffered_max_bytes" in caplog.text
        clients[-1].reader._limit = 2 * size  # type: ignore[attr-defined]
        assert len((await answer(clients[-1]))[2]) == size, "who came last is not cut"
        await true_soon(lambda: len(app.slow) == 1)
        for client in clients:
            client.writer.transport.abort()
        await true_soon(lambda: not len(app.slow) and not app.slow.held_bytes)
        assert app.slow.cut == 2


@pytest.mark.parametrize("by", ["us", "Hypercorn"])
@on_each_loop
async def test_an_answer_goes_with_its_client(by: str) -> None:
    app = App()

    async def much(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4000000")]})
        await send({"type": "http.response.body", "body": b"x" * 4_000_000})

    app.special["/much"] = app.special["/kept/much"] = much
    async with serving(app) as server:
        tasks = asyncio.all_tasks()
        async with connected(server.port, limit=1_000) as client:
            if by == "us":
                await kept(client)
                tasks = asyncio.all_tasks()
            path = b"/kept/much" if by == "us" else b"/much"
            await client.send(b"GET %b HTTP/1.1\r\nHost: test\r\n\r\n" % path)
            await true_soon(lambda: app.served[-1:] == [by])
            await client.head()
            client.writer.transport.abort()
            await true_soon(lambda: asyncio.all_tasks() <= tasks)


# -- the end


@on_each_loop
async def test_at_the_end_idle_ones_are_closed_and_the_others_behind_their_answers() -> None:
    app = App()
    go_on = asyncio.Event()

    async def later(scope: Scope, receive: Receive, send: Send) -> None:
        await go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    app.special["/kept/later"] = later

    async def drain(grace_s: float) -> None:
        go_on.set()
        await asyncio.sleep(0.05)

    async with serving(app, drain=drain, limits=Limits(shutdown_grace_s=5)) as server:
        async with connected(server.port) as idle, connected(server.port) as busy:
            await kept(idle)
            await kept(busy)
            await busy.send(b"GET /kept/later HTTP/1.1\r\nHost: test\r\n\r\n")
            await true_soon(lambda: len(app.served) == 3)
            await server.stop()
            _, headers, body = await answer(busy)
            assert (body, headers[b"connection"]) == (b"ok", b"close")
            assert await busy.rest() == await idle.rest() == b""
    assert len(app.kept) == 0


async def by_hypercorn_alone(
    app: Any, *, limits: Limits, shutdown_event: asyncio.Event, on_started: Callable[[int], None], host: str, port: int
) -> None:
    """As the command `hypercorn` serves: nothing drains, and nothing aborts."""
    del limits
    config = Config()
    listener = socket.create_server((host, port))
    on_started(listener.getsockname()[1])
    config.bind = [f"fd://{listener.detach()}"]
    config.errorlog = logging.getLogger("hybrid.http")
    config.graceful_timeout = 5.0
    await hypercorn_serve(app, config, shutdown_trigger=shutdown_event.wait, mode="asgi")  # type: ignore[arg-type]


@pytest.mark.parametrize("serve", [launcher.serve, by_hypercorn_alone])
@on_each_loop
async def test_idle_ones_do_not_hold_the_end(serve: Callable[..., Any]) -> None:
    app = App()
    async with serving(app, serve=serve) as server:
        clients = [connected(server.port) for _ in range(3)]
        async with clients[0] as one, clients[1] as two, clients[2] as three:
            for client in (one, two, three):
                await kept(client)
            await two.send(GET)
            await answer(two)
            server.shutdown_event.set()
            assert [await client.rest() for client in (one, two, three)] == [b""] * 3
            async with asyncio.timeout(PATIENCE_S):  # half of the time after which an idle one ends by itself
                await server.task
    assert len(app.kept) == 0


@pytest.mark.parametrize("serve", [launcher.serve, by_hypercorn_alone])
@pytest.mark.parametrize("which", ["first", "second"])
@on_each_loop
async def test_an_answer_on_its_way_at_the_end_arrives(serve: Callable[..., Any], which: str) -> None:
    app = App()
    size = 4_000_000
    left: list[int] = []

    async def much(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"%d" % size)]
        if not await keep_connection(send, _is_ours, 200, headers, b"x" * size, app.slow):
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"x" * size})

    app.special["/kept/much"] = much
    async with serving(app, serve=serve, limits=Limits(shutdown_grace_s=5)) as server:
        server.task.add_done_callback(lambda _: left.append(len(app.kept)))
        async with connected(server.port, limit=1_000) as client:
            if which == "second":
                await kept(client)
            await client.send(b"GET /kept/much HTTP/1.1\r\nHost: test\r\n\r\n")
            await client.head()
            await true_soon(lambda: len(app.servers) > 0 and len(app.kept) == 1)
            connection = app.connection
            server.shutdown_event.set()
            await true_soon(
                lambda: connection.transport.is_closing() or (connection.is_busy and connection._is_leaving)
            )
            assert not left
            assert len(await client.rest()) == size
            await server.task
    assert left == [0]


@pytest.mark.parametrize("serve", [launcher.serve, by_hypercorn_alone])
@on_each_loop
async def test_a_request_on_a_connection_that_went_back_is_waited_for(serve: Callable[..., Any]) -> None:
    app = App()
    go_on = asyncio.Event()
    answered: list[bool] = []

    async def later(scope: Scope, receive: Receive, send: Send) -> None:
        await go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})
        answered.append(not server.task.done())

    app.special["/other/later"] = later
    async with serving(app, serve=serve, limits=Limits(shutdown_grace_s=5)) as server:
        async with connected(server.port) as client:
            await kept(client)
            await client.send(b"GET /other/later HTTP/1.1\r\nHost: test\r\n\r\n")
            await true_soon(lambda: len(app.served) == 2)
            server.shutdown_event.set()
            await true_soon(app.servers[-1].terminated.is_set)
            go_on.set()
            assert (await answer(client))[2] == b"ok"
            await server.task
    assert answered == [True]


@on_each_loop
async def test_a_connection_that_comes_and_goes_has_as_many_requests_as_others() -> None:
    app = App()
    count = 0
    async with serving(app) as server, connected(server.port) as client:
        with suppress(asyncio.IncompleteReadError):
            while count < 1_100:
                await client.send(GET + GET + b"GET /other HTTP/1.1\r\nHost: test\r\n\r\n")
                for _ in range(3):
                    await answer(client)
                    count += 1
        assert 990 < count <= 1_000
        assert app.served.count("us") > 300


@on_each_loop
async def test_what_does_not_end_is_cut() -> None:
    app = App()

    async def never(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    app.special["/kept/never"] = never
    async with serving(app, limits=Limits(shutdown_grace_s=0.2)) as server, connected(server.port) as client:
        await kept(client)
        await client.send(b"GET /kept/never HTTP/1.1\r\nHost: test\r\n\r\n")
        await true_soon(lambda: len(app.served) == 2)
        await server.stop()
        assert await client.rest() == b""
