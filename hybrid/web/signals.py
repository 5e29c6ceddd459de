"""Signals as bytes in a socket, for a loop that waits for other things too: none is lost and nothing is interrupted."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


@contextmanager
def signals_as_bytes(numbers: Iterable[signal.Signals]) -> Iterator[socket.socket]:
    """A socket from which the numbers of signals can be read, one byte each. For the main thread only."""
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)
        old_handlers = {number: signal.signal(number, lambda *_: None) for number in numbers}
        old_descriptor = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        try:
            yield reader
        finally:
            signal.set_wakeup_fd(old_descriptor)
            for number, handler in old_handlers.items():
                signal.signal(number, handler)
