"""Listening sockets: one for a server by itself, or one for each of several workers that share a port.

Apart from the launcher because the supervisor binds them too, and must not load a server for it.

With SO_REUSEPORT, Linux spreads new connections evenly over the sockets of a port, by a hash of their addresses. Each
socket has a queue of its own, and whoever closes the last descriptor of a socket resets what waits in its queue. So
the sockets belong to the places of the workers, not to the workers: the supervisor keeps them open, and what waited
for a worker that died is accepted by the next one in its place. Where the option does not spread (macOS gives all
connections to the socket bound last), all workers accept from one socket.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import Final

from hybrid.errors import SettingsError

BACKLOG: Final = 16_384
"""Connections that wait to be accepted: a reconnect storm arrives within one turn of the event loop. Who finds no room
tries again after 1, 3, 7, 15 and 31 s, whatever the server could do. Systems bound it further (net.core.somaxconn)."""
SEND_BUFFER_BYTES: Final = 65_536
"""What the kernel may hold for a client that does not read."""
_USER_TIMEOUT_MS: Final = 30_000  # unacknowledged data; a vanished peer otherwise holds its buffers for 15 minutes
SPREADS: Final = sys.platform == "linux"
"""Whether several sockets on one port get equal shares of its connections."""


def bind(host: str, port: int, send_buffer_bytes: int | None = SEND_BUFFER_BYTES) -> socket.socket:
    """A bound TCP socket that does not block and does not listen yet; port 0 takes any free one.

    Everything accepted from it inherits its options. Raises SettingsError, one line, if the address cannot be had.
    """
    return _bind(host, port, send_buffer_bytes, joins=False)


def bind_places(host: str, port: int, count: int, *, spreads: bool = SPREADS) -> list[socket.socket]:
    """`count` sockets that listen on one port; without `spreads`, the same one `count` times.

    The port is refused while anybody else listens on it. Raises SettingsError, one line.
    """
    places: list[socket.socket] = []
    # With the option, a bind succeeds beside another server of the same user: so the first one does without it, and
    # holds the port until the others have it.
    with _bind(host, port, SEND_BUFFER_BYTES, joins=False) as first:
        bound_port = first.getsockname()[1]
        try:
            for _ in range(count if spreads else 1):
                place = _bind(host, bound_port, SEND_BUFFER_BYTES, joins=True) if spreads else first.dup()
                places.append(place)
                place.listen(BACKLOG)
        except (OSError, SettingsError) as error:
            for place in places:
                place.close()
            if isinstance(error, SettingsError):
                raise
            raise SettingsError(detail=f"Cannot listen on {host}:{port}: {_plain(error)}.") from error
    return places if spreads else places * count


def _bind(host: str, port: int, send_buffer_bytes: int | None, *, joins: bool) -> socket.socket:
    bare_host = host.removeprefix("[").removesuffix("]")
    if not 0 <= port < 65_536:  # getaddrinfo takes it modulo 65536
        raise SettingsError(detail=f"Cannot use the address {host}:{port}: ports are 0 to 65535.")
    try:
        found = socket.getaddrinfo(bare_host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # A name often has both; IPv4 is the one that everything on the machine can reach.
        family, kind, protocol, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
        listener = socket.socket(family, kind, protocol)
    except (OSError, OverflowError, UnicodeError) as error:
        raise SettingsError(detail=f"Cannot use the address {host}:{port}: {_plain(error)}.") from error
    try:
        if os.name == "posix":  # on Windows the option would let two servers share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if joins:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if bare_host == "::" else 1)
        # Accepted sockets inherit the following.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sys.platform == "linux":
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)
        if send_buffer_bytes is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
        listener.bind(address)
        listener.setblocking(False)
    except (OSError, OverflowError) as error:
        listener.close()
        raise SettingsError(detail=f"Cannot listen on {host}:{port}: {_plain(error)}.") from error
    return listener


def _plain(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()).rstrip(".")
