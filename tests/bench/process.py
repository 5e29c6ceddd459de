"""A server in processes of its own, and what it costs: CPU time and memory, read from outside."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from tests.bench.load import Failed

END_MAX_S = 15.0


class Running:
    """A process that was started here, with all that it starts: their CPU time and memory together.

    The context ends it. Subclasses say how it is asked to, and set `address` once it listens.
    """

    address: tuple[str, int]

    def __init__(self, name: str, process: subprocess.Popen[str]) -> None:
        self.name = name
        self._process = process
        self._psutil = psutil.Process(process.pid)
        self._used_s: dict[int, float] = {}  # by pid; what has ended stays
        atexit.register(self.end)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()

    def end(self) -> None:
        """Ask it to end, wait, and end what is left by force."""
        atexit.unregister(self.end)
        family = self._family()
        try:
            self._ask()
            self._process.wait(END_MAX_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            for one in family:  # psutil knows a pid that another process has got since
                try:
                    one.kill()
                except psutil.NoSuchProcess:
                    continue
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None and not pipe.closed:
                    with suppress(BrokenPipeError):
                        pipe.close()

    def _ask(self) -> None:
        self._process.terminate()

    @property
    def pid(self) -> int:
        return self._process.pid

    def cpu_s(self) -> float:
        """Seconds of CPU so far, user and system, of all its processes.

        On Linux to the nanosecond; elsewhere as fine as the system counts (10 ms).
        """
        for one in self._family():
            try:
                self._used_s[one.pid] = _cpu_s(one)
            except (psutil.NoSuchProcess, OSError):
                continue
        return sum(self._used_s.values())

    def memory_bytes(self) -> dict[str, int]:
        """rss, uss and, where the system tells, pss of all its processes, after the garbage has been collected."""
        self.collect()
        time.sleep(0.3)  # for what it had still to do
        total: dict[str, int] = {}
        for one in self._family():
            try:
                full = one.memory_full_info()
            except psutil.NoSuchProcess:
                continue
            for name in ("rss", "uss", "pss"):
                if hasattr(full, name):
                    total[name] = total.get(name, 0) + int(getattr(full, name))
        if not total:
            raise Failed(f"the {self.name} server ended")
        return total

    def collect(self) -> None:
        """Have it collect its garbage; here it has none."""

    def quiet(self, seconds: float = 0.3, share: float = 0.02, at_most_s: float = 20.0) -> None:
        """Return once it uses less than that share of its core, so that nothing of before is counted later."""
        end_s = time.monotonic() + at_most_s
        while time.monotonic() < end_s:
            before_s = self.cpu_s()
            time.sleep(seconds)
            if self.cpu_s() - before_s < share * seconds:
                return

    def _family(self) -> list[psutil.Process]:
        try:
            return [self._psutil, *self._psutil.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


def _cpu_s(process: psutil.Process) -> float:
    if sys.platform == "linux":
        return time.clock_gettime((~process.pid << 3) | 2)  # another process's clock, as clock_getcpuclockid(3)
    times = process.cpu_times()
    return float(times.user + times.system)


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """What is started meanwhile runs on that core for good; with None, where the system likes."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Server(Running):
    """A server that speaks to us over its standard input and output, as tests/bench/server.py says.

    `command` is what runs it, `module` with its kind if not given; `root` the checkout that it runs from, this one
    if not given. Raises Failed when it ends before it listens.
    """

    def __init__(
        self,
        kind: str,
        order: dict[str, Any],
        root: Path | None = None,
        command: Sequence[str] = (),
        module: str = "tests.bench.server",
    ) -> None:
        with on_core(order["core"]):
            process = subprocess.Popen(
                [*command] or [sys.executable, "-m", module, kind],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=root,
                start_new_session=True,  # Ctrl-C is for us; it ends with its input
            )
        super().__init__(kind, process)
        try:
            self._tell(json.dumps(order))
            answer = json.loads(self._hear())
        except BaseException:
            self.end()
            raise
        self.address = ("127.0.0.1", int(answer["port"]))
        self.loop = str(answer["loop"])

    def __enter__(self) -> Server:
        return self

    def collect(self) -> None:
        self._tell("gc")
        self._hear()

    def _ask(self) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            return

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise Failed(f"the {self.name} server ended") from None

    def _hear(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Failed(f"the {self.name} server ended")
        return line
