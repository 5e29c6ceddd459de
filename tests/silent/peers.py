"""Peers that waste a server's time: they say nothing, or very slowly, or too little, or do not listen.

Each is one connection: what it sends first, what it goes on dripping, and how it goes. A peer that waits is either
ended by the server, within `ends_within_s`, or (where the server cannot know better, as of a reader that reads later)
stays until its own patience is over.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

_BUFFER_BYTES: Final = 4_096
_DRIP_EVERY_S: Final = 0.25
_ATTACH: Final = json.dumps(
    {"method": "attach", "attempt": 1, "nonce": "n", "subscriptions": [{"channel": "room"}]}
).encode()
_CONFIRMED: Final = _ATTACH.replace(b'"nonce"', b'"confirm": true, "nonce"')
_HANDSHAKE: Final = (
    b"GET %b HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%b"
)


@dataclass(frozen=True)
class Place:
    """Where the server is. `token` is good for everything."""

    port: int
    tls_port: int
    token: str

    @property
    def bearer(self) -> bytes:
        return f"Authorization: Bearer {self.token}\r\n".encode()


def _frame(payload: bytes) -> bytes:
    """A masked text frame; the mask is zero."""
    length = bytes((0x80 | len(payload),)) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
    return b"\x81" + length + bytes(4) + payload


def _websocket(place: Place, *frames: bytes, path: bytes = b"/v1/stream") -> bytes:
    """A handshake with a token; the frames come when it was answered, which `Peer.later` sends."""
    subprotocol = b"Sec-WebSocket-Protocol: hybrid.v1\r\n" if path == b"/v1/stream" else b""
    return _HANDSHAKE % (path, place.bearer + subprotocol) + b"\r\n" + b"".join(frames)


def _get(place: Place, path: bytes, accept: bytes) -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: 127.0.0.1\r\n%bAccept: %b\r\n\r\n" % (path, place.bearer, accept)


def _post(place: Place, path: bytes, body: bytes, *, length: int | None = None, accept: bytes = b"*/*") -> bytes:
    head = b"POST %b HTTP/1.1\r\nHost: 127.0.0.1\r\n%bAccept: %b\r\nContent-Type: application/json\r\n"
    return head % (path, place.bearer, accept) + b"Content-Length: %d\r\n\r\n%b" % (length or len(body), body)


@dataclass(frozen=True)
class Peer:
    """One kind. `first` is sent at once, `later` when something was answered, `drip` a byte at a time."""

    name: str
    first: Callable[[Place], bytes]
    later: bytes = b""
    drip: bytes = b""
    is_tls: bool = False
    reads: bool = True
    leaves: str = ""
    """`reset` or `half-close`: what it does by itself, when it was answered."""
    ends_within_s: float | None = None
    stays_s: float = 4.0

    async def visit(self, place: Place, patience_s: float | None = None) -> float | None:
        """Come, waste time, go. After how many seconds the server has ended it; None if it did not.

        `patience_s`: go by then, whatever the server does.
        """
        loop = asyncio.get_running_loop()
        end = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        try:
            await loop.sock_connect(end, ("127.0.0.1", place.tls_port if self.is_tls else place.port))
            began_s = loop.time()
            with suppress(ConnectionError):
                await loop.sock_sendall(end, self.first(place))
                if self.later or self.leaves:
                    await asyncio.wait_for(loop.sock_recv(end, 512), 30)
                await loop.sock_sendall(end, self.later)
            if self.leaves == "reset":
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return None
            if self.leaves == "half-close":
                end.shutdown(socket.SHUT_WR)
            stays_s = self.stays_s if self.ends_within_s is None else 2 * self.ends_within_s
            try:
                async with asyncio.timeout(min(stays_s, patience_s or stays_s)):
                    await self._wait(loop, end)
            except TimeoutError:
                return None
            return loop.time() - began_s
        finally:
            end.close()

    async def _wait(self, loop: asyncio.AbstractEventLoop, end: socket.socket) -> None:
        """Return when the server has ended the connection."""
        if not self.reads:
            await asyncio.Event().wait()
        dripping = asyncio.ensure_future(self._drip(loop, end)) if self.drip else None
        try:
            with suppress(ConnectionError):
                while await loop.sock_recv(end, 65_536):
                    pass
        finally:
            if dripping is not None:
                dripping.cancel()

    async def _drip(self, loop: asyncio.AbstractEventLoop, end: socket.socket) -> None:
        with suppress(ConnectionError):
            while True:
                for index in range(len(self.drip)):
                    await asyncio.sleep(_DRIP_EVERY_S)
                    await loop.sock_sendall(end, self.drip[index : index + 1])


# Hypercorn's timer for heads is 20 s, that of TLS handshakes and of bodies 10 s; the rest is in `server.LIMITS`.
PEERS: Final = (
    Peer("connects and is silent", lambda place: b"", ends_within_s=25),
    Peer("half of a head", lambda place: b"GET /v1/stream HTTP/1.1\r\nHost: 127", ends_within_s=25),
    Peer("a dripped head", lambda place: b"GET /v1/ping HTTP/1.1\r\n", drip=b"X: y\r\n", ends_within_s=25),
    Peer("half of a body", lambda place: _post(place, b"/v1/channels/room", b"[", length=100), ends_within_s=25),
    Peer(
        "a dripped body",
        lambda place: _post(place, b"/v1/channels/room", b"[", length=5_000),
        drip=b" ",
        ends_within_s=25,
    ),
    Peer("half of a handshake", lambda place: _HANDSHAKE % (b"/v1/stream", b""), ends_within_s=25),
    Peer("a kept connection without another request", lambda place: _get(place, b"/v1/ping", b"*/*"), ends_within_s=25),
    Peer("a TLS connection and silence", lambda place: b"", is_tls=True, ends_within_s=15),
    Peer("half of a TLS hello", lambda place: b"\x16\x03\x01\x02\x00\x01\x00", is_tls=True, ends_within_s=15),
    Peer(
        "HTTP/2 and silence",
        lambda place: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5),
        ends_within_s=25,
    ),
    Peer("a WebSocket without a token", lambda place: _HANDSHAKE % (b"/v1/channels/room", b"\r\n"), ends_within_s=8),
    Peer("a WebSocket that attaches nothing", lambda place: _websocket(place), ends_within_s=12),
    Peer("a candidate that confirms nothing", lambda place: _websocket(place), later=_frame(_ATTACH), ends_within_s=12),
    Peer(
        "a frame that never ends",
        lambda place: _websocket(place),
        later=_frame(_CONFIRMED) + b"\x81\xfe\x10\x00\0\0\0\0xx",
        ends_within_s=15,
    ),
    Peer(
        "a dripped frame",
        lambda place: _websocket(place),
        later=b"\x81\xfe\x10\x00\0\0\0\0",
        drip=b" ",
        ends_within_s=15,
    ),
    Peer("a WebSocket that is never read", lambda place: _websocket(place), later=_frame(_CONFIRMED), reads=False),
    Peer(
        "a plain WebSocket that is never read",
        lambda place: _websocket(place, path=b"/v1/channels/room"),
        reads=False,
    ),
    Peer(
        "an event stream that is never read",
        lambda place: _get(place, b"/v1/channels/room", b"text/event-stream"),
        reads=False,
    ),
    Peer(
        "a session's event stream that is never read",
        lambda place: _post(place, b"/v1/stream", _CONFIRMED, accept=b"text/event-stream"),
        reads=False,
    ),
    Peer(
        "a history that is never read",
        lambda place: _get(place, b"/v1/history/room?limit=100", b"application/json"),
        reads=False,
    ),
    Peer("an abandoned poll", lambda place: _get(place, b"/v1/channels/quiet?after=0&wait=3", b"*/*"), stays_s=0.5),
    Peer(
        "a stream that is reset",
        lambda place: _get(place, b"/v1/channels/room", b"text/event-stream"),
        leaves="reset",
    ),
    Peer("a WebSocket that is reset", lambda place: _websocket(place), leaves="reset"),
    Peer("a WebSocket that is half closed", lambda place: _websocket(place), leaves="half-close", ends_within_s=8),
    Peer(
        "an event stream that is half closed",
        lambda place: _get(place, b"/v1/channels/room", b"text/event-stream"),
        leaves="half-close",
        ends_within_s=8,
    ),
    Peer(
        "a close that is not answered",
        lambda place: _websocket(place),
        later=b"\x81\x81\0\0\0\0\xff",  # not UTF-8: 1007
        ends_within_s=8,
    ),
)
