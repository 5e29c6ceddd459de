"""Legs spoken by hand, with nothing of hybrid's own client in them: what goes over the wire is what a test says.

One shape for the three transports: open, `next` push, `command`, `close`. A leg that nobody asks for its next push is
not read at all: the kernel's buffers and the reader's few kilobytes fill up, as those of a client that hangs.
"""

from __future__ import annotations

import asyncio
import json
import socket
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from typing import Any, Final

_READ_MAX: Final = 4_096
_UPGRADE: Final = (
    "GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Protocol: hybrid.v1\r\n\r\n"
)
_POST: Final = (
    "POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nAccept: {accept}\r\n"
    "Content-Type: application/json\r\nContent-Length: {length}\r\n{more}\r\n"
)


@dataclass(frozen=True)
class Door:
    """Where a server is reached, perhaps through a wire, and by which name it knows itself."""

    address: tuple[str, int]
    host: str
    token: str


@dataclass(frozen=True)
class Answer:
    """What came back for a POST; `body` is its JSON."""

    status: int
    body: Any


class Ended(Exception):
    """The leg is over; `code` is that of the close frame or the number of the refusal, 0 where there was none."""

    def __init__(self, code: int = 0) -> None:
        super().__init__(code)
        self.code = code


async def _connect(door: Door, buffer_bytes: int | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    end = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    end.setblocking(False)
    if buffer_bytes is not None:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    try:
        await asyncio.get_running_loop().sock_connect(end, door.address)
    except BaseException:
        end.close()
        raise
    return await asyncio.open_connection(sock=end, limit=_READ_MAX)


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    try:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise Ended from error
    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
    return int(lines[0].split(" ")[1]), headers


async def _exactly(reader: asyncio.StreamReader, count: int) -> bytes:
    try:
        return await reader.readexactly(count)
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise Ended from error


def _post(door: Door, path: str, body: bytes, accept: str, more: str = "") -> bytes:
    head = _POST.format(path=path, host=door.host, token=door.token, accept=accept, length=len(body), more=more)
    return head.encode() + body


async def post(door: Door, path: str, body: Any) -> Answer:
    """One POST on a connection of its own. Raises Ended when no whole answer comes."""
    reader, writer = await _connect(door)
    try:
        writer.write(_post(door, path, json.dumps(body).encode(), "application/json", "Connection: close\r\n"))
        status, headers = await _read_head(reader)
        raw = await _exactly(reader, int(headers["content-length"]))
        return Answer(status, json.loads(raw) if raw else None)
    finally:
        writer.transport.abort()


class RawLeg(ABC):
    """See the module's text. `seen` holds every push that was read, heartbeats excepted."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.seen: list[dict[str, Any]] = []
        self.session = ""
        self._pushes: deque[dict[str, Any]] = deque()
        self._last_id = 0

    @abstractmethod
    async def open(self, attach: dict[str, Any], *, buffer_bytes: int | None = None) -> RawLeg:
        """Connect and send the attach; returns itself when it can be read. Raises Ended."""

    @abstractmethod
    async def _read(self) -> None:
        """Read on until at least one push has come. Raises Ended."""

    @abstractmethod
    async def command(self, **command: Any) -> dict[str, Any]:
        """Send a command and return its reply. Raises Ended."""

    @abstractmethod
    def close(self) -> None:
        """End at once."""

    async def next(self, *names: str) -> dict[str, Any]:
        """The next push with one of these fields; those before it are in `seen` only. Raises Ended.

        Heartbeats are passed over in silence unless they are asked for.
        """
        while True:
            while not self._pushes:
                await self._read()
            push = self._pushes.popleft()
            if "heartbeat" in push and "heartbeat" not in names:
                continue
            self.seen.append(push)
            if "attached" in push:
                self.session = push["attached"]["session"]
            if any(name in push for name in names):
                return push

    async def publications(self, count: int) -> list[int]:
        """The offsets of the next `count` publications."""
        return [(await self.next("publication"))["publication"]["offset"] for _ in range(count)]

    def _id(self) -> int:
        self._last_id += 1
        return self._last_id


class RawWebSocket(RawLeg):
    """Unmasked text frames down; frames masked with zeros up, which every server has to undo all the same."""

    _reader: asyncio.StreamReader
    _writer: asyncio.StreamWriter | None = None

    async def open(self, attach: dict[str, Any], *, buffer_bytes: int | None = None) -> RawLeg:
        self._reader, self._writer = await _connect(self.door, buffer_bytes)
        request = _UPGRADE.format(path="/v1/stream", host=self.door.host, token=self.door.token)
        self._writer.write(request.encode())
        status, _ = await _read_head(self._reader)
        if status != 101:
            raise Ended
        self.send(method="attach", **attach)
        return self

    def send(self, **command: Any) -> None:
        assert self._writer is not None
        payload = json.dumps(command).encode()
        is_short = len(payload) < 126
        length = bytes((0x80 | len(payload),)) if is_short else b"\xfe" + len(payload).to_bytes(2, "big")
        self._writer.write(b"\x81" + length + bytes(4) + payload)

    async def command(self, **command: Any) -> dict[str, Any]:
        number = self._id()
        self.send(id=number, **command)
        skipped: list[dict[str, Any]] = []
        while True:
            push = await self.next("reply", *_NAMES)
            if "reply" in push and push["reply"]["id"] == number:
                self._pushes.extendleft(reversed(skipped))
                return dict(push["reply"])
            self.seen.pop()
            skipped.append(push)

    async def _read(self) -> None:
        first, length = await _exactly(self._reader, 2)
        if length >= 126:
            length = int.from_bytes(await _exactly(self._reader, 2 if length == 126 else 8), "big")
        payload = await _exactly(self._reader, length)
        opcode = first & 0x0F
        if opcode == 8:
            raise Ended(int.from_bytes(payload[:2], "big"))
        if opcode < 8:
            self._pushes.extend(map(json.loads, payload.splitlines()))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()


class _Posting(RawLeg):
    """What both one-way transports have: commands by POST."""

    def post_of(self, *commands: dict[str, Any], last_seq: int = 0) -> dict[str, Any]:
        return {"session": self.session, "commands": list(commands), "last_seq": last_seq}

    async def command(self, **command: Any) -> dict[str, Any]:
        answer = await post(self.door, "/v1/command", self.post_of({"id": self._id(), **command}))
        assert answer.status == 200, answer
        return dict(answer.body["replies"][0])


class RawEventStream(_Posting):
    """A chunked event stream."""

    _reader: asyncio.StreamReader
    _writer: asyncio.StreamWriter | None = None
    _text = b""

    async def open(self, attach: dict[str, Any], *, buffer_bytes: int | None = None) -> RawLeg:
        self._reader, self._writer = await _connect(self.door, buffer_bytes)
        body = json.dumps({"method": "attach", **attach}).encode()
        self._writer.write(_post(self.door, "/v1/stream", body, "text/event-stream"))
        status, headers = await _read_head(self._reader)
        if status != 200:
            raise Ended(json.loads(await _exactly(self._reader, int(headers["content-length"])))["number"])
        return self

    async def _read(self) -> None:
        try:
            line = await self._reader.readuntil(b"\r\n")
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Ended from error
        chunk = await _exactly(self._reader, int(line, 16) + 2)
        if chunk == b"\r\n":
            raise Ended
        *events, self._text = (self._text + chunk[:-2]).split(b"\n\n")
        for event in events:
            data = [line.removeprefix(b"data: ") for line in event.splitlines() if line.startswith(b"data: ")]
            if data:
                self._pushes.append(json.loads(b"\n".join(data)))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()


class RawPolls(_Posting):
    """Polls, one connection each. `positions` are those of the pushes that `next` has given out."""

    def __init__(self, door: Door) -> None:
        super().__init__(door)
        self.attempt = 0
        self.last_seq = 0
        self.wait_s = 20.0
        self.sealed = ""
        self.positions: dict[str, dict[str, Any]] = {}

    async def open(self, attach: dict[str, Any], *, buffer_bytes: int | None = None) -> RawLeg:
        self.attempt = attach["attempt"]
        self.take_answer(await post(self.door, "/v1/stream", {"method": "attach", **attach}))
        return self

    def poll(self, **more: Any) -> dict[str, Any]:
        """The body of the next poll."""
        positions = [{"channel": channel, "position": position} for channel, position in self.positions.items()]
        return {
            "method": "poll",
            "session": self.session,
            "attempt": self.attempt,
            "last_seq": self.last_seq,
            "positions": positions,
            "sealed": self.sealed,
            "wait_s": self.wait_s,
            **more,
        }

    async def next(self, *names: str) -> dict[str, Any]:
        while True:
            push = await super().next(*_NAMES)
            self.take(push)
            if any(name in push for name in names):
                return push

    def take(self, push: dict[str, Any]) -> None:
        """Note what the next poll has to say of it."""
        self.last_seq = push.get("seq", self.last_seq)
        if "subscribed" in push:
            self.sealed = push["subscribed"]["sealed"]
            items = push["subscribed"]["channels"]
            self.positions = {item["channel"]: item["position"] for item in items if "error" not in item}
        elif "publication" in push:
            publication = push["publication"]
            self.positions[publication["channel"]] = {key: publication[key] for key in ("offset", "epoch", "tag")}
        elif "reset" in push:
            self.positions[push["reset"]["channel"]] = push["reset"]["position"]

    async def _read(self) -> None:
        self.take_answer(await post(self.door, "/v1/stream", self.poll()))

    def take_answer(self, answer: Answer) -> None:
        """Let `next` give out what a poll was answered with. Raises Ended."""
        if answer.status != 200:
            raise Ended(answer.body["number"])
        self._pushes.extend(answer.body["pushes"])

    def close(self) -> None:
        """Nothing stays open between polls."""


_NAMES: Final = (
    *("attached", "subscribed", "reply", "publication", "join", "leave"),
    *("subscribe", "unsubscribed", "reset", "expiring", "disconnect"),
)
RAW_LEGS: Final[dict[str, type[RawLeg]]] = {"websocket": RawWebSocket, "sse": RawEventStream, "longpoll": RawPolls}


def attach_of(attempt: int, *channels: str | dict[str, Any], confirm: bool = True, **more: Any) -> dict[str, Any]:
    """The fields of an attach; a channel is its name, or `{"channel", "position"?, "history"?}`."""
    named = [{"channel": channel} if isinstance(channel, str) else channel for channel in channels]
    return {"attempt": attempt, "nonce": f"n{attempt}", "confirm": confirm, "subscriptions": named, **more}
