"""A crowd of clients on one channel whose bytes on the wire are counted: over TLS or not, compressed or not.

All of a crowd are written the same bytes. So one client's stream is read to the last bit (every offset must be there,
in order), and the others must have got exactly as many bytes.
"""

from __future__ import annotations

import json
import selectors
import socket
import ssl
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.bench.dialects import CHANNEL, Dialect
from tests.bench.load import Failed

OFFER = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
"""What browsers send."""
STALLED_S = 20.0
REQUESTS_PER_CONNECTION = 900


@dataclass(frozen=True)
class Door:
    """Where a crowd goes, and how."""

    address: tuple[str, int]
    host: str
    dialect: Dialect
    context: ssl.SSLContext | None = None
    offers_deflate: bool = False

    def connected(self) -> socket.socket:
        """A blocking connection."""
        made = socket.create_connection(self.address, timeout=STALLED_S)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.context.wrap_socket(made, server_hostname="localhost") if self.context is not None else made

    def opening(self, token: str) -> bytes:
        """The request of a client."""
        text = self.dialect.opening.format(host=self.host, token=token)
        if self.offers_deflate:
            text = text.replace("\r\n", "\r\n" + OFFER, 1)
        return text.encode()


class Crowd:
    """Clients that are subscribed, and what each has got."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._selector = selectors.DefaultSelector()
        self._sockets: list[socket.socket] = []
        self._counts: dict[int, int] = {}
        self._first = b""  # all that the first client has got behind its opening
        self._buffer = bytearray(1 << 18)
        self.is_deflated = False
        self.answer = b""  # sent back on whatever comes, by who got it

    def __len__(self) -> int:
        return len(self._sockets)

    def open(self, tokens: Sequence[str]) -> None:
        """Open one for each token, one after the other. Raises Failed."""
        for token in tokens:
            made = self._door.connected()
            self._greet(made, token)
            made.setblocking(False)
            self._counts[made.fileno()] = 0
            self._selector.register(made, selectors.EVENT_READ)
            self._sockets.append(made)

    def _greet(self, made: socket.socket, token: str) -> None:
        made.sendall(self._door.opening(token))
        got = b""
        is_greeted = False
        while not is_greeted or self._door.dialect.ready not in got:
            data = made.recv(65_536)
            if not data:
                raise Failed(f"a connection was closed: {got[:200].decode('latin-1')!r}")
            got += data
            end = got.find(b"\r\n\r\n")
            if not is_greeted and end >= 0:
                if got[9:12] not in (b"101", b"200"):
                    raise Failed(f"a client was refused: {got[:200].decode('latin-1')!r}")
                is_greeted = True
                self.is_deflated = b"permessage-deflate" in got[:end]
                got = got[end + 4 :]
                if self._door.dialect.greeting:
                    made.sendall(self._door.dialect.frame(token))

    def begin(self) -> None:
        """Count from here."""
        self._first = b""
        self._counts = dict.fromkeys(self._counts, 0)

    def until(self, count: int, offset: int) -> int:
        """Return when everybody has got `count` publications since `begin`, the first of them with this offset.

        The bytes that each has got. Raises Failed where somebody has not, or anything is out of order.
        """
        last_s = time.monotonic()
        while True:
            moved = self._receive()
            offsets = list(self._offsets())
            if len(offsets) >= count:
                break
            last_s = self._patient(last_s, moved)
        size = len(self._first)
        while any(self._counts[made.fileno()] < size for made in self._sockets):
            last_s = self._patient(last_s, self._receive())
        if offsets != list(range(offset, offset + count)):
            raise Failed(f"a client got {len(offsets)} offsets, not {count} from {offset} on in order")
        if wrong := [found for found in self._counts.values() if found != size]:
            raise Failed(f"{len(wrong)} clients got other bytes than the first one: {wrong[0]} and not {size}")
        return size

    def _patient(self, last_s: float, moved: bool) -> float:
        if moved:
            return time.monotonic()
        if time.monotonic() - last_s > STALLED_S:
            raise Failed("some clients got nothing any more")
        return last_s

    def settle(self, quiet_s: float = 0.3) -> None:
        """Take whatever comes until nothing has come for so long."""
        end_s = time.monotonic() + quiet_s
        while time.monotonic() < end_s:
            if self._receive(0.05):
                end_s = time.monotonic() + quiet_s

    def wait(self, seconds: float) -> None:
        """Take whatever comes for so long."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self._receive(0.05)

    def _receive(self, wait_s: float = 0.5) -> bool:
        ready = self._selector.select(wait_s)
        for key, _ in ready:
            made: socket.socket = key.fileobj  # type: ignore[assignment]
            while True:
                try:
                    size = made.recv_into(self._buffer)
                except (BlockingIOError, ssl.SSLWantReadError):
                    break
                if not size:
                    raise Failed("a client's connection was closed")
                self._counts[key.fd] += size
                if self.answer:
                    made.send(self.answer)
                if made is self._sockets[0]:
                    self._first += self._buffer[:size]
                if self._door.context is None:
                    break
        return bool(ready)

    def _offsets(self) -> Iterator[int]:
        dialect = self._door.dialect
        try:
            stream = inflated_frames(self._first) if self.is_deflated else self._first
            messages = list(dialect.messages(stream))
        except (ValueError, IndexError):  # cut short: the rest is on its way
            return
        for message in messages:
            offset = dialect.offset(message)
            if offset is not None:
                yield offset

    def close(self) -> None:
        """Close all connections."""
        for made in self._sockets:
            self._selector.unregister(made)
            made.close()
        self._sockets.clear()
        self._counts.clear()
        self._selector.close()
        self._selector = selectors.DefaultSelector()


