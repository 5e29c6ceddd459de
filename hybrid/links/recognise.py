"""Which requests are so plain that they need no HTTP server: those that open a stream, each exactly as expected.

A narrow grammar that never guesses: what is not wholly inside it is somebody else's to read, to answer and to refuse.
So nothing here knows what is wrong with a request, only whether anything about it is unusual. What is let through, h11
reads the same; `tests/property/test_recognise.py` holds it to that. No I/O.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final, Literal, NamedTuple, TypeAlias

Headers: TypeAlias = list[tuple[bytes, bytes]]


class Verdict(Enum):
    """What bytes are that are no stream's request."""

    INCOMPLETE = "may become one"
    OTHER = "never"


class StreamRequest(NamedTuple):
    """One request, whole. `target` is path and query as they were sent; names of `headers` are in lower case."""

    method: str
    target: bytes
    headers: Headers
    body: bytes
    websocket_key: str  # empty: it asks for an event stream
    subprotocols: list[str]


Recognised: TypeAlias = StreamRequest | Literal[Verdict.INCOMPLETE, Verdict.OTHER]

_HEAD: Final = re.compile(
    rb"(GET|POST) (/[!-~]*) HTTP/1\.1\r\n"
    rb"((?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t -~]*\r\n)+)\r\n"  # each line is read in one way only: linear time
)
_HEAD_END: Final = b"\r\n\r\n"
# Each changes how the bytes behind the head are to be read, or asks for an answer before they come.
_UNUSUAL: Final = frozenset((b"transfer-encoding", b"trailer", b"expect", b"http2-settings"))
_LENGTH: Final = re.compile(rb"[0-9]{1,6}")


def recognise(data: bytes, prefix: bytes) -> Recognised:
    """Look at all that a connection has sent so far. Only requests whose path starts with `prefix` are recognised."""
    if not data.startswith((b"GET " + prefix, b"POST " + prefix)):
        return Verdict.OTHER
    head_end = data.find(_HEAD_END)
    if head_end < 0:
        return Verdict.INCOMPLETE
    head_end += len(_HEAD_END)
    head = _HEAD.fullmatch(data, 0, head_end)
    if head is None:
        return Verdict.OTHER
    method, target, lines = head.groups()
    headers: Headers = []
    for line in lines.splitlines():
        name, _, value = line.partition(b":")
        headers.append((name.lower(), value.strip(b" \t")))
    fields = dict(headers)
    if len(fields) != len(headers) or b"host" not in fields or not _UNUSUAL.isdisjoint(fields):
        return Verdict.OTHER
    key, length = b"", fields.get(b"content-length")
    if b"upgrade" in fields:
        key = _handshake_key(fields)
        if not key or method != b"GET":
            return Verdict.OTHER
    elif b"text/event-stream" not in fields.get(b"accept", b"").lower():
        return Verdict.OTHER
    if (length is None) != (method == b"GET") or not _LENGTH.fullmatch(length or b"0"):
        return Verdict.OTHER
    body = data[head_end:]
    missing = int(length or b"0") - len(body)
    if missing:  # less than nothing: another request, or frames before their time
        return Verdict.INCOMPLETE if missing > 0 else Verdict.OTHER
    offered = fields.get(b"sec-websocket-protocol", b"").decode().split(",")
    subprotocols = [name.strip() for name in offered if name.strip()]
    return StreamRequest(method.decode(), target, headers, body, key.decode(), subprotocols)


def _handshake_key(fields: dict[bytes, bytes]) -> bytes:
    """The key of a WebSocket client's opening handshake (RFC 6455, section 4.1); empty for anything else."""
    tokens = fields.get(b"connection", b"").lower().replace(b" ", b"").split(b",")
    is_handshake = (
        fields[b"upgrade"].lower() == b"websocket"
        and b"upgrade" in tokens
        and fields.get(b"sec-websocket-version") == b"13"
    )
    return fields.get(b"sec-websocket-key", b"") if is_handshake else b""
