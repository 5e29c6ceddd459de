"""Connections of short requests: taken from Hypercorn behind an answer, and given back (see `links.hypercorn`)."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable
from functools import partial
from time import time
from typing import Any
from urllib.parse import unquote

from hybrid.links import hypercorn
from hybrid.links.asgi import Scope, Send
from hybrid.links.head import HAS_PARSER, Head
from hybrid.links.kept import GivenBack, KeptConnection, KeptConnections, Unread
from hybrid.links.kept_request import KeptRequest, answer_head

try:
    import h11
    from hypercorn.app_wrappers import ASGIWrapper
    from hypercorn.protocol.http_stream import ASGIHTTPState
except ImportError:  # `links.hypercorn` says so, and finds no sockets then
    pass


class _Front:
    """Hypercorn, as a kept connection sees it (`links.kept.Front`)."""

    __slots__ = (
        "_app",
        "_connected",
        "_is_counted",
        "_server",
        "_template",
        "head_max_bytes",
        "keep_alive_s",
        "requests_max",
    )

    def __init__(self, server: Any, stream: Any, connected: Any) -> None:
        """`stream` is Hypercorn's of the first request. Raises AttributeError where something is not as we know it.

        `connected` is what asyncio calls for a new connection, so that Hypercorn knows of the task.
        Its scope has been the application's, which may have put into it what is that request's alone.
        """
        config = server.config
        self._app = server.app.app
        self._server = (config, server.context, server.state)
        self._is_counted = server.context.max_requests is not None
        self._connected = connected
        self._template = {
            "type": "http",
            "http_version": "1.1",
            "scheme": stream.scheme,
            "root_path": config.root_path,
            "client": stream.client,
            "server": stream.server,
        }
        self.keep_alive_s: float = config.keep_alive_timeout
        self.requests_max: int = config.keep_alive_max_requests
        self.head_max_bytes: int = config.h11_max_incomplete_size

    def scope(self, head: Head) -> Scope:
        path = head.raw_path.decode("ascii")
        return {
            **self._template,
            "asgi": {"spec_version": "2.1", "version": "3.0"},
            "method": head.method,
            "path": unquote(path) if "%" in path else path,
            "raw_path": head.raw_path,
            "query_string": head.query_string,
            "headers": list(head.lines.headers),  # an application may change them
            "state": self._server[2].copy(),
            "extensions": {},
        }

    def headers(self) -> list[tuple[bytes, bytes]]:
        global _dated
        config, second = self._server[0], int(time())
        if _dated[:2] != (config, second):
            _dated = (config, second, list(config.response_headers("h11")))
        return _dated[2]

    def serve(self, request: KeptRequest) -> Awaitable[None]:
        answer: Awaitable[None] = self._app(request.scope, request.receive, request.send)
        return self._marked(answer) if self._is_counted else answer

    async def _marked(self, answer: Awaitable[None]) -> None:
        await self._server[1].mark_request()
        await answer

    async def log(self, request: KeptRequest, took_s: float) -> None:
        answer = {"status": request.status, "headers": request.headers} if request.status else None
        await self._server[0].log.access(request.scope, answer, took_s)

    def take_back(self, connection: GivenBack) -> None:
        protocol, transport = _Returned(self._connected, connection.requests), connection.transport
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if connection.is_full:
            protocol.pause_writing()
        if connection.left:
            protocol.data_received(connection.left)


class _Returned(asyncio.StreamReaderProtocol):
    """Hypercorn's protocol for a connection that came back: as for a new one, but it remembers its requests."""

    def __init__(self, connected: Any, requests: int) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(asyncio.StreamReader(loop=loop), connected, loop=loop)
        self.requests = requests


_dated: tuple[Any, int, list[tuple[bytes, bytes]]] = (None, 0, [])
"""What Hypercorn adds to answers, the date among it, as of that second."""


_kept: weakref.WeakKeyDictionary[Any, KeptConnections] = weakref.WeakKeyDictionary()
"""By Hypercorn's `WorkerContext`: those of one server."""


async def keep_connection(
    send: Send,
    is_ours: Callable[[Head], bool],
    status: int,
    headers: list[tuple[bytes, bytes]],
    body: bytes,
    unread: Unread,
) -> bool:
    """Answer a request whole, and take its connection over for what comes next. False: nothing was done.

    That is so unless the request has come wholly and its connection may go on. Hypercorn ends with these connections as
    with its own: they are closed when it is told to, and it waits for what is under way on them as long as for others.
    Raises ValueError for a header with a line break in it.
    """
    socket = hypercorn._find_socket(send, is_websocket=False)
    if socket is None or not socket.is_usable or not HAS_PARSER:
        return False
    stream, protocol, server = socket._stream, socket._protocol, socket._server
    try:
        config, context, before = protocol.config, server.context, socket.transport.get_protocol()
        requests = protocol.keep_alive_requests + (before.requests if isinstance(before, _Returned) else 0)
        if requests >= config.keep_alive_max_requests:
            protocol.keep_alive_requests = requests  # or it would count anew on a connection that came back
            return False
        together = _kept.setdefault(context, KeptConnections())
        if (
            stream.state is not ASGIHTTPState.REQUEST
            or protocol.connection.our_state is not h11.SEND_RESPONSE
            or protocol.connection.their_state is not h11.DONE
            or not isinstance(server.app, ASGIWrapper)
            or not isinstance(before, asyncio.StreamReaderProtocol)
            or not callable(before._client_connected_cb)  # type: ignore[attr-defined]
            or together.is_leaving
            or context.terminated.is_set()
            or config.server_names
            or config.h11_pass_raw_headers
        ):
            return False
        front = _Front(server, stream, before._client_connected_cb)  # type: ignore[attr-defined]
        log, scope, began_s = config.log.access, stream.scope, stream.start_time
        answer = answer_head(status, headers, front.headers()) + body
    except (AttributeError, TypeError) as error:
        hypercorn._warn_once(error)
        return False
    ended = None
    if not together.is_watched:
        # Hypercorn's tasks for one connection stay for all: it waits for them at its end, and they for the rest.
        together.is_watched = True
        ended = partial(_end_with, context, config, together)
    kept = KeptConnection(front, together, unread, is_ours, requests)
    socket.detach(kept, answer, ASGIHTTPState.CLOSED, hypercorn.KeptWriter(socket.transport, ended))
    await log(scope, {"status": status, "headers": headers}, time() - began_s)
    return True


async def _end_with(context: Any, config: Any, together: KeptConnections) -> None:
    """Close them all when the server is told to end."""
    await context.terminated.wait()
    await together.close(config.graceful_timeout)


def kept_connections() -> int:
    """How many there are in this process."""
    return sum(map(len, _kept.values()))
