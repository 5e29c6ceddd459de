"""`make bench-servers`: hybrid under Hypercorn, uvicorn and Granian, with sockets handed off and through plain ASGI,
with TLS in the process, behind a proxy, and compressed.

One load for all, in turn, in one run; the server has one core and the load the other. CPU time is that of all of the
server's threads, so what Granian does in Rust is in it.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import psutil

from hybrid.auth.development import FULL_SCOPE, DevelopmentIssuer
from hybrid.clock import SystemClock
from tests.bench.dialects import HYBRID_SSE, HYBRID_WEBSOCKET, Dialect
from tests.bench.load import Failed
from tests.bench.payloads import payloads
from tests.bench.pipes import Crowd, Door, Press
from tests.bench.process import Server
from tests.support.certificates import Certificate, make_certificate

HOST = "bench.test"
AUDIENCE = f"http://{HOST}"
ISSUER = "http://issuer.bench.test"
BATCH = 64


@dataclass(frozen=True)
class Way:
    """One row: who serves, and how it reaches the client."""

    server: str
    handoff: bool
    dialect: Dialect
    tls: str = ""  # "in process", or "nginx" in front
    size: int = 128
    is_deflated: bool = False

    def __str__(self) -> str:
        parts = [self.server, "hand-off" if self.handoff else "ASGI", self.dialect.name]
        if self.tls:
            parts.append(f"TLS {self.tls}")
        if self.size != 128 or self.is_deflated:
            parts.append(f"{self.size:,} bytes{', compressed' if self.is_deflated else ''}")
        return ", ".join(parts)


@dataclass(frozen=True)
class Plan:
    rounds: int
    clients: int
    idle: int
    alone: int
    batches: int


FULL = Plan(rounds=3, clients=300, idle=700, alone=150, batches=60)
QUICK = Plan(rounds=1, clients=100, idle=200, alone=40, batches=15)


def ways() -> Iterator[Way]:
    for dialect in (HYBRID_WEBSOCKET, HYBRID_SSE):
        for server, handoff in (
            ("hypercorn", True),
            ("hypercorn", False),
            ("uvicorn", True),
            ("uvicorn", False),
            ("granian", False),
        ):
            yield Way(server, handoff, dialect)
    for server, handoff in (("hypercorn", True), ("uvicorn", True), ("granian", False)):
        yield Way(server, handoff, HYBRID_WEBSOCKET, tls="in process")
    yield Way("hypercorn", True, HYBRID_WEBSOCKET, tls="nginx")
    for is_deflated in (False, True):
        for tls in ("", "in process"):
            yield Way("hypercorn", True, HYBRID_WEBSOCKET, tls=tls, size=4_096, is_deflated=is_deflated)


class Cost:
    """CPU and memory of what serves: the server, and the proxy where there is one."""

    def __init__(self, server: Server, proxy: Proxy | None) -> None:
        self._server = server
        self._proxy = proxy

    def cpu_s(self) -> float:
        return self._server.cpu_s()

    def proxy_s(self) -> float:
        return self._proxy.cpu_s() if self._proxy is not None else 0.0

    def quiet(self) -> None:
        self._server.quiet()

    def memory(self) -> int:
        return self._server.memory_bytes()["rss"]

    def proxy_memory(self) -> int:
        return self._proxy.memory() if self._proxy is not None else 0


class Proxy:
    """nginx that ends TLS, with one worker on the server's core."""

    def __init__(self, port: int, process: psutil.Process) -> None:
        self.port = port
        self._process = process

    def _all(self) -> list[psutil.Process]:
        return [self._process, *self._process.children()]

    def cpu_s(self) -> float:
        return sum(sum(one.cpu_times()[:2]) for one in self._all())

    def memory(self) -> int:
        return int(sum(one.memory_info().rss for one in self._all()))


