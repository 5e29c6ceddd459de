"""A small server that does nothing but what it says, to show what a proxy does: ticks, events, slow answers."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.proxy.zoo.animals.authorities import make_authority, make_leaf
from tests.proxy.zoo.animals.base import Origin

_MAGIC: Final = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TEXT, _MASKED = 0x81, 0x80


@dataclass
class Honest:
    """`/v1/ws` sends a tick every `pause_s`, and echoes. `/v1/events` sends `events` events that far apart, as a server
    that knows nothing of proxies; `/v1/events/careful` also asks not to be buffered and not to be changed. `/v1/poll`
    answers after `poll_s`, `/v1/command` at once, and `/v1/large` with `large` bytes.

    `padding` bytes are added to each event. `sent_all` is set when the last event is under way. `heads` are those of
    all requests as they arrived here, `frames` what came over WebSockets, and `open` how many connections there are.
    """

    pause_s: float = 0.3
    events: int = 12
    poll_s: float = 2.0
    padding: int = 0
    large: int = 0
    heads: list[str] = field(default_factory=list)
    frames: list[bytes] = field(default_factory=list)
    sent_all: asyncio.Event = field(default_factory=asyncio.Event)
    open: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """All requests of one connection."""
        self.open += 1
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass  # the other side has gone
        except asyncio.CancelledError:
            writer.transport.abort()  # a polite end would wait for a client that does not read
            raise
        finally:
            self.open -= 1
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        self.heads.append(head)
        target = head.split(" ", 2)[1]
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head.split("\r\n")[1:])}
        await reader.readexactly(int(headers.get("content-length", "0")))
        is_old = " HTTP/1.0\r\n" in head
        keeps = not is_old and headers.get("connection", "").lower() != "close"
        if target == "/v1/ws":
            if headers.get("upgrade", "").lower() == "websocket" and "upgrade" in headers["connection"].lower():
                await self._websocket(headers["sec-websocket-key"], reader, writer)
                return False
            return await _answered(writer, "426 Upgrade Required", keeps)
        if target.startswith("/v1/events"):
            return await self._event_stream(writer, "careful" in target, is_old) and keeps
        if target == "/v1/poll":
            await asyncio.sleep(self.poll_s)
        return await _answered(writer, "200 OK", keeps, b"x" * self.large if target == "/v1/large" else b"{}")

    async def _websocket(self, key: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accept = base64.b64encode(hashlib.sha1((key + _MAGIC).encode()).digest()).decode()
        writer.write(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
        )

        async def tick() -> None:
            number = 0
            while True:
                writer.write(frame(f"tick {number}".encode()))
                await writer.drain()
                number += 1
                await asyncio.sleep(self.pause_s)

        ticking = asyncio.create_task(tick())
        try:
            while True:
                text = await read_frame(reader)
                self.frames.append(text)
                writer.write(frame(b"echo " + text))
        finally:
            ticking.cancel()
            with suppress(asyncio.CancelledError, OSError):
                await ticking

    async def _event_stream(self, writer: asyncio.StreamWriter, is_careful: bool, is_old: bool) -> bool:
        head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
        if is_careful:
            head += "Cache-Control: no-cache, no-transform\r\nX-Accel-Buffering: no\r\n"
        else:
            head += "Cache-Control: no-cache\r\n"
        writer.write((head + ("Connection: close" if is_old else "Transfer-Encoding: chunked") + "\r\n\r\n").encode())
        for number in range(self.events):
            if number:
                await asyncio.sleep(self.pause_s)
            if number == self.events - 1:
                self.sent_all.set()
            event = f"data: {number} {'x' * self.padding}\n\n".encode()
            writer.write(event if is_old else b"%x\r\n%s\r\n" % (len(event), event))
            await writer.drain()
        if not is_old:
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        return not is_old


async def _answered(writer: asyncio.StreamWriter, status: str, keeps: bool, body: bytes = b"{}") -> bool:
    writer.write(
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n"
        f"Content-Length: {len(body)}\r\nConnection: {'keep-alive' if keeps else 'close'}\r\n\r\n".encode()
        + body
    )
    await writer.drain()
    return keeps


def frame(text: bytes, *, mask: bytes = b"") -> bytes:
    """A text frame of at most 125 bytes; clients have to mask theirs."""
    assert len(text) < 126
    if not mask:
        return bytes((_TEXT, len(text))) + text
    return bytes((_TEXT, _MASKED | len(text))) + mask + _masked(text, mask)


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """The text of the next frame of at most 125 bytes."""
    _, length = await reader.readexactly(2)
    mask = await reader.readexactly(4) if length & _MASKED else b""
    text = await reader.readexactly(length & ~_MASKED)
    return _masked(text, mask) if mask else text


def _masked(text: bytes, mask: bytes) -> bytes:
    return bytes(byte ^ mask[place % 4] for place, byte in enumerate(text))


@asynccontextmanager
async def honest(folder: Path | None = None, **options: Any) -> AsyncIterator[tuple[Honest, Origin]]:
    """One on free ports of the loopback; with TLS, too, where there is a folder for its certificate."""
    made = Honest(**options)
    serving: set[asyncio.Task[None]] = set()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(made.serve(reader, writer))
        serving.add(task)
        task.add_done_callback(serving.discard)

    servers = [await asyncio.start_server(accepted, "127.0.0.1", 0)]
    tls_port, ca = None, None
    if folder is not None:
        authority = make_authority(folder, "origin")
        leaf = make_leaf(folder, authority, "hybrid.test")
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(leaf.certificate, leaf.key)
        servers.append(await asyncio.start_server(accepted, "127.0.0.1", 0, ssl=context))
        tls_port, ca = servers[1].sockets[0].getsockname()[1], authority.certificate
    try:
        yield made, Origin("127.0.0.1", servers[0].sockets[0].getsockname()[1], tls_port, ca)
    finally:
        for server in servers:
            server.close()
        for task in list(serving):
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        for server in servers:
            await server.wait_closed()
