"""What `links/uvicorn.py` takes for granted, with a real uvicorn: its sockets are handed off, and it is none the wiser.

That every scenario runs there too is in tests/scenario ("uvicorn"). Where uvicorn is not as it was when this was
written, these tests fail and hybrid goes on through plain ASGI.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from hybrid.limits import Limits
from hybrid.links import uvicorn as known
from hybrid.links.inbound import CLOSE, TEXT
from tests.support.asgi_server import (
    HANDSHAKE,
    LinkApp,
    client_frame,
    close_payload,
    connected,
    on_each_loop,
    opened_stream,
    opened_websocket,
    restored,
    serving,
    true_soon,
)
from tests.support.asgi_servers import serve_uvicorn

both_parsers = pytest.mark.parametrize("http", ["httptools", "h11"])
SSE_REQUEST = b"GET /sse HTTP/1.1\r\nHost: test\r\n\r\n"


class Watched(LinkApp):
    """A `LinkApp` that knows what uvicorn keeps."""

    def __init__(self, **options: Any) -> None:
        super().__init__("hand-off", before_open=self._look, **options)
        self.connections: set[Any] = set()
        self.tasks: set[Any] = set()

    async def _look(self, scope: Any, send: Any) -> None:
        stream = send.__self__
        protocol = stream if hasattr(stream, "connections") else stream.on_response.__self__
        self.connections, self.tasks = protocol.connections, protocol.tasks


@both_parsers
@on_each_loop
async def test_a_websocket_is_handed_off_and_uvicorn_forgets_it(http: str) -> None:
    app = Watched(subprotocol="hybrid.v1")
    async with serving(app, serve=serve_uvicorn, http=http) as server, connected(server.port) as client:
        await client.send(HANDSHAKE % b"Sec-WebSocket-Protocol: other, hybrid.v1\r\n")
        status, headers = await client.head()
        assert status == b"HTTP/1.1 101 Switching Protocols"
        assert headers[b"sec-websocket-protocol"] == b"hybrid.v1"
        assert headers[b"sec-websocket-accept"]
        assert b"date" in headers
        opened = await app.next_opened()
        assert opened.link.is_handed_off
        await true_soon(lambda: not app.running and not app.tasks and not app.connections)
        await client.send(client_frame(TEXT, b"hello"))
        assert await opened.owner.until("received") == (b"hello", True)
        opened.link.write(opened.link.framing([b"answer"]))
        assert await client.frame() == (TEXT, b"answer")
        await client.send(client_frame(CLOSE, close_payload(1000)))
        assert await client.close_code() == 1000
        assert await opened.owner.until("closed") == (1000, "")
        assert await client.rest() == b""


@both_parsers
@pytest.mark.parametrize("version", ["1.1", "1.0"])
@on_each_loop
async def test_an_event_stream_is_handed_off_and_uvicorn_forgets_it(http: str, version: str) -> None:
    app = Watched()
    request = SSE_REQUEST.replace(b"1.1", version.encode())
    async with serving(app, serve=serve_uvicorn, http=http) as server, connected(server.port, request) as client:
        status, headers = await client.head()
        assert status == b"HTTP/1.1 200 OK"
        assert headers[b"connection"] == b"close"
        assert headers.get(b"transfer-encoding") == (b"chunked" if version == "1.1" else None)
        assert b"date" in headers
        opened = await app.next_opened()
        assert opened.link.is_handed_off
        await true_soon(lambda: not app.running and not app.tasks and not app.connections)
        opened.link.write(opened.link.framing([b"data: 1\n\n"]))
        expected = b"9\r\ndata: 1\n\n\r\n" if version == "1.1" else b"data: 1\n\n"
        assert await client.exactly(len(expected)) == expected
        opened.link.close(1000)
        assert await client.rest() == (b"0\r\n\r\n" if version == "1.1" else b"")
        await opened.owner.until("closed")


@both_parsers
@on_each_loop
async def test_a_request_body_that_nobody_read_and_a_request_behind_it_do_no_harm(http: str) -> None:
    app = Watched()
    request = b"POST /sse HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1_000 + SSE_REQUEST
    async with serving(app, serve=serve_uvicorn, http=http) as server:
        async with opened_stream(app, server.port, request) as (client, opened):
            assert opened.link.is_handed_off
            opened.link.write(opened.link.framing([b"data: 1\n\n"]))
            assert await client.exactly(14) == b"9\r\ndata: 1\n\n\r\n"
            opened.link.close(1000)
            await client.rest()
            await opened.owner.until("closed")
        await true_soon(lambda: not app.running and not app.tasks)


@on_each_loop
async def test_frames_before_the_answer_are_left_to_uvicorn() -> None:
    """RFC 6455, section 4.1 has the client wait; nothing may be lost all the same."""
    gate = asyncio.Event()
    app = LinkApp("hand-off")

    async def wait(scope: Any, send: Any) -> None:
        await gate.wait()

    app.before_open = wait
    async with serving(app, serve=serve_uvicorn) as server, connected(server.port, HANDSHAKE % b"") as client:
        await true_soon(lambda: app.running == 1)
        await client.send(client_frame(TEXT, b"early"))
        await asyncio.sleep(0.05)  # nothing tells that uvicorn has read it
        gate.set()
        status, _ = await client.head()
        assert status.startswith(b"HTTP/1.1 101")
        opened = await app.next_opened()
        assert not opened.link.is_handed_off
        assert await opened.owner.until("received") == (b"early", True)


@pytest.mark.parametrize("may_deflate", [True, False])
@on_each_loop
async def test_compression_is_agreed_on_by_us_alone(may_deflate: bool) -> None:
    """uvicorn has computed an answer of its own by then, with a context for each client."""
    offer = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
    for kind in ("hand-off", "asgi"):
        app = LinkApp(kind, may_deflate=may_deflate)
        async with serving(app, serve=serve_uvicorn) as server, connected(server.port, HANDSHAKE % offer) as client:
            _, headers = await client.head()
            answer = headers.get(b"sec-websocket-extensions")
            is_ours = kind == "hand-off" and may_deflate
            assert answer == (
                b"permessage-deflate; server_no_context_takeover; client_no_context_takeover" if is_ours else None
            )
            opened = await app.next_opened()
            opened.link.write(opened.link.framing([b"plain"]))
            assert await client.frame() == (TEXT, b"plain")


@on_each_loop
async def test_many_come_and_go_and_nothing_is_kept() -> None:
    app = Watched()
    async with serving(app, serve=serve_uvicorn) as server:
        for _ in range(30):
            async with opened_websocket(app, server.port) as (client, opened):
                client.reset()
                await opened.owner.until("closed")
            async with opened_stream(app, server.port) as (client, opened):
                client.reset()
                await opened.owner.until("closed")
        assert not app.connections
        assert not app.tasks


@on_each_loop
async def test_a_client_that_reads_nothing_is_aborted_over_asgi_too() -> None:
    """uvicorn alone would wait for it with a close that cannot be sent."""
    app = LinkApp("asgi", limits=Limits(close_timeout_s=0.1))
    async with serving(app, serve=serve_uvicorn) as server:
        async with opened_websocket(app, server.port) as (_, opened):
            for _ in range(200):
                opened.link.write((b"x" * 60_000,))
            opened.link.close(1000)
            await opened.owner.until("closed")
        await true_soon(lambda: not app.running)


@pytest.mark.parametrize("kind", ["websocket", "sse"])
@on_each_loop
async def test_a_uvicorn_that_looks_different_is_served_through_asgi_with_one_warning(kind: str) -> None:
    async def rename(scope: Any, send: Any) -> None:
        stream = send.__self__
        if kind == "websocket":
            del stream.request
        else:
            stream.on_response = lambda: None  # no method of its protocol any more

    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign,assignment]
    logger = logging.getLogger("hybrid.links.uvicorn")
    logger.addHandler(handler)
    app = LinkApp("hand-off", before_open=rename)
    try:
        with restored(known, "_has_warned", False):
            async with serving(app, serve=serve_uvicorn) as server:
                for _ in range(2):
                    if kind == "websocket":
                        async with opened_websocket(app, server.port) as (client, opened):
                            assert not opened.link.is_handed_off
                            opened.link.write((b"still served",))
                            assert await client.frame() == (TEXT, b"still served")
                    else:
                        async with opened_stream(app, server.port) as (client, opened):
                            assert not opened.link.is_handed_off
                            opened.link.write(b"data: 1\n\n")
                            assert await client.exactly(14) == b"9\r\ndata: 1\n\n\r\n"
    finally:
        logger.removeHandler(handler)
    assert [record.getMessage().partition(" (")[0] for record in records] == [
        "this uvicorn is not the one hybrid knows"
    ]
