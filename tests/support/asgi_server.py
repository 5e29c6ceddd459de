"""A real Hypercorn on a free port, an application that only opens links, and a client that speaks raw bytes.

The client is raw on purpose: most of what is tested is what no well-behaved library would send.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from hybrid.clock import SystemClock
from hybrid.limits import Limits
from hybrid.links.asgi import Receive, Scope, Send
from hybrid.links.open import OpenLink, open_event_stream, open_websocket
from hybrid.web import launcher

PATIENCE_S = 10.0  # how long a test waits before it fails; nothing sleeps this long when all is well

Kind = Literal["hand-off", "asgi"]


def on_each_loop(scenario: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Turn an `async def` test into one that runs on asyncio and on uvloop, through the launcher's own `run`."""

    def test(*, loop_name: Literal["asyncio", "uvloop"], **arguments: Any) -> None:
        async def main() -> None:
            async with asyncio.timeout(6 * PATIENCE_S):
                await scenario(**arguments)

        launcher.run(main, loop_name)

    functools.update_wrapper(test, scenario)
    del test.__wrapped__  # type: ignore[attr-defined]  # or pytest would see the coroutine function
    signature = inspect.signature(scenario)
    loop_parameter = inspect.Parameter("loop_name", inspect.Parameter.KEYWORD_ONLY)
    test.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), loop_parameter]
    )
    return pytest.mark.parametrize("loop_name", ["asyncio", "uvloop"])(test)


class RecordingOwner:
    """A `LinkOwner` that remembers what it was called with, in order; `until` waits for it."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.on_message: Callable[[bytes], None] | None = None
        self._changed = asyncio.Event()

    def link_received(self, message: bytes, is_text: bool) -> None:
        self._record("received", message, is_text)
        if self.on_message is not None:
            self.on_message(message)

    def link_paused(self) -> None:
        self._record("paused")

    def link_resumed(self) -> None:
        self._record("resumed")

    def link_closed(self, code: int, reason: str) -> None:
        self._record("closed", code, reason)

    def _record(self, *event: Any) -> None:
        assert not self.of("closed"), f"{event} after link_closed"
        self.events.append(event)
        self._changed.set()

    def of(self, name: str) -> list[tuple[Any, ...]]:
        """The arguments of all calls of one kind so far."""
        return [event[1:] for event in self.events if event[0] == name]

    @property
    def messages(self) -> list[bytes]:
        return [message for message, _ in self.of("received")]

    async def until(self, name: str, count: int = 1) -> tuple[Any, ...]:
        """Wait for the count-th call of one kind and return its arguments."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.of(name)) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.of(name)[count - 1]


@dataclass
class Opened:
    """One link the application opened."""

    link: Any
    owner: RecordingOwner


@dataclass
class LinkApp:
    """An ASGI application: every WebSocket and every GET under `/` becomes a link with a `RecordingOwner`."""

    kind: Kind
    limits: Limits = field(default_factory=Limits)
    message_max_bytes: int = 65_536
    before_open: Callable[[Scope, Send], Awaitable[None]] | None = None
    on_open: Callable[[OpenLink, RecordingOwner], None] | None = None
    is_binary: bool = False
    subprotocol: str | None = None
    probe_payload: bytes | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ((b"content-type", b"text/event-stream"),)
    keeps_opened: bool = True
    may_deflate: bool = False

    def __post_init__(self) -> None:
        self.opened: asyncio.Queue[Opened] = asyncio.Queue()
        self.running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        self.running += 1
        try:
            await self._serve(scope, receive, send)
        finally:
            self.running -= 1

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.before_open is not None:
            await self.before_open(scope, send)
        owner = RecordingOwner()
        common: dict[str, Any] = {
            "owner": owner,
            "limits": self.limits,
            "clock": SystemClock(),
            "allow_handoff": self.kind == "hand-off",
        }
        link: OpenLink
        if scope["type"] == "websocket":
            link = await open_websocket(
                scope,
                receive,
                send,
                subprotocol=self.subprotocol,
                is_binary=self.is_binary,
                message_max_bytes=self.message_max_bytes,
                probe_payload=self.probe_payload,
                may_deflate=self.may_deflate,
                **common,
            )
        else:
            link = await open_event_stream(scope, receive, send, headers=list(self.headers), **common)
        assert not owner.events, "the owner was called before the caller had the link"
        if self.on_open is not None:
            self.on_open(link, owner)
        if self.keeps_opened:
            self.opened.put_nowait(Opened(link, owner))
        await link.served()

    async def next_opened(self) -> Opened:
        async with asyncio.timeout(PATIENCE_S):
            return await self.opened.get()


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


@dataclass
class Server:
    """A running server; `stop` is what a signal would do."""

    port: int
    shutdown_event: asyncio.Event
    task: asyncio.Task[None]

    async def stop(self) -> None:
        self.shutdown_event.set()
        async with asyncio.timeout(PATIENCE_S):
            await self.task


