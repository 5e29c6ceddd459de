"""One TCP or TLS connection of the load, without asyncio: dialling, writing what does not fit at once, and its end."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from hybrid.bench.http import Unreadable
from hybrid.bench.poll import READ, WRITE

if TYPE_CHECKING:
    from hybrid.bench.load import Load

RECEIVE_BYTES: Final = 65_536
_DIAL_TIMEOUT_S: Final = 15.0
_WAITING: Final = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_NO_PORTS: Final = (
    "no local port is left for another connection to this address (net.ipv4.ip_local_port_range); "
    "give more addresses with --from, or take fewer --clients"
)
_NO_DESCRIPTORS: Final = "no file descriptor is left (ulimit -n)"


class Connection:
    """What a subscriber and a publisher have in common. Subclasses say what they send, and take what comes.

    An attempt begins with `dial` and ends with `_failed` or, once `_done`, with `_lost`. None of them raises.
    """

    __slots__ = ("_attempts", "_deadline", "_handler", "_outgoing", "_tried_ns", "load", "sock")

    def __init__(self, load: Load) -> None:
        self.load = load
        self.sock: socket.socket | None = None
        self._outgoing = b""
        self._attempts = 0
        self._handler: Callable[[int], None] = self._event  # of events, once it is open
        self._deadline = 0  # which attempt a timeout belongs to
        self._tried_ns = 0

    # -- what subclasses do

    def _connected(self) -> None:
        """The connection is there: send the request."""
        raise NotImplementedError

    def _readable(self) -> None:
        """Something can be read: see `_receive`."""
        raise NotImplementedError

    def _ended(self, reason: str) -> None:
        """The connection broke, or could not be made; it is closed already."""
        raise NotImplementedError

    # -- dialling

    def dial(self) -> None:
        """Begin to connect."""
        load = self.load
        self.hang_up()
        self._deadline += 1
        self._tried_ns = load.now_ns()
        family, address, port = load.address(self._attempts)
        self._attempts += 1
        try:
            sock = self.sock = socket.socket(family, socket.SOCK_STREAM)
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            local = load.local_address()
            if local:
                if hasattr(socket, "IP_BIND_ADDRESS_NO_PORT"):  # the port is chosen by both ends, so there are more
                    sock.setsockopt(socket.IPPROTO_IP, socket.IP_BIND_ADDRESS_NO_PORT, 1)
                sock.bind((local, 0))
            code = sock.connect_ex((address, port))
        except OSError as error:
            self.hang_up()
            self._ended(_words(error.errno or 0, error))
            return
        if code not in (0, errno.EINPROGRESS, errno.EWOULDBLOCK):
            self.hang_up()
            self._ended(_words(code))
            return
        load.watch(sock.fileno(), READ | WRITE, self._dialling)
        deadline = self._deadline
        load.after(_DIAL_TIMEOUT_S, lambda: self._timed_out(deadline))

    def settled(self) -> None:
        """What the attempt was for has come: its timeout counts no more."""
        self._deadline += 1
        self._attempts = 0

    def _timed_out(self, deadline: int) -> None:
        if deadline == self._deadline:
            self.break_off(f"no answer within {_DIAL_TIMEOUT_S:g} s")

    def _dialling(self, mask: int) -> None:
        sock = self.sock
        assert sock is not None
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self.break_off(_words(code))
            return
        if self.load.tls is None:
            self._open()
            return
        name = self.load.order.target.host
        try:
            # The same descriptor, so the poll goes on with it.
            self.sock = self.load.tls.wrap_socket(sock, server_hostname=name, do_handshake_on_connect=False)
        except OSError as error:
            self.break_off(_words(error.errno or 0, error))
            return
        self.load.watch(self.sock.fileno(), READ | WRITE, self._shaking_hands)
        self._shaking_hands(mask)

    def _shaking_hands(self, mask: int) -> None:
        assert isinstance(self.sock, ssl.SSLSocket)
        try:
            self.sock.do_handshake()
        except ssl.SSLWantReadError:
            self.load.watch(self.sock.fileno(), READ, self._shaking_hands)
        except ssl.SSLWantWriteError:
            self.load.watch(self.sock.fileno(), READ | WRITE, self._shaking_hands)
        except ssl.SSLCertVerificationError as error:
            self.break_off(f"TLS: {error.verify_message}")
        except OSError as error:
            self.break_off(f"TLS: {getattr(error, 'reason', '') or error.strerror or type(error).__name__}")
        else:
            self._open()

    def _open(self) -> None:
        assert self.sock is not None
        self._handler = self._event
        self.load.watch(self.sock.fileno(), READ, self._handler)
        self._connected()

    # -- open

    def _event(self, mask: int) -> None:
        if mask & WRITE:
            self._flush()
            if self.sock is None:
                return
        if mask & ~WRITE:
            try:
                self._readable()
            except Unreadable as error:
                self.load.tally.unexpected += 1
                self.break_off(str(error))

    def send(self, data: bytes) -> None:
        """Send it, now or as soon as there is room."""
        self._outgoing += data
        self._flush()

    def _flush(self) -> None:
        assert self.sock is not None
        was_waiting = bool(self._outgoing)
        try:
            while self._outgoing:
                sent = self.sock.send(self._outgoing)
                self._outgoing = self._outgoing[sent:]
        except _WAITING:
            self.load.watch(self.sock.fileno(), READ | WRITE, self._handler)
            return
        except OSError as error:
            self.break_off(_words(error.errno or 0, error))
            return
        if was_waiting:
            self.load.settle_writing(self.sock.fileno(), self._handler)

    def _receive(self) -> bytes | None:
        """What has come, or None: nothing for now, or the end, which `_ended` has been told then."""
        assert self.sock is not None
        try:
            data = self.sock.recv(RECEIVE_BYTES)
        except _WAITING:
            return None
        except OSError as error:
            self.break_off(_words(error.errno or 0, error))
            return None
        if not data:
            self.break_off("closed by the peer")
            return None
        return data

    @property
    def has_more(self) -> bool:
        """Whether TLS keeps something that the poll knows nothing of."""
        return isinstance(self.sock, ssl.SSLSocket) and self.sock.pending() > 0

    # -- its end

    def hang_up(self) -> None:
        """Close, without telling anybody."""
        sock, self.sock = self.sock, None
        self._outgoing = b""
        self._deadline += 1
        if sock is not None:
            self.load.unwatch(sock.fileno())
            sock.close()

    def break_off(self, reason: str) -> None:
        """Close, and go on from there."""
        self.hang_up()
        self._ended(reason)


def _words(code: int, error: OSError | None = None) -> str:
    if code == errno.EADDRNOTAVAIL:
        return _NO_PORTS
    if code in (errno.EMFILE, errno.ENFILE):
        return _NO_DESCRIPTORS
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or 'failed'}"
    return os.strerror(code).lower() if code else str(error or "failed")
