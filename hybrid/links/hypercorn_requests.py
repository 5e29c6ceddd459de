"""Connections of short requests: taken from Hypercorn behind an answer, and given back (see `links.hypercorn`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import time
from typing import Any
from urllib.parse import unquote

from hybrid.links import hypercorn
from hybrid.links.asgi import Scope, Send
from hybrid.links.head import HAS_PARSER, Head
from hybrid.links.kept import KeptConnection, KeptConnections
from hybrid.links.kept_request import KeptRequest, answer_head

try:
    import h11
    from hypercorn.app_wrappers import ASGIWrapper
    from hypercorn.asyncio.tcp_server import TCPServer
    from hypercorn.protocol.http_stream import ASGIHTTPState
except ImportError:  # `links.hypercorn` says so, and finds no sockets then
    pass


class _Front:
    """Hypercorn, as a kept connection sees it (`links.kept.Front`)."""

    __slots__ = ("_app", "_server", "_template", "head_max_bytes", "keep_alive_s", "requests_max")

    def __init__(self, server: Any, stream: Any) -> None:
        """`stream` is Hypercorn's of the first request. Raises AttributeError where something is not as we know it.

        Its scope has been the application's, which may have put into it what is that request's alone.
        """
        config = server.config
        self._app = server.app.app
        self._server = (server.app, server.loop, config, server.context, server.state)
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
            "headers": head.headers,
            "state": self._server[4].copy(),
            "extensions": {},
        }

    def headers(self) -> list[tuple[bytes, bytes]]:
        global _dated
        config, second = self._server[2], int(time())
        if _dated[:2] != (config, second):
            _dated = (config, second, list(config.response_headers("h11")))
        return _dated[2]

    async def serve(self, request: KeptRequest) -> None:
        await self._server[3].mark_request()
        await self._app(request.scope, request.receive, request.send)

    async def log(self, request: KeptRequest, took_s: float) -> None:
        answer = {"status": request.status, "headers": request.headers} if request.status else None
        await self._server[2].log.access(request.scope, answer, took_s)

    def take_back(self, transport: asyncio.Transport, left: bytes) -> None:
        loop = asyncio.get_running_loop()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await TCPServer(*self._server, reader, writer)

        protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader(loop=loop), serve, loop=loop)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if left:
            protocol.data_received(left)


_dated: tuple[Any, int, list[tuple[bytes, bytes]]] = (None, 0, [])
"""What Hypercorn adds to answers, the date among it, as of that second."""


async def keep_connection(
    send: Send,
    together: KeptConnections,
    is_ours: Callable[[Head], bool],
    status: int,
    headers: list[tuple[bytes, bytes]],
    body: bytes,
) -> bool:
    """Answer a request whole, and take its connection over for what comes next. False: nothing was done.

    That is so unless the request has come wholly and its connection may go on. Raises ValueError for a header with a
    line break in it.
    """
    socket = hypercorn._find_socket(send, is_websocket=False)
    if socket is None or not socket.is_usable or not HAS_PARSER:
        return False
    stream, protocol, server = socket._stream, socket._protocol, socket._server
    try:
        config = protocol.config
        if (
            stream.state is not ASGIHTTPState.REQUEST
            or protocol.connection.our_state is not h11.SEND_RESPONSE
            or protocol.connection.their_state is not h11.DONE
            or protocol.keep_alive_requests >= config.keep_alive_max_requests
            or not isinstance(server.app, ASGIWrapper)
            or server.context.terminated.is_set()
            or config.server_names
            or config.h11_pass_raw_headers
        ):
            return False
        front = _Front(server, stream)
        log, scope, began_s = config.log.access, stream.scope, stream.start_time
        answer = answer_head(status, headers, front.headers()) + body
    except (AttributeError, TypeError) as error:
        hypercorn._warn_once(error)
        return False
    kept = KeptConnection(front, together, is_ours, protocol.keep_alive_requests)
    socket.detach(kept, answer, ASGIHTTPState.CLOSED)
    await log(scope, {"status": status, "headers": headers}, time() - began_s)
    return True