_NGINX = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; worker_processes 1; worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  map $http_upgrade $connection_upgrade {{ default upgrade; "" ""; }}
  upstream nodes {{ server 127.0.0.1:{upstream}; keepalive 16; }}
  server {{
    listen 127.0.0.1:{port} ssl; ssl_certificate {certificate}; ssl_certificate_key {key};
    location / {{
      proxy_pass http://nodes; proxy_http_version 1.1; proxy_set_header Host $host; proxy_buffering off;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade; proxy_read_timeout 1h;
    }}
  }}
}}
"""


@contextmanager
def nginx(upstream: int, certificate: Certificate, core: int | None) -> Iterator[Proxy]:
    """A running one. Raises Failed."""
    program = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if program is None:
        raise Failed("needs nginx. On Debian: apt install nginx")
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        file = Path(folder) / "nginx.conf"
        file.write_text(
            _NGINX.format(
                folder=folder, port=port, upstream=upstream, certificate=certificate.certificate, key=certificate.key
            )
        )
        process = subprocess.Popen([program, "-c", str(file), "-p", folder], start_new_session=True)
        try:
            if core is not None:
                os.sched_setaffinity(process.pid, {core})
            end_s = time.monotonic() + 10
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > end_s:
                        raise Failed("nginx did not start") from None
                    time.sleep(0.02)
            for child in psutil.Process(process.pid).children():
                if core is not None:
                    child.cpu_affinity([core])
            yield Proxy(port, psutil.Process(process.pid))
        finally:
            process.terminate()
            process.wait()


class Bench:
    def __init__(self, plan: Plan, certificate: Certificate) -> None:
        self.plan = plan
        self.certificate = certificate
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        self.core = cores[0] if len(cores) > 1 else None
        if self.core is not None:
            os.sched_setaffinity(0, {cores[1]})
        issuer = DevelopmentIssuer(ISSUER, AUDIENCE, SystemClock())
        self.order = {"jwks": issuer.jwks(), "issuer": ISSUER, "audience": AUDIENCE, "core": self.core}
        count = plan.clients + plan.idle
        self.tokens = [issuer.mint(f"user-{n}", FULL_SCOPE, lifetime_s=36_000) for n in range(count)]
        self.publisher = issuer.mint("publisher", FULL_SCOPE, lifetime_s=36_000)
        self.found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))

    def measure(self, way: Way) -> None:
        """All figures of one way, once. Raises Failed."""
        order: dict[str, Any] = {**self.order, "server": way.server, "handoff": way.handoff}
        if way.tls == "in process":
            order["certificate"] = [self.certificate.certificate, self.certificate.key]
        with Server(way.server, order, module="tests.bench.serving") as server:
            if way.tls == "nginx":
                with nginx(server.address[1], self.certificate, self.core) as proxy:
                    self._measure(way, Cost(server, proxy), ("127.0.0.1", proxy.port))
            else:
                self._measure(way, Cost(server, None), server.address)

    def _measure(self, way: Way, cost: Cost, address: tuple[str, int]) -> None:
        plan, found = self.plan, self.found[str(way)]
        context = None
        if way.tls:
            context = ssl.create_default_context(cafile=self.certificate.certificate)
        door = Door(address, HOST, way.dialect, context, way.is_deflated)
        crowd = Crowd(door)
        # The first ones stay: neither what is made once for all nor the check of tokens is a client's.
        crowd.open(self.tokens[: plan.clients])
        crowd.settle()
        press = Press(Door(address, HOST, way.dialect, context), self.publisher)
        texts = payloads(way.size)
        self._deliver(crowd, press, islice(texts, 5), 1)  # what is made once
        for what, count, at_once in (("alone", plan.alone, 1), ("batch", plan.batches, BATCH)):
            cost.quiet()
            before_s, proxy_s = cost.cpu_s(), cost.proxy_s()
            sent = self._deliver(crowd, press, islice(texts, count * at_once), at_once)
            spent_s, proxy_s = cost.cpu_s() - before_s, cost.proxy_s() - proxy_s
            found[what].append(sent * len(crowd) / spent_s)
            if way.tls == "nginx":
                found[f"{what}, with the proxy"].append(sent * len(crowd) / (spent_s + proxy_s))
        press.close()
        cost.quiet()
        before, proxy_before = cost.memory(), cost.proxy_memory()
        before_s, proxy_s = cost.cpu_s(), cost.proxy_s()
        crowd.open(self.tokens[plan.clients :])
        crowd.settle()
        found["connect"].append((cost.cpu_s() - before_s) / plan.idle * 1e6)
        cost.quiet()
        found["memory"].append((cost.memory() - before) / plan.idle / 1024)
        if way.tls == "nginx":
            found["connect, proxy"].append((cost.proxy_s() - proxy_s) / plan.idle * 1e6)
            found["memory, proxy"].append((cost.proxy_memory() - proxy_before) / plan.idle / 1024)
        crowd.close()

    def _deliver(self, crowd: Crowd, press: Press, texts: Iterator[str], at_once: int) -> int:
        """Publish, awaited by all, so many in one request; how many."""
        sent = 0
        while batch := list(islice(texts, at_once)):
            crowd.begin()
            crowd.until(len(batch), press.publish(batch))
            sent += len(batch)
        return sent


HEADS = ("", "deliveries/CPU-s, one at a time", f"{BATCH} at once", "connect, us of CPU", "memory per idle client, KB")


def rows(found: dict[str, dict[str, list[float]]]) -> Iterator[str]:
    """The medians as a table in Markdown, and the proxy's own share below its row."""
    yield "| " + " | ".join(HEADS) + " |"
    yield "| " + " | ".join("---" for _ in HEADS) + " |"
    for name, values in found.items():
        yield _row(name, values, ("alone", "batch", "connect", "memory"))
        if "memory, proxy" in values:
            keys = ("alone, with the proxy", "batch, with the proxy", "connect, proxy", "memory, proxy")
            yield _row("the same, nginx counted in; its own connects and memory", values, keys)


def _row(name: str, values: dict[str, list[float]], keys: tuple[str, ...]) -> str:
    alone, batch, connect, memory = (statistics.median(values[key]) for key in keys)
    return f"| {name} | {alone:,.0f} | {batch:,.0f} | {connect:,.0f} | {memory:,.1f} |"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.servers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--rounds", type=int, help="how often each is measured")
    parser.add_argument("--only", metavar="WORD", default="", help="rows that hold this word")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536) if hard > 0 else 65_536, hard))
    plan = QUICK if options.quick else FULL
    faults = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(plan, make_certificate(Path(folder), HOST))
        for _ in range(options.rounds or plan.rounds):
            for way in ways():
                if options.only not in str(way):
                    continue
                print(way, file=sys.stderr, flush=True)
                try:
                    bench.measure(way)
                except Failed as error:
                    faults.append(f"FAULT: {way}: {error}")
    names = ("hypercorn", "uvicorn", "granian", "uvloop", "websockets")
    print(
        f"{plan.clients} clients, then {plan.idle} more; {platform.system()} {platform.machine()}, {os.cpu_count()} "
        f"cores, Python {platform.python_version()}, {', '.join(f'{name} {version(name)}' for name in names)}"
    )
    print("\n".join([*rows(bench.found), *faults]))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
