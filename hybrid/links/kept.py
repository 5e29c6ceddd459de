"""A keep-alive connection (RFC 9112, section 9.3), taken over behind the answer to its first request.

To a server that is made for long answers a short one is dear: several tasks, queues and timers, and a parser in Python.
Here a request is one task, and between two requests there is nothing but this object. Each goes to the same ASGI
application as before. What is not of the plain kind (`links.head`), or not for us (`is_ours`), goes back to the server
with the whole connection, and is served there as if it had come first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import time
from typing import NamedTuple, Protocol

from hybrid.links.head import HEAD_END, Head, HeadReader
from hybrid.links.kept_request import AHEAD_MAX_BYTES, Headers, KeptRequest, Scope, failure

_log = logging.getLogger(__name__)


class GivenBack(NamedTuple):
    """A connection that is its server's again. `left` has come and was not used; `requests` were begun on it."""

    transport: asyncio.Transport
    left: bytes
    requests: int
    is_full: bool
    """True while its peer does not read what is written."""


class Front(Protocol):
    """The server in front: what it has settled for this connection, and the way back to it."""

    keep_alive_s: float
    requests_max: int
    head_max_bytes: int

    def scope(self, head: Head) -> Scope:
        """The ASGI scope of a request."""

    def headers(self) -> Headers:
        """What it adds to every answer."""

    def serve(self, request: KeptRequest) -> Awaitable[None]:
        """What to await: the application."""

    async def log(self, request: KeptRequest, took_s: float) -> None:
        """Write the access log."""

    def take_back(self, connection: GivenBack) -> None:
        """Serve the connection again."""


class Unread(Protocol):
    """Where answers that are not read are counted together with all else that is not; past a bound it aborts some."""

    def paused(self, link: KeptConnection, /) -> None:
        """So much is written that its peer has not read; see `KeptConnection.buffered`."""

    def gone(self, link: KeptConnection, /) -> None:
        """It is read again, or has ended, or went back. Does nothing where it was not paused."""


class KeptConnections:
    """Those of one server, from when they are taken over until they have ended or gone back; for its end."""

    def __init__(self) -> None:
        self._open: set[KeptConnection] = set()
        self._emptied: asyncio.Future[None] | None = None
        self.is_leaving = False
        """True at the end: no more are to be taken over."""
        self.is_watched = False
        """True when somebody waits for the end; whoever does sets it."""

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: KeptConnection) -> None:
        """One was taken over."""
        self._open.add(connection)

    def discard(self, connection: KeptConnection) -> None:
        """One has ended, or went back."""
        self._open.discard(connection)
        if not self._open and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    async def close(self, patience_s: float) -> None:
        """Close those that are idle, the others behind their answers, and return when all that was written has left.

        What is not gone when patience is over, or when this is cancelled, is cut.
        """
        self.is_leaving = True
        for connection in list(self._open):
            connection.leave()
        try:
            if self._open:
                self._emptied = asyncio.get_running_loop().create_future()
                with suppress(TimeoutError):
                    async with asyncio.timeout(patience_s):
                        await self._emptied
        finally:
            for connection in list(self._open):
                connection.abort()


