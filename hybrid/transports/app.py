"""Everything under `/v1`, as one ASGI callable in front of the application's own.

Channel names are read from the raw path (an encoded `/` belongs to a name), which is why none of this is routed by the
web framework.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from hybrid.auth.cookies import CookieReader
from hybrid.auth.origin import DoorPolicy
from hybrid.engine.engine import Engine
from hybrid.errors import HybridError, ProtocolError
from hybrid.links.head import Head
from hybrid.links.hypercorn_requests import keep_connection
from hybrid.links.kept import KeptConnections
from hybrid.transports.exchange import AsgiApp, Exchange, PeerGone, Receive, Scope, Send
from hybrid.transports.gate import Gate
from hybrid.transports.longpoll import LongPolls
from hybrid.transports.management import ManagementRequests
from hybrid.transports.requests import Requests
from hybrid.transports.sse import MEDIA_TYPE, EventStreams, refuse_for_browser
from hybrid.transports.target import CHANNELS_PATH
from hybrid.transports.uplink import Uplink
from hybrid.transports.websocket import WebSockets

_log = logging.getLogger(__name__)
PREFIX = b"/v1/"
_HISTORY = b"/v1/history/"
_PRESENCE = b"/v1/presence/"
_STREAM = b"/v1/stream"
_PING = b"/v1/ping"

Handler = Callable[[Exchange], Awaitable[None]]


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
        self._kept = KeptConnections()
        self._gate = Gate(
            engine, door_policy, public_url=public_url, resource_metadata=resource_metadata, cookie=cookie
        )
        self._websockets = WebSockets(engine, self._gate, allow_handoff=allow_handoff, may_deflate=may_deflate)
        self._event_streams = EventStreams(engine, self._gate, allow_handoff=allow_handoff)
        self._long_polls = LongPolls(engine, self._gate)
        self._uplink = Uplink(engine, self._gate)
        self._requests = Requests(engine, self._gate)
        self._management = ManagementRequests(engine, self._gate)
        self._posts: dict[bytes, Handler] = {
            _STREAM: self._session_stream,
            b"/v1/command": self._uplink.command,
            b"/v1/publish": self._requests.publish_many,
            b"/v1/ticket": self._requests.ticket,
            b"/v1/revoke": self._requests.revoke,
            **self._management.posts,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI call; whatever is not ours goes to the application behind."""
        if scope["type"] not in ("http", "websocket"):
            await self._fallback(scope, receive, send)
            return
        exchange = Exchange(scope, receive, send)
        if not exchange.raw_path.startswith(PREFIX):
            await self._fallback(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._handshake(exchange)
        else:
            await self._request(exchange)

    async def close(self) -> None:
        """End the connections that are kept for further requests, behind what is under way on them."""
        await self._kept.close(self._engine.limits.close_timeout_s)

    async def _keep(self, send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> bool:
        return await keep_connection(send, self._kept, _is_short, status, headers, body)

    async def _handshake(self, exchange: Exchange) -> None:
        try:
            self._gate.check(exchange)
            if exchange.raw_path == _STREAM:
                await self._websockets.session(exchange)
            elif _is_channels(exchange.raw_path):
                await self._websockets.plain(exchange)
            else:
                raise _not_found()
        except HybridError as error:
            await self._gate.refuse_handshake(exchange, error)
        except Exception:
            _log.exception("a WebSocket handshake failed")
            await self._gate.refuse_handshake(exchange, HybridError("internal"))

    async def _request(self, exchange: Exchange) -> None:
        if self._may_keep:
            exchange.keep = self._keep
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

    async def _route(self, exchange: Exchange) -> None:
        path, method = exchange.raw_path, exchange.method
        if method == "OPTIONS":
            exchange.extra_headers = self._gate.cors_headers(exchange, is_preflight=True)
            await exchange.respond(204)
        elif method == "POST" and path in self._posts:
            await self._posts[path](exchange)
        elif method == "POST" and path.startswith(CHANNELS_PATH + b"/"):
            await self._requests.publish(exchange, path[len(CHANNELS_PATH) + 1 :])
        elif method in ("GET", "HEAD") and _is_channels(path):
            await (self._event_streams.plain if exchange.accepts(MEDIA_TYPE) else self._long_polls.plain)(exchange)
        elif method == "GET" and path == _STREAM:  # no HEAD: it would use the ticket up
            await self._event_streams.session_by_ticket(exchange)
        elif method in ("GET", "HEAD") and path == _PING:
            await self._requests.ping(exchange)
        elif method in ("GET", "HEAD") and path.startswith(_HISTORY):
            await self._requests.history(exchange, path[len(_HISTORY) :])
        elif method in ("GET", "HEAD") and path.startswith(_PRESENCE):
            await self._requests.presence(exchange, path[len(_PRESENCE) :])
        elif method in ("GET", "HEAD") and self._management.is_read(path):
            await self._management.read(exchange)
        else:
            raise _not_found(self._methods(path))

    def _methods(self, path: bytes) -> str:
        """What a path is there for, in words; empty for a path that is nothing."""
        if path == _STREAM:
            return "GET (with Upgrade: websocket, or ?ticket=) and POST"
        if path in self._posts:
            return "POST"
        if path.startswith(CHANNELS_PATH + b"/"):
            return "GET and POST"
        if path in (CHANNELS_PATH, _PING) or path.startswith((_HISTORY, _PRESENCE)) or self._management.is_read(path):
            return "GET"
        return ""

    async def _session_stream(self, exchange: Exchange) -> None:
        if exchange.accepts(MEDIA_TYPE):
            await self._event_streams.session(exchange)
        else:
            await self._long_polls.session(exchange)


def _is_short(head: Head) -> bool:
    """Whether a request is one of ours and has one answer; a stream's connection is for Hypercorn to hand off."""
    if not head.raw_path.startswith(PREFIX) or (head.raw_path == _STREAM and head.method != "POST"):
        return False
    return not any(name == b"accept" and MEDIA_TYPE.encode() in value.lower() for name, value in head.headers)


def _is_channels(path: bytes) -> bool:
    return path == CHANNELS_PATH or path.startswith(CHANNELS_PATH + b"/")


def _not_found(methods: str = "") -> ProtocolError:
    if methods:
        return ProtocolError("not_found", f"This path answers {methods} only.")
    return ProtocolError(
        "not_found",
        "There is nothing here. The paths are /v1/channels/NAME, /v1/publish, /v1/history/NAME, /v1/presence/NAME, "
        "/v1/ticket, /v1/revoke, /v1/stream, /v1/command, /v1/ping and those of the server API.",
    )
