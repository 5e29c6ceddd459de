"""The one file that knows uvicorn's insides (0.54), all of them found from the `send` it gives an application.

    WebSocket    send.__self__    WebSocketsSansIOProtocol, itself the transport's protocol
    HTTP/1       send.__self__    RequestResponseCycle (of httptools or of h11)   .on_response.__self__ -> the protocol

uvicorn has no task for a connection but the one that runs the application. So a hand-off needs little: the old protocol
is told that the peer is gone, so that it answers nothing more, gets a transport that goes nowhere, and is forgotten by
its server. All of it happens in one step of the event loop, and what is not as expected is found before anything is
changed; then the caller serves the link through ASGI. So it does with uvicorn's other protocols (wsproto, zttp).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from hybrid.links.asgi import Send
from hybrid.links.handoff import HandedOffEventStream, HandedOffWebSocket
from hybrid.links.heads import event_stream_head, websocket_head

try:
    from uvicorn.protocols.http import h11_impl
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
except ImportError as error:  # another version, or none: then every link is served through ASGI
    _import_error: ImportError | None = error
else:
    _import_error = None
    _cycles: tuple[type, ...] = (h11_impl.RequestResponseCycle,)
    try:
        from uvicorn.protocols.http import httptools_impl
    except ImportError:  # httptools is optional
        pass
    else:
        _cycles += (httptools_impl.RequestResponseCycle,)

_log = logging.getLogger(__name__)
_has_warned = False


class _NullTransport:
    """In place of the transport: what uvicorn does at the end of the application reaches nobody."""

    def is_closing(self) -> bool:
        return True

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def is_uvicorn(send: Send) -> bool:
    """Whether a request came by uvicorn, of whatever version and protocol."""
    return type(getattr(send, "__self__", None)).__module__.startswith("uvicorn.")


def take_websocket(send: Send, link: HandedOffWebSocket, subprotocol: str | None) -> bool:
    """Accept the handshake and put `link` in charge of the socket, without awaiting. False: nothing was done."""
    protocol: Any = getattr(send, "__self__", None)
    if not _is_known(send) or not isinstance(protocol, WebSocketsSansIOProtocol):
        return False
    try:
        transport, queue = protocol.transport, protocol.queue
        has_begun = protocol.handshake_complete or protocol.disconnected or protocol.initial_response is not None
        # Frames before the answer are against RFC 6455, section 4.1; uvicorn has read them, so uvicorn goes on.
        is_early = protocol.read_paused or bool(protocol.frames) or bool(protocol.conn.reader.buffer)
        if has_begun or is_early or transport.is_closing():
            return False
        key = protocol.request.headers["Sec-WebSocket-Key"]
        headers = list(protocol.default_headers)
        connections, close_sent = protocol.connections, protocol.close_sent
        transport.set_protocol, transport.set_write_buffer_limits, queue.get_nowait, connections.discard  # noqa: B018
        if close_sent:
            return False
    except (AttributeError, TypeError, KeyError) as error:
        _warn_once(error)
        return False
    head = websocket_head(key, subprotocol, headers)
    protocol.handshake_complete = protocol.close_sent = protocol.disconnected = True
    protocol.transport = _NullTransport()  # type: ignore[assignment]
    connections.discard(protocol)
    link.start(transport, head, b"", False)
    return True


def take_event_stream(send: Send, link: HandedOffEventStream, headers: list[tuple[bytes, bytes]]) -> bool:
    """Send a 200 head and put `link` in charge of the socket, without awaiting. False: nothing was done."""
    stream = getattr(send, "__self__", None)
    if not _is_known(send) or not isinstance(stream, _cycles):
        return False
    cycle: Any = stream
    try:
        protocol = cycle.on_response.__self__
        transport: asyncio.Transport = cycle.transport
        if cycle.response_started or cycle.disconnected or transport.is_closing():
            return False
        if protocol.transport is not transport:
            raise TypeError(type(protocol).__name__)
        all_headers = [*headers, *cycle.default_headers]
        connections, pipeline = protocol.connections, getattr(protocol, "pipeline", None)
        transport.set_protocol, transport.set_write_buffer_limits, connections.discard  # noqa: B018
        protocol._unset_keepalive_if_required()
    except (AttributeError, TypeError) as error:
        _warn_once(error)
        return False
    head = event_stream_head(all_headers, is_chunked=link.is_chunked)
    cycle.disconnected = True
    cycle.transport = protocol.transport = _NullTransport()
    connections.discard(protocol)
    if pipeline:
        pipeline.clear()  # what stands behind a stream on its connection waits for its end, which is the connection's
    link.start(transport, head, b"", False)
    return True


def decline_extensions(send: Send) -> None:
    """Make uvicorn accept no permessage-deflate, which it does by default, with a context for each client.

    Before the handshake is accepted only.
    """
    protocol: Any = getattr(send, "__self__", None)
    if not _is_known(send) or not isinstance(protocol, WebSocketsSansIOProtocol):
        return
    try:
        protocol.conn.extensions = []
        protocol.response.headers.pop("Sec-WebSocket-Extensions", None)
    except AttributeError as error:
        _warn_once(error)


def terminator(send: Send) -> Callable[[], Awaitable[None]] | None:
    """What forces uvicorn to give a stream up: the end of its connection. None for other servers."""
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    if not is_uvicorn(send) or not isinstance(transport, asyncio.WriteTransport):
        return None
    found = transport

    async def abort() -> None:
        found.abort()

    return abort


def _is_known(send: Send) -> bool:
    if not is_uvicorn(send):
        return False
    if _import_error is not None:
        _warn_once(_import_error)
        return False
    return True


def _warn_once(error: Exception) -> None:
    global _has_warned
    if not _has_warned:
        _has_warned = True
        _log.warning(
            "this uvicorn is not the one hybrid knows (%s: %s); streams are served through plain ASGI, "
            "which costs more memory and time for each",
            type(error).__name__,
            error,
        )
