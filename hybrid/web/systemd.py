"""Tells systemd what the server does, where systemd started it: the datagrams of sd_notify(3), in a few lines.

Each state is one datagram of `NAME=value` lines to the Unix socket named by NOTIFY_SOCKET (a leading `@` stands for
the null byte of an abstract one). Without that variable nothing is told to anybody. The environment is read in
`settings.py`.
"""

from __future__ import annotations

import logging
import socket
import time
from typing import Final

_log = logging.getLogger(__name__)
_PATIENCE_S: Final = 1.0  # for a service manager whose queue is full; a server must not stand still for it


class ServiceManager:
    """What to tell; every method returns at once or within a second, and none raises."""

    def __init__(self, address: str = "", watchdog_s: float | None = None) -> None:
        """`address` empty: tell nobody. `watchdog_s`: how often at least `alive` is wanted; None for never."""
        self._address = b"\0" + address[1:].encode() if address.startswith("@") else address
        self._status = ""
        self.watchdog_interval_s = watchdog_s / 2 if watchdog_s and address else None
        """How often to call `alive`: half of the time after which systemd acts, as sd_watchdog_enabled(3) advises."""

    def ready(self, status: str) -> None:
        """Connections are accepted; also ends a reload."""
        self._status = status
        self._tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """A reload begins; `ready` ends it."""
        # The time is what Type=notify-reload tells this reload from an earlier one by.
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def status(self, status: str) -> None:
        """One line for `systemctl status`; told when it has changed."""
        if status != self._status:
            self._status = status
            self._tell(f"STATUS={status}")

    def stopping(self, status: str) -> None:
        """The end has begun."""
        self._status = status
        self._tell("STOPPING=1", f"STATUS={status}")

    def alive(self) -> None:
        """The watchdog's turn."""
        self._tell("WATCHDOG=1", patience_s=0.0)  # there will be a next one

    def _tell(self, *lines: str, patience_s: float = _PATIENCE_S) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(patience_s)
                sender.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            _log.warning("systemd was not told %s: %s", lines[0], error.strerror or error)
