"""Squid: the forward proxy of schools and offices."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Literal

from tests.proxy.zoo.animals.authorities import make_authority
from tests.proxy.zoo.animals.base import Absent, Animal, Origin, Release, Route
from tests.proxy.zoo.animals.daemons import HOST, daemon, finished, give_to, required, through_proxy
from tests.proxy.zoo.animals.urls import plain_url, tls_url
from tests.support.processes import free_port

_USER: Final = "proxy"
_HELPER: Final = Path("/usr/lib/squid/security_file_certgen")
# As Debian ships it, but for where files go; names are relative, because it reads them as another user. Debian's list
# of ports for CONNECT is 443 alone: a browser's ws:// through a proxy asks CONNECT for its port and gets 403.
_CONFIGURATION: Final = """\
http_port {host}:{port} {port_options}
visible_hostname zoo
cache_effective_user {user}
pid_filename none
cache_log cache.log
access_log stdio:access.log
netdb_filename none
pinger_enable off
shutdown_lifetime 0 seconds
acl SSL_ports port {connect_ports}
acl Safe_ports port 80 443 1025-65535
http_access deny !Safe_ports
http_access deny CONNECT !SSL_ports
http_access allow localhost
http_access deny all
{more}
"""
# The name has to be OTHER: Squid compares names of protocols by case, and `WebSocket` is not a browser's `websocket`.
_UPGRADE: Final = "http_upgrade_request_protocols OTHER allow all"
_BUMP: Final = """\
sslcrtd_program {helper} -s certificates -M 4MB
sslcrtd_children 1
sslproxy_session_cache_size 0
tls_outgoing_options cafile=origin.pem
acl first_step at_step SslBump1
ssl_bump peek first_step
ssl_bump bump all
"""


@asynccontextmanager
async def _squid(
    origin: Origin, folder: Path, port: int, *, port_options: str = "", connect_ports: str = "443", more: str = ""
) -> AsyncIterator[None]:
    text = _CONFIGURATION.format(
        host=HOST, port=port, port_options=port_options, user=_USER, connect_ports=connect_ports, more=more
    )
    (folder / "squid.conf").write_text(text)
    give_to(_USER, folder)
    # -N: one process, in the foreground. -n: by this name Squids tell their shared memory apart.
    name = f"zoo{port}"
    arguments = [required("squid"), "-N", "-n", name, "-f", "squid.conf"]
    try:
        async with daemon("squid", arguments, folder, port, probe=through_proxy(origin)):
            yield
    finally:
        _forget_memory(name)


def _forget_memory(name: str) -> None:
    """What a Squid leaves behind that was killed."""
    for left in Path("/dev/shm").glob(f"{name}-*"):
        left.unlink(missing_ok=True)


def _plain(more: str) -> Release:
    @asynccontextmanager
    async def release(origin: Origin, scratch: Path) -> AsyncIterator[Route]:
        port = free_port()
        async with _squid(origin, scratch, port, more=more):
            yield Route(plain_url(origin), proxy=f"http://{HOST}:{port}")

    return release


@asynccontextmanager
async def _connect(origin: Origin, scratch: Path) -> AsyncIterator[Route]:
    port = free_port()
    async with _squid(origin, scratch, port, connect_ports=f"443 {origin.tls_port}"):
        yield Route(tls_url(origin), proxy=f"http://{HOST}:{port}", ca=origin.ca)


@asynccontextmanager
async def _bump(origin: Origin, scratch: Path) -> AsyncIterator[Route]:
    if not _HELPER.exists():
        raise Absent("needs squid-openssl: this Squid was built without TLS")
    port = free_port()
    url = tls_url(origin)
    authority = make_authority(scratch / "authority")
    (scratch / "authority.pem").write_bytes(authority.both.read_bytes())
    assert origin.ca is not None
    (scratch / "origin.pem").write_bytes(origin.ca.read_bytes())
    await finished("certificates", [str(_HELPER), "-c", "-s", "certificates", "-M", "4MB"], scratch)
    options = "ssl-bump tls-cert=authority.pem generate-host-certificates=on dynamic_cert_mem_cache_size=4MB"
    more = _BUMP.format(helper=_HELPER)
    async with _squid(origin, scratch, port, port_options=options, connect_ports=f"443 {origin.tls_port}", more=more):
        yield Route(url, proxy=f"http://{HOST}:{port}", ca=authority.certificate)


def _squid_animal(
    name: str, says: str, release: Release, leg: Literal["plain", "tls", "intercepted"] = "plain"
) -> Animal:
    return Animal(name, says, ("squid",), release, leg)


ANIMALS: Final = (
    _squid_animal(
        "squid-default",
        "A forward proxy that takes the Upgrade out of requests, and tunnels to port 443 alone.",
        _plain(""),
    ),
    _squid_animal(
        "squid-upgrade",
        "A forward proxy that was taught to let upgrades through, and tunnels to port 443 alone.",
        _plain(_UPGRADE),
    ),
    _squid_animal("squid-connect", "A forward proxy that tunnels TLS blindly.", _connect, "tls"),
    _squid_animal("squid-bump", "A forward proxy that opens TLS and takes the Upgrade out.", _bump, "intercepted"),
)