@asynccontextmanager
async def serving(
    app: Any, *, limits: Limits | None = None, serve: Callable[..., Any] = launcher.serve, **options: Any
) -> AsyncIterator[Server]:
    """Serve `app` with the launcher, or another server, on a free port of 127.0.0.1; stops at the end of the block."""
    loop = asyncio.get_running_loop()
    started: asyncio.Future[int] = loop.create_future()
    event = asyncio.Event()
    limits = limits or Limits(shutdown_grace_s=0.5)
    options = {"host": "127.0.0.1", "port": 0} | options
    task = loop.create_task(serve(app, limits=limits, shutdown_event=event, on_started=started.set_result, **options))
    await asyncio.wait({started, task}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        await task
    server = Server(started.result(), event, task)
    try:
        yield server
    finally:
        await server.stop()


HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%b\r\n"
)
"""With the key of RFC 6455, section 1.3; takes further header lines."""


def client_frame(
    opcode: int, payload: bytes = b"", *, is_final: bool = True, rsv: int = 0, is_masked: bool = True
) -> bytes:
    """One frame as a client sends it, right or wrong."""
    return frame_head(opcode, len(payload), is_final=is_final, rsv=rsv, is_masked=is_masked) + (
        bytes(byte ^ b"mask"[index % 4] for index, byte in enumerate(payload)) if is_masked else payload
    )


def frame_head(opcode: int, length: int, *, is_final: bool = True, rsv: int = 0, is_masked: bool = True) -> bytes:
    """The header of a frame that announces `length` bytes."""
    first = (0x80 if is_final else 0) | rsv | opcode
    mask_bit = 0x80 if is_masked else 0
    if length < 126:
        head = bytes((first, mask_bit | length))
    elif length < 65_536:
        head = bytes((first, mask_bit | 126)) + length.to_bytes(2, "big")
    else:
        head = bytes((first, mask_bit | 127)) + length.to_bytes(8, "big")
    return head + (b"mask" if is_masked else b"")


def close_payload(code: int, reason: str = "") -> bytes:
    return code.to_bytes(2, "big") + reason.encode()


class RawClient:
    """A TCP connection and the few things a test reads from it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> tuple[bytes, dict[bytes, bytes]]:
        """The status line and the headers of the next response, names in lower case."""
        async with asyncio.timeout(PATIENCE_S):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        pairs = (line.split(b": ", 1) for line in lines[1:-2])
        return lines[0], {name.lower(): value for name, value in pairs}

    async def frame(self) -> tuple[int, bytes]:
        """The next frame as (opcode, payload); asserts that it is final, unmasked and uncompressed."""
        async with asyncio.timeout(PATIENCE_S):
            first, length = await self.reader.readexactly(2)
            if length == 126:
                length = int.from_bytes(await self.reader.readexactly(2), "big")
            elif length == 127:
                length = int.from_bytes(await self.reader.readexactly(8), "big")
            assert first & 0xF0 == 0x80, f"unexpected first byte {first:#x}"
            return first & 0x0F, await self.reader.readexactly(length)

    async def close_code(self) -> int:
        """The code of the close frame that comes next, after any other frames; 1005 where it has none."""
        opcode, payload = await self.frame()
        while opcode != 0x8:
            opcode, payload = await self.frame()
        return int.from_bytes(payload[:2], "big") if payload else 1005

    async def exactly(self, count: int) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            return await self.reader.readexactly(count)

    async def rest(self) -> bytes:
        """Everything up to the end of the connection; a reset counts as the end."""
        data = b""
        async with asyncio.timeout(PATIENCE_S):
            try:
                while piece := await self.reader.read(65_536):
                    data += piece
            except ConnectionError:
                pass
        return data

    def reset(self) -> None:
        """Vanish with a RST."""
        self.writer.transport.abort()


@asynccontextmanager
async def connected(port: int, first: bytes = b"", **options: Any) -> AsyncIterator[RawClient]:
    """A raw client that has sent `first`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, **options)
    writer.write(first)
    try:
        yield RawClient(reader, writer)
    finally:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def opened_websocket(app: LinkApp, port: int, extra: bytes = b"") -> AsyncIterator[tuple[RawClient, Opened]]:
    """A client and its link, after the handshake."""
    async with connected(port, HANDSHAKE % extra) as client:
        status, _ = await client.head()
        assert status == b"HTTP/1.1 101" + status[12:], status
        yield client, await app.next_opened()


@asynccontextmanager
async def opened_stream(
    app: LinkApp, port: int, request: bytes = b"GET /sse HTTP/1.1\r\nHost: test\r\nAccept: text/event-stream\r\n\r\n"
) -> AsyncIterator[tuple[RawClient, Opened]]:
    """A client and its event stream, after the head."""
    async with connected(port, request) as client:
        status, _ = await client.head()
        assert status.startswith(b"HTTP/1.1 200"), status
        yield client, await app.next_opened()


async def true_soon(condition: Callable[[], bool]) -> None:
    """Wait for something that nobody announces, looking at every turn of the loop."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


@contextmanager
def restored(target: Any, name: str, value: Any) -> Iterator[None]:
    """Set an attribute for a while, where a fixture would come too late."""
    old = getattr(target, name)
    setattr(target, name, value)
    try:
        yield
    finally:
        setattr(target, name, old)
