"""Caddy in front of the origin."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.proxy.zoo.animals.authorities import make_authority, make_leaf
from tests.proxy.zoo.animals.base import Animal, Origin, Route
from tests.proxy.zoo.animals.daemons import HOST, daemon, required, to_front
from tests.support.processes import free_port

_CONFIGURATION: Final = """\
{{
    admin off
    auto_https off
}}
{site} {{
    bind {host}
    {tls}
    reverse_proxy {origin.host}:{origin.port}
}}
"""


@asynccontextmanager
async def _caddy(origin: Origin, scratch: Path, port: int, site: str, tls: str, probe: bytes) -> AsyncIterator[None]:
    configuration = scratch / "Caddyfile"
    configuration.write_text(_CONFIGURATION.format(site=site, host=HOST, tls=tls, origin=origin))
    arguments = [required("caddy"), "run", "--adapter", "caddyfile", "--config", str(configuration)]
    home = {name: str(scratch) for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
    async with daemon("caddy", arguments, scratch, port, probe=probe, environment=home):
        yield


@asynccontextmanager
async def _plain(origin: Origin, scratch: Path) -> AsyncIterator[Route]:
    port = free_port()
    async with _caddy(origin, scratch, port, f"http://:{port}", "", to_front(port)):
        yield Route(f"http://{HOST}:{port}")


@asynccontextmanager
async def _tls(origin: Origin, scratch: Path) -> AsyncIterator[Route]:
    port = free_port()
    authority = make_authority(scratch)
    leaf = make_leaf(scratch, authority)
    async with _caddy(origin, scratch, port, f"https://:{port}", f"tls {leaf.certificate} {leaf.key}", b""):
        yield Route(f"https://localhost:{port}", ca=authority.certificate)


ANIMALS: Final = (
    Animal("caddy", "A server in front that lets everything through.", ("caddy",), _plain),
    Animal("caddy-tls", "A server in front that speaks HTTP/2 to browsers.", ("caddy",), _tls, "tls"),
)
