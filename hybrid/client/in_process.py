"""A server in this process, asked through its ASGI callable: every transport of the client, and no sockets.

What a server and a network would do beside carrying bytes is left out: no handshake's keys, no pings, no fragments.
What they do that matters to both sides is kept: an application that is ahead of its reader waits, and whoever leaves
is noticed. ASGI 3.0, HTTP and WebSocket specification 2.4.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeAlias
from urllib.parse import unquote, urlsplit

import httpx2
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK
from websockets.frames import Close

from hybrid.client.ending import Ending, of_http

Message: TypeAlias = MutableMapping[str, Any]
AsgiApp: TypeAlias = Callable[[Any, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]

_AHEAD_MAX: Final = 16  # messages that the application may be ahead of its reader
_CLIENT: Final = ("127.0.0.1", 49_152)
_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443}
_CLOSE_TIMEOUT_S: Final = 2.0


class _Call:
    """One ASGI call in a task of its own; what it sends waits here, bounded, for who reads it."""

    def __init__(self, app: AsgiApp, scope: dict[str, Any], first: Message) -> None:
        self.sent: deque[Message] = deque()
        self.received: deque[Message] = deque((first,))
        self.is_over = False  # nobody reads any more
        self._changed = asyncio.Event()
        self.task = asyncio.get_running_loop().create_task(self._run(app, scope))

    async def _run(self, app: AsgiApp, scope: dict[str, Any]) -> None:
        try:
            await app(scope, self._receive, self._send)
        finally:
            self._changed.set()

    async def until(self, is_true: Callable[[], bool]) -> None:
        """Wait for something that either side can bring about."""
        while not is_true():
            self._changed.clear()
            await self._changed.wait()

    def tell(self, message: Message) -> None:
        """What the application receives next."""
        self.received.append(message)
        self._changed.set()

    async def next(self) -> Message | None:
        """What it sends next; None when it has returned. Raises what it raises. Cancel-safe."""
        await self.until(lambda: bool(self.sent) or self.task.done())
        if self.sent:
            self._changed.set()
            return self.sent.popleft()
        self.task.result()
        return None

    def leave(self, message: Message) -> None:
        """The peer is gone: `message` says so."""
        self.is_over = True
        self.tell(message)

    async def _receive(self) -> Message:
        await self.until(lambda: bool(self.received))
        return self.received.popleft()

    async def _send(self, message: Message) -> None:
        if self.is_over:
            raise OSError("the peer is gone")
        self.sent.append(dict(message))
        self._changed.set()
        await self.until(lambda: len(self.sent) < _AHEAD_MAX or self.is_over)


class _Body(httpx2.AsyncByteStream):
    def __init__(self, call: _Call) -> None:
        self._call = call
        self._has_ended = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while not self._has_ended:
            message = await self._call.next()
            if message is None:
                return
            self._has_ended = not message.get("more_body", False)
            if message.get("body"):
                yield bytes(message["body"])

    async def aclose(self) -> None:
        """Leave; the application notices."""
        self._call.leave({"type": "http.disconnect"})
        await _ended(self._call.task)


class InProcess(httpx2.AsyncBaseTransport):
    """The HTTP transport, and the WebSockets. One for each client."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """One request. Raises what the application raises before it has answered."""
        body = await request.aread()
        headers = [(name.lower(), value) for name, value in request.headers.raw]
        scope = _scope("http", str(request.url), headers) | {"method": request.method}
        call = _Call(self._app, scope, {"type": "http.request", "body": body, "more_body": False})
        try:
            start = await call.next()
        except BaseException:
            call.leave({"type": "http.disconnect"})
            await _ended(call.task)
            raise
        if start is None:
            raise httpx2.ReadError("the application did not answer")
        return httpx2.Response(start["status"], headers=list(start.get("headers", ())), stream=_Body(call))

    async def websocket(
        self, url: str, headers: dict[str, str], subprotocols: Sequence[str]
    ) -> InProcessWebSocket | Ending:
        """An open WebSocket, or how it was refused. Raises what the application raises before it has answered."""
        parts = urlsplit(url)
        pairs = [(b"host", parts.netloc.encode())]
        pairs += [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        scope = _scope("websocket", url, pairs) | {
            "subprotocols": list(subprotocols),
            "extensions": {"websocket.http.response": {}},
        }
        call = _Call(self._app, scope, {"type": "websocket.connect"})
        try:
            answer = await call.next()
            if answer is not None and answer["type"] == "websocket.accept":
                return InProcessWebSocket(call, answer.get("subprotocol"))
            status, told = 403, {}
            if answer is not None and answer["type"] == "websocket.http.response.start":
                status = answer["status"]
                told = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer["headers"]}
            body = b"".join([bytes(part.get("body", b"")) async for part in _rest(call)])
            await _ended(call.task)
            return of_http(status, told, body)
        except BaseException:
            call.leave({"type": "websocket.disconnect", "code": 1006})
            await _ended(call.task)
            raise


class InProcessWebSocket:
    """As much of `websockets`' connection as the client uses."""

    def __init__(self, call: _Call, subprotocol: str | None) -> None:
        self.subprotocol = subprotocol
        self._call = call
        self._closed: Close | None = None

    @property
    def transport(self) -> InProcessWebSocket:
        """What can be aborted."""
        return self

    async def recv(self, decode: bool | None = None) -> bytes:
        """The next message, as bytes. Raises ConnectionClosed. Cancel-safe."""
        message = None if self._call.is_over else await self._call.next()
        if message is not None and message["type"] == "websocket.send":
            text = message.get("text")
            return bytes(message["bytes"]) if text is None else str(text).encode()
        if message is not None:
            self._closed = Close(message.get("code", 1000), message.get("reason") or "")
            self._call.leave({"type": "websocket.disconnect", "code": self._closed.code})
        raise self._end()

    async def send(self, message: bytes, text: bool | None = None) -> None:
        """Send a message. Raises ConnectionClosed."""
        if self._call.is_over or self._call.task.done():
            raise self._end()
        body: dict[str, Any] = {"text": message.decode()} if text else {"bytes": message}
        self._call.tell({"type": "websocket.receive", **body})

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Say goodbye and wait for the application to hear it."""
        self._call.leave({"type": "websocket.disconnect", "code": code, "reason": reason})
        await _ended(self._call.task)

    def abort(self) -> None:
        """Vanish."""
        if not self._call.is_over:
            self._call.leave({"type": "websocket.disconnect", "code": 1006})

    def _end(self) -> ConnectionClosedError | ConnectionClosedOK:
        if self._closed is not None and self._closed.code == 1000:
            return ConnectionClosedOK(self._closed, self._closed, True)
        return ConnectionClosedError(self._closed, None)


async def _rest(call: _Call) -> AsyncIterator[Message]:
    while (message := await call.next()) is not None:
        yield message
        if not message.get("more_body", False):
            return


async def _ended(task: asyncio.Task[None]) -> None:
    """Wait for an application whose peer has left; one that does not notice in time is cancelled."""
    await asyncio.wait({task}, timeout=_CLOSE_TIMEOUT_S)
    task.cancel()
    with suppress(asyncio.CancelledError, OSError):
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()


def _scope(kind: str, url: str, headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    parts = urlsplit(url)
    raw_path = parts.path or "/"
    return {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": parts.scheme,
        "path": unquote(raw_path),
        "raw_path": raw_path.encode("ascii"),
        "query_string": parts.query.encode("ascii"),
        "root_path": "",
        "headers": headers,
        "client": _CLIENT,
        "server": (parts.hostname, parts.port or _PORTS[parts.scheme]),
        "state": {},
    }
