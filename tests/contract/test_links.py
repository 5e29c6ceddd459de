"""One suite over links that own their socket and links on plain ASGI, with a real Hypercorn, on asyncio and uvloop.

What ASGI hides (pings, fragments, invalid UTF-8, the size a header announces) is the server's to answer for there, so
those cases run over the hand-off only, and over ASGI as far as it can be seen.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import socket
from contextlib import suppress
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest

from hybrid.limits import Limits
from hybrid.links import hypercorn
from hybrid.links.framing import (
    asgi_messages,
    event_stream_chunked,
    event_stream_plain,
    websocket_binary,
    websocket_text,
)
from hybrid.links.inbound import BINARY, CLOSE, PING, PONG, TEXT
from hybrid.links.open import OpenLink
from tests.support.asgi_server import (
    HANDSHAKE,
    PATIENCE_S,
    Kind,
    LinkApp,
    RecordingOwner,
    client_frame,
    close_payload,
    connected,
    frame_head,
    on_each_loop,
    opened_stream,
    opened_websocket,
    restored,
    serving,
    true_soon,
)

both_kinds = pytest.mark.parametrize("kind", ["hand-off", "asgi"])
SHORT = Limits(close_timeout_s=0.1)
SMALL_BUFFERS = Limits(high_water_bytes=32_768, low_water_bytes=8_192, close_timeout_s=0.1)
SSE_REQUEST = b"GET /sse HTTP/1.1\r\nHost: test\r\n\r\n"


def chunks_of(data: bytes) -> bytes:
    """The body inside HTTP/1.1 chunks, which must be complete and end with the last one."""
    body = b""
    while True:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            assert data == b"\r\n"
            return body
        body += data[:length]
        assert data[length : length + 2] == b"\r\n"
        data = data[length + 2 :]


# -- WebSocket: the handshake


@both_kinds
@on_each_loop
async def test_the_handshake_is_answered_with_key_and_subprotocol(kind: Kind) -> None:
    app = LinkApp(kind, subprotocol="hybrid.v1")
    async with serving(app) as server, connected(server.port) as client:
        await client.send(HANDSHAKE % b"Sec-WebSocket-Protocol: other, hybrid.v1\r\n")
        status, headers = await client.head()
        opened = await app.next_opened()
        assert status.startswith(b"HTTP/1.1 101")
        digest = hashlib.sha1(b"dGhlIHNhbXBsZSBub25jZQ==258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        assert headers[b"sec-websocket-accept"] == base64.b64encode(digest)
        assert headers[b"sec-websocket-protocol"] == b"hybrid.v1"
        assert headers[b"upgrade"].lower() == b"websocket"
        assert headers[b"connection"].lower() == b"upgrade"
        assert b"date" in headers
        assert b"server" not in headers
        assert opened.link.is_handed_off == (kind == "hand-off")
        assert opened.link.is_bidirectional
        host, port = client.writer.get_extra_info("sockname")
        assert opened.link.peer == f"{host}:{port}"


@pytest.mark.parametrize(("kind", "may_deflate"), [("hand-off", False), ("asgi", False), ("asgi", True)])
@on_each_loop
async def test_compression_is_declined(kind: Kind, may_deflate: bool) -> None:
    """Over ASGI always: there it would be the server's, with a context for each client and a limit after inflating."""
    app = LinkApp(kind, may_deflate=may_deflate)
    async with serving(app) as server, connected(server.port) as client:
        await client.send(HANDSHAKE % b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n")
        status, headers = await client.head()
        assert status.startswith(b"HTTP/1.1 101")
        assert b"sec-websocket-extensions" not in headers


@both_kinds
@on_each_loop
async def test_a_subprotocol_that_was_not_offered_is_a_mistake_of_ours(kind: Kind) -> None:
    app = LinkApp(kind, subprotocol="hybrid.v1")
    async with serving(app) as server, connected(server.port, HANDSHAKE % b"") as client:
        status, _ = await client.head()
        assert status.startswith(b"HTTP/1.1 500")


@both_kinds
@on_each_loop
async def test_frames_before_the_answer_are_refused_and_leave_nothing_behind(kind: Kind) -> None:
    """RFC 6455, section 4.1 has the client wait. Hypercorn answers 400, tells nobody, and keeps the connection."""
    app = LinkApp(kind)
    async with serving(app) as server, connected(server.port) as client:
        await client.send(HANDSHAKE % b"" + client_frame(TEXT, b"early"))
        assert (await client.rest()).startswith(b"HTTP/1.1 400")
        opened = await app.next_opened()
        assert await opened.owner.until("closed") == (1006, "")
        assert opened.owner.messages == []


@on_each_loop
async def test_a_refused_handshake_does_not_keep_its_connection() -> None:
    """Hypercorn alone would keep it for ever: no idle timeout any more, and no application that could end it."""
    async with serving(LinkApp("hand-off")) as server, connected(server.port) as client:
        await client.send((HANDSHAKE % b"").replace(b"Version: 13", b"Version: 12"))
        assert (await client.rest()).startswith(b"HTTP/1.1 400")


@on_each_loop
async def test_a_handshake_that_the_application_refuses_ends_its_connection() -> None:
    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] in ("websocket.connect", "lifespan.startup")
        await send({"type": "websocket.close"})

    async with serving(refuse) as server, connected(server.port, HANDSHAKE % b"") as client:
        assert (await client.rest()).startswith(b"HTTP/1.1 403")


