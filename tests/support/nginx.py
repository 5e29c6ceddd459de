"""The real nginx with the project's own nginx.conf, on free ports of the loopback.

Only what a test cannot have is replaced: ports, the user, files, the name, the nodes. Each replacement has to match as
often as it is said to, so that a test never runs with something else than what the file says. `NGINX` names another
program than Debian's.
"""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import signal
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from tests.support.certificates import Certificate, make_certificate
from tests.support.processes import Process, free_port, program

ROOT: Final = Path(__file__).parent.parent.parent
CONFIGURATION: Final = ROOT / "nginx.conf"
HOST: Final = "hybrid.example"
"""The name under which the tests' nginx is reached; that of the tests' public_url."""
_NODES: Final = (
    "        server 127.0.0.1:8001 max_fails=3 fail_timeout=5s;{mark}\n"
    "        server 127.0.0.1:8002 max_fails=3 fail_timeout=5s;{mark}\n"
).format(mark=" " * 40 + "# [2]")


@dataclass(frozen=True)
class Change:
    """`old` stands exactly `count` times in the file, and becomes `new` everywhere."""

    old: str
    new: str
    count: int = 1


def changed(text: str, changes: Iterable[Change]) -> str:
    """The text with all changes made. Raises AssertionError where one does not match as it says."""
    for change in changes:
        assert text.count(change.old) == change.count, f"{change.old!r} stands {text.count(change.old)} times"
        text = text.replace(change.old, change.new)
    return text


def nodes_line(port: int) -> str:
    """A node as the file writes it."""
    return f"        server 127.0.0.1:{port} max_fails=3 fail_timeout=5s;\n"


