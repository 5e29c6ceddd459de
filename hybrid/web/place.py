"""A worker's place: its number, its listening socket, and whoever works there, leaves it or is about to take it."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from hybrid.web.process import State, WorkerProcess

_SETTLED_S: Final = 10.0  # whoever lived that long is not one that cannot start
_PAUSE_FIRST_S: Final = 1.0
_PAUSE_MAX_S: Final = 30.0
_UNATTENDED_S: Final = 5.0  # clients wait longer than that for an answer, but balancers and people do not


class Place:
    """See the module's text. It decides nothing about when a worker is started, but how long to pause before."""

    def __init__(self, number: int, listener: socket.socket, *, is_shared: bool) -> None:
        self.number = number
        self.listener = listener
        self.worker: WorkerProcess | None = None
        """Who works here, or is starting to."""
        self.successor: WorkerProcess | None = None
        """Who is to take over at a reload; STARTING."""
        self.leaving: list[WorkerProcess] = []
        self.start_at_s: float | None = None
        """When to start a worker, if that is so. Monotonic."""
        self._is_shared = is_shared
        self._failures = 0
        self._unattended_since_s: float | None = None

    @property
    def is_ready(self) -> bool:
        """Whether somebody accepts here."""
        return self.worker is not None and self.worker.state is State.READY

    def processes(self) -> Iterator[WorkerProcess]:
        """All that live or are not yet seen to be dead."""
        yield from self.leaving
        for process in (self.worker, self.successor):
            if process is not None:
                yield process

    def remove(self, process: WorkerProcess) -> None:
        """Forget one, whatever it was here."""
        if process in self.leaving:
            self.leaving.remove(process)
        elif process is self.successor:
            self.successor = None
        elif process is self.worker:
            self.worker = None

    def pause_s(self, lived_s: float, *, was_ready: bool) -> float:
        """How long to wait after the end of a worker that lived so long; 0 unless it is one of several that fail."""
        if lived_s >= _SETTLED_S and was_ready:
            self._failures = 0
            return 0.0
        self._failures += 1
        if self._failures == 1:
            return 0.0
        # Jittered, or the workers of a machine that is short of something would all try at the same time.
        growth = 2.0 ** min(self._failures - 2, 16)
        return min(_PAUSE_MAX_S, _PAUSE_FIRST_S * growth) * random.uniform(0.5, 1.0)

    def hasten(self) -> None:
        """What failed may go well now: start at once whom we would have started later."""
        self._failures = 0
        if self.start_at_s is not None:
            self.start_at_s = time.monotonic()

    def tend_queue(self, now_s: float) -> bool:
        """Stop listening when nobody has accepted here for some seconds; True when that has just been done.

        Whoever waits in the queue is reset then, and new connections go to the other places. The next worker listens
        again, when it is ready; so this is not done while one starts, who may have done so already.
        """
        if self._is_shared or self.is_ready:
            self._unattended_since_s = None
            return False
        if self._unattended_since_s is None:
            self._unattended_since_s = now_s
        if self.worker is not None or self.successor is not None or now_s - self._unattended_since_s < _UNATTENDED_S:
            return False
        self._unattended_since_s = float("inf")  # until somebody is ready again
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RD)
        return True
