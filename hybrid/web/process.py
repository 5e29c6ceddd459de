"""One worker as its supervisor sees it: a process, and the socket over which it shows that it lives."""

from __future__ import annotations

import enum
import math
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from hybrid.web.assignment import HELD_BACK, STACKS_SIGNAL, Assignment

_STACKS_S: Final = 1.0  # for a silent worker to write its stacks


class State(enum.Enum):
    """STARTING until it accepts; LEAVING once it has been told to end, or says that somebody else told it."""

    STARTING = enum.auto()
    READY = enum.auto()
    LEAVING = enum.auto()


class WorkerProcess:
    """A worker from its start to its end. All times are monotonic seconds."""

    def __init__(
        self,
        number: int,
        command: Sequence[str],
        environment: Mapping[str, str],
        listener: socket.socket,
        directory: str = "",
    ) -> None:
        """Start it. Raises OSError when the system cannot."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                assignment = Assignment(number, listener.fileno(), theirs.fileno(), directory)
                self._process = spawn(
                    [*command, "--worker", str(assignment)],
                    environment,
                    pass_fds=(assignment.listener, assignment.lifeline),
                )
        except BaseException:
            ours.close()
            raise
        ours.setblocking(False)
        self.number = number
        self.lifeline: socket.socket | None = ours
        """None once its other end is gone."""
        self.state = State.STARTING
        self.started_s = self.heard_s = time.monotonic()
        self.kill_at_s: float | None = None

    def __str__(self) -> str:
        return f"worker {self.number} ({self._process.pid})"

    @property
    def code(self) -> int | None:
        """None while it lives; then its exit code, or minus the signal that ended it."""
        return self._process.poll()

    def hear(self) -> bytes:
        """What it has said since the last call."""
        if self.lifeline is None:
            return b""
        try:
            said = self.lifeline.recv(4096)
        except (BlockingIOError, InterruptedError):
            return b""
        except OSError:
            said = b""
        if said:
            self.heard_s = time.monotonic()
        else:
            self.lifeline.close()
            self.lifeline = None
        return said

    def ask_to_leave(self, kill_at_s: float) -> None:
        """SIGTERM; and SIGKILL when it still lives at that time."""
        self.state = State.LEAVING
        self.kill_at_s = kill_at_s
        self._process.send_signal(signal.SIGTERM)

    def condemn(self) -> None:
        """Let it write where it stands, if it can, then kill it."""
        self.kill_at_s = time.monotonic() + _STACKS_S
        if STACKS_SIGNAL is not None:
            self._process.send_signal(STACKS_SIGNAL)

    def kill(self) -> None:
        """At once; its end is seen as any other."""
        self.kill_at_s = math.inf  # nothing more is to be done about it
        self._process.kill()

    def close(self) -> None:
        """Give its socket back. The process should have ended."""
        if self.lifeline is not None:
            self.lifeline.close()
            self.lifeline = None


def spawn(
    command: Sequence[str], environment: Mapping[str, str], *, pass_fds: Sequence[int] = (), stdout: int | None = None
) -> subprocess.Popen[bytes]:
    """Start a process that a Ctrl-C at the terminal does not reach, unless it asks for it. Raises OSError."""
    # What is blocked stays blocked in the new process; what comes for this one meanwhile is delivered behind.
    old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
    try:
        return subprocess.Popen(
            [*command], env={**environment}, stdin=subprocess.DEVNULL, stdout=stdout, pass_fds=pass_fds
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old_mask)


def describe_end(code: int) -> str:
    """How a process ended, in words: `exit code 1`, `SIGKILL`."""
    if code >= 0:
        return f"exit code {code}"
    with suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"
