"""A protocol server that does exactly what a test tells it: real sockets, no rules of its own.

WebSockets and HTTP listen on two ports; the client reaches both through its `dial` seam (`Scripted.dial`). A test takes
what arrives with `websocket()` and `request()` and answers by hand.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

PATIENCE_S = 5.0

Message = dict[str, Any]


def publication(offset: int, channel: str = "news", epoch: str = "k", **more: Any) -> Message:
    """A publication as on the wire, with its offset as data."""
    return {"channel": channel, "offset": offset, "epoch": epoch, "tag": f"{offset:08x}", "data": offset, **more}


def position(offset: int, epoch: str = "k") -> Message:
    """The position of that publication."""
    return {"offset": offset, "epoch": epoch, "tag": f"{offset:08x}"} if offset else {"offset": 0}


def attached(
    attach: Message,
    *,
    session: str = "s1",
    heartbeat_interval_s: float = 20.0,
    echo_interval_s: float = 0.0,
    **more: Any,
) -> Message:
    """The answer that opens a leg; of a server that knows no echo, if not told otherwise."""
    limits = {
        "data_max_bytes": 65_536,
        "command_max_bytes": 69_632,
        "channels_max": 256,
        "key_window_s": 300.0,
        "poll_wait_max_s": 25.0,
        **({"echo_interval_s": echo_interval_s} if echo_interval_s else {}),
    }
    return {
        "attached": {
            "session": session,
            "attempt": attach["attempt"],
            "nonce": attach["nonce"],
            "heartbeat_interval_s": heartbeat_interval_s,
            "limits": limits,
            **more,
        }
    }


def subscribed(*channels: Message, sealed: str = "") -> Message:
    """The whole truth."""
    return {"subscribed": {"channels": list(channels), **({"sealed": sealed} if sealed else {})}}


def at(offset: int, channel: str = "news", **more: Any) -> Message:
    """One channel of `subscribed`."""
    return {"channel": channel, "position": position(offset), **more}


@dataclass
class WebSocketLeg:
    """One WebSocket, from the server's side."""

    socket: ServerConnection
    done: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def headers(self) -> Any:
        assert self.socket.request is not None
        return self.socket.request.headers

    async def receive(self) -> Message:
        """The next command that is no heartbeat."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                frame = await self.socket.recv()
                command = json.loads(frame) if isinstance(frame, str) else msgspec.msgpack.decode(frame)
                if command["method"] != "heartbeat":
                    assert isinstance(command, dict)
                    return command

    async def asked(self) -> int:
        """The number of the next heartbeat that asks for one."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                command = json.loads(await self.socket.recv())
                if command["method"] == "heartbeat" and "echo" in command:
                    number = command["echo"]
                    assert isinstance(number, int)
                    return number

    async def send(self, *pushes: Message) -> None:
        if self.socket.subprotocol == "hybrid.v1.msgpack":
            for push in pushes:
                await self.socket.send(msgspec.msgpack.encode(push))
        else:
            await self.socket.send("\n".join(json.dumps(push) for push in pushes))

    async def publish(self, *offsets: int) -> None:
        for offset in offsets:
            await self.send({"publication": publication(offset)})

    async def reply(self, command: Message, **result: Any) -> None:
        await self.send({"reply": {"id": command["id"], **result}})

    async def open(self, *channels: Message, session: str = "s1", **more: Any) -> Message:
        """Take the attach of a client that has one transport, and make the leg current. Returns the attach."""
        attach = await self.receive()
        assert attach["method"] == "attach"
        await self.send(attached(attach, session=session, **more), subscribed(*channels))
        return attach

    def cut(self) -> None:
        self.socket.transport.abort()
        self.done.set()

    async def close(self, code: int, reason: str = "") -> None:
        self.done.set()
        await self.socket.close(code, reason)

    async def closed_with(self) -> int | None:
        """The close code the client sent; None for a cut."""
        async with asyncio.timeout(PATIENCE_S):
            with suppress(ConnectionClosed):
                while True:
                    await self.socket.recv()
        return self.socket.protocol.close_rcvd.code if self.socket.protocol.close_rcvd is not None else None


