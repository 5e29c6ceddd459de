"""`hybrid doctor` through real proxies, each as it is often met: what it says of them is what they do."""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hybrid.client.doctor import Finding, Pace, examine
from hybrid.client.doctor.verdict import conclude
from hybrid.client.endpoint import Endpoint
from tests.proxy.test_doctor import LIMITS, PACE, works
from tests.support.processes import Process, free_port, program
from tests.support.server import running_server, settings_for

PATIENT = replace(PACE, patience_s=2.0)


@dataclass(frozen=True)
class Proxy:
    """`configure` writes the files and gives the arguments behind the program's name. `is_forward`: it is dialled as
    the router of a network would that intercepts, under the server's own address."""

    name: str
    configure: Callable[[Path, int, int], list[str]]
    package: str = ""
    user: str = ""
    is_forward: bool = False


def nginx(more: str) -> Proxy:
    def configure(folder: Path, port: int, origin: int) -> list[str]:
        text = f"""daemon off; worker_processes 1; pid nginx.pid; error_log stderr;
            events {{}}
            http {{ access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f;
              uwsgi_temp_path u; scgi_temp_path s; {more}
              server {{ listen 127.0.0.1:{port};
                location / {{ proxy_pass http://127.0.0.1:{origin}; proxy_set_header Host $http_host; }} }} }}"""
        (folder / "nginx.conf").write_text(text)
        return ["-p", str(folder), "-c", "nginx.conf"]

    return Proxy("nginx", configure)


def haproxy(*, front: str = "", timeout: str = "60s") -> Proxy:
    def configure(folder: Path, port: int, origin: int) -> list[str]:
        text = f"""defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server {timeout}
  timeout tunnel {timeout}
frontend in
  bind 127.0.0.1:{port}
  {front}
  default_backend out
backend out
  server origin 127.0.0.1:{origin}
"""
        (folder / "haproxy.cfg").write_text(text)
        return ["-db", "-f", "haproxy.cfg"]

    return Proxy("haproxy", configure)


def varnish() -> Proxy:
    def configure(folder: Path, port: int, origin: int) -> list[str]:
        storage = ["-s", "malloc,16M"]
        return ["-F", "-n", str(folder / "v"), "-a", f"127.0.0.1:{port}", "-b", f"127.0.0.1:{origin}", *storage]

    return Proxy("varnishd", configure, package="varnish")


def squid() -> Proxy:
    def configure(folder: Path, port: int, origin: int) -> list[str]:
        text = f"""http_port 127.0.0.1:{port} accel defaultsite=127.0.0.1:{origin}
cache_peer 127.0.0.1 parent {origin} 0 no-query originserver
visible_hostname office
cache_effective_user proxy
pid_filename none
cache_log cache.log
access_log none
netdb_filename none
pinger_enable off
shutdown_lifetime 0 seconds
http_access allow all
"""
        (folder / "squid.conf").write_text(text)
        return ["-N", "-n", f"doctor{port}", "-f", "squid.conf"]

    return Proxy("squid", configure, package="squid-openssl", user="proxy")


def privoxy(actions: str) -> Proxy:
    def configure(folder: Path, port: int, origin: int) -> list[str]:
        (folder / "doctor.action").write_text(f"{{ {actions} }}\n/\n")
        (folder / "doctor.filter").write_text("FILTER: doctor Looks for a word\ns@nothing-reads-like-this@@g\n")
        text = f"""confdir {folder}
logdir {folder}
templdir /etc/privoxy/templates
actionsfile doctor.action
filterfile doctor.filter
listen-address 127.0.0.1:{port}
accept-intercepted-requests 1
toggle 1
"""
        (folder / "config").write_text(text)
        return ["--no-daemon", str(folder / "config")]

    return Proxy("privoxy", configure, is_forward=True)


@asynccontextmanager
async def running(proxy: Proxy, folder: Path, origin: int) -> AsyncIterator[int]:
    """Its port."""
    port = free_port()
    executable = program(proxy.name, package=proxy.package or None)
    if proxy.user and os.geteuid() == 0:
        for above in (folder, *folder.parents[:2]):
            above.chmod(0o755)
        shutil.chown(folder, proxy.user)
    process = Process(proxy.name, [executable, *proxy.configure(folder, port, origin)], folder)

    async def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    process.launch()
    try:
        await process.until(listens)
        yield port
    finally:
        await process.end()
        for left in Path("/dev/shm").glob(f"doctor{port}-*"):  # noqa: ASYNC240 -- what a Squid leaves behind
            left.unlink(missing_ok=True)


