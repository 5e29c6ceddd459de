"""Requests written byte by byte and answers read without a library, so that a test can send what no library would."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.support.server import RunningServer

TIMEOUT_S = 20
WEBSOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
JSON = {"Content-Type": "application/json"}
EVENTS = {"Accept": "text/event-stream"}

Headers = Mapping[str, str] | list[tuple[str, str]]
NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True)
class Answer:
    """One HTTP answer. Names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def name(self) -> str:
        """The name of the error that it tells; it must be a problem in good order to have one."""
        assert self.headers["content-type"] == "application/problem+json", self
        problem = self.json()
        assert problem["status"] == self.status
        assert problem["detail"].endswith(".")
        assert self.headers["cache-control"] == "no-store"
        name: str = problem["name"]
        return name


def request(
    method: str, target: str | bytes, headers: Headers = NOTHING, body: bytes = b"", *, host: str | None = "127.0.0.1"
) -> bytes:
    """The bytes of a request. Nothing is checked or encoded; what is no ASCII goes out as Latin-1."""
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
    names = {name.lower() for name, _ in pairs}
    if host is not None and "host" not in names:
        pairs.insert(0, ("Host", host))
    if not names & {"content-length", "transfer-encoding"} and (body or method in ("POST", "PUT", "PATCH")):
        pairs.append(("Content-Length", str(len(body))))
    raw_target = target.encode("latin-1") if isinstance(target, str) else target
    lines = [method.encode() + b" " + raw_target + b" HTTP/1.1"]
    lines += [f"{name}: {value}".encode("latin-1") for name, value in pairs]
    return b"\r\n".join([*lines, b"", body])


class Connection:
    """One TCP connection. Reading past the end raises asyncio.IncompleteReadError."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> Answer:
        """Status and headers of the next answer."""
        raw = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), TIMEOUT_S)
        status_line, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        return Answer(int(status_line.split(" ")[1]), {name.lower(): value for name, value in headers.items()}, b"")

    async def answer(self, *, is_head: bool = False) -> Answer:
        """The next answer, whole; one with a body must tell its length."""
        head = await self.head()
        length = 0 if is_head or head.status in (204, 304) else int(head.headers["content-length"])
        body = await asyncio.wait_for(self.reader.readexactly(length), TIMEOUT_S)
        return Answer(head.status, head.headers, body)

    async def ended(self) -> bytes:
        """What comes until the other side ends the connection."""
        try:
            return await asyncio.wait_for(self.reader.read(), TIMEOUT_S)
        except ConnectionError:
            return b""

    async def chunk(self) -> bytes:
        """The next chunk of a chunked body; empty for the last."""
        size = int(await asyncio.wait_for(self.reader.readuntil(b"\r\n"), TIMEOUT_S), 16)
        return (await asyncio.wait_for(self.reader.readexactly(size + 2), TIMEOUT_S))[:-2]

    async def frame(self) -> tuple[int, bytes]:
        """The next WebSocket frame of the server: opcode and payload."""
        first, second = await asyncio.wait_for(self.reader.readexactly(2), TIMEOUT_S)
        length = second & 0x7F
        if length >= 126:
            size = 2 if length == 126 else 8
            length = int.from_bytes(await self.reader.readexactly(size), "big")
        return first & 0x0F, await asyncio.wait_for(self.reader.readexactly(length), TIMEOUT_S)

    async def push(self) -> Any:
        """The next text frame, as JSON."""
        opcode, payload = await self.frame()
        assert opcode == 1, (opcode, payload)
        return json.loads(payload)

    async def close_code(self) -> tuple[int, str]:
        """Code and reason of the close frame that comes, after whatever else; 1006 without one."""
        try:
            while True:
                opcode, payload = await self.frame()
                if opcode == 8:
                    return (int.from_bytes(payload[:2], "big"), payload[2:].decode()) if payload else (1005, "")
        except (asyncio.IncompleteReadError, ConnectionError):
            return 1006, ""

    def reset(self) -> None:
        """End it with a RST."""
        raw_socket = self.writer.get_extra_info("socket")
        raw_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            return


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for a state inside the server that shows itself to nobody outside."""
    async with asyncio.timeout(TIMEOUT_S):
        while not is_so():  # noqa: ASYNC110 - there is no event for it, which is why this exists
            await asyncio.sleep(0.002)


