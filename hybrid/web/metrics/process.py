"""What a process uses, by the names that Prometheus' own clients have for it, and whether its event loop keeps up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import psutil

from hybrid.counts import Sizes
from hybrid.web.metrics.families import Family, counter, gauge

_LOOK_S: Final = 0.25
"""Between two looks: whatever holds the loop for longer is seen for certain, shorter holds by chance."""


class LoopLag:
    """How late the event loop does what is due. Costs four wake-ups a second from `start` to `stop`."""

    def __init__(self) -> None:
        self.late_us = Sizes()
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0

    def start(self) -> None:
        """Begin to look. Inside the event loop; again it does nothing."""
        if self._timer is None:
            self._rest()

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _rest(self) -> None:
        loop = asyncio.get_running_loop()
        self._due_s = loop.time() + _LOOK_S
        self._timer = loop.call_at(self._due_s, self._look)

    def _look(self) -> None:
        self.late_us.add_s(asyncio.get_running_loop().time() - self._due_s)
        self._rest()


class ProcessFigures:
    """This process as the system sees it. What the system does not tell is left out."""

    def __init__(self) -> None:
        self._process = psutil.Process()

    def families(self) -> Iterator[Family]:
        """The figures of now; a few system calls."""
        process = self._process
        with process.oneshot():
            with suppress(psutil.Error):
                times = process.cpu_times()
                yield counter(
                    "process_cpu_seconds", "User and system CPU time spent, in seconds.", times.user + times.system
                )
            with suppress(psutil.Error):
                memory = process.memory_info()
                yield gauge("process_resident_memory_bytes", "Resident memory, in bytes.", memory.rss)
                yield gauge("process_virtual_memory_bytes", "Virtual memory, in bytes.", memory.vms)
            with suppress(psutil.Error):
                started_s = process.create_time()
                yield gauge("process_start_time_seconds", "When the process started, in Unix time.", started_s)
            with suppress(psutil.Error, AttributeError):  # Windows counts handles instead
                yield gauge("process_open_fds", "Open file descriptors.", process.num_fds())
            with suppress(psutil.Error, AttributeError):
                soft, _ = process.rlimit(psutil.RLIMIT_NOFILE)
                yield gauge("process_max_fds", "How many file descriptors may be open.", soft)