@on_each_loop
async def test_bytes_that_hypercorn_has_read_but_not_used_come_first() -> None:
    """They reach the link from the event loop, after the caller has got it, and before what comes later."""
    early = client_frame(TEXT, b"one") + client_frame(TEXT, b"two")[:3]

    async def feed_reader(scope: Any, send: Any) -> None:
        # As if they had come while the task that reads was not yet running again.
        send.__self__.send.__self__.send.__self__.reader._buffer.extend(early)

    app = LinkApp("hand-off", before_open=feed_reader)
    async with serving(app) as server, opened_websocket(app, server.port) as (client, opened):
        assert await opened.owner.until("received") == (b"one", True)
        await client.send(client_frame(TEXT, b"two")[3:] + client_frame(TEXT, b"three"))
        await opened.owner.until("received", 3)
        assert opened.owner.messages == [b"one", b"two", b"three"]


@on_each_loop
async def test_an_end_that_hypercorn_has_seen_is_not_lost() -> None:
    async def feed_end(scope: Any, send: Any) -> None:
        send.__self__.send.__self__.send.__self__.reader._eof = True

    app = LinkApp("hand-off", before_open=feed_end)
    async with serving(app) as server, opened_websocket(app, server.port) as (client, opened):
        assert await opened.owner.until("closed") == (1006, "")
        assert await client.rest() == b""


# -- WebSocket: messages


@both_kinds
@pytest.mark.parametrize("is_binary", [False, True])
@on_each_loop
async def test_messages_arrive_whole_and_in_order_both_ways(kind: Kind, is_binary: bool) -> None:
    app = LinkApp(kind, is_binary=is_binary)
    expected_framing = {
        ("hand-off", False): websocket_text,
        ("hand-off", True): websocket_binary,
        ("asgi", False): asgi_messages,
        ("asgi", True): asgi_messages,
    }[kind, is_binary]
    async with serving(app) as server, opened_websocket(app, server.port) as (client, opened):
        assert opened.link.framing is expected_framing
        sizes = [0, 1, 125, 126, 2_000, 65_535]
        await client.send(b"".join(client_frame(TEXT, b"t" * size) for size in sizes))
        await client.send(b"".join(client_frame(BINARY, b"b" * size) for size in sizes))
        await opened.owner.until("received", 2 * len(sizes))
        assert opened.owner.of("received") == [
            *((b"t" * size, True) for size in sizes),
            *((b"b" * size, False) for size in sizes),
        ]
        for number in range(300):
            opened.link.write(opened.link.framing([b"%d" % number, b"x" * number]))
        for number in range(300):
            opcode = BINARY if is_binary else TEXT
            assert await client.frame() == (opcode, b"%d" % number)
            assert await client.frame() == (opcode, b"x" * number)


@both_kinds
@on_each_loop
async def test_a_message_may_come_in_any_pieces(kind: Kind) -> None:
    app = LinkApp(kind)
    async with serving(app) as server, opened_websocket(app, server.port) as (client, opened):
        client.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = client_frame(TEXT, b"a" * 200) + client_frame(TEXT, "€".encode())
        for index in range(len(stream)):
            await client.send(stream[index : index + 1])
        await opened.owner.until("received", 2)
        assert opened.owner.messages == [b"a" * 200, "€".encode()]


@both_kinds
@on_each_loop
async def test_fragments_become_one_message(kind: Kind) -> None:
    app = LinkApp(kind)
    async with serving(app) as server, opened_websocket(app, server.port) as (client, opened):
        await client.send(client_frame(TEXT, b"a", is_final=False))
        await client.send(client_frame(PING, b"between"))
        assert await client.frame() == (PONG, b"between")
        await client.send(client_frame(0, b"b", is_final=False) + client_frame(0, b"c"))
        assert await opened.owner.until("received") == (b"abc", True)


