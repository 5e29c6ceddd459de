"""Tells the two meanings of SIGHUP apart: somebody asks for a reload, or the terminal we were started in is gone."""

from __future__ import annotations

import os
import signal


class Terminal:
    """The terminal at the time it is made, which is before SIGHUP is handled."""

    def __init__(self) -> None:
        # Under nohup the signal is ignored from the start: then the server was meant to outlive its terminal.
        self._counts = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and _has_terminal()

    def has_hung_up(self) -> bool:
        """True when there was a terminal and it is gone, so that SIGHUP means: end."""
        return self._counts and not _has_terminal()


def _has_terminal() -> bool:
    """Whether this process has a controlling terminal: the kernel takes it away before it sends the signal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK))
    except OSError:
        return False
    return True
