"""A real supervisor with real workers that are as small as can be, for tests that kill, stop and reload them.

Run as a program, this file is all three processes: the supervisor (`boss`), a worker, and the check before a reload. A
worker reads its `Plan` when it starts, as hybrid reads its settings; the test writes it, before the start or meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0


@dataclass(frozen=True)
class Plan:
    """What a worker does that is started now, and whether the check finds it good."""

    generation: int = 1
    start: Literal["ready", "fail", "refuse", "hang"] = "ready"
    is_good: bool = True


# -- the processes


class TinyApp:
    """Answers with who it is; `/block` stops the event loop for good, `/wait` answers when the worker drains."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.draining = asyncio.Event()
        self.extensions = {"hybrid": self}

    async def start(self) -> None:
        """As an engine's."""

    async def close(self) -> None:
        """As an engine's."""

    async def drain(self, grace_s: float) -> None:
        self.draining.set()
        if os.environ.get("CREW_DRAIN") == "stuck":
            await asyncio.Event().wait()

    def abort_all(self) -> int:
        """As an engine's: it has no links."""
        return 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for stage in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{stage}.complete"})
            return
        if scope["path"] == "/block":
            print("the loop is blocked from here on", file=sys.stderr, flush=True)
            time.sleep(PATIENCE_S)  # noqa: ASYNC251 -- what a worker must not do
        if scope["path"] == "/wait":
            await self.draining.wait()
        body = json.dumps({"pid": os.getpid(), "generation": self.plan.generation}).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def work(plan: Plan, assignment: str) -> int:
    from hybrid.cli.serving import run_worker
    from hybrid.settings import Settings

    if plan.start == "fail":
        raise RuntimeError("this worker cannot start")
    if plan.start == "refuse":
        print("hybrid: the settings are refused", file=sys.stderr)
        return 2
    if plan.start == "hang":
        time.sleep(PATIENCE_S)
    limits = replace(Settings().limits, shutdown_grace_s=float(os.environ.get("CREW_GRACE_S", "1")))
    settings = Settings(limits=limits, loop=os.environ.get("CREW_LOOP", "auto"))  # type: ignore[arg-type]
    return run_worker(settings, lambda _: TinyApp(plan), assignment)


def supervise(directory: str, options: dict[str, Any]) -> int:
    from hybrid.cli.running import configure_logging
    from hybrid.limits import Limits
    from hybrid.settings import service_environment, worker_environment
    from hybrid.web import place, supervisor
    from hybrid.web.listener import bind_places
    from hybrid.web.supervisor import Crew, Supervisor
    from hybrid.web.systemd import ServiceManager

    configure_logging("info")
    place._UNATTENDED_S = options["unattended_s"]  # type: ignore[misc]
    supervisor._LEAVING_MARGIN_S = options["margin_s"]  # type: ignore[misc]
    limits = Limits(**{"shutdown_grace_s": 2.0, "worker_silence_s": 3.0, "worker_start_s": 20.0, **options["limits"]})
    command = [sys.executable, __file__, "worker", directory]
    crew = Crew(command, [*command, "--check"], worker_environment(), limits)
    listeners = bind_places("127.0.0.1", 0, options["count"], spreads=options["spreads"])
    service = service_environment()
    manager = ServiceManager(service.notify_socket, service.watchdog_s)
    port = listeners[0].getsockname()[1]
    print(f"port {port}", flush=True)
    return Supervisor(listeners, crew, manager, lambda: print("ready", flush=True)).run()


def main(role: str, directory: str, *rest: str) -> int:
    if role == "boss":
        return supervise(directory, json.loads(rest[0]))
    plan = Plan(**json.loads((Path(directory) / "plan.json").read_text()))
    return (0 if plan.is_good else 2) if rest == ("--check",) else work(plan, rest[-1])


# -- what a test sees


@dataclass
class Answer:
    """What a worker says of itself."""

    pid: int
    generation: int