@both_kinds
@on_each_loop
async def test_the_limit_can_be_raised_from_inside_a_callback(kind: Kind) -> None:
    """An attach may come right behind the token that allows it its size, in the same packet."""

    def raise_limit(link: OpenLink, owner: RecordingOwner) -> None:
        owner.on_message = lambda message: setattr(link, "message_max_bytes", 1_000)

    app = LinkApp(kind, message_max_bytes=10, on_open=raise_limit)
    async with serving(app) as server, opened_websocket(app, server.port) as (client, opened):
        await client.send(client_frame(TEXT, b"token") + client_frame(TEXT, b"x" * 1_000))
        await opened.owner.until("received", 2)
        await client.send(client_frame(TEXT, b"x" * 1_001))
        assert await client.close_code() == 1009


@on_each_loop
async def test_no_message_follows_a_pause_until_reading_is_resumed() -> None:
    """Not even one of the same packet: while a token is being verified, the attach behind it waits."""

    def pause(link: OpenLink, owner: RecordingOwner) -> None:
        owner.on_message = lambda message: link.pause_reading()

    app = LinkApp("hand-off", on_open=pause)
    async with serving(app) as server, opened_websocket(app, server.port) as (client, opened):
        await client.send(client_frame(TEXT, b"one") + client_frame(TEXT, b"two") + client_frame(PING))
        await opened.owner.until("received")
        opened.owner.on_message = None
        opened.link.write(opened.link.framing([b"still paused"]))
        assert await client.frame() == (TEXT, b"still paused")
        assert opened.owner.messages == [b"one"]
        opened.link.resume_reading()
        assert await client.frame() == (PONG, b"")
        assert opened.owner.messages == [b"one", b"two"]


@both_kinds
@on_each_loop
async def test_a_client_that_is_not_read_from_is_held_back_by_tcp(kind: Kind) -> None:
    app = LinkApp(kind, on_open=lambda link, _: link.pause_reading())
    async with serving(app) as server, opened_websocket(app, server.port) as (client, opened):
        client.writer.transport.set_write_buffer_limits(high=0)
        frame = client_frame(BINARY, b"x" * 60_000)
        sent = 0
        while client.writer.transport.get_write_buffer_size() < 1_000_000:
            client.writer.write(frame)
            sent += 1
            with suppress(TimeoutError):
                async with asyncio.timeout(0.02):
                    await client.writer.drain()
        assert sent < 1_000
        assert len(opened.owner.messages) <= 1  # ASGI was waiting for one already
        opened.link.resume_reading()
        await opened.owner.until("received", sent)


@both_kinds
@on_each_loop
async def test_last_received_moves_with_every_message(kind: Kind) -> None:
    app = LinkApp(kind)
    async with serving(app) as server, opened_websocket(app, server.port) as (client, opened):
        before_s = opened.link.last_received_s
        await client.send(client_frame(TEXT, b"x"))
        await opened.owner.until("received")
        assert opened.link.last_received_s > before_s


@on_each_loop
async def test_pings_are_answered_and_pongs_count_as_a_sign_of_life() -> None:
    app = LinkApp("hand-off")
    async with serving(app) as server, opened_websocket(app, server.port) as (client, opened):
        opened.link.probe()
        assert await client.frame() == (PING, b"")
        before_s = opened.link.last_received_s
        await client.send(client_frame(PONG) + client_frame(PING, b"p" * 125))
        assert await client.frame() == (PONG, b"p" * 125)
        assert opened.link.last_received_s > before_s
        assert opened.owner.events == []


@on_each_loop
async def test_where_there_is_no_ping_the_owners_probe_is_sent() -> None:
    app = LinkApp("asgi", probe_payload=b'{"heartbeat":{}}')
    async with serving(app) as server, opened_websocket(app, server.port) as (client, opened):
        opened.link.probe()
        assert await client.frame() == (TEXT, b'{"heartbeat":{}}')
        opened.link.probe_payload = None
        opened.link.probe()
        opened.link.write((b"next",))
        assert await client.frame() == (TEXT, b"next")


# -- WebSocket: what is refused