class Nginx:
    """One nginx with two workers. `https_port` and `http_port` are on 127.0.0.1 and, where the machine has it, ::1."""

    def __init__(self, folder: Path, certificate: Certificate, ports: Sequence[int], changes: Sequence[Change]) -> None:
        path = program("nginx", "NGINX")
        self.folder = folder
        self.certificate = certificate
        self.https_port, self.http_port = free_port(), free_port()
        self.configuration = folder / "nginx.conf"
        self._base = changed(CONFIGURATION.read_text(), self._places(ports))
        self.configure(changes)
        # The pid of the master is that of the process; stderr holds what is said before the logs are open.
        self.process = Process("nginx", [path, *self._options, "-g", "daemon off;"], folder)
        self.tester = Process("nginx-t", [path, *self._options, "-t"], folder)

    @property
    def _options(self) -> tuple[str, ...]:
        return "-p", str(self.folder), "-e", str(self.folder / "start.log"), "-c", str(self.configuration)

    def _places(self, ports: Sequence[int]) -> list[Change]:
        folder, user = self.folder, pwd.getpwuid(os.getuid()).pw_name
        six = "[::1]" if _has_ipv6() else ""
        nodes = "".join(map(nodes_line, ports))
        places = [
            Change("user www-data;", f"user {user};"),
            Change("worker_processes auto;", "worker_processes 2;"),
            Change("pid /run/nginx.pid;", f"pid {folder}/nginx.pid;"),
            Change("worker_connections 32768;", "worker_connections 4096;"),
            Change("worker_rlimit_nofile 65536;\n", ""),  # more than an unprivileged user may have
            Change("/var/log/nginx/error.log", f"{folder}/error.log", 4),
            Change("/var/log/nginx/access.log", f"{folder}/access.log"),
            Change("root /srv/hybrid;", f"root {ROOT};"),
            Change("/etc/ssl/live.example.com/fullchain.pem;", f"{self.certificate.certificate};"),
            Change("/etc/ssl/live.example.com/privkey.pem;", f"{self.certificate.key};"),
            Change("server_name live.example.com;", f"server_name {HOST};", 2),
            Change("https://live.example.com$request_uri;", f"https://{HOST}$request_uri;"),
            Change(_NODES, nodes, 2),
            # Where the packaged nginx keeps bodies, an unprivileged one may not write.
            Change(
                "\nhttp {\n", "\nhttp {\n" + "".join(f"    {name}_temp_path {folder}/{name};\n" for name in _TEMPORARY)
            ),
        ]
        for number, port in ((80, self.http_port), (443, self.https_port)):
            places.append(Change(f"listen {number} ", f"listen 127.0.0.1:{port} ", 1 if number == 80 else 2))
            places.append(Change(f"listen [::]:{number} ", f"listen {six}:{port} ", 1 if number == 80 else 2))
        places.append(Change("listen 80;", f"listen 127.0.0.1:{self.http_port};"))
        places.append(Change("listen [::]:80;", f"listen {six}:{self.http_port};"))
        if not six:
            places.append(Change("listen :", "# no IPv6 here: ", 4))
        return places

    def configure(self, changes: Sequence[Change]) -> None:
        """Write the file anew; a running nginx takes it at its next reload."""
        self.configuration.write_text(changed(self._base, changes))

    # -- its life

    async def start(self) -> None:
        """Test the configuration, start, and return when connections are accepted."""
        self.tester.launch()
        while self.tester.is_running:  # noqa: ASYNC110 -- a pid tells nobody of its end
            await asyncio.sleep(0.005)
        assert "syntax is ok" in self.tester.report(), self.tester.report()
        assert "test is successful" in self.tester.report(), self.tester.report()
        self.process.launch()
        await self.process.until(self._accepts)

    async def reload(self) -> set[int]:
        """SIGHUP, as `systemctl reload nginx`; returns the former workers' pids when only new ones accept."""
        former = self.workers()
        self.process.signal(signal.SIGHUP)

        async def has_new_workers() -> bool:
            return len(self.workers() - former) == 2 and not any(map(_accepts_still, former))

        await self.process.until(has_new_workers, "reloaded")
        return former

    def workers(self) -> set[int]:
        """The pids of all workers, those that only finish what they have included."""
        return {child.pid for child in psutil.Process(self.process.pid).children()}

    async def end(self) -> None:
        """SIGTERM: at once."""
        await self.process.end()
        await self.tester.end()

    async def _accepts(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.https_port)
        except OSError:
            return False
        writer.close()
        return True

    # -- what it is like from outside

    def client_context(self, *, alpn: Sequence[str] = ("http/1.1",)) -> ssl.SSLContext:
        """For clients that trust its certificate."""
        context = ssl.create_default_context(cafile=self.certificate.certificate)
        context.set_alpn_protocols(list(alpn))
        return context

    async def entries(self, count: int) -> list[dict[str, Any]]:
        """The lines of the access log, when there are at least so many: nginx writes them behind the answers."""
        while len(lines := self.log("access").splitlines()) < count:  # noqa: ASYNC110 -- a file tells nobody
            await asyncio.sleep(0.005)
        return [json.loads(line) for line in lines]

    def log(self, name: str) -> str:
        """`access` or `error`, as far as it is written."""
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""


_TEMPORARY: Final = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@asynccontextmanager
async def running_nginx(ports: Sequence[int], *changes: Change) -> AsyncIterator[Nginx]:
    """nginx in front of the nodes that listen on these ports of the loopback."""
    program("nginx", "NGINX")  # first: where it skips, nothing is left behind
    with tempfile.TemporaryDirectory(prefix="hybrid-nginx-") as name:
        folder = Path(name)
        nginx = Nginx(folder, make_certificate(folder, HOST), ports, changes)
        try:
            await nginx.start()
            yield nginx
        finally:
            await nginx.end()
            print(nginx.process.report())
            for log in ("error", "access"):
                print(f"--- {log}.log", *nginx.log(log).splitlines()[-20:], sep="\n")


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _accepts_still(worker: int) -> bool:
    try:
        return "shutting down" not in " ".join(psutil.Process(worker).cmdline())
    except psutil.Error:
        return False
