"""Heads of HTTP/1.1 responses (RFC 9112, section 2), where no HTTP server writes them for us."""

from __future__ import annotations

from collections.abc import Iterable

from websockets.utils import accept_key


def response_head(status_line: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A whole head. Raises ValueError for a header with a line break in it."""
    lines = [status_line]
    for name, value in headers:
        line = b"%b: %b" % (name, value)
        if b"\r" in line or b"\n" in line or b"\0" in line:
            raise ValueError(f"header {name!r} would break the head")
        lines.append(line)
    return b"\r\n".join((*lines, b"", b""))


def websocket_head(key: str, subprotocol: str | None, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The server's half of an opening handshake (RFC 6455, section 4.2.2), which agrees to no extension.

    Raises ValueError as `response_head`.
    """
    all_headers = [
        *headers,
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
        (b"sec-websocket-accept", accept_key(key).encode()),
    ]
    if subprotocol is not None:
        all_headers.append((b"sec-websocket-protocol", subprotocol.encode()))
    return response_head(b"HTTP/1.1 101 Switching Protocols", all_headers)


def event_stream_head(headers: Iterable[tuple[bytes, bytes]], *, is_chunked: bool) -> bytes:
    """The head of a body without end: in chunks, or on HTTP/1.0 up to the end of the connection.

    Raises ValueError as `response_head`.
    """
    all_headers = [*headers, (b"connection", b"close")]
    if is_chunked:
        all_headers.append((b"transfer-encoding", b"chunked"))
    return response_head(b"HTTP/1.1 200 OK", all_headers)