async def connect(server: RunningServer) -> Connection:
    return Connection(*await asyncio.open_connection("127.0.0.1", server.port))


@asynccontextmanager
async def connected(server: RunningServer) -> AsyncIterator[Connection]:
    connection = await connect(server)
    try:
        yield connection
    finally:
        await connection.close()


async def call(
    server: RunningServer,
    method: str,
    target: str | bytes,
    headers: Headers = NOTHING,
    body: bytes = b"",
    **options: Any,
) -> Answer:
    """Send one request, on a connection of its own, and return the answer."""
    async with connected(server) as connection:
        connection.send(request(method, target, headers, body, **options))
        return await connection.answer(is_head=method == "HEAD")


def frame(payload: bytes, opcode: int = 1, *, is_final: bool = True) -> bytes:
    """A client's WebSocket frame (RFC 6455, section 5.2)."""
    if len(payload) < 126:
        length = bytes((0x80 | len(payload),))
    elif len(payload) < 65_536:
        length = b"\xfe" + len(payload).to_bytes(2, "big")
    else:
        length = b"\xff" + len(payload).to_bytes(8, "big")
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
    return bytes(((0x80 if is_final else 0) | opcode,)) + length + mask + masked


def text(command: Any) -> bytes:
    """A command as a text frame."""
    return frame(json.dumps(command).encode())


@asynccontextmanager
async def websocket(
    server: RunningServer, target: str, headers: Mapping[str, str] = NOTHING
) -> AsyncIterator[Connection]:
    """Open one; it must be accepted."""
    async with connected(server) as connection:
        connection.send(request("GET", target, {**WEBSOCKET, **headers}))
        head = await connection.head()
        assert head.status == 101, (head, await connection.ended())
        yield connection


class EventStream:
    """An event stream, as lines of text: comments, fields and empty lines, in order."""

    def __init__(self, connection: Connection, head: Answer) -> None:
        self.headers = head.headers
        self.connection = connection
        self._rest = b""
        self._blocks: list[list[str]] = []

    async def block(self) -> list[str]:
        """The lines of the next block (what stands between two empty lines). Raises EOFError at the end."""
        while not self._blocks:
            chunk = await self.connection.chunk()
            if not chunk:
                raise EOFError
            *blocks, self._rest = (self._rest + chunk).split(b"\n\n")
            self._blocks = [block.decode().split("\n") for block in blocks]
        return self._blocks.pop(0)

    async def event(self) -> dict[str, str]:
        """The fields of the next block that is more than a comment or a delay. Raises EOFError."""
        while True:
            fields = dict(line.split(": ", 1) for line in await self.block() if not line.startswith(":"))
            fields.pop("retry", None)
            if fields:
                return fields

    async def rest(self) -> list[list[str]]:
        """All blocks until the stream's end."""
        blocks = []
        try:
            while True:
                blocks.append(await self.block())
        except EOFError:
            return blocks


@asynccontextmanager
async def event_stream(
    server: RunningServer, target: str, headers: Mapping[str, str], *, method: str = "GET", body: bytes = b""
) -> AsyncIterator[EventStream]:
    """Open one; it must be taken."""
    async with connected(server) as connection:
        connection.send(request(method, target, {**EVENTS, **headers}, body))
        head = await connection.head()
        assert head.status == 200, (head, await connection.ended())
        yield EventStream(connection, head)


class Bystander:
    """Somebody else's stream, which must not notice what one client does to the server."""

    def __init__(self, server: RunningServer, stream: EventStream) -> None:
        self._server = server
        self._stream = stream
        self._count = 0

    async def still_hears(self) -> None:
        """A publication still arrives, and it is the next one."""
        self._count += 1
        await self._server.engine.publish("bystander", self._count)
        while "data" not in (event := await self._stream.event()):
            pass
        assert event["data"] == str(self._count)


@asynccontextmanager
async def bystander(server: RunningServer) -> AsyncIterator[Bystander]:
    async with event_stream(server, "/v1/channels/bystander", server.bearer("bystander")) as stream:
        await stream.event()  # its starting cursor: from here on it misses nothing
        yield Bystander(server, stream)
