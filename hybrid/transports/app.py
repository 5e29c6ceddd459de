"""Everything under `/v1`, as one ASGI callable in front of the application's own.

Channel names are read from the raw path (an encoded `/` belongs to a name), which is why none of this is routed by the
web framework.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from functools import partial

from hybrid.auth.cookies import CookieReader
from hybrid.auth.origin import DoorPolicy
from hybrid.engine.engine import Engine
from hybrid.errors import HybridError
from hybrid.links.head import Head
from hybrid.links.hypercorn_requests import keep_connection
from hybrid.logs import speaking
from hybrid.protocol.routes import ROUTES
from hybrid.transports.documents import Documents
from hybrid.transports.exchange import AsgiApp, Exchange, Headers, Receive, Scope, Send
from hybrid.transports.gate import Gate
from hybrid.transports.longpoll import LongPolls
from hybrid.transports.management import ManagementRequests
from hybrid.transports.requests import Requests
from hybrid.transports.routing import Routing, not_found
from hybrid.transports.sse import MEDIA_TYPE, EventStreams, refuse_for_browser
from hybrid.transports.target import CHANNELS_PATH
from hybrid.transports.uplink import Uplink
from hybrid.transports.watch import PeerGone
from hybrid.transports.websocket import WebSockets

_log = logging.getLogger(__name__)
PREFIX = b"/v1/"
UNDER = "hybrid.under"
"""In a scope: what stood in front of its path, and was taken away by who serves us below a path."""
_STREAM = b"/v1/stream"


class Transports:
    """Routes a request to its transport and turns errors into answers."""

    def __init__(
        self,
        engine: Engine,
        door_policy: DoorPolicy,
        fallback: AsgiApp,
        *,
        allow_handoff: bool = True,
        may_keep: bool = False,
        may_deflate: bool = True,
        public_url: str = "",
        resource_metadata: str = "",
        cookie: tuple[str, CookieReader] | None = None,
    ) -> None:
        self._engine = engine
        self._fallback = fallback
        self._may_keep = may_keep
        self._gate = Gate(
            engine, door_policy, public_url=public_url, resource_metadata=resource_metadata, cookie=cookie
        )
        self._websockets = WebSockets(engine, self._gate, allow_handoff=allow_handoff, may_deflate=may_deflate)
        self._event_streams = EventStreams(engine, self._gate, allow_handoff=allow_handoff)
        self._long_polls = LongPolls(engine, self._gate)
        self._uplink = Uplink(engine, self._gate)
        self._requests = Requests(engine, self._gate)
        documents, management = Documents(), ManagementRequests(engine, self._gate)
        self._routing = Routing(
            PREFIX,
            ROUTES,
            {
                "read_channels": self._channel,
                "read_channel": self._channel,
                "publish": self._requests.publish,
                "publish_batch": self._requests.publish_many,
                "history": self._requests.history,
                "presence": self._requests.presence,
                "ticket": self._requests.ticket,
                "revoke": self._requests.revoke,
                "broadcast": management.broadcast,
                "assign": management.subscribe,
                "unassign": management.unsubscribe,
                "disconnect": management.disconnect,
                "purge": management.purge,
                "list_channels": management.channels,
                "channel": management.channel,
                "list_sessions": management.sessions,
                "session": management.session,
                "nodes": management.nodes,
                "stats": management.stats,
                "drain": management.drain,
                "session_stream": self._session_stream,
                "session_by_ticket": self._event_streams.session_by_ticket,
                "command": self._uplink.command,
                "ping": self._requests.ping,
                "openapi": documents.openapi,
                "asyncapi": documents.asyncapi,
                "schema": documents.schema,
            },
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI call; whatever is not ours goes to the application behind."""
        if scope["type"] not in ("http", "websocket"):
            await self._fallback(scope, receive, send)
            return
        exchange = Exchange(scope, receive, send)
        if not exchange.raw_path.startswith(PREFIX):
            await self._fallback(scope, receive, send)
            return
        speaking.set(exchange)
        if scope["type"] == "websocket":
            await self._handshake(exchange)
        else:
            await self._request(exchange)

    async def _keep(
        self, send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes, *, under: bytes = b""
    ) -> bool:
        is_ours = partial(_is_short, under=under) if under else _is_short
        return await keep_connection(send, is_ours, status, headers, body, self._engine.slow)

    async def _handshake(self, exchange: Exchange) -> None:
        try:
            self._gate.check(exchange)
            if exchange.raw_path == _STREAM:
                await self._websockets.session(exchange)
            elif _is_channels(exchange.raw_path):
                await self._websockets.plain(exchange)
            else:
                raise not_found()
        except HybridError as error:
            await self._gate.refuse_handshake(exchange, error)
        except Exception:
            _log.exception("a WebSocket handshake failed")
            await self._gate.refuse_handshake(exchange, HybridError("internal"))

    async def _request(self, exchange: Exchange) -> None:
        exchange.bodies = self._engine.bodies
        if self._may_keep:
            under: bytes | None = exchange.scope.get(UNDER)
            exchange.keep = partial(self._keep, under=under) if under else self._keep
        try:
            exchange.extra_headers = self._gate.cors_headers(exchange)
            try:
                self._gate.check(exchange)
                await self._route(exchange)
            except HybridError as error:
                if error.row.name == "draining" and exchange.accepts(MEDIA_TYPE) and exchange.method == "GET":
                    await refuse_for_browser(exchange, error.retry_after_s or 0.0)
                else:
                    await self._gate.refuse(exchange, error)
            except PeerGone:
                raise
            except Exception:
                _log.exception("a request failed")
                await self._gate.refuse(exchange, HybridError("internal"))
        except PeerGone:
            return  # nobody is left to answer

    # What only chooses is no coroutine: a poll that waits keeps each of those that stand between it and its task.

    def _route(self, exchange: Exchange) -> Awaitable[None]:
        if exchange.method == "OPTIONS":
            exchange.extra_headers = self._gate.cors_headers(exchange, is_preflight=True)
            return exchange.respond(204)
        handler, segments = self._routing.find(exchange.method, exchange.raw_path)
        return handler(exchange, *segments)

    def _channel(self, exchange: Exchange, *_: bytes) -> Awaitable[None]:
        return (self._event_streams.plain if exchange.accepts(MEDIA_TYPE) else self._long_polls.plain)(exchange)

    def _session_stream(self, exchange: Exchange) -> Awaitable[None]:
        return (self._event_streams.session if exchange.accepts(MEDIA_TYPE) else self._long_polls.session)(exchange)


def _is_short(head: Head, under: bytes = b"") -> bool:
    """Whether a request is one of ours and has one answer; a stream's connection is for Hypercorn to hand off."""
    path = head.raw_path[len(under) :] if head.raw_path.startswith(under) else b""
    if not path.startswith(PREFIX) or (path == _STREAM and head.method != "POST"):
        return False
    return not head.lines.read(_names_event_streams)


def _names_event_streams(headers: Headers) -> bool:
    return any(name == b"accept" and MEDIA_TYPE.encode() in value.lower() for name, value in headers)


def _is_channels(path: bytes) -> bool:
    return path == CHANNELS_PATH or path.startswith(CHANNELS_PATH + b"/")
