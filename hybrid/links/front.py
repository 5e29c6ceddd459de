"""In front of Hypercorn on its own listening socket: reads the requests that open streams, and those only.

A connection begins here. When what it has sent is a stream's request, whole and plain (`recognise`), the application
is called for it through ASGI, as Hypercorn would have done, and the link that it opens takes the socket. Everything
else is Hypercorn's, with all its bytes and as if it had come there at once: any other request, an unusual one, one that
takes its time; and, behind an answer that is no stream, the connection.

    connected ──► WAITING ──a stream's request──► ASKED ──its link──► TAKEN
                     └──anything else──► Hypercorn ◄──┘ answered without a stream
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from email.utils import formatdate
from functools import lru_cache
from typing import Any, Final, TypeAlias, cast
from urllib.parse import unquote

from hybrid.links.asgi import AsgiApp, Message, Scope, Send
from hybrid.links.handoff import HandedOffEventStream, HandedOffWebSocket
from hybrid.links.heads import event_stream_head, response_head, websocket_head
from hybrid.links.recognise import StreamRequest, Verdict, recognise

ProtocolFactory: TypeAlias = Callable[[], asyncio.Protocol]

_log = logging.getLogger(__name__)

LOOKS_MAX: Final = 8
"""Pieces in which a request may come; what drips is not read anew for each drop, but Hypercorn's."""
PATIENCE_S: Final = 1.0
"""For a request to be whole; a connection that takes longer is Hypercorn's, whose timeouts begin then."""

_WAITING: Final = 0
_ASKED: Final = 1
_TAKEN: Final = 2  # by a link
_OVER: Final = 3


class Front:
    """What is in front of one server. One event loop; `close` it before the server stops."""

    def __init__(self, app: AsgiApp, prefix: bytes, *, request_max_bytes: int) -> None:
        """`prefix` is what the paths of streams start with. What is longer than `request_max_bytes` is Hypercorn's."""
        self.app = app
        self.prefix = prefix
        self.request_max_bytes = request_max_bytes
        self.is_open = True
        self._waiting: dict[_Visitor, float] = {}  # since when, the longest first
        self._timer: asyncio.TimerHandle | None = None
        self._serving: set[asyncio.Task[None]] = set()

    def before(self, behind: ProtocolFactory) -> ProtocolFactory:
        """The protocol factory of a server whose own is `behind`."""
        return lambda: _Visitor(self, behind)

    def close(self) -> None:
        """Leave everything that comes from now on to Hypercorn, and whoever has not said what they want."""
        self.is_open = False
        for visitor in list(self._waiting):
            visitor.hand_over()
        if self._timer is not None:
            self._timer.cancel()

    async def served(self) -> None:
        """Return when the application has done with every request it was asked here. Cancel-safe."""
        while self._serving:
            await asyncio.wait(self._serving)

    def abort(self) -> None:
        """Cancel what the application has not done with."""
        for task in self._serving:
            task.cancel()

    # -- for visitors

    def wait(self, visitor: _Visitor) -> None:
        """It has connected."""
        loop = asyncio.get_running_loop()
        self._waiting[visitor] = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(PATIENCE_S, self._look)

    def forget(self, visitor: _Visitor) -> None:
        """It waits no more."""
        self._waiting.pop(visitor, None)

    def ask(self, visitor: _Visitor, scope: Scope) -> None:
        """Call the application."""
        task = asyncio.get_running_loop().create_task(visitor.serve(scope))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    def _look(self) -> None:
        """One timer for all who wait: whoever has waited for long enough goes on to Hypercorn."""
        loop = asyncio.get_running_loop()
        self._timer = None
        now_s = loop.time()
        for visitor, since_s in list(self._waiting.items()):
            if since_s + PATIENCE_S > now_s:
                self._timer = loop.call_at(since_s + PATIENCE_S, self._look)
                return
            visitor.hand_over()