def inflated_frames(stream: bytes) -> bytes:
    """The same frames with their payloads inflated. Raises ValueError or IndexError where one is cut short."""
    parts: list[bytes] = []
    start = 0
    while start < len(stream):
        first, length = stream[start], stream[start + 1]
        begin = start + 2
        if length >= 126:
            size = 2 if length == 126 else 8
            length = int.from_bytes(stream[begin : begin + size], "big")
            begin += size
        if begin + length > len(stream):
            raise ValueError("a frame is cut short")
        payload = stream[begin : begin + length]
        if first & 0x40:
            payload = zlib.decompressobj(wbits=-15).decompress(payload + b"\x00\x00\xff\xff")
        parts.append(bytes((first & 0xBF, 127)) + len(payload).to_bytes(8, "big") + payload)
        start = begin + length
    return b"".join(parts)


class Press:
    """One connection that publishes, and waits for each answer."""

    def __init__(self, door: Door, token: str) -> None:
        self._door = door
        self._head = (
            f"POST /v1/publish HTTP/1.1\r\nHost: {door.host}\r\nAuthorization: Bearer {token}\r\n"
            "Content-Type: application/json\r\n"
        )
        self._socket: socket.socket | None = None
        self._requests = 0

    def publish(self, data: Sequence[str]) -> int:
        """Publish these JSON texts in one request; the offset of the first."""
        publications = ",".join(f'{{"channel":{json.dumps(CHANNEL)},"data":{text}}}' for text in data)
        body = f'{{"publications":[{publications}]}}'.encode()
        if self._socket is None or self._requests >= REQUESTS_PER_CONNECTION:
            self.close()
            self._socket, self._requests = self._door.connected(), 0
        self._requests += 1
        self._socket.sendall(f"{self._head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        results = json.loads(self._answer())["results"]
        return int(results[0]["position"]["offset"])

    def _answer(self) -> bytes:
        assert self._socket is not None
        got = b""
        while (end := got.find(b"\r\n\r\n")) < 0:
            got += self._more()
        head = got[:end].decode("latin-1").lower()
        if not head.startswith("http/1.1 200"):
            raise Failed(f"a publish was refused: {got[:300].decode('latin-1')!r}")
        length = int(head.split("content-length:", 1)[1].split("\r\n", 1)[0])
        while len(got) < end + 4 + length:
            got += self._more()
        return got[end + 4 :]

    def _more(self) -> bytes:
        assert self._socket is not None
        data = self._socket.recv(65_536)
        if not data:
            raise Failed("a publish was not answered")
        return data

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
