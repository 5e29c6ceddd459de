"""A program that a test starts here: its output is kept; it is ended, killed, stopped and continued by its pid."""

from __future__ import annotations

import asyncio
import atexit
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest

START_MAX_S: Final = 15.0  # a loaded machine takes seconds for what takes 50 ms on an idle one
_END_MAX_S: Final = 10.0
_POLL_S: Final = 0.01
_PART: Final = int(os.environ.get("TEST_PORTS_PART", "0"))
_PORTS: Final = range(10_240 + 10_880 * _PART, 10_240 + 10_880 * (_PART + 1))
"""Below the ports that systems give to outgoing connections (32768 and up on Linux, 49152 and up elsewhere): a server
that is restarted on its port must find it free, and a client that dials a dead port there can reach itself. Of runs
beside each other each has a part (0 or 1)."""
_given: set[int] = set()


def program(name: str, variable: str | None = None, *, package: str | None = None) -> str:
    """The path of a program: what the environment variable names, else what is on the PATH; a test that needs it and
    does not find it skips, with a reason that `TEST_REQUIRE` turns into a failure."""
    chosen = os.environ.get(variable, "") if variable else ""
    found = shutil.which(chosen or name) or shutil.which(f"/usr/sbin/{name}")
    if found is None:
        pytest.skip(f"needs {name}, which was not found. On Debian: apt install {package or name}")
    return found


def free_port() -> int:
    """A port of the loopback that nothing listens on now, and that this function has not given before."""
    for _ in range(1_000):
        port = random.choice(_PORTS)
        if port in _given:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a closed connection of before is no listener
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise RuntimeError("no port was free")


class Process:
    """One program with its folder. It can be started again after its end; its output is appended to one file."""

    def __init__(
        self, name: str, arguments: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.arguments = list(arguments)
        self.folder = folder
        self.environment = environment
        self.is_frozen = False
        self._process: subprocess.Popen[bytes] | None = None
        self._output = folder / f"{name}.log"
        folder.mkdir(parents=True, exist_ok=True)
        atexit.register(self.kill)  # a test run that is interrupted leaves nothing behind

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        """Its exit status, when it has ended."""
        return None if self._process is None else self._process.poll()

    def launch(self) -> None:
        """Start the program, and return before it is ready."""
        assert not self.is_running, f"{self.name} runs already"
        self.is_frozen = False
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                self.arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=None if self.environment is None else dict(self.environment),
                start_new_session=True,  # Ctrl-C is for the tests, which end it then
            )

    async def until(
        self, is_ready: Callable[[], Awaitable[bool]], what: str = "ready", max_s: float = START_MAX_S
    ) -> None:
        """Poll until `is_ready` says so. Raises RuntimeError with the program's output when it ended or time is up."""
        end_s = time.monotonic() + max_s
        while not await is_ready():
            if not self.is_running:
                raise RuntimeError(f"{self.name} ended before it was {what}:\n{self.report()}")
            if time.monotonic() > end_s:
                raise RuntimeError(f"{self.name} was not {what} within {max_s} s:\n{self.report()}")
            await asyncio.sleep(_POLL_S)

    def signal(self, number: int) -> None:
        """Send a signal to this process, if it still runs."""
        if self.is_running:
            os.kill(self.pid, number)

    def freeze(self) -> None:
        """SIGSTOP: its sockets stay open, the kernel goes on acknowledging, and nothing answers."""
        self.signal(signal.SIGSTOP)
        self.is_frozen = True

    def thaw(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)
        self.is_frozen = False

    def kill(self) -> None:
        """SIGKILL, as a crash; returns when it is gone, and its port with it."""
        self.signal(signal.SIGKILL)
        self.is_frozen = False
        if self._process is not None:
            self._process.wait()

    async def end(self, max_s: float = _END_MAX_S) -> int:
        """SIGTERM, then SIGKILL when it still runs after `max_s`. Returns its exit status; 0 if it never ran."""
        if self._process is None:
            return 0
        self.thaw()  # a stopped process hears no SIGTERM
        self.signal(signal.SIGTERM)
        end_s = time.monotonic() + max_s
        while self.is_running and time.monotonic() < end_s:  # noqa: ASYNC110 -- a pid tells nobody of its end
            await asyncio.sleep(_POLL_S)
        self.kill()
        return self._process.returncode

    def output(self) -> str:
        """All that it has written, in all its lives."""
        return self._output.read_text(errors="replace") if self._output.exists() else ""

    def report(self, lines: int = 40, without: str = "") -> str:
        """The end of what it has written, but for the lines that hold `without`."""
        if not self._output.exists():
            return f"--- {self.name} was never started"
        written = self._output.read_text(errors="replace").splitlines()
        if without:
            written = [line for line in written if without not in line]
        return "\n".join([f"--- the last lines of {self.name}", *written[-lines:]])