async def through(proxy: Proxy, folder: Path, pace: Pace = PATIENT) -> dict[str, Finding]:
    async with running_server(settings_for(limits=LIMITS)) as server, running(proxy, folder, server.port) as port:
        if proxy.is_forward:
            endpoint = Endpoint(server.url, dial=("127.0.0.1", port))
        else:
            endpoint = Endpoint(f"http://127.0.0.1:{port}")
        await endpoint.open()
        try:
            return {finding.name: finding for finding in await examine(endpoint, server.token(), pace=pace)}
        finally:
            await endpoint.close()


async def test_squid_takes_upgrade_out(tmp_path: Path) -> None:
    findings = await through(squid(), tmp_path)
    assert works(findings) == ["server", "sse", "longpoll"]
    told = findings["websocket"].facts[0]
    assert re.fullmatch(r"`Upgrade` is taken out on the way \(Via: 1\.1 office \(squid/[^)]*\).*\)", told)
    assert any(fact.startswith("Via: 1.1 office (squid/") for fact in findings["server"].facts)
    assert conclude(findings.values()).sentence.startswith("hybrid will use SSE here: WebSocket fails, `Upgrade` is")


async def test_haproxy_cuts_what_is_idle(tmp_path: Path) -> None:
    """Its clocks run from the last byte in either direction; a poll that waits longer is answered with 504."""
    pace = replace(PATIENT, wait_s=2.0, idle_s=2.0)
    # Between two heartbeats there may be a quarter of a second more than the second that is asked for.
    findings = await through(haproxy(timeout="1600ms"), tmp_path, pace)
    for name in ("websocket-idle", "sse-idle"):
        assert re.fullmatch(r"idle cut after .*; with a heartbeat every 1 s it stays open", findings[name].facts[0])
        assert 700 <= findings[name].figures["silence_ms"] < 2_000
    assert "HTTP 504" in findings["longpoll"].facts[1]
    assert findings["longpoll"].works


@pytest.mark.slow
async def test_haproxy_denies_upgrades(tmp_path: Path) -> None:
    findings = await through(haproxy(front="http-request deny if { hdr(Upgrade) -i websocket }"), tmp_path)
    assert works(findings) == ["server", "sse", "longpoll"]
    assert findings["websocket"].facts[0].startswith("the handshake was answered with HTTP 403 instead of 101")


@pytest.mark.slow
async def test_haproxy_drops_upgrades_in_silence(tmp_path: Path) -> None:
    findings = await through(haproxy(front="http-request silent-drop if { hdr(Upgrade) -i websocket }"), tmp_path)
    assert works(findings) == ["server", "sse", "longpoll"]
    told = findings["websocket"].facts[0]
    assert told.startswith(("the handshake was not answered within", "the handshake failed: "))


@pytest.mark.slow
async def test_nginx_as_it_is_often_set_up(tmp_path: Path) -> None:
    compressing = "gzip on; gzip_min_length 1; gzip_types application/json; gzip_proxied any;"
    findings = await through(nginx(compressing), tmp_path)
    assert findings["server"].facts[1] == findings["longpoll"].facts[1] == "recompressed on the way (gzip)"
    assert works(findings) == ["server", "sse", "longpoll"]
    assert findings["websocket"].facts[0].startswith("`Upgrade` is taken out on the way")


@pytest.mark.slow
async def test_varnish_as_it_comes(tmp_path: Path) -> None:
    findings = await through(varnish(), tmp_path)
    assert works(findings) == ["server", "sse", "longpoll"]
    assert "(Varnish/" in findings["websocket"].facts[0]
    assert findings["websocket"].facts[0].startswith("`Upgrade` is taken out on the way")


@pytest.mark.slow
async def test_privoxy_reads_everything_first(tmp_path: Path) -> None:
    findings = await through(privoxy("+filter{doctor} +force-text-mode"), tmp_path)
    assert works(findings) == ["server", "longpoll"]
    assert findings["sse"].facts[0] == "no answer within 2 s: held back until it would be whole"
    assert conclude(findings.values()).will_use == "longpoll"


@pytest.mark.slow
async def test_privoxy_swallows_what_goes_up(tmp_path: Path) -> None:
    findings = await through(privoxy(""), tmp_path)
    assert "websocket" not in works(findings)
    assert {"sse", "longpoll"} <= set(works(findings))