@both_kinds
@on_each_loop
async def test_a_message_above_the_limit_ends_the_link_in_bytes_not_characters(kind: Kind) -> None:
    app = LinkApp(kind, message_max_bytes=300, limits=SHORT)
    async with serving(app) as server, opened_websocket(app, server.port) as (client, opened):
        await client.send(client_frame(TEXT, "€".encode() * 100))
        assert await opened.owner.until("received") == ("€".encode() * 100, True)
        await client.send(client_frame(TEXT, "€".encode() * 101))
        assert await client.close_code() == 1009
        await client.send(client_frame(CLOSE, close_payload(1009)))
        assert (await opened.owner.until("closed"))[0] == 1009
        assert len(opened.owner.messages) == 1


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        pytest.param(frame_head(TEXT, 65_537), 1009, id="too large, refused at its header"),
        pytest.param(frame_head(BINARY, 2**63), 1009, id="absurdly large"),
        pytest.param(client_frame(TEXT, b"\xff"), 1007, id="not UTF-8"),
        pytest.param(client_frame(TEXT, b"x", rsv=0x40), 1002, id="compressed"),
        pytest.param(client_frame(TEXT, b"x", is_masked=False), 1002, id="not masked"),
        pytest.param(client_frame(3), 1002, id="unknown opcode"),
        pytest.param(client_frame(PING, b"x" * 126), 1002, id="long control frame"),
        pytest.param(client_frame(0, b"x"), 1002, id="continuation of nothing"),
        pytest.param(client_frame(CLOSE, b"\x03"), 1002, id="half a close code"),
        pytest.param(client_frame(CLOSE, close_payload(1006)), 1002, id="close code that must not be sent"),
        pytest.param(client_frame(CLOSE, close_payload(1000) + b"\xff"), 1007, id="close reason not UTF-8"),
        pytest.param(
            client_frame(TEXT, b"a", is_final=False) + client_frame(0, is_final=False) * 64, 1009, id="65 fragments"
        ),
        pytest.param(client_frame(PING) * 41, 1008, id="flood of pings"),
        pytest.param(client_frame(PONG) * 41, 1008, id="flood of pongs"),
    ],
)
@on_each_loop
async def test_a_peer_that_breaks_the_rules_is_told_the_code_and_closed(broken: bytes, code: int) -> None:
    app = LinkApp("hand-off")
    async with serving(app) as server, opened_websocket(app, server.port) as (client, opened):
        await client.send(client_frame(TEXT, b"good") + broken + client_frame(TEXT, b"after"))
        assert await client.close_code() == code
        assert await client.rest() == b""
        client.writer.close()
        closed = await opened.owner.until("closed")
        assert closed[0] == code
        assert opened.owner.messages == [b"good"]


@on_each_loop
async def test_a_peer_that_goes_on_sending_after_its_fault_still_gets_the_code() -> None:
    """Closing at once would reset the connection, and the reset could overtake the close frame."""
    app = LinkApp("hand-off")
    async with serving(app) as server, opened_websocket(app, server.port) as (client, _):
        client.writer.write(frame_head(BINARY, 10_000_000) + b"x" * 1_000_000)
        assert await client.close_code() == 1009
        await client.send(b"x" * 1_000_000)
        assert await client.rest() == b""


@on_each_loop
async def test_a_broken_peer_that_stays_is_aborted() -> None:
    app = LinkApp("hand-off", limits=SHORT)
    async with serving(app) as server, opened_websocket(app, server.port) as (client, opened):
        await client.send(client_frame(TEXT, b"\xff"))
        assert await opened.owner.until("closed") == (1007, "text is not UTF-8")


# -- WebSocket: the end


@both_kinds
@on_each_loop
async def test_our_close_is_answered_and_reported_with_our_code(kind: Kind) -> None:
    app = LinkApp(kind)
    async with serving(app) as server, opened_websocket(app, server.port) as (client, opened):
        opened.link.write(opened.link.framing([b"last words"]))
        opened.link.close(4409, "heartbeat_timeout")
        opened.link.close(4999, "second")
        opened.link.write(opened.link.framing([b"too late"]))
        assert await client.frame() == (TEXT, b"last words")
        assert await client.frame() == (CLOSE, close_payload(4409, "heartbeat_timeout"))
        await client.send(client_frame(TEXT, b"crossing") + client_frame(CLOSE, close_payload(4409)))
        assert await client.rest() == b""
        assert await opened.owner.until("closed") == (4409, "heartbeat_timeout")
        assert opened.owner.messages == []
        assert opened.link.buffered() == 0


@both_kinds
@on_each_loop
async def test_their_close_is_answered_and_reported_with_their_code(kind: Kind) -> None:
    app = LinkApp(kind)
    async with serving(app) as server, opened_websocket(app, server.port) as (client, opened):
        await client.send(client_frame(CLOSE, close_payload(4321, "bye")))
        assert await client.close_code() == 4321
        assert await client.rest() == b""
        code, reason = await opened.owner.until("closed")
        # Hypercorn tells the application 1006 whatever code came.
        assert (code, reason) == ((4321, "bye") if kind == "hand-off" else (1006, ""))


@on_each_loop
async def test_a_close_without_a_code_is_answered_without_one() -> None:
    app = LinkApp("hand-off")
    async with serving(app) as server, opened_websocket(app, server.port) as (client, opened):
        await client.send(client_frame(CLOSE))
        assert await client.frame() == (CLOSE, b"")
        assert await opened.owner.until("closed") == (1005, "")


@both_kinds
@on_each_loop
async def test_a_peer_that_never_answers_the_close_is_cut_off(kind: Kind) -> None:
    app = LinkApp(kind, limits=SHORT)
    async with serving(app) as server, opened_websocket(app, server.port) as (client, opened):
        opened.link.close(4509)
        assert await client.close_code() == 4509
        assert (await opened.owner.until("closed"))[0] == 4509
        assert await client.rest() == b""


