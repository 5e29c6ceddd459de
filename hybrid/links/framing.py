"""How each kind of pipe frames payloads: the `Framing` functions of `engine.link`.

They are module-level functions because the hub groups links by the identity of their framing and frames a flush once
per group. This is the hot path: one call per flush and kind of pipe, whatever the number of clients.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from hybrid.engine.link import Deflated

_TEXT: Final = 0x81  # FIN and the opcode (RFC 6455, section 5.2)
_BINARY: Final = 0x82
_RSV1: Final = 0x40  # "this message is compressed" (RFC 7692, section 6)
_SHORT_HEADS: Final = {
    first: tuple(bytes((first, length)) for length in range(126))
    for opcode in (_TEXT, _BINARY)
    for first in (opcode, opcode | _RSV1)
}
_MEDIUM_HEAD: Final = struct.Struct("!BBH")
_LONG_HEAD: Final = struct.Struct("!BBQ")


def _frames(opcode: int, payloads: Sequence[bytes]) -> bytes:
    parts: list[bytes] = []
    append = parts.append
    for payload in payloads:
        first = opcode | _RSV1 if type(payload) is Deflated else opcode
        length = len(payload)
        if length < 126:
            append(_SHORT_HEADS[first][length])
        elif length < 65_536:
            append(_MEDIUM_HEAD.pack(first, 126, length))
        else:
            append(_LONG_HEAD.pack(first, 127, length))
        append(payload)
    return b"".join(parts)


def websocket_text(payloads: Sequence[bytes]) -> bytes:
    """One unmasked text frame per payload, joined (RFC 6455, section 5.2). Payloads are UTF-8."""
    return _frames(_TEXT, payloads)


def websocket_binary(payloads: Sequence[bytes]) -> bytes:
    """One unmasked binary frame per payload, joined (RFC 6455, section 5.2)."""
    return _frames(_BINARY, payloads)


def event_stream_chunked(payloads: Sequence[bytes]) -> bytes:
    """All payloads in one HTTP/1.1 chunk (RFC 9112, section 7.1).

    Nothing at all for no bytes: an empty chunk would be the last one and end the stream.
    """
    body = b"".join(payloads)
    return b"%x\r\n%b\r\n" % (len(body), body) if body else b""


def event_stream_plain(payloads: Sequence[bytes]) -> bytes:
    """The payloads joined: HTTP/1.0, where the end of the connection ends the body, and bodies that ASGI carries."""
    return b"".join(payloads)


def asgi_messages(payloads: Sequence[bytes]) -> tuple[bytes, ...]:
    """One item per message: an ASGI server makes the frames of a WebSocket itself."""
    return tuple(payloads)
