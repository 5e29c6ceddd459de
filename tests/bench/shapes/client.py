"""One client of a crowd: its socket, how far each of its channels is read, and what is wrong with what came."""

from __future__ import annotations

import re
import socket
import sys
from array import array
from collections.abc import Sequence
from typing import Any, Final

from tests.bench.shapes.wire import PUBLICATION, PUBLICATION_HEAD_MAX, READY, RESET, opening

_ATTACHED: Final = re.compile(rb'"attached":\{"session":"([^"]+)"')
_DELAY_MS: Final = re.compile(rb'"delay_ms":(\d+)')
_RETRY_AFTER_S: Final = re.compile(rb'"retry_after_s":([\d.]+)')
_STATUS: Final = re.compile(rb"^HTTP/1\.1 (\d+)")
_BODY_END: Final = b"}"


class Refused(Exception):
    """The server has no place now; `delay_s` is when to come back."""

    def __init__(self, delay_s: float) -> None:
        super().__init__(delay_s)
        self.delay_s = delay_s


class Broken(Exception):
    """The server said something that it should not have said; the text is what."""


class Client:
    """Order and completeness are seen at every single publication: each offset follows the one before."""

    __slots__ = (
        "_attempt",
        "_channels",
        "_early",
        "_is_greeted",
        "_kind",
        "_positions",
        "_second",
        "_token",
        "count",
        "is_ready",
        "resets",
        "rest",
        "session",
        "socket",
        "wrong",
    )

    def __init__(self, kind: str, token: str, channels: Sequence[str]) -> None:
        self._kind = kind
        self._token = token
        self._channels = channels
        self._positions: dict[bytes, tuple[int, bytes, bytes]] = {}
        self._attempt = 0
        self.socket: socket.socket | None = None
        self.session = ""
        self.rest = b""
        self.count = 0
        self.wrong = 0
        self.resets = 0

    def connect(self, address: tuple[str, int], source: str, receive_bytes: int | None) -> None:
        """Begin to connect; the socket becomes writable when it is done."""
        made = self.socket = socket.socket()
        made.setblocking(False)
        if receive_bytes is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        if sys.platform == "linux":
            # An address of its own for each process: there are 28,000 ports to one server from each.
            made.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
            made.bind((source, 0))
        made.connect_ex(address)
        self._attempt += 1
        self._early = bytearray()
        self._is_greeted = False
        self.is_ready = False
        self.rest = b""

    def say(self, host: str) -> None:
        """Ask for the channels, each after the last publication that was got."""
        subscriptions: list[dict[str, Any]] = []
        for channel in self._channels:
            at = self._positions.get(channel.encode())
            position = {} if at is None else {"offset": at[0], "epoch": at[1].decode(), "tag": at[2].decode()}
            subscriptions.append({"channel": channel, "position": position} if position else {"channel": channel})
        first, self._second = opening(
            self._kind, host, self._token, subscriptions, attempt=self._attempt, session=self.session
        )
        assert self.socket is not None
        self.socket.sendall(first)

    def receive(self, data: bytes, now_ns: int, latencies_ns: array[int]) -> int:
        """Take what came; how many publications there were in it. Raises Refused, Broken."""
        if not self.is_ready:
            self._early += data
            if not self._is_open():
                return 0
            data = bytes(self._early)
            self._early.clear()
        if self.rest:
            data = self.rest + data
        if b'"reset":' not in data or (reset := RESET.search(data)) is None:
            return self._take(data, now_ns, latencies_ns)
        found = self._take(data[: reset.start()], now_ns, latencies_ns)
        self.resets += 1
        self._positions.pop(reset[1], None)
        self.rest = b""
        return found + self.receive(data[reset.end() :], now_ns, latencies_ns)

    def _take(self, data: bytes, now_ns: int, latencies_ns: array[int]) -> int:
        positions = self._positions
        end = found = 0
        for match in PUBLICATION.finditer(data):
            channel, offset = match[1], int(match[2])
            before = positions.get(channel)
            if before is not None and offset != before[0] + 1:
                self.wrong += 1
            positions[channel] = (offset, match[3], match[4])
            latencies_ns.append(now_ns - int(match[5]))
            end = match.end()
            found += 1
        self.rest = data[max(end, len(data) - PUBLICATION_HEAD_MAX) :]
        self.count += found
        return found

    @property
    def offset(self) -> int:
        """The last offset of its only channel."""
        return next(iter(self._positions.values()))[0] if self._positions else 0

    @property
    def state(self) -> str:
        """How far it has come, for whoever looks for the reason."""
        if self.socket is None:
            return f"away after {self._attempt} attempts"
        if self.is_ready:
            return f"at {self.offset} since attempt {self._attempt}"
        return (
            f"attempt {self._attempt}, {'answered' if self._is_greeted else 'not answered'}, {len(self._early)} bytes"
        )

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def _is_open(self) -> bool:
        early = bytes(self._early)
        if not self._is_greeted:
            head_end = early.find(b"\r\n\r\n")
            if head_end < 0:
                return False
            status = _STATUS.match(early)
            if status is None or status[1] not in (b"101", b"200"):
                self._refused(early)
                return False
            self._is_greeted = True
            if self._second:
                assert self.socket is not None
                self.socket.sendall(self._second)
        if b'"disconnect"' in early:
            delay = _DELAY_MS.search(early)
            if delay is None:
                raise Broken(f"a client was sent away: {early[-300:].decode('latin-1')!r}")
            raise Refused(int(delay[1]) / 1000)
        if READY[self._kind] not in early:
            return False
        if (session := _ATTACHED.search(early)) is not None:
            self.session = session[1].decode()
        self.is_ready = True
        return True

    def _refused(self, early: bytes) -> None:
        delay = _RETRY_AFTER_S.search(early)
        if early.startswith(b"HTTP/1.1 503") and delay is not None and early.rstrip().endswith(_BODY_END):
            raise Refused(float(delay[1]))
        if len(early) > 4_096 or (early.rstrip().endswith(_BODY_END) and delay is None):
            raise Broken(f"a client was refused: {early[:300].decode('latin-1')!r}")