@dataclass
class Boss:
    """A supervisor that runs in a process group of its own; `log` is its stderr, with that of its workers."""

    directory: Path
    process: subprocess.Popen[str]
    port: int
    log: list[str] = field(default_factory=list)

    def plan(self, **changes: Any) -> None:
        write_plan(self.directory, **changes)

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ask(self, path: str = "/") -> Answer:
        """One request over a connection of its own. Raises OSError when it fails in any way."""
        with self.connect() as client:
            client.sendall(request(path))
            return read_answer(client)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)

    def workers(self) -> list[int]:
        """The processes of workers that live now, oldest first."""
        return children(self.process.pid)

    def logged(self, pattern: str) -> list[str]:
        """What the pattern's group, or the whole of it, found in the log so far."""
        return re.findall(pattern, "".join(self.log))

    def until_logged(self, pattern: str, count: int = 1) -> list[str]:
        until(lambda: len(self.logged(pattern)) >= count, lambda: f"{pattern!r} in:\n" + "".join(self.log))
        return self.logged(pattern)

    def until_answered_by(self, wanted: Callable[[set[int]], bool]) -> set[int]:
        """Ask until the processes that answered lately are as wanted, and return them."""
        seen: set[int] = set()

        def asked() -> bool:
            seen.clear()
            seen.update(self.ask().pid for _ in range(40))
            return wanted(seen)

        until(asked, lambda: f"{seen}\n" + "".join(self.log))
        return seen

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.send(number)
        return self.process.wait(PATIENCE_S)


@contextlib.contextmanager
def supervised(
    directory: Path,
    *,
    count: int = 2,
    spreads: bool = sys.platform == "linux",
    limits: dict[str, float] | None = None,
    unattended_s: float = 5.0,
    margin_s: float = 5.0,
    environment: dict[str, str] | None = None,
    waits: bool = True,
    **popen: Any,
) -> Iterator[Boss]:
    """Run it; with `waits`, until all workers are ready. Whatever lives at the end of the block is killed."""
    if not (directory / "plan.json").exists():
        write_plan(directory)
    options = {"count": count, "spreads": spreads, "limits": limits or {}}
    options |= {"unattended_s": unattended_s, "margin_s": margin_s}
    process = subprocess.Popen(
        [sys.executable, __file__, "boss", str(directory), json.dumps(options)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **{"start_new_session": True, **popen},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    boss = Boss(directory, process, 0)
    reader = threading.Thread(target=boss.log.extend, args=(process.stderr,))
    reader.start()
    try:
        boss.port = int(process.stdout.readline().split()[1])
        if waits:
            assert process.stdout.readline() == "ready\n", boss.log
        yield boss
    finally:
        left = boss.workers()
        process.kill()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        reader.join()
        process.stdout.close()
        process.stderr.close()


def write_plan(directory: Path, **changes: Any) -> None:
    file = directory / "plan.json.new"
    file.write_text(json.dumps(asdict(Plan(**changes))))
    file.replace(directory / "plan.json")


def until(condition: Callable[[], bool], otherwise: Callable[[], str] = lambda: "") -> None:
    """Wait for something that nobody announces; fails with what `otherwise` says."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, otherwise()
        time.sleep(0.01)


def children(pid: int) -> list[int]:
    """The living children of a process, in the order they were started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append((int(fields[19]), int(stat.parent.name)))
    return [child for _, child in sorted(found)]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def take_terminal(descriptor: int) -> None:
    """Make a terminal that of this process, which must be the first of its session; for between fork and exec."""
    fcntl.ioctl(descriptor, termios.TIOCSCTTY, 0)


def told(notify: socket.socket, count: int = 1) -> list[dict[str, str]]:
    """The next states that systemd is told, without the watchdog's."""
    states: list[dict[str, str]] = []
    while len(states) < count:
        message = notify.recv(4096).decode()
        if message != "WATCHDOG=1":
            states.append(dict(line.split("=", 1) for line in message.split("\n")))
    return states


def request(path: str = "/") -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: test\r\n\r\n" % path.encode()


def read_answer(client: socket.socket) -> Answer:
    """The next answer, which has a body of the length it says. Raises ConnectionError at the end of the connection."""
    head, body = read_response(client)
    assert head.startswith(b"HTTP/1.1 200"), head
    return Answer(**json.loads(body))


def read_response(client: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        data += _received(client)
    head, _, body = data.partition(b"\r\n\r\n")
    found = re.search(rb"(?i)content-length: (\d+)", head)
    assert found, head
    while len(body) < int(found[1]):
        body += _received(client)
    return head, body


def _received(client: socket.socket) -> bytes:
    piece = client.recv(65_536)
    if not piece:
        raise ConnectionResetError("closed without an answer")
    return piece


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