@both_kinds
@on_each_loop
async def test_a_peer_that_reads_nothing_cannot_hold_a_closed_link(kind: Kind) -> None:
    app = LinkApp(kind, limits=SMALL_BUFFERS)
    async with serving(app) as server, opened_websocket(app, server.port) as (client, opened):
        client.writer.transport.pause_reading()
        while not opened.owner.of("paused"):
            opened.link.write(opened.link.framing([b"x" * 10_000]))
            await asyncio.sleep(0)
        opened.link.close(4410)
        assert (await opened.owner.until("closed"))[0] == 4410


@both_kinds
@on_each_loop
async def test_a_peer_that_vanishes_is_reported_lost(kind: Kind) -> None:
    app = LinkApp(kind)
    async with serving(app) as server, opened_websocket(app, server.port) as (client, opened):
        client.reset()
        assert await opened.owner.until("closed") == (1006, "")
        opened.link.write(opened.link.framing([b"into the void"]))
        opened.link.close(1000)
        opened.link.abort()
        opened.link.probe()
        opened.link.pause_reading()
        opened.link.resume_reading()
        assert opened.link.buffered() == 0


@both_kinds
@on_each_loop
async def test_a_peer_that_ends_without_a_close_frame_is_reported_lost(kind: Kind) -> None:
    app = LinkApp(kind)
    async with serving(app) as server, opened_websocket(app, server.port) as (client, opened):
        client.writer.write_eof()
        assert await opened.owner.until("closed") == (1006, "")
        assert (await client.rest())[:1] in (b"", b"\x88")


@both_kinds
@on_each_loop
async def test_abort_ends_at_once(kind: Kind) -> None:
    app = LinkApp(kind)
    async with serving(app) as server, opened_websocket(app, server.port) as (client, opened):
        opened.link.abort()
        assert await opened.owner.until("closed") == (1006, "")
        assert await client.rest() == b""


@both_kinds
@on_each_loop
async def test_a_link_may_be_closed_from_inside_a_callback(kind: Kind) -> None:
    def close_at_once(link: OpenLink, owner: RecordingOwner) -> None:
        owner.on_message = lambda message: link.close(4501, "x" * 200)

    app = LinkApp(kind, on_open=close_at_once)
    async with serving(app) as server, opened_websocket(app, server.port) as (client, opened):
        await client.send(client_frame(TEXT, b"one") + client_frame(TEXT, b"two"))
        assert await client.frame() == (CLOSE, close_payload(4501, "x" * 123))
        await client.send(client_frame(CLOSE, close_payload(4501)))
        await opened.owner.until("closed")
        assert opened.owner.messages == [b"one"]


@both_kinds
@on_each_loop
async def test_a_link_closed_while_reading_is_paused_still_sees_the_answer(kind: Kind) -> None:
    app = LinkApp(kind, on_open=lambda link, _: link.pause_reading())
    async with serving(app) as server, opened_websocket(app, server.port) as (client, opened):
        await client.send(client_frame(TEXT, b"unread"))
        opened.link.close(4412)
        assert await client.close_code() == 4412
        await client.send(client_frame(CLOSE, close_payload(4412)))
        assert await client.rest() == b""
        assert (await opened.owner.until("closed"))[0] == 4412


@both_kinds
@on_each_loop
async def test_a_slow_reader_pauses_and_resumes_the_owner(kind: Kind) -> None:
    app = LinkApp(kind, limits=SMALL_BUFFERS)
    async with serving(app) as server, opened_websocket(app, server.port) as (client, opened):
        client.writer.transport.pause_reading()
        written = 0
        while not opened.owner.of("paused"):
            opened.link.write(opened.link.framing([b"%08d" % written + b"x" * 10_000]))
            written += 1
            await asyncio.sleep(0)
        assert opened.link.buffered() > SMALL_BUFFERS.high_water_bytes
        assert not opened.owner.of("resumed")
        client.writer.transport.resume_reading()
        for number in range(written):
            assert (await client.frame())[1][:8] == b"%08d" % number
        await opened.owner.until("resumed")
        assert opened.link.buffered() <= SMALL_BUFFERS.low_water_bytes
        assert [event[0] for event in opened.owner.events] == ["paused", "resumed"]


# -- event streams


