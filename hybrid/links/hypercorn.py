"""The one file that knows Hypercorn's insides (0.18), all of them found from the `send` it gives an application.

    send.__self__    WSStream or HTTPStream      .send.__self__ -> the connection's protocol
    the protocol     H11Protocol or H2Protocol   .send.__self__ -> the TCPServer
    the TCPServer    .reader and .writer: asyncio streams on the transport

A hand-off leaves Hypercorn's tasks for the connection in a world where the peer is silent and then gone, so that they
end by themselves: each thing they could touch the socket with is replaced. All of it happens in one step of the event
loop: what is not as expected is found before anything is changed, and then the caller serves the link through ASGI.
Nothing may raise in those tasks afterwards, because asyncio's stream protocol would close our transport for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from hybrid.links.asgi import Send
from hybrid.links.handoff import HandedOffEventStream, HandedOffWebSocket
from hybrid.links.heads import event_stream_head, websocket_head
from hybrid.links.kept_request import KeptRequest

try:
    import h11
    from hypercorn.asyncio.tcp_server import TCPServer
    from hypercorn.events import Updated
    from hypercorn.protocol.events import StreamClosed
    from hypercorn.protocol.h2 import H2Protocol
    from hypercorn.protocol.h11 import H11Protocol
    from hypercorn.protocol.http_stream import ASGIHTTPState, HTTPStream
    from hypercorn.protocol.ws_stream import ASGIWebsocketState, WSStream
except ImportError as error:  # another version, or none: then every link is served through ASGI
    _import_error: ImportError | None = error
else:
    _import_error = None

_log = logging.getLogger(__name__)
_RESET_TIMEOUT_S: Final = 1.0
_CANCEL: Final = 0x8  # HTTP/2 error code (RFC 9113, section 7)
_has_warned = False


class _NullWriter:
    """In place of the TCPServer's StreamWriter: takes everything and does nothing."""

    def write(self, data: bytes) -> None: ...

    def write_eof(self) -> None: ...

    def close(self) -> None: ...

    async def drain(self) -> None: ...

    async def wait_closed(self) -> None: ...

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


class KeptWriter(_NullWriter):
    """The same for a connection that goes on without Hypercorn.

    `transport` is where the launcher finds it. `ended` is what Hypercorn waits for before its task for the connection,
    and with it the server, ends; None for nothing.
    """

    def __init__(self, transport: asyncio.Transport, ended: Callable[[], Awaitable[None]] | None) -> None:
        self.transport = transport
        self._ended = ended

    async def wait_closed(self) -> None:
        """Called by Hypercorn last of all."""
        if self._ended is not None:
            await self._ended()


class _NullTransport:
    """In place of the transport inside the old StreamWriter, whose finalizer would close an open one."""

    def is_closing(self) -> bool:
        return True


class _NullConnection:
    """In place of the h11 connection: without it a pipelined second request would keep Hypercorn's tasks for ever."""

    our_state = None
    their_state = None
    they_are_waiting_for_100_continue = False
    trailing_data = (b"", False)

    def receive_data(self, data: bytes) -> None: ...

    def next_event(self) -> Any:
        return h11.NEED_DATA

    def send(self, event: object) -> bytes:
        return b""


async def _put_nowhere(message: object) -> None:
    """In place of the application's queue: nobody receives from it any more."""


class _NoTimer:
    """In place of the idle timeout of a connection that ends anyway."""

    async def restart(self, task_group: object, action: object) -> None: ...

    async def stop(self) -> None: ...


class _Inbox:
    """In front of the application's queue: the end of a stream always finds room in it."""

    def __init__(self, queue: asyncio.Queue[Any]) -> None:
        self.queue = queue

    async def put(self, message: Any) -> None:
        if message["type"] in ("http.disconnect", "websocket.disconnect"):
            _empty(self.queue)  # what was not read before the end is of no use after it
        await self.queue.put(message)


def _empty(queue: asyncio.Queue[Any]) -> None:
    while not queue.empty():
        queue.get_nowait()


class _Taker(Protocol):
    """What a connection is given to."""

    def start(self, transport: asyncio.Transport, head: bytes, left: bytes, has_ended: bool) -> None:
        """See `_HandedOff.start`."""


