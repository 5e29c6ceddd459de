"""A server in a process of its own, and what it costs: CPU time and memory, read from outside."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from types import TracebackType
from typing import Any

import psutil

from tests.bench.load import Failed


class Server:
    """A running server. Its CPU time is user and system time of the whole process."""

    def __init__(self, kind: str, order: dict[str, Any], module: str = "tests.bench.server") -> None:
        """`module` is run with `kind` as its argument, and told `order`."""
        self.kind = kind
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for us; it ends with its input
        )
        self._psutil = psutil.Process(self._process.pid)
        self._tell(json.dumps(order))
        answer = self._hear()
        self.address = ("127.0.0.1", int(answer["port"]))
        self.loop = str(answer["loop"])

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    def cpu_s(self) -> float:
        """Seconds of CPU so far. On Linux to the nanosecond; elsewhere as fine as the system counts (10 ms)."""
        if sys.platform == "linux":
            return time.clock_gettime((~self.pid << 3) | 2)  # the clock of another process, as clock_getcpuclockid(3)
        times = self._psutil.cpu_times()
        return float(times.user + times.system)

    def memory_bytes(self) -> dict[str, int]:
        """rss, uss and, where the system tells, pss, after the garbage has been collected."""
        self._tell("gc")
        self._hear_line()
        time.sleep(0.3)  # for what the loop had still to do
        full = self._psutil.memory_full_info()
        return {name: int(getattr(full, name)) for name in ("rss", "uss", "pss") if hasattr(full, name)}

    def quiet(self, seconds: float = 0.3, share: float = 0.02, at_most_s: float = 20.0) -> None:
        """Return once it uses less than that share of its core, so that nothing of before is counted later."""
        end_s = time.monotonic() + at_most_s
        while time.monotonic() < end_s:
            before_s = self.cpu_s()
            time.sleep(seconds)
            if self.cpu_s() - before_s < share * seconds:
                return

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _hear_line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Failed(f"the {self.kind} server ended")
        return line

    def _hear(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._hear_line())
        return answer