@both_kinds
@on_each_loop
async def test_an_event_stream_is_a_chunked_body_that_ends(kind: Kind) -> None:
    app = LinkApp(kind, headers=((b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")))
    async with serving(app) as server, connected(server.port, SSE_REQUEST) as client:
        status, headers = await client.head()
        assert status.startswith(b"HTTP/1.1 200")
        assert headers[b"content-type"] == b"text/event-stream"
        assert headers[b"cache-control"] == b"no-store"
        assert headers[b"transfer-encoding"] == b"chunked"
        assert headers[b"connection"] == b"close"
        assert b"content-length" not in headers
        assert b"date" in headers
        opened = await app.next_opened()
        assert opened.link.framing is (event_stream_chunked if kind == "hand-off" else event_stream_plain)
        assert not opened.link.is_bidirectional
        for number in range(200):
            opened.link.write(opened.link.framing([b"data: %d\n\n" % number]))
        opened.link.write(opened.link.framing([]))
        opened.link.probe()
        opened.link.close(4412, "rotated")
        expected = b"".join(b"data: %d\n\n" % number for number in range(200)) + b":\n\n"
        assert chunks_of(await client.rest()) == expected
        client.writer.close()
        assert await opened.owner.until("closed") == (4412, "rotated")


@both_kinds
@on_each_loop
async def test_http_1_0_gets_no_chunks(kind: Kind) -> None:
    app = LinkApp(kind)
    async with serving(app) as server, connected(server.port, b"GET /sse HTTP/1.0\r\nHost: test\r\n\r\n") as client:
        _, headers = await client.head()
        assert b"transfer-encoding" not in headers
        opened = await app.next_opened()
        assert opened.link.framing is event_stream_plain
        opened.link.write(opened.link.framing([b"data: 1\n\n"]))
        opened.link.probe()
        assert await client.exactly(12) == b"data: 1\n\n:\n\n"
        opened.link.close(1000)
        assert await client.rest() == b""


@both_kinds
@on_each_loop
async def test_head_gets_the_head_and_a_closed_link(kind: Kind) -> None:
    app = LinkApp(kind)
    async with serving(app) as server, connected(server.port) as client:
        for _ in range(2):  # the connection stays good for another request
            await client.send(SSE_REQUEST.replace(b"GET", b"HEAD"))
            status, headers = await client.head()
            assert status.startswith(b"HTTP/1.1 200")
            assert headers[b"content-type"] == b"text/event-stream"
            opened = await app.next_opened()
            assert await opened.owner.until("closed") == (1000, "")
            opened.link.write(opened.link.framing([b"data: 1\n\n"]))
            assert opened.link.buffered() == 0


@both_kinds
@on_each_loop
async def test_a_post_with_its_body_read_becomes_a_stream(kind: Kind) -> None:
    app = LinkApp(kind)
    request = b"POST /v1/stream HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\n" + b"x" * 100
    async with serving(app) as server, opened_stream(app, server.port, request) as (client, opened):
        opened.link.write(opened.link.framing([b"data: 1\n\n"]))
        opened.link.close(1000)
        assert chunks_of(await client.rest()) == b"data: 1\n\n"


@on_each_loop
async def test_a_large_body_that_nobody_reads_is_cut_off_and_leaves_no_task() -> None:
    """More pieces than Hypercorn's queue holds: its reading task must not wait in it for ever."""
    app = LinkApp("hand-off", limits=SHORT)
    request = b"POST /v1/stream HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with serving(app) as server, opened_stream(app, server.port, request + b"1\r\nx\r\n" * 2_000) as (_, opened):
        assert (await opened.owner.until("closed"))[0] == 1008
        await true_soon(lambda: app.running == 0)


@on_each_loop
async def test_bytes_on_an_event_stream_are_discarded_up_to_a_limit() -> None:
    app = LinkApp("hand-off", limits=Limits(close_timeout_s=5))
    async with serving(app) as server, opened_stream(app, server.port) as (client, opened):
        before_s = opened.link.last_received_s
        await client.send(b"x" * 4_096)
        await true_soon(lambda: opened.link.last_received_s > before_s)
        opened.link.write(opened.link.framing([b"data: 1\n\n"]))
        assert await client.exactly(len(b"9\r\ndata: 1\n\n\r\n")) == b"9\r\ndata: 1\n\n\r\n"
        assert opened.owner.events == []
        await client.send(b"x")
        assert await client.rest() == b"0\r\n\r\n"
        client.writer.close()
        assert (await opened.owner.until("closed"))[0] == 1008


@on_each_loop
async def test_a_pipelined_request_counts_as_discarded() -> None:
    app = LinkApp("hand-off", limits=Limits(close_timeout_s=0.1, discarded_max_bytes=len(SSE_REQUEST)))
    async with serving(app) as server:
        async with opened_stream(app, server.port, SSE_REQUEST * 2) as (client, opened):
            opened.link.write(opened.link.framing([b"data: 1\n\n"]))
            assert await client.exactly(14) == b"9\r\ndata: 1\n\n\r\n"
        async with opened_stream(app, server.port, SSE_REQUEST * 3) as (client, opened):
            assert (await opened.owner.until("closed"))[0] == 1008
            assert await client.rest() == b"0\r\n\r\n"


@both_kinds
@on_each_loop
async def test_a_client_that_ends_its_half_ends_the_stream(kind: Kind) -> None:
    app = LinkApp(kind)
    async with serving(app) as server, opened_stream(app, server.port) as (client, opened):
        client.writer.write_eof()
        assert await opened.owner.until("closed") == (1005, "")
        assert await client.rest() in (b"0\r\n\r\n", b"")


@both_kinds
@on_each_loop
async def test_a_stream_whose_client_vanishes_is_closed(kind: Kind) -> None:
    app = LinkApp(kind)
    async with serving(app) as server, opened_stream(app, server.port) as (client, opened):
        client.reset()
        code, _ = await opened.owner.until("closed")
        assert code in (1005, 1006)


@on_each_loop
async def test_a_client_that_keeps_its_half_open_is_cut_off() -> None:
    app = LinkApp("hand-off", limits=SHORT)
    async with serving(app) as server, opened_stream(app, server.port) as (client, opened):
        opened.link.close(1000)
        assert await client.exactly(5) == b"0\r\n\r\n"
        assert await opened.owner.until("closed") == (1000, "")


@both_kinds
@on_each_loop
async def test_a_slow_reader_of_a_stream_pauses_and_resumes_the_owner(kind: Kind) -> None:
    app = LinkApp(kind, limits=SMALL_BUFFERS)
    async with serving(app) as server, opened_stream(app, server.port) as (client, opened):
        client.writer.transport.pause_reading()
        written = 0
        while not opened.owner.of("paused"):
            opened.link.write(opened.link.framing([b"data: %08d\n\n" % written * 500]))
            written += 1
            await asyncio.sleep(0)
        client.writer.transport.resume_reading()
        await opened.owner.until("resumed")
        opened.link.close(1000)
        body = chunks_of(await client.rest())
        assert body == b"".join(b"data: %08d\n\n" % number * 500 for number in range(written))


@both_kinds
@on_each_loop
async def test_a_header_with_a_line_break_never_reaches_the_wire(kind: Kind) -> None:
    app = LinkApp(kind, headers=((b"content-type", b"text/event-stream\r\nset-cookie: a=b"),))
    async with serving(app) as server, connected(server.port, SSE_REQUEST) as client:
        async with asyncio.timeout(PATIENCE_S):
            answer = await client.reader.read(1_000)
        assert b"set-cookie" not in answer
        assert b" 200" not in answer


# -- HTTP/2


class Http2Client:
    """Prior-knowledge HTTP/2 with extended CONNECT (RFC 8441)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.connection.initiate_connection()
        self.events: list[Any] = []
        self.body = b""

    def flush(self) -> None:
        self.writer.write(self.connection.data_to_send())

    def request(self, *headers: tuple[str, str], end_stream: bool) -> int:
        stream_id = self.connection.get_next_available_stream_id()
        common = [(":scheme", "http"), (":authority", "test")]
        self.connection.send_headers(stream_id, [*headers[:1], *common, *headers[1:]], end_stream=end_stream)
        self.flush()
        return stream_id

    async def until(self, kind: type[Any]) -> Any:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for event in self.events:
                    if isinstance(event, kind):
                        self.events.remove(event)
                        return event
                data = await self.reader.read(65_536)
                assert data, "the connection ended"
                for event in self.connection.receive_data(data):
                    if isinstance(event, h2.events.DataReceived):
                        self.body += event.data
                        self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    self.events.append(event)
                self.flush()

    async def until_body(self, length: int) -> bytes:
        while len(self.body) < length:
            await self.until(h2.events.DataReceived)
        return self.body


@on_each_loop
async def test_an_event_stream_over_http_2_goes_through_asgi() -> None:
    app = LinkApp("hand-off")
    async with serving(app) as server, connected(server.port) as raw:
        client = Http2Client(raw.reader, raw.writer)
        client.request((":method", "GET"), (":path", "/sse"), end_stream=True)
        response = await client.until(h2.events.ResponseReceived)
        assert dict(response.headers)[b":status"] == b"200"
        assert b"connection" not in dict(response.headers)
        opened = await app.next_opened()
        assert not opened.link.is_handed_off
        opened.link.write(opened.link.framing([b"data: 1\n\n", b"data: 2\n\n"]))
        assert await client.until_body(18) == b"data: 1\n\ndata: 2\n\n"
        opened.link.close(1000)
        await client.until(h2.events.StreamEnded)
        assert await opened.owner.until("closed") == (1000, "")


@on_each_loop
async def test_a_websocket_over_http_2_goes_through_asgi_uncompressed() -> None:
    app = LinkApp("hand-off")
    async with serving(app) as server, connected(server.port) as raw:
        client = Http2Client(raw.reader, raw.writer)
        stream_id = client.request(
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":path", "/ws"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-extensions", "permessage-deflate"),
            end_stream=False,
        )
        response = await client.until(h2.events.ResponseReceived)
        assert dict(response.headers)[b":status"] == b"200"
        assert b"sec-websocket-extensions" not in dict(response.headers)
        opened = await app.next_opened()
        assert not opened.link.is_handed_off
        client.connection.send_data(stream_id, client_frame(TEXT, b"up"))
        client.flush()
        assert await opened.owner.until("received") == (b"up", True)
        opened.link.write(opened.link.framing([b"down"]))
        assert await client.until_body(6) == b"\x81\x04down"
        client.connection.reset_stream(stream_id)
        client.flush()
        assert await opened.owner.until("closed") == (1006, "")


@on_each_loop
async def test_a_stream_that_is_not_read_over_http_2_is_reset_and_the_others_live_on() -> None:
    """Its window is closed, so the farewell cannot be sent; only a reset frees the server from it."""
    app = LinkApp("hand-off", limits=SHORT)
    async with serving(app) as server, connected(server.port) as raw:
        client = Http2Client(raw.reader, raw.writer)
        client.connection.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
        client.request((":method", "GET"), (":path", "/slow"), end_stream=True)
        await client.until(h2.events.ResponseReceived)
        slow = await app.next_opened()
        while not slow.owner.of("paused"):
            slow.link.write(slow.link.framing([b"x" * 10_000]))
        slow.link.close(4410)
        reset = await client.until(h2.events.StreamReset)
        assert reset.error_code == 8
        assert await slow.owner.until("closed") == (4410, "")
        client.connection.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 65_535})
        client.request((":method", "GET"), (":path", "/other"), end_stream=True)
        await client.until(h2.events.ResponseReceived)
        other = await app.next_opened()
        other.link.write(other.link.framing([b"data: 1\n\n"]))
        assert await client.until_body(9) == b"data: 1\n\n"
        await true_soon(lambda: app.running == 1)


# -- another Hypercorn than the one we know


@pytest.mark.parametrize("missing", ["can_read", "send", "queue"])
@on_each_loop
async def test_surprises_in_hypercorn_degrade_to_asgi_with_one_warning(
    missing: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def surprise(scope: Any, send: Any) -> None:
        stream = send.__self__
        if missing == "can_read":  # renamed, with its function kept
            event = stream.send.__self__.__dict__.pop("can_read")
            asyncio.get_running_loop().call_soon(setattr, stream.send.__self__, "can_read", event)
        elif missing == "send":
            method = stream.send
            stream.send = lambda event: method(event)
        else:
            put = stream.app_put
            stream.app_put = lambda message: put(message)

    app = LinkApp("hand-off", before_open=surprise)
    with restored(hypercorn, "_has_warned", False), caplog.at_level(logging.WARNING, "hybrid.links"):
        async with serving(app) as server:
            for _ in range(2):
                async with opened_websocket(app, server.port) as (client, opened):
                    assert not opened.link.is_handed_off
                    opened.link.write(opened.link.framing([b"works"]))
                    assert await client.frame() == (TEXT, b"works")
                async with opened_stream(app, server.port) as (client, opened):
                    assert not opened.link.is_handed_off
                    opened.link.write(opened.link.framing([b"works"]))
                    assert await client.exactly(10) == b"5\r\nworks\r\n"
    warnings = [record for record in caplog.records if record.name.startswith("hybrid.links")]
    assert len(warnings) == 1
    assert "plain ASGI" in warnings[0].getMessage()


@on_each_loop
async def test_a_hypercorn_that_cannot_be_imported_degrades_too(caplog: pytest.LogCaptureFixture) -> None:
    app = LinkApp("hand-off")
    with (
        restored(hypercorn, "_has_warned", False),
        restored(hypercorn, "_import_error", ImportError("cannot import name 'H11Protocol'")),
        caplog.at_level(logging.WARNING, "hybrid.links"),
    ):
        async with serving(app) as server, opened_websocket(app, server.port) as (client, opened):
            assert not opened.link.is_handed_off
            await client.send(client_frame(TEXT, b"up"))
            assert await opened.owner.until("received") == (b"up", True)
    assert len(caplog.records) == 1


@on_each_loop
async def test_a_wrapped_send_is_another_server_and_no_reason_to_warn(caplog: pytest.LogCaptureFixture) -> None:
    inner = LinkApp("hand-off")

    async def middleware(scope: Any, receive: Any, send: Any) -> None:
        async def wrapped(message: Any) -> None:
            await send(message)

        await inner(scope, receive, wrapped)

    with restored(hypercorn, "_has_warned", False), caplog.at_level(logging.WARNING, "hybrid.links"):
        async with serving(middleware) as server, opened_websocket(inner, server.port) as (_, opened):
            assert not opened.link.is_handed_off
    assert not caplog.records