class _Socket:
    """An HTTP/1 connection whose stream can be taken out of Hypercorn's hands."""

    __slots__ = ("_protocol", "_queue", "_reader", "_server", "_stream", "_transport", "_writer")

    def __init__(self, stream: Any, protocol: Any, server: Any) -> None:
        """Raises AttributeError or TypeError where something is not as this file knows it."""
        self._stream = stream
        self._protocol = protocol
        self._server = server
        self._reader: Any = server.reader
        self._writer: Any = server.writer
        self._transport: asyncio.Transport = self._writer.transport
        inbox = stream.app_put.__self__
        self._queue: asyncio.Queue[Any] = inbox.queue if isinstance(inbox, _Inbox) else inbox
        # Everything that `detach` is going to use, looked at while nothing has been changed.
        if not isinstance(self._reader._buffer, bytearray) or not isinstance(self._reader._eof, bool):
            raise TypeError("asyncio.StreamReader")
        if self._writer._transport is not self._transport or protocol.stream is not stream:
            raise TypeError("writer or stream")
        if not isinstance(stream.closed, bool) or not callable(self._queue.get_nowait):
            raise TypeError("stream or its queue")
        bytes(protocol.connection.trailing_data[0])
        self._transport.set_write_buffer_limits, self._transport.set_protocol, protocol.can_read  # noqa: B018

    @property
    def is_usable(self) -> bool:
        """False when the connection is ending already."""
        return not (self._stream.closed or self._transport.is_closing() or self._reader.exception())

    def server_headers(self) -> list[tuple[bytes, bytes]]:
        """What Hypercorn adds to every response (the date)."""
        return list(self._stream.config.response_headers("h11"))

    @property
    def transport(self) -> asyncio.Transport:
        """Of the connection."""
        return self._transport

    def detach(self, link: _Taker, head: bytes, final_state: Any, writer: _NullWriter | None = None) -> None:
        """Give the socket to `link` and let Hypercorn's tasks end; `writer` is what they have instead. Never awaits."""
        stream, protocol, reader, transport = self._stream, self._protocol, self._reader, self._transport
        # What h11 holds (a pipelined request) came before what the reader holds.
        left = bytes(getattr(protocol.connection, "buffer", b"")) or bytes(protocol.connection.trailing_data[0])
        left += bytes(reader._buffer)
        has_ended: bool = reader._eof
        protocol.connection = _NullConnection()
        stream.state = final_state  # or an error response would be attempted when the application returns
        stream.app_put = _put_nowhere
        _empty(self._queue)  # a full one would hold Hypercorn's reading task
        self._server.writer = writer or _NullWriter()
        self._writer._transport = _NullTransport()
        reader._buffer.clear()
        reader._paused = False  # or its next read would resume the transport, whatever the link has asked for
        reader.feed_eof()
        link.start(transport, head, left, has_ended)


def take_websocket(send: Send, link: HandedOffWebSocket, subprotocol: str | None) -> bool:
    """Accept the handshake and put `link` in charge of the socket, without awaiting. False: nothing was done."""
    socket = _find_socket(send, is_websocket=True)
    if socket is None or not socket.is_usable:
        return False
    try:
        key = socket._stream.handshake.key.decode("latin-1")
        state = ASGIWebsocketState.CLOSED
        if socket._stream.state is not ASGIWebsocketState.HANDSHAKE:
            return False
        headers = socket.server_headers()
    except (AttributeError, TypeError) as error:
        _warn_once(error)
        return False
    socket.detach(link, websocket_head(key, subprotocol, headers), state)
    return True


def take_event_stream(send: Send, link: HandedOffEventStream, headers: list[tuple[bytes, bytes]]) -> bool:
    """Send a 200 head and put `link` in charge of the socket, without awaiting. False: nothing was done."""
    socket = _find_socket(send, is_websocket=False)
    if socket is None or not socket.is_usable:
        return False
    try:
        state = ASGIHTTPState.CLOSED
        if (
            socket._stream.state is not ASGIHTTPState.REQUEST
            or socket._protocol.connection.our_state is not h11.SEND_RESPONSE
        ):
            return False
        all_headers = [*headers, *socket.server_headers()]
    except (AttributeError, TypeError) as error:
        _warn_once(error)
        return False
    socket.detach(link, event_stream_head(all_headers, is_chunked=link.is_chunked), state)
    return True


