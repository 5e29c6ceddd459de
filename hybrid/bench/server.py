"""What the server costs, read from outside: CPU time and resident memory of its processes on this host."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

import psutil

from hybrid.errors import SettingsError

PIDS_MAX: Final = 64


class Sample(NamedTuple):
    """At one moment: seconds of CPU used since the first sample, resident bytes, and how many processes."""

    cpu_s: float
    memory_bytes: int
    processes: int


class ServerProcesses:
    """The processes of these ids and all their children: a supervisor's workers are found by themselves.

    A process that ends keeps what it has used; one that comes later counts from its beginning.
    """

    def __init__(self, pids: Sequence[int]) -> None:
        """Raises SettingsError where one is not there or may not be looked at."""
        self._roots: list[psutil.Process] = []
        self._base_s: dict[int, float] = {}
        self._used_s: dict[int, float] = {}
        for pid in pids:
            try:
                root = psutil.Process(pid)
                root.memory_info()
            except psutil.NoSuchProcess:
                raise SettingsError(
                    detail=f"--pid {pid}: there is no such process on this host. It is for the server's own process "
                    "here; leave it out when the server runs elsewhere."
                ) from None
            except psutil.AccessDenied:
                raise SettingsError(
                    detail=f"--pid {pid}: that process may not be looked at; run as its user, or leave --pid out."
                ) from None
            self._roots.append(root)
        for process in self._all():
            self._base_s[process.pid] = _cpu_s(process)
        self.sample()

    def sample(self) -> Sample:
        """Look now. Processes that have ended are no error."""
        memory = count = 0
        for process in self._all():
            try:
                self._used_s[process.pid] = _cpu_s(process) - self._base_s.setdefault(process.pid, 0.0)
                memory += process.memory_info().rss
                count += 1
            except psutil.Error:
                continue
        return Sample(sum(self._used_s.values()), memory, count)

    def _all(self) -> list[psutil.Process]:
        found: dict[int, psutil.Process] = {}
        for root in self._roots:
            found[root.pid] = root
            try:
                children = root.children(recursive=True)
            except psutil.Error:
                continue
            found.update((child.pid, child) for child in children)
        return list(found.values())


def _cpu_s(process: psutil.Process) -> float:
    """User and system time. On Linux to the nanosecond, elsewhere as fine as the system counts."""
    if sys.platform == "linux":
        try:
            return time.clock_gettime((~process.pid << 3) | 2)  # of another process, as clock_getcpuclockid(3)
        except OSError:
            raise psutil.NoSuchProcess(process.pid) from None
    times = process.cpu_times()
    return float(times.user + times.system)
