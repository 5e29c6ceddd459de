"""Apache httpd with mod_proxy: forward and in front."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.proxy.zoo.animals.base import Absent, Animal, Origin, Route
from tests.proxy.zoo.animals.daemons import HOST, daemon, is_root, required, through_proxy, to_front
from tests.proxy.zoo.animals.urls import plain_url
from tests.support.processes import free_port

_MODULES: Final = Path("/usr/lib/apache2/modules")
_LOADED: Final = ("mpm_event", "authz_core", "env", "proxy", "proxy_http", "proxy_connect")
_CONFIGURATION: Final = """\
{modules}
ServerRoot {folder}
DefaultRuntimeDir {folder}
PidFile {folder}/apache.pid
ErrorLog {folder}/error.log
ServerName {host}
Listen {host}:{port}
{user}
StartServers 1
ServerLimit 2
{more}
"""
_FORWARD: Final = """\
ProxyRequests On
ProxyTimeout 1
SetEnv force-proxy-request-1.0 1
AllowCONNECT 443
<Proxy "*">
    Require all granted
</Proxy>
"""
_REVERSE: Final = """\
ProxyPass "/" "http://{origin.host}:{origin.port}/"
"""


@asynccontextmanager
async def _apache(scratch: Path, port: int, more: str, probe: bytes) -> AsyncIterator[None]:
    if not _MODULES.exists():
        raise Absent(f"needs apache2 with its modules in {_MODULES}")
    text = _CONFIGURATION.format(
        modules="\n".join(f"LoadModule {name}_module {_MODULES}/mod_{name}.so" for name in _LOADED),
        folder=scratch,
        host=HOST,
        port=port,
        user="User www-data\nGroup www-data" if is_root() else "",
        more=more,
    )
    (scratch / "apache.conf").write_text(text)
    arguments = [required("apache2"), "-D", "FOREGROUND", "-f", str(scratch / "apache.conf")]
    async with daemon("apache", arguments, scratch, port, probe=probe):
        yield


@asynccontextmanager
async def _forward(origin: Origin, scratch: Path) -> AsyncIterator[Route]:
    port = free_port()
    async with _apache(scratch, port, _FORWARD, through_proxy(origin)):
        yield Route(plain_url(origin), proxy=f"http://{HOST}:{port}")


@asynccontextmanager
async def _reverse(origin: Origin, scratch: Path) -> AsyncIterator[Route]:
    port = free_port()
    async with _apache(scratch, port, _REVERSE.format(origin=origin), to_front(port)):
        yield Route(f"http://{HOST}:{port}")


ANIMALS: Final = (
    Animal(
        "apache-fwd",
        "A forward proxy: HTTP/1.0 to the origin, one second for it, CONNECT to 443 alone.",
        ("apache2",),
        _forward,
    ),
    Animal("apache-rev", "A bare ProxyPass: no upgrades, streams pass.", ("apache2",), _reverse),
)