def decline_extensions(send: Send) -> None:
    """Make Hypercorn accept no permessage-deflate.

    It otherwise always does, and applies its size limit after inflating. Before the handshake is accepted only.
    """
    stream = getattr(send, "__self__", None)
    if _import_error is None and isinstance(stream, WSStream):
        try:
            stream.handshake.extensions = None
        except AttributeError as error:
            _warn_once(error)


def end_if_refused(send: Send) -> bool:
    """Close the connection if Hypercorn refused its WebSocket handshake behind the application's back; True if so.

    It does that when frames come before the answer, which RFC 6455, section 4.1 forbids. It then tells nobody and keeps
    the connection open without any timeout.
    """
    stream = getattr(send, "__self__", None)
    if _import_error is not None or not isinstance(stream, WSStream):
        return False
    if not stream.closed or stream.state is not ASGIWebsocketState.HANDSHAKE:
        return False
    transport = find_transport(send)
    if transport is not None and isinstance(stream.send.__self__, H11Protocol):  # type: ignore[attr-defined]
        transport.close()
    return True


def guard_inbox(send: Send) -> None:
    """Keep an unread request body from holding the response; the launcher calls it before each of its ASGI calls.

    Hypercorn puts the end of a stream into the queue behind the body, from inside the application's last `send`. When
    the body has filled the queue and the application does not read it, that `send` never returns.
    """
    stream: Any = getattr(send, "__self__", None)
    if _import_error is None and isinstance(stream, WSStream | HTTPStream):
        queue = getattr(getattr(stream, "app_put", None), "__self__", None)
        if isinstance(queue, asyncio.Queue):
            stream.app_put = _Inbox(queue).put


def is_kept(send: Send) -> bool:
    """Whether a request came on a connection that was taken over behind an earlier answer (`links.kept`)."""
    return isinstance(getattr(send, "__self__", None), KeptRequest)


def close_after_answer(send: Send) -> None:
    """Make Hypercorn end the connection behind the answer to this request, and say so in it (`Connection: close`).

    HTTP/1 only: Hypercorn's own bound of requests for each connection would break HTTP/2 streams that are open.
    """
    request = getattr(send, "__self__", None)
    if isinstance(request, KeptRequest):
        request.ends_connection = True
        return
    protocol = getattr(getattr(getattr(send, "__self__", None), "send", None), "__self__", None)
    if _import_error is None and isinstance(protocol, H11Protocol):
        protocol.keep_alive_requests = protocol.config.keep_alive_max_requests


async def release(send: Send) -> None:
    """Free Hypercorn's tasks of a request whose ASGI call is over; the launcher calls it after each of them.

    What a client still sends then goes into a queue that nobody empties: once that is full, the task that reads the
    connection waits in it for ever. And where the client is gone while a pipelined request waits, that task is never
    woken. On HTTP/2 the whole connection would stand still.
    """
    stream: Any = getattr(send, "__self__", None)
    if _import_error is not None or not isinstance(stream, WSStream | HTTPStream):
        return
    end_if_refused(send)
    try:
        inbox: Any = getattr(stream.app_put, "__self__", None)
        stream.app_put = _put_nowhere
        if isinstance(inbox, _Inbox):
            _empty(inbox.queue)
        protocol = stream.send.__self__  # type: ignore[attr-defined]
        transport = find_transport(send)
        if isinstance(protocol, H11Protocol) and transport is not None and transport.is_closing():
            protocol.connection = _NullConnection()  # type: ignore[assignment]
            await protocol.can_read.set()
    except AttributeError as error:
        _warn_once(error)