class _Visitor(asyncio.Protocol):
    """One connection until it is somebody else's; while the application is asked, its `receive` and `send` too."""

    __slots__ = (
        "_behind",
        "_front",
        "_gone",
        "_held",
        "_inbox",
        "_is_full",
        "_is_last",
        "_looks",
        "_phase",
        "_request",
        "transport",
    )

    _request: StreamRequest
    transport: asyncio.Transport

    def __init__(self, front: Front, behind: ProtocolFactory) -> None:
        self._front = front
        self._behind = behind
        self._phase = _WAITING
        self._held = b""  # what it has sent and nobody has read
        self._looks = 0
        self._is_full = False  # it does not read what is written
        self._inbox: Message | None = None
        self._is_last: bool | None = None  # of an answer that has begun: whether the connection ends with it
        self._gone: asyncio.Future[None] | None = None

    # -- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client is here (called by the transport)."""
        self.transport = cast(asyncio.Transport, transport)
        if self._front.is_open:
            self._front.wait(self)
        else:
            self.hand_over()

    def data_received(self, data: bytes) -> None:
        """Bytes from the client (called by the transport)."""
        self._held += data
        is_long = len(self._held) > self._front.request_max_bytes
        if self._phase == _WAITING:
            self._looks += 1
            is_over = is_long or self._looks > LOOKS_MAX
            found = Verdict.OTHER if is_over else recognise(self._held, self._front.prefix)
            if isinstance(found, StreamRequest):
                self._ask(found)
            elif found is Verdict.OTHER:
                self.hand_over()
        elif self._phase == _ASKED:
            if self._is_websocket:  # before the answer there is nothing to say (RFC 6455, section 4.1)
                self._refuse(400)
            elif is_long:
                self.transport.pause_reading()

    def pause_writing(self) -> None:
        """The client does not read (called by the transport)."""
        self._is_full = True

    def resume_writing(self) -> None:
        """It does again (called by the transport)."""
        self._is_full = False

    def eof_received(self) -> bool | None:
        """The client will send nothing more (called by the transport)."""
        if self._phase == _WAITING:
            return self.hand_over().eof_received()
        return False  # as Hypercorn, which sees an end in it: the transport closes itself

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended (called by the transport)."""
        self._front.forget(self)
        self._finish()

    # -- to the link

    def take_websocket(self, link: HandedOffWebSocket, subprotocol: str | None) -> bool:
        """See `take_websocket` below."""
        return self._take(link, websocket_head(self._request.websocket_key, subprotocol, [_date()]))

    def take_event_stream(self, link: HandedOffEventStream, headers: list[tuple[bytes, bytes]]) -> bool:
        """See `take_event_stream` below."""
        return self._take(link, event_stream_head([*headers, _date()], is_chunked=link.is_chunked))

    def _take(self, link: HandedOffWebSocket | HandedOffEventStream, head: bytes) -> bool:
        if self._phase != _ASKED or self._is_last is not None or self.transport.is_closing():
            return False
        self._finish(_TAKEN)
        link.start(self.transport, head, self._held, has_ended=False)
        return True

    # -- to Hypercorn

    def hand_over(self) -> asyncio.Protocol:
        """Put Hypercorn's protocol in charge, from the first byte that nobody has read."""
        self._front.forget(self)
        self._finish()
        transport, protocol = self.transport, self._behind()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if self._is_full:
            protocol.pause_writing()
        transport.resume_reading()
        if self._held:
            protocol.data_received(self._held)
        return protocol

    # -- the ASGI call

    def _ask(self, request: StreamRequest) -> None:
        self._request = request
        self._phase = _ASKED
        self._held = b""
        self._front.forget(self)
        self._front.ask(self, self._scope())

    def _scope(self) -> Scope:
        request, transport = self._request, self.transport
        path, _, query = request.target.partition(b"?")
        is_secure = transport.get_extra_info("sslcontext") is not None
        scope: Scope = {
            "http_version": "1.1",
            "path": unquote(path.decode("ascii")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": request.headers,
            "client": _address(transport.get_extra_info("peername")),
            "server": _address(transport.get_extra_info("sockname")),
        }
        if self._is_websocket:
            scope["type"] = "websocket"
            scope["asgi"] = {"spec_version": "2.3", "version": "3.0"}
            scope["scheme"] = "wss" if is_secure else "ws"
            scope["subprotocols"] = request.subprotocols
            scope["extensions"] = {"websocket.http.response": {}}
            self._inbox = {"type": "websocket.connect"}
        else:
            scope["type"] = "http"
            scope["asgi"] = {"spec_version": "2.1", "version": "3.0"}
            scope["scheme"] = "https" if is_secure else "http"
            scope["method"] = request.method
            scope["extensions"] = {}
            self._inbox = {"type": "http.request", "body": request.body, "more_body": False}
        return scope

    async def serve(self, scope: Scope) -> None:
        """The application's call, to its end."""
        try:
            await self._front.app(scope, self.receive, self.send)
        except Exception:
            _log.exception("the application failed")
        finally:
            if self._phase == _ASKED and not self.transport.is_closing():
                self._refuse(500)

    async def receive(self) -> Message:
        """ASGI's `receive`: the request, then the client's end."""
        if self._inbox is not None:
            message, self._inbox = self._inbox, None
            return message
        if self._phase == _ASKED:
            self._gone = asyncio.get_running_loop().create_future()
            await self._gone
        if self._is_websocket:
            return {"type": "websocket.disconnect", "code": 1006}
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """ASGI's `send`, for answers that are no streams: those take the socket.

        Raises OSError when the client is gone, RuntimeError for what is no such answer.
        """
        if self._phase != _ASKED or self.transport.is_closing():
            raise ConnectionResetError("the client is gone")
        match message["type"].removeprefix("websocket."):
            case "http.response.start" if self._is_last is None:
                self._begin_answer(message["status"], list(message.get("headers", ())))
            case "http.response.body" if self._is_last is not None:
                self.transport.write(message.get("body", b""))
                if not message.get("more_body", False):
                    self._end_answer()
            case "close" if self._is_last is None:
                self._refuse(403)
            case kind:
                raise RuntimeError(f"{kind}: a stream's request is answered once, or by a link that takes the socket")

    def _begin_answer(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        names = {name.lower() for name, _ in headers}
        is_last = (
            self._is_websocket or not self._front.is_open or b"content-length" not in names or self._asks_for_close
        )
        if is_last and b"connection" not in names:
            headers.append((b"connection", b"close"))
        self._is_last = is_last or (b"connection", b"close") in headers
        self.transport.write(response_head(b"HTTP/1.1 %d " % status, [*headers, _date()]))

    def _end_answer(self) -> None:
        if self._is_last or self.transport.is_closing():
            self._finish()
            self.transport.close()
        else:
            self.hand_over()

    def _refuse(self, status: int) -> None:
        if self._is_last is None:
            self._begin_answer(status, [(b"content-length", b"0"), (b"connection", b"close")])
        self._is_last = True
        self._end_answer()

    @property
    def is_taken(self) -> bool:
        """True when a link has the socket."""
        return self._phase == _TAKEN

    @property
    def _asks_for_close(self) -> bool:
        return any(name == b"connection" and b"close" in value.lower() for name, value in self._request.headers)

    @property
    def _is_websocket(self) -> bool:
        return bool(self._request.websocket_key)

    def _finish(self, phase: int = _OVER) -> None:
        self._phase = phase
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)


def take_websocket(send: Send, link: HandedOffWebSocket, subprotocol: str | None) -> bool:
    """Accept the handshake and put `link` in charge of the socket, without awaiting. False: nothing was done."""
    visitor = getattr(send, "__self__", None)
    return isinstance(visitor, _Visitor) and visitor.take_websocket(link, subprotocol)


def take_event_stream(send: Send, link: HandedOffEventStream, headers: list[tuple[bytes, bytes]]) -> bool:
    """Send a 200 head and put `link` in charge of the socket, without awaiting. False: nothing was done."""
    visitor = getattr(send, "__self__", None)
    return isinstance(visitor, _Visitor) and visitor.take_event_stream(link, headers)


def transport_of(send: Send) -> asyncio.WriteTransport | None:
    """The transport of a request that was recognised here; None for Hypercorn's, and when a link has taken it."""
    visitor = getattr(send, "__self__", None)
    return visitor.transport if isinstance(visitor, _Visitor) and not visitor.is_taken else None


def _date() -> tuple[bytes, bytes]:
    return b"date", _date_of(int(time.time()))


@lru_cache(maxsize=1)
def _date_of(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()


def _address(name: Any) -> tuple[str, int] | None:
    return name[:2] if isinstance(name, tuple) else None  # a socket that is not TCP, or whose client is gone
