"""The front of the listening socket: with it and without it, clients and the application see the same.

Each case runs against two servers with the same application, one with the front and one with Hypercorn alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from hybrid.clock import SystemClock
from hybrid.limits import Limits
from hybrid.links import front
from hybrid.links.inbound import TEXT
from hybrid.links.open import OpenLink, open_event_stream, open_websocket
from tests.support.asgi_server import (
    HANDSHAKE,
    PATIENCE_S,
    LinkApp,
    RawClient,
    RecordingOwner,
    Server,
    client_frame,
    connected,
    on_each_loop,
    opened_websocket,
    restored,
    serving,
    true_soon,
)

PREFIX = b"/v1/"
EVENTS = b"GET /v1/%b HTTP/1.1\r\nHost: test\r\nAccept: text/event-stream\r\n\r\n"
POST = b"POST /v1/%b HTTP/1.1\r\nHost: test\r\nAccept: text/event-stream\r\nContent-Length: 4\r\n\r\nbody"
PLAIN = b"GET /plain HTTP/1.1\r\nHost: test\r\n\r\n"


def websocket(path: bytes, extra: bytes = b"") -> bytes:
    return (HANDSHAKE % extra).replace(b"/ws", PREFIX + path, 1)


@dataclass
class Answering:
    """An application that does with a request what its path says, and remembers the scopes that it was given."""

    limits: Limits = field(default_factory=Limits)
    scopes: list[dict[str, Any]] = field(default_factory=list)
    links: list[OpenLink] = field(default_factory=list)
    recognised: int = 0
    told: list[str] = field(default_factory=list)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for _ in range(2):
                await send({"type": (await receive())["type"] + ".complete"})
            return
        self.scopes.append(dict(scope))
        self.recognised += front.transport_of(send) is not None
        path = scope["raw_path"].removeprefix(PREFIX).decode()
        is_websocket = scope["type"] == "websocket"
        if path == "link":
            await self._link(scope, receive, send)
        elif path == "close":
            await send({"type": "websocket.close"})
        elif path == "fail":
            raise ValueError("a bug in the application")
        elif path == "nothing":
            return
        elif path == "wait":
            self.told.append((await receive())["type"])
            self.told.append((await receive())["type"])
        else:
            body = b""
            if path == "later":
                await self.may_answer.wait()
            if path == "read":
                while (message := await receive())["more_body"]:
                    body += message["body"]
                body += message["body"]
            kind = "websocket.http" if is_websocket else "http"
            headers = [(b"content-type", b"text/plain")]
            if path != "unbounded":
                headers.append((b"content-length", b"%d" % (len(body) + 6)))
            await send({"type": f"{kind}.response.start", "status": 401, "headers": headers})
            await send({"type": f"{kind}.response.body", "body": body + b"one", "more_body": True})
            await send({"type": f"{kind}.response.body", "body": b"two"})

    async def _link(self, scope: Any, receive: Any, send: Any) -> None:
        common: dict[str, Any] = {"owner": RecordingOwner(), "limits": self.limits, "clock": SystemClock()}
        if scope["type"] == "websocket":
            offered = scope["subprotocols"]
            link: OpenLink = await open_websocket(
                scope,
                receive,
                send,
                subprotocol=offered[0] if offered else None,
                is_binary=False,
                message_max_bytes=100,
                **common,
            )
        else:
            headers = [(b"content-type", b"text/event-stream")]
            link = await open_event_stream(scope, receive, send, headers=headers, **common)
        self.links.append(link)
        link.write(link.framing([b"hello"]))
        await link.served()


@asynccontextmanager
async def both(**options: Any) -> AsyncIterator[list[tuple[Answering, Server]]]:
    """The same application with the front, and without it."""
    async with AsyncExitStack() as stack:
        pairs = []
        for prefix in (PREFIX, None):
            app = Answering()
            pairs.append((app, await stack.enter_async_context(serving(app, streams_under=prefix, **options))))
        yield pairs


async def conversation(server: Server, pieces: Sequence[bytes]) -> list[tuple[bytes, dict[bytes, bytes], bytes]]:
    """Send these pieces one by one and read whatever is answered, then see whether the connection serves on.

    Streams are read up to their first message.
    """
    answers: list[tuple[bytes, dict[bytes, bytes], bytes]] = []
    async with connected(server.port) as client:
        for piece in pieces:
            client.writer.write(piece)
            await asyncio.sleep(0.01 if len(pieces) > 1 else 0)
        for further in (b"", PLAIN):
            try:
                client.writer.write(further)
                status, headers = await client.head()
                if status[9:12] == b"100":
                    status, headers = await client.head()
            except (asyncio.IncompleteReadError, ConnectionError):
                answers.append((b"the end", {}, b""))
                break
            headers.pop(b"date")
            if status[9:12] != b"101":  # Hypercorn does not say so of a refused handshake: what counts is what follows
                headers.pop(b"connection", None)
            body = b""
            if status[9:12] == b"101":
                body = (await client.frame())[1]
            elif b"chunked" in headers.get(b"transfer-encoding", b""):
                body = await client.exactly(len(b"5\r\nhello\r\n"))
            elif b"content-length" in headers:
                body = await client.exactly(int(headers[b"content-length"]))
            answers.append((status, headers, body))
            if status[9:12] in (b"101", b"200"):
                break
    return answers


REQUESTS = {
    "websocket": (True, [websocket(b"link")]),
    "websocket with subprotocol": (True, [websocket(b"link", b"Sec-WebSocket-Protocol: a, b\r\n")]),
    "websocket with an extension": (True, [websocket(b"link", b"Sec-WebSocket-Extensions: permessage-deflate\r\n")]),
    "websocket in pieces": (True, [websocket(b"link")[:40], websocket(b"link")[40:90], websocket(b"link")[90:]]),
    "websocket refused": (True, [websocket(b"refused")]),
    "websocket closed": (True, [websocket(b"close")]),
    "websocket failed": (True, [websocket(b"fail")]),
    "websocket not answered": (True, [websocket(b"nothing")]),
    "websocket of another version": (False, [websocket(b"link").replace(b"13", b"12")]),
    "websocket without a key": (False, [websocket(b"link").replace(b"Sec-WebSocket-Key", b"X-Key")]),
    "websocket elsewhere": (False, [websocket(b"link").replace(b"/v1/", b"/v2/")]),
    "frames before the answer": (False, [websocket(b"link") + client_frame(TEXT, b"early")]),
    "event stream": (True, [EVENTS % b"link"]),
    "event stream in pieces": (True, [(EVENTS % b"link")[:20], (EVENTS % b"link")[20:]]),
    "event stream with a query": (True, [EVENTS % b"link?a=%20b"]),
    "event stream refused": (True, [EVENTS % b"refused"]),
    "event stream refused, and not again": (
        True,
        [(EVENTS % b"refused").replace(b"Host", b"Connection: close\r\nHost")],
    ),
    "event stream failed": (True, [EVENTS % b"fail"]),
    "event stream not answered": (True, [EVENTS % b"nothing"]),
    "event stream, folded": (False, [(EVENTS % b"link").replace(b"Host: test", b"Host: test\r\nA: b\r\n c")]),
    "event stream, a header twice": (False, [(EVENTS % b"link").replace(b"Host: test", b"Host: test\r\nA: b\r\nA: c")]),
    "event stream, without a host": (False, [(EVENTS % b"link").replace(b"Host", b"Hos")]),
    "event stream, malformed": (False, [(EVENTS % b"link").replace(b"Host:", b"Host")]),
    "event stream, HTTP/1.0": (False, [(EVENTS % b"refused").replace(b"HTTP/1.1", b"HTTP/1.0")]),
    "event stream, HEAD": (False, [(EVENTS % b"read").replace(b"GET", b"OPTIONS")[:-2] + b"Content-Length: 0\r\n\r\n"]),
    "posted": (True, [POST % b"link"]),
    "posted in pieces": (True, [(POST % b"link")[:-4], b"bo", b"dy"]),
    "posted and read": (True, [POST % b"read"]),
    "posted in chunks": (
        False,
        [(POST % b"read").replace(b"Content-Length: 4", b"Transfer-Encoding: chunked")[:-4] + b"1\r\nx\r\n0\r\n\r\n"],
    ),
    "posted and expecting": (False, [(POST % b"read").replace(b"Host", b"Expect: 100-continue\r\nHost")]),
    "no stream": (False, [b"GET /v1/refused HTTP/1.1\r\nHost: test\r\n\r\n"]),
    "no HTTP": (False, [b"\x16\x03\x01\x02\x00\x01\r\n\r\n"]),
    "a long head": (False, [(EVENTS % b"link").replace(b"Host: test", b"Host: test\r\nA: " + b"b" * 17_000)]),
    "a head that is long and not whole": (False, [b"GET /v1/link HTTP/1.1\r\nA: " + b"b" * 17_000]),
}


@pytest.mark.parametrize("name", REQUESTS)
@on_each_loop
async def test_clients_and_the_application_see_the_same(name: str) -> None:
    is_recognised, pieces = REQUESTS[name]
    async with both() as pairs:
        answers = [await conversation(server, pieces) for _, server in pairs]
        (app, _), (other, _) = pairs
        # What is no stream's is Hypercorn's, and so of no interest beyond that: but it must be so.
        assert answers[0] == answers[1]
        assert len(answers[0]) >= 1
        assert (app.recognised, other.recognised) == (1 if is_recognised else 0, 0)
        for mine, its in zip(app.scopes, other.scopes, strict=True):
            assert [mine.pop("client")[0], mine.pop("server")[0]] == [its.pop("client")[0], its.pop("server")[0]]
            its.pop("state")  # of the lifespan, which is optional
            mine.pop("state", None)
            assert mine == its
        for one, another in zip(app.links, other.links, strict=True):
            assert one.is_handed_off == another.is_handed_off
            assert one.framing is another.framing


@on_each_loop
async def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    app = Answering()
    async with serving(app, streams_under=PREFIX) as server, connected(server.port, EVENTS % b"unbounded") as client:
        _, headers = await client.head()
        assert headers[b"connection"] == b"close"
        assert await client.rest() == b"onetwo"


@on_each_loop
async def test_the_link_knows_its_client() -> None:
    app = LinkApp("hand-off")
    async with serving(app, streams_under=b"/") as server, opened_websocket(app, server.port) as (client, opened):
        host, port = client.writer.get_extra_info("sockname")
        assert opened.link.peer == f"{host}:{port}"


@on_each_loop
async def test_a_silent_connection_and_half_a_request_are_hypercorns_after_a_while() -> None:
    app = Answering()
    with restored(front, "PATIENCE_S", 0.05):
        async with serving(app, streams_under=PREFIX) as server:
            tasks = len(asyncio.all_tasks())
            async with connected(server.port) as silent, connected(server.port, b"GET /v1/refused HTTP") as half:
                await true_soon(lambda: len(asyncio.all_tasks()) > tasks + 3)  # of Hypercorn: three for each of them
                half.writer.write(b"/1.1\r\nHost: test\r\nAccept: text/event-stream\r\n\r\n")
                silent.writer.write(EVENTS % b"link")
                assert (await half.head())[0].startswith(b"HTTP/1.1 401")
                assert (await silent.head())[0].startswith(b"HTTP/1.1 200")
    assert app.recognised == 0


@on_each_loop
async def test_what_is_whole_is_recognised_however_late_the_last_connection_came() -> None:
    """One timer for all: that one has waited for long enough says nothing of the next."""
    app = Answering()
    with restored(front, "PATIENCE_S", 1.0):
        async with serving(app, streams_under=PREFIX) as server, connected(server.port) as first:
            await asyncio.sleep(0.8)
            async with connected(server.port) as second:
                await asyncio.sleep(0.4)  # the first one's time is over, and not the second one's
                for client in (first, second):
                    client.writer.write(EVENTS % b"link")
                    assert (await client.head())[0].startswith(b"HTTP/1.1 200")
    assert app.recognised == 1


@on_each_loop
async def test_frames_that_come_while_the_application_thinks_are_refused() -> None:
    app = Answering()
    async with serving(app, streams_under=PREFIX) as server, connected(server.port, websocket(b"later")) as client:
        await true_soon(lambda: app.recognised == 1)
        await client.send(client_frame(TEXT, b"early"))
        assert (await client.rest()).startswith(b"HTTP/1.1 400")
        app.may_answer.set()


@on_each_loop
async def test_a_request_that_comes_while_the_application_thinks_is_answered_next() -> None:
    app = Answering()
    async with serving(app, streams_under=PREFIX) as server, connected(server.port, EVENTS % b"later") as client:
        await true_soon(lambda: app.recognised == 1)
        await client.send(PLAIN)
        await asyncio.sleep(0.02)
        app.may_answer.set()
        for _ in range(2):
            status, headers = await client.head()
            assert status.startswith(b"HTTP/1.1 401")
            assert await client.exactly(int(headers[b"content-length"])) == b"onetwo"
        assert len(app.scopes) == 2


@on_each_loop
async def test_what_a_client_sends_while_the_application_thinks_is_bounded() -> None:
    app = Answering()
    async with serving(app, streams_under=PREFIX) as server, connected(server.port, EVENTS % b"later") as client:
        await true_soon(lambda: app.recognised == 1)
        client.writer.transport.set_write_buffer_limits(high=0)
        client.writer.write(b"x" * 20_000_000)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.writer.drain()
        app.may_answer.set()
        assert (await client.head())[0].startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize("request_", [websocket(b"wait"), EVENTS % b"wait"])
@on_each_loop
async def test_the_application_is_told_that_its_client_is_gone(request_: bytes) -> None:
    app = Answering()
    async with serving(app, streams_under=PREFIX) as server:
        async with connected(server.port, request_) as client:
            await true_soon(lambda: len(app.told) == 1)
            client.reset()
        await true_soon(lambda: len(app.told) == 2)
    assert app.told[1].endswith(".disconnect")


@on_each_loop
async def test_a_client_that_is_gone_gets_a_link_that_closes() -> None:
    """It went away while its token was checked: the application opens the link all the same."""
    gone = asyncio.Event()

    async def until_gone(scope: Any, send: Any) -> None:
        await gone.wait()

    app = LinkApp("hand-off", before_open=until_gone)
    async with serving(app, streams_under=b"/") as server:
        for first in (HANDSHAKE % b"", b"GET /sse HTTP/1.1\r\nHost: test\r\nAccept: text/event-stream\r\n\r\n"):
            gone.clear()
            async with connected(server.port, first) as client:
                await true_soon(lambda: app.running == 1)
                client.reset()
            await asyncio.sleep(0.02)
            gone.set()
            opened = await app.next_opened()
            assert (await opened.owner.until("closed"))[0] == 1006
            await true_soon(lambda: app.running == 0)


@on_each_loop
async def test_a_client_that_ends_its_half_before_its_request_is_whole_is_hypercorns() -> None:
    async with both() as pairs:
        for app, server in pairs:
            async with connected(server.port, b"GET /v1/link HTTP/1.1\r\nHost:") as client:
                client.writer.write_eof()
                # Hypercorn says what is wrong or nothing, as it falls in time.
                assert (await client.rest()).partition(b"\r\n")[0] in (b"HTTP/1.1 400 ", b"")
            assert app.scopes == []


# -- the end


@on_each_loop
async def test_at_the_end_connections_are_hypercorns_and_answers_say_that_they_are_the_last() -> None:
    app = Answering()
    limits = Limits(shutdown_grace_s=5)
    async with serving(app, streams_under=PREFIX, limits=limits) as server:
        async with connected(server.port) as silent, connected(server.port, EVENTS % b"later") as asked:
            await true_soon(lambda: app.recognised == 1)
            stopping = asyncio.create_task(server.stop())
            await true_soon(lambda: server.shutdown_event.is_set())
            await asyncio.sleep(0.05)
            assert not stopping.done(), "a request in progress may finish within the grace"
            app.may_answer.set()
            _, headers = await asked.head()
            assert headers[b"connection"] == b"close"
            assert await asked.rest() == b"onetwo"
            assert await silent.rest() == b""
            async with asyncio.timeout(PATIENCE_S):
                await stopping


@on_each_loop
async def test_a_request_that_never_ends_cannot_hold_the_end_up() -> None:
    app = Answering()
    async with serving(app, streams_under=PREFIX, limits=Limits(shutdown_grace_s=0.2)) as server:
        async with connected(server.port, EVENTS % b"later") as client:
            await true_soon(lambda: app.recognised == 1)
            await server.stop()
            assert await client.rest() == b""


@on_each_loop
async def test_links_are_aborted_at_the_deadline() -> None:
    app = LinkApp("hand-off")
    async with serving(app, streams_under=b"/", limits=Limits(shutdown_grace_s=0.2)) as server:
        async with opened_websocket(app, server.port) as (_, opened):
            await server.stop()
            assert await opened.owner.until("closed") == (1006, "")


# -- what it asks of the application


@on_each_loop
async def test_a_stream_that_does_not_take_the_socket_is_a_mistake_that_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = LinkApp("asgi")
    async with serving(app, streams_under=b"/") as server, connected(server.port, HANDSHAKE % b"") as client:
        assert (await client.rest()).startswith(b"HTTP/1.1 500")
    assert "answered once, or by a link that takes the socket" in caplog.text


def names(client: RawClient) -> tuple[Any, Any]:
    return client.writer.get_extra_info("sockname"), client.writer.get_extra_info("peername")


@on_each_loop
async def test_the_scope_names_both_ends() -> None:
    app = Answering()
    async with serving(app, streams_under=PREFIX) as server, connected(server.port, EVENTS % b"link") as client:
        await client.head()
        assert (app.scopes[0]["client"], app.scopes[0]["server"]) == names(client)