def mend() -> None:
    """Mend four things in Hypercorn that would let anybody hold its connections. For the launcher; once is enough.

    A WebSocket handshake that Hypercorn itself refuses (a wrong version, say) stops the idle timeout and never reaches
    an application that could end it: the connection stays for ever. This adds the step that ends any other response.
    A connection that its client has closed is kept until the idle timeout; this stops that with the reading. Behind an
    answer that its client did not wait for, that timeout begins anew, and keeps the answer with it; not any more. And a
    connection that begins with HTTP/2's preface in the clear has had its idle timeout stopped, as that reads like a
    request; without a stream it would stay for ever, so the timeout begins anew.
    """
    if _import_error is not None:
        return
    try:
        refuse, read, initiate = WSStream._send_error_response, TCPServer._read_data, H2Protocol.initiate
    except AttributeError as error:
        _warn_once(error)
        return
    if getattr(refuse, "is_mended", False):
        return

    async def refuse_and_close(self: Any, status_code: int) -> None:
        await refuse(self, status_code)
        await self.send(StreamClosed(stream_id=self.stream_id))

    async def read_and_stop(self: Any) -> None:
        await read(self)
        await self.idle_task.stop()
        self.idle_task = _NoTimer()

    async def initiate_idle(self: Any, *upgraded: Any) -> None:
        await initiate(self, *upgraded)
        if self.idle:
            await self.send(Updated(idle=True))

    H2Protocol.initiate = initiate_idle  # type: ignore[method-assign, assignment]
    refuse_and_close.is_mended = True  # type: ignore[attr-defined]
    WSStream._send_error_response = refuse_and_close  # type: ignore[method-assign]
    TCPServer._read_data = read_and_stop  # type: ignore[method-assign]


def find_transport(send: Send) -> asyncio.WriteTransport | None:
    """The transport of the connection a request came on, whatever its HTTP version; None where it is not known, and

    when a link has taken it.
    """
    try:
        stream = send.__self__  # type: ignore[attr-defined]
        if isinstance(stream, KeptRequest):
            return stream.transport
        server = stream.send.__self__.send.__self__
        if _import_error is None and isinstance(server, TCPServer):
            transport: asyncio.WriteTransport = server.writer.transport
            return transport
    except AttributeError:
        pass
    return None


def terminator(send: Send) -> Callable[[], Awaitable[None]] | None:
    """What forces Hypercorn to give a stream up: its connection on HTTP/1, that stream only on HTTP/2.

    Without it, the end of the application waits for a peer that has stopped reading. None for other servers.
    """
    stream = getattr(send, "__self__", None)
    protocol = getattr(getattr(stream, "send", None), "__self__", None)
    if _import_error is not None or not isinstance(stream, WSStream | HTTPStream):
        return None
    if isinstance(protocol, H2Protocol):

        async def reset() -> None:
            try:
                async with asyncio.timeout(_RESET_TIMEOUT_S):
                    buffer = protocol.stream_buffers.get(stream.stream_id)
                    if buffer is not None:
                        await buffer.close()
                    protocol.connection.reset_stream(stream.stream_id, _CANCEL)
                    await protocol._flush()
            except Exception as error:  # the stream or the connection has ended meanwhile, each in its own way
                _log.debug("HTTP/2 stream was not reset: %r", error)

        return reset
    transport = find_transport(send)
    if transport is None:
        return None
    found = transport

    async def abort() -> None:
        found.abort()

    return abort


def _find_socket(send: Send, *, is_websocket: bool) -> _Socket | None:
    stream: Any = getattr(send, "__self__", None)
    if not type(stream).__module__.startswith("hypercorn."):
        return None
    if _import_error is not None:
        _warn_once(_import_error)
        return None
    try:
        protocol = stream.send.__self__
        if not isinstance(stream, WSStream if is_websocket else HTTPStream):
            raise TypeError(type(stream).__name__)
        if stream.closed:
            return None  # the peer has gone meanwhile, and Hypercorn has taken things apart
        if not isinstance(protocol, H11Protocol):
            return None  # HTTP/2 or HTTP/3: the socket is shared with other streams
        server = protocol.send.__self__  # type: ignore[attr-defined]
        if not isinstance(server, TCPServer):
            raise TypeError(type(server).__name__)
        return _Socket(stream, protocol, server)
    except (AttributeError, TypeError) as error:
        _warn_once(error)
        return None


def _warn_once(error: Exception) -> None:
    global _has_warned
    if not _has_warned:
        _has_warned = True
        _log.warning(
            "this Hypercorn is not the one hybrid knows (%s: %s); streams are served through plain ASGI, "
            "which costs more memory and time for each",
            type(error).__name__,
            error,
        )
