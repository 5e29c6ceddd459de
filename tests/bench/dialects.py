"""How each server and transport is spoken to, and how what came back is read: the only part that knows the wires."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

CHANNEL = "bench:room"


@dataclass(frozen=True)
class Dialect:
    """`opening` is the whole request, to be formatted with host and token.

    `greeting` is the text of a WebSocket frame that is sent behind the answer, to be formatted with the token; empty
    for none. `ready` is in what comes once everything published from then on will arrive. `messages` splits the bytes
    behind the head of the answer, `offset` finds the place of a publication in a message (None: it is something else);
    there is none where the server does not number what it delivers.
    """

    name: str
    opening: str
    greeting: str
    ready: bytes
    messages: Callable[[bytes], Iterator[bytes]]
    offset: Callable[[bytes], int | None] | None = None

    def frame(self, token: str) -> bytes:
        """The greeting as it goes over the wire."""
        return _masked_text(self.greeting.format(token=token)) if self.greeting else b""


@dataclass(frozen=True)
class Publishing:
    """How a server takes a publication over HTTP: one request, one answer with a 2xx status.

    `head` is to be formatted with host, token and the length of the body. `before` and `after` stand in the body around
    the text that is published. `offset` reads the publication's place in the body of the answer, where that is told.
    """

    head: str
    before: bytes = b'"'
    after: bytes = b'"'
    offset: Callable[[bytes], int] | None = None


def frames(stream: bytes) -> Iterator[bytes]:
    """The payloads of unfragmented, unmasked WebSocket frames (RFC 6455, section 5.2); control frames are left out."""
    start = 0
    while start < len(stream):
        opcode, length = stream[start] & 0x0F, stream[start + 1]
        start += 2
        if length >= 126:
            size = 2 if length == 126 else 8
            length = int.from_bytes(stream[start : start + size], "big")
            start += size
        if start + length > len(stream):
            raise ValueError("a frame is cut short")
        if opcode < 8:
            yield from stream[start : start + length].splitlines()
        start += length


def events(stream: bytes) -> Iterator[bytes]:
    """The events of a chunked event stream (RFC 9112, section 7.1), without comments."""
    body, start = [], 0
    while start < len(stream):
        end = stream.index(b"\r\n", start)
        length = int(stream[start:end], 16)
        body.append(stream[end + 2 : end + 2 + length])
        start = end + 2 + length + 2
    if start != len(stream):
        raise ValueError("a chunk is cut short")
    yield from bare_events(b"".join(body))


def bare_events(stream: bytes) -> Iterator[bytes]:
    """The events of a stream that is sent as it is, up to its end, without comments."""
    for event in stream.split(b"\n\n"):
        if event and not event.startswith(b":"):
            yield event


def _json_offset(message: bytes) -> int | None:
    value = json.loads(message.removeprefix(b"data: "))
    value = value.get("publication", value)
    offset = value.get("offset")
    return int(offset) if offset is not None and "data" in value else None


_CURSOR = re.compile(rb"^id: [a-z0-9]+-(\d+)-[0-9a-f]{8}$", re.MULTILINE)


def _cursor_offset(message: bytes) -> int | None:
    match = _CURSOR.search(message)
    return int(match.group(1)) if match and b"\ndata: " in message else None


def _masked_text(text: str) -> bytes:
    """A client's text frame; masked with zeros, which every server has to undo all the same."""
    payload = text.encode()
    length = bytes((0x80 | len(payload),)) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
    return b"\x81" + length + bytes(4) + payload


def _answered_offset(body: bytes) -> int:
    return int(json.loads(body)["offset"])


def literal(text: str) -> str:
    """The text as str.format gives it back."""
    return text.replace("{", "{{").replace("}", "}}")


_ATTACH = json.dumps(
    {
        "method": "attach",
        "attempt": 1,
        "nonce": "n",
        "confirm": True,
        "subscriptions": [{"channel": CHANNEL}],
    }
)
TOKEN = "Host: {host}\r\nAuthorization: Bearer {token}\r\n"
UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
EVENTS = "Accept: text/event-stream\r\n"
JSON_BODY = "Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"

TEXTBOOK_WEBSOCKET = Dialect(
    "websocket",
    f"GET /ws/{CHANNEL} HTTP/1.1\r\n{TOKEN}{UPGRADE}\r\n",
    "",
    b'"subscribed"',
    frames,
    _json_offset,
)
TEXTBOOK_SSE = Dialect(
    "sse", f"GET /sse/{CHANNEL} HTTP/1.1\r\n{TOKEN}{EVENTS}\r\n", "", b'"subscribed"', events, _json_offset
)
HYBRID_WEBSOCKET = Dialect(
    "websocket",
    f"GET /v1/stream HTTP/1.1\r\n{TOKEN}{UPGRADE}Sec-WebSocket-Protocol: hybrid.v1\r\n\r\n",
    literal(_ATTACH),
    b'"subscribed"',
    frames,
    _json_offset,
)
HYBRID_SSE = Dialect(
    "sse",
    f"POST /v1/stream HTTP/1.1\r\n{TOKEN}{EVENTS}"
    f"Content-Type: application/json\r\nContent-Length: {len(_ATTACH)}\r\n\r\n" + literal(_ATTACH),
    "",
    b'"subscribed"',
    events,
    _json_offset,
)
HYBRID_PLAIN_SSE = Dialect(
    "plain sse", f"GET /v1/channels/{CHANNEL} HTTP/1.1\r\n{TOKEN}{EVENTS}\r\n", "", b"\nid: ", events, _cursor_offset
)
DIALECTS = {
    "textbook": (TEXTBOOK_WEBSOCKET, TEXTBOOK_SSE),
    "hybrid": (HYBRID_WEBSOCKET, HYBRID_SSE, HYBRID_PLAIN_SSE),
}
PUBLISHING = {
    "textbook": Publishing(f"POST /publish/{CHANNEL} HTTP/1.1\r\n{TOKEN}{JSON_BODY}", offset=_answered_offset),
    "hybrid": Publishing(f"POST /v1/channels/{CHANNEL} HTTP/1.1\r\n{TOKEN}{JSON_BODY}", offset=_answered_offset),
}