@dataclass
class Request:
    """One HTTP request, to be answered by hand."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    writer: asyncio.StreamWriter
    done: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def commands(self) -> list[Message]:
        commands = self.json["commands"]
        assert isinstance(commands, list)
        return commands

    async def respond(self, body: Any, status: int = 200, **headers: str) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(raw)}", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + raw)
        await self.end()

    async def refuse(self, number: int, status: int, **more: Any) -> None:
        await self.respond({"number": number, "name": "x", "detail": "because", "status": status, **more}, status)

    async def push(self, *pushes: Message) -> None:
        """Answer a poll."""
        await self.respond({"pushes": list(pushes)})

    async def reply(self, **result: Any) -> None:
        """Answer all commands of a POST alike."""
        await self.respond({"replies": [{"id": command.get("id", 0), **result} for command in self.commands]})

    async def begin_stream(self, *pushes: Message) -> None:
        self.writer.write(b"HTTP/1.1 200 X\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n: hi\n\n")
        await self.event(*pushes)

    async def event(self, *pushes: Message) -> None:
        """Push on an event stream."""
        for push in pushes:
            self.writer.write(b"data: " + json.dumps(push).encode() + b"\n\n")
        with suppress(ConnectionError):
            await self.writer.drain()

    async def raw(self, text: str) -> None:
        self.writer.write(text.encode())
        with suppress(ConnectionError):
            await self.writer.drain()

    async def end(self) -> None:
        with suppress(ConnectionError):
            await self.writer.drain()
        self.cut()

    def cut(self) -> None:
        self.writer.close()
        self.done.set()


class Scripted:
    """The two servers. `refuse_websockets` answers every upgrade with 426, as a proxy would.

    `GET /v1/ping` is answered by itself: as by a server that is there, or else as by the gateway of one that is not.
    """

    def __init__(self) -> None:
        self.refuse_websockets = False
        self.is_there = True
        self.pings = 0
        self._websockets: asyncio.Queue[WebSocketLeg] = asyncio.Queue()
        self._requests: asyncio.Queue[Request] = asyncio.Queue()
        self._open: list[WebSocketLeg | Request] = []
        self._ports: dict[str, int] = {}

    url = "http://hybrid.test"

    def dial(self, transport: str) -> tuple[str, int]:
        return "127.0.0.1", self._ports["websocket" if transport == "websocket" else "http"]

    async def websocket(self) -> WebSocketLeg:
        """The next WebSocket that was opened."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._websockets.get()

    async def request(self) -> Request:
        """The next HTTP request that arrived."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._requests.get()

    @property
    def is_quiet(self) -> bool:
        """True when nothing has arrived that no test took."""
        return self._websockets.empty() and self._requests.empty()

    async def _websocket(self, socket: ServerConnection) -> None:
        leg = WebSocketLeg(socket)
        self._open.append(leg)
        self._websockets.put_nowait(leg)
        await leg.done.wait()

    async def _http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            method, path, _ = head[0].split(" ")
            headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in head[1:] if line)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
            return
        request = Request(method, path, headers, body, writer)
        self._open.append(request)
        if path == "/v1/ping":
            self.pings += 1
            await request.respond({"at_ms": 1} if self.is_there else {}, 200 if self.is_there else 502)
            return
        self._requests.put_nowait(request)
        await request.done.wait()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Scripted]:
        async def upgrade(socket: ServerConnection, request: Any) -> Any:
            return socket.respond(426, "no upgrade here") if self.refuse_websockets else None

        protocols = [Subprotocol("hybrid.v1"), Subprotocol("hybrid.v1.msgpack")]
        http = await asyncio.start_server(self._http, "127.0.0.1", 0)
        try:
            async with serve(
                self._websocket,
                "127.0.0.1",
                0,
                subprotocols=protocols,
                select_subprotocol=lambda _, offered: offered[0] if offered else None,
                compression=None,
                process_request=upgrade,
                close_timeout=0.2,
            ) as websockets:
                self._ports = {
                    "websocket": next(iter(websockets.sockets)).getsockname()[1],
                    "http": http.sockets[0].getsockname()[1],
                }
                try:
                    yield self
                finally:
                    for connection in self._open:
                        connection.cut()
        finally:
            http.close()
            await http.wait_closed()
