"""Tinyproxy: a small forward proxy, as in routers and containers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.proxy.zoo.animals.base import Animal, Origin, Route
from tests.proxy.zoo.animals.daemons import HOST, daemon, required, through_proxy
from tests.proxy.zoo.animals.urls import plain_url, tls_url
from tests.support.processes import free_port

_CONFIGURATION: Final = """\
Port {port}
Listen {host}
Allow {host}
Timeout 600
MaxClients 100
LogLevel Connect
ConnectPort 443
{more}
"""


@asynccontextmanager
async def _tinyproxy(origin: Origin, scratch: Path, more: str = "") -> AsyncIterator[str]:
    port = free_port()
    configuration = scratch / "tinyproxy.conf"
    configuration.write_text(_CONFIGURATION.format(port=port, host=HOST, more=more))
    arguments = [required("tinyproxy"), "-d", "-c", str(configuration)]
    async with daemon("tinyproxy", arguments, scratch, port, probe=through_proxy(origin)):
        yield f"http://{HOST}:{port}"


@asynccontextmanager
async def _plain(origin: Origin, scratch: Path) -> AsyncIterator[Route]:
    async with _tinyproxy(origin, scratch) as proxy:
        yield Route(plain_url(origin), proxy=proxy)


@asynccontextmanager
async def _connect(origin: Origin, scratch: Path) -> AsyncIterator[Route]:
    url = tls_url(origin)
    async with _tinyproxy(origin, scratch, f"ConnectPort {origin.tls_port}") as proxy:
        yield Route(url, proxy=proxy, ca=origin.ca)


ANIMALS: Final = (
    Animal(
        "tinyproxy",
        "A forward proxy that takes the Upgrade out of requests and closes after each answer.",
        ("tinyproxy",),
        _plain,
    ),
    Animal("tinyproxy-connect", "A forward proxy that tunnels TLS blindly.", ("tinyproxy",), _connect, "tls"),
)
