"""One request on a kept connection, in ASGI's terms: what its application receives, and how its answer is written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any, Final, Protocol, TypeAlias

from hybrid.links.head import HeadLines

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Header: TypeAlias = tuple[bytes, bytes]
Headers: TypeAlias = Iterable[Header]

AHEAD_MAX_BYTES: Final = 65_536
"""What may have come and is not used yet, of a body or behind a request; then reading pauses."""
_GONE: Final[Message] = {"type": "http.disconnect"}
_STATUS_LINES: Final = {status: b"HTTP/1.1 %d \r\n" % status for status in range(200, 600)}
_CLOSE: Final = (b"connection", b"close")
_WITHOUT_BODY: Final = (204, 304)
_LAST_CHUNK: Final = b"0\r\n\r\n"


class Carrier(Protocol):
    """What a request asks of its connection."""

    @property
    def transport(self) -> asyncio.Transport:
        """What carries it."""

    async def write(self, data: bytes) -> None:
        """Write a part of an answer; returns when there is room for more. Nothing where the peer has gone."""

    def server_headers(self) -> Headers:
        """What the server adds to every answer."""

    def pause_reading(self) -> None:
        """Let the peer wait."""

    def resume_reading(self) -> None:
        """Let the peer go on."""


class KeptRequest:
    """See the module's text. `receive` and `send` are what an ASGI application is given."""

    __slots__ = (
        "_body",
        "_carrier",
        "_is_chunked",
        "_is_told",
        "_left",
        "_start",
        "_waiter",
        "ends_connection",
        "headers",
        "is_answered",
        "is_lost",
        "lines",
        "on_lost",
        "scope",
        "status",
    )

    def __init__(self, carrier: Carrier, scope: Scope, lines: HeadLines) -> None:
        self._carrier = carrier
        self._left = lines.body_bytes
        self._body = b""
        self._is_told = False  # that the body is over
        self._is_chunked = False
        self._start: Message | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.scope = scope
        self.lines = lines
        self.status = 0  # until the answer has begun
        self.headers: Headers = ()
        self.ends_connection = False
        self.is_answered = False
        self.is_lost = False
        self.on_lost: Callable[[], object] | None = None
        """Called once, when the peer goes away before it was answered."""

    @property
    def transport(self) -> asyncio.Transport:
        """Of the connection that it came on."""
        return self._carrier.transport

    @property
    def has_whole_body(self) -> bool:
        """True when all of the request has come."""
        return not self._left

    # -- the connection's side

    def feed(self, data: bytes) -> bytes:
        """Take what belongs to the body; returns what does not."""
        if not self._left:
            return data
        part, rest = data[: self._left], data[self._left :]
        self._body += part
        self._left -= len(part)
        if self._left and len(self._body) > AHEAD_MAX_BYTES:
            self._carrier.pause_reading()
        self._wake()
        return rest

    def lose(self) -> None:
        """The peer has gone."""
        if not self.is_lost:
            self.is_lost = True
            self._wake()
            if self.on_lost is not None:
                self.on_lost()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- the application's side

    async def receive(self) -> Message:
        """See ASGI: the body in parts, then the end. Cancel-safe."""
        while True:
            if self.is_lost or (self._is_told and self.is_answered):
                return _GONE
            if not self._is_told and (self._body or not self._left):
                body, self._body = self._body, b""
                self._is_told = not self._left
                if not self._is_told:
                    self._carrier.resume_reading()
                return {"type": "http.request", "body": body, "more_body": not self._is_told}
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def take_body(self) -> bytes | None:
        """`receive`, the whole body at once; None where it has not come yet, or `receive` has something else to say."""
        if self._left or self._is_told or self.is_lost:
            return None
        self._is_told = True
        body, self._body = self._body, b""
        return body

    async def send(self, message: Message) -> None:
        """See ASGI: the answer. Raises ValueError for a header that would break its head, RuntimeError out of turn."""
        kind, start = message["type"], self._start
        if kind == "http.response.start" and start is None:
            self._start = message
            return
        if kind != "http.response.body" or start is None or self.is_answered:
            raise RuntimeError(f"{kind} does not belong here")
        body: bytes = message.get("body", b"")
        is_last = not message.get("more_body", False)
        data = b"" if self.status else self._begin(start, len(body), is_last=is_last)
        if self.scope["method"] != "HEAD" and self.status not in _WITHOUT_BODY:
            data += self._framed(body, is_last) if self._is_chunked else body
        if is_last:
            self.is_answered = True
            self._wake()
        await self._carrier.write(data)

    async def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """`send`, the whole answer at once. Raises as it does."""
        if self._start is not None or self.is_answered:
            raise RuntimeError("there is an answer already")
        data = self._begin({"status": status, "headers": headers}, len(body), is_last=True)
        if self.scope["method"] != "HEAD" and status not in _WITHOUT_BODY:
            data += body
        self.is_answered = True
        self._wake()
        await self._carrier.write(data)

    def _begin(self, start: Message, size: int, *, is_last: bool) -> bytes:
        status, headers = int(start["status"]), list(start.get("headers", ()))
        names = {name.lower() for name, _ in headers}
        if b"content-length" not in names and status not in _WITHOUT_BODY:
            self._is_chunked = not is_last
            headers.append((b"content-length", b"%d" % size) if is_last else (b"transfer-encoding", b"chunked"))
        if b"connection" in names:
            self.ends_connection = True
        elif self.ends_connection:
            headers.append(_CLOSE)
        head = answer_head(status, headers, self._carrier.server_headers())
        self.status, self.headers = status, headers
        return head

    @staticmethod
    def _framed(body: bytes, is_last: bool) -> bytes:
        chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        return chunk + _LAST_CHUNK if is_last else chunk


def answer_head(status: int, headers: Headers, server_headers: Headers) -> bytes:
    """The head of an answer (RFC 9112, section 4). Raises ValueError for a header that would break it."""
    pairs = [*headers, *server_headers]
    lines = b"".join([b"%b: %b\r\n" % (name, value) for name, value in pairs])  # pairs of ASGI may be lists
    if not lines.count(b"\n") == lines.count(b"\r") == len(pairs) or b"\0" in lines:
        raise ValueError("a header would break the head of the answer")
    return _STATUS_LINES[status] + lines + b"\r\n"


def failure(server_headers: Headers) -> bytes:
    """What is written for an application that has failed before it began to answer."""
    return answer_head(500, ((b"content-length", b"0"), _CLOSE), server_headers)
