"""Real proxies as foreground processes: started with a configuration of their own, ended with all their children."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from tests.proxy.zoo.animals.base import Absent, Origin, executable
from tests.support.processes import START_MAX_S, Process

HOST: Final = "127.0.0.1"
_ANSWER_MAX_S: Final = 5.0


class Daemon(Process):
    """A program whose children are ended with it: it leads a process group of its own."""

    _has_group = False

    def launch(self) -> None:
        super().launch()
        self._has_group = True

    def kill(self) -> None:
        """SIGKILL to the whole group, once: later its number may be somebody else's."""
        if self._has_group:
            self._has_group = False
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        super().kill()

    def report(self, lines: int = 40, without: str = "") -> str:
        """The end of what it has written, into files of its own too."""
        own = sorted(path for path in self.folder.glob("*.log") if path.stem != self.name)
        tails = (["---", path.name, *path.read_text(errors="replace").splitlines()[-lines:]] for path in own)
        return "\n".join([super().report(lines, without), *("\n".join(tail) for tail in tails)])


@asynccontextmanager
async def daemon(
    name: str,
    arguments: Sequence[str],
    folder: Path,
    port: int,
    *,
    probe: bytes = b"",
    environment: Mapping[str, str] | None = None,
    start_max_s: float = START_MAX_S,
) -> AsyncIterator[Daemon]:
    """Run it in the folder until the block ends. Entered when it has answered the probe, or accepts without one.

    Raises RuntimeError with the end of its log when it ends before that or does not answer in time.
    """
    running = Daemon(name, arguments, folder, environment)
    running.launch()
    try:
        await running.until(lambda: _answers(port, probe), "ready", start_max_s)
        yield running
    finally:
        await _to_the_end(running)


async def finished(name: str, arguments: Sequence[str], folder: Path) -> None:
    """Run a program to its end. Raises RuntimeError with the end of its log when it fails."""
    running = Daemon(name, arguments, folder)
    running.launch()
    try:
        while running.is_running:  # noqa: ASYNC110 -- a pid tells nobody of its end
            await asyncio.sleep(0.01)
    finally:
        status = await _to_the_end(running)
    if status:
        raise RuntimeError(f"{name} failed with {status}:\n{running.report()}")


async def _to_the_end(running: Daemon) -> int:
    """End it, also when the task is cancelled meanwhile."""
    try:
        return await running.end(3.0)
    finally:
        running.kill()


def required(name: str) -> str:
    """The path of an executable. Raises Absent."""
    found = executable(name)
    if found is None:
        raise Absent(f"needs {name}, which was not found")
    return found


def through_proxy(origin: Origin) -> bytes:
    """A request as a forward proxy takes it."""
    address = f"{origin.host}:{origin.port}"
    return f"GET http://{address}/ HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode()


def to_front(port: int) -> bytes:
    """A request to a server that stands in front of the origin."""
    return f"GET / HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n".encode()


def is_root() -> bool:
    """Whether daemons that drop privileges will do so here."""
    return os.geteuid() == 0


def give_to(user: str, folder: Path) -> None:
    """Let the user that a daemon changes to own the folder and what is in it.

    The folders above may be closed to it: such a daemon runs in its folder, and is given names relative to it.
    """
    if not is_root():
        return
    try:
        pwd.getpwnam(user)
    except KeyError:
        raise Absent(f"needs the user {user}, which this system does not know") from None
    shutil.chown(folder, user)
    for path in folder.rglob("*"):
        shutil.chown(path, user)


async def _answers(port: int, probe: bytes) -> bool:
    try:
        async with asyncio.timeout(_ANSWER_MAX_S):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                if not probe:
                    return True
                writer.write(probe)
                return bool(await reader.read(1))
            finally:
                writer.transport.abort()
    except (OSError, TimeoutError):
        return False