class KeptConnection(asyncio.Protocol):
    """See the module's text. It works on any asyncio or uvloop stream transport, plain or TLS."""

    __slots__ = (
        "_ahead",
        "_drained",
        "_front",
        "_heads",
        "_idle_since_s",
        "_is_leaving",
        "_is_ours",
        "_is_reading_paused",
        "_loop",
        "_request",
        "_requests",
        "_task",
        "_timer",
        "_together",
        "_transport",
        "_unread",
    )

    _transport: asyncio.Transport

    def __init__(
        self, front: Front, together: KeptConnections, unread: Unread, is_ours: Callable[[Head], bool], requests: int
    ) -> None:
        """`requests` were begun on it before."""
        self._front = front
        self._unread = unread
        self._together = together
        self._is_ours = is_ours
        self._requests = requests
        self._heads = HeadReader()
        self._loop = asyncio.get_running_loop()
        self._ahead: bytes | bytearray = b""  # what came behind the request at hand
        self._request: KeptRequest | None = None
        self._task: asyncio.Task[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._idle_since_s = 0.0
        self._is_leaving = False
        self._is_reading_paused = False

    # -- the beginning and the end

    def start(self, transport: asyncio.Transport, head: bytes, left: bytes, has_ended: bool) -> None:
        """Take the transport over and write `head`, here a whole answer; see `_HandedOff.start` for the rest."""
        self._transport = transport
        transport.set_protocol(self)
        transport.write(head)
        transport.resume_reading()
        self._together.add(self)
        self._ahead = left
        self._rest()
        if has_ended:
            self._loop.call_soon(transport.close)
        elif left:
            self._loop.call_soon(self._look)

    @property
    def is_busy(self) -> bool:
        """True while a request is not answered."""
        return self._request is not None

    def leave(self) -> None:
        """End behind the request at hand, or now."""
        self._is_leaving = True
        if self._request is None:
            self._transport.close()
        else:
            self._request.ends_connection = True

    def abort(self) -> None:
        """End at once."""
        self._transport.abort()

    def buffered(self) -> int:
        """Bytes that are written and have not left."""
        return self._transport.get_write_buffer_size()

    def _give_back(self) -> None:
        self._stop()
        left, self._ahead = bytes(self._ahead), b""
        self.resume_reading()
        self._front.take_back(GivenBack(self._transport, left, self._requests, self._drained is not None))

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._together.discard(self)
        self._unread.gone(self)

    # -- asyncio's side

    def data_received(self, data: bytes) -> None:
        """Bytes from the peer (called by the transport)."""
        request = self._request
        if request is None:
            self._hold(data)
            self._look()
        elif rest := request.feed(data):
            self._hold(rest)
            if len(self._ahead) > AHEAD_MAX_BYTES:
                self.pause_reading()

    def eof_received(self) -> bool:
        """The peer will send nothing more (called by the transport): what waits for something ends, as if it had gone.

        What is under way is answered all the same; TLS knows no half-closed connections.
        """
        self._lost()
        return self.is_busy and self._transport.get_extra_info("sslcontext") is None

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended (called by the transport)."""
        self._lost()
        self._stop()

    def _lost(self) -> None:
        self._is_leaving = True
        if self._request is not None:
            self._request.lose()
        self.resume_writing()

    def pause_writing(self) -> None:
        """The peer does not read (called by the transport)."""
        self._drained = self._loop.create_future()
        self._unread.paused(self)

    def resume_writing(self) -> None:
        """It does again (called by the transport)."""
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)
            self._unread.gone(self)

    # -- requests

    def _hold(self, data: bytes) -> None:
        if not self._ahead:
            self._ahead = data
            return
        if isinstance(self._ahead, bytes):
            self._ahead = bytearray(self._ahead)  # or single bytes would each copy all those before them
        self._ahead += data

    def _look(self) -> None:
        """Begin the request that has come, once its head is whole."""
        if self._is_leaving or self._transport.is_closing() or self._request is not None:
            return
        ahead = self._ahead
        end = ahead.find(HEAD_END) + len(HEAD_END)
        if end < len(HEAD_END):
            if len(ahead) > self._front.head_max_bytes:
                self._give_back()
            return
        head = self._heads.read(bytes(ahead[:end])) if end <= self._front.head_max_bytes else None
        if head is None or not self._is_ours(head):
            self._give_back()
            return
        self._requests += 1
        request = self._request = KeptRequest(self, self._front.scope(head), head.lines)
        request.ends_connection = self._requests >= self._front.requests_max
        self._ahead = request.feed(bytes(ahead[end:])) if len(ahead) > end else b""
        self._task = self._loop.create_task(self._serve(request))

    async def _serve(self, request: KeptRequest) -> None:
        began_s = time()
        try:
            await self._front.serve(request)
        except Exception:
            _log.exception("a request failed")
        finally:
            self._served(request)
            await self._front.log(request, time() - began_s)

    def _served(self, request: KeptRequest) -> None:
        self._request = self._task = None
        if self._transport.is_closing():
            return
        if not request.is_answered and request.status:
            self._transport.abort()  # the peer must not take what it has for the whole
            return
        if not request.is_answered and not request.is_lost:
            self._transport.write(failure(self._front.headers()))
            request.ends_connection = True
        if request.ends_connection or request.is_lost or not request.has_whole_body:
            self._transport.close()
            return
        self._rest()
        self.resume_reading()
        if self._ahead:
            self._look()

    # -- the requests' side

    @property
    def transport(self) -> asyncio.Transport:
        """See `Carrier.transport`."""
        return self._transport

    async def write(self, data: bytes) -> None:
        """See `Carrier.write`."""
        if not self._transport.is_closing():
            self._transport.write(data)
            if self._drained is not None:
                await self._drained

    def server_headers(self) -> Headers:
        """See `Carrier.server_headers`."""
        return self._front.headers()

    def pause_reading(self) -> None:
        """See `Carrier.pause_reading`."""
        if not self._is_reading_paused and not self._transport.is_closing():
            self._is_reading_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """See `Carrier.resume_reading`."""
        if self._is_reading_paused:
            self._is_reading_paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    # -- time

    def _rest(self) -> None:
        """Wait for the next request. One timer that is looked at when due: to move it each time would cost more."""
        self._idle_since_s = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(self._front.keep_alive_s, self._look_at_clock)

    def _look_at_clock(self) -> None:
        self._timer = None
        keep_alive_s = self._front.keep_alive_s
        left_s = keep_alive_s if self.is_busy else self._idle_since_s + keep_alive_s - self._loop.time()
        if left_s > 0:
            self._timer = self._loop.call_later(left_s, self._look_at_clock)
        elif self.buffered():
            self._transport.abort()  # a close would wait for a peer that does not read
        else:
            self._transport.close()
