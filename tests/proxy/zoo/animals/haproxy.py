"""HAProxy in front of the origin, and what appliances do to upgrades, played with its rules."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.proxy.zoo.animals.base import Animal, Origin, Release, Route
from tests.proxy.zoo.animals.daemons import HOST, daemon, required, to_front
from tests.support.processes import free_port

# The times are Debian's.
_CONFIGURATION: Final = """\
defaults
    mode http
    timeout connect 5s
    timeout client 50s
    timeout server {server_max}
frontend zoo
    bind {host}:{port}
    acl upgrade req.hdr(Upgrade) -m found
    {more}
    default_backend origin
backend origin
    server origin {origin.host}:{origin.port}
"""


def _haproxy(more: str = "", server_max: str = "50s") -> Release:
    @asynccontextmanager
    async def release(origin: Origin, scratch: Path) -> AsyncIterator[Route]:
        port = free_port()
        configuration = scratch / "haproxy.cfg"
        configuration.write_text(
            _CONFIGURATION.format(host=HOST, port=port, origin=origin, more=more, server_max=server_max)
        )
        arguments = [required("haproxy"), "-db", "-f", str(configuration)]
        async with daemon("haproxy", arguments, scratch, port, probe=to_front(port)):
            yield Route(f"http://{HOST}:{port}")

    return release


_NEEDS: Final = ("haproxy",)
ANIMALS: Final = (
    Animal("haproxy", "A balancer that lets everything through.", _NEEDS, _haproxy()),
    Animal("haproxy-strip", "Takes the Upgrade out of requests.", _NEEDS, _haproxy("http-request del-header Upgrade")),
    Animal("haproxy-403", "Refuses upgrades with 403.", _NEEDS, _haproxy("http-request deny if upgrade")),
    Animal(
        "haproxy-blackhole",
        "Never answers an upgrade, and does not close it either.",
        _NEEDS,
        _haproxy("http-request silent-drop if upgrade"),
    ),
    Animal(
        "haproxy-1s",
        "Gives the origin one second of silence: polls get 504, quiet streams are cut.",
        _NEEDS,
        _haproxy(server_max="1s"),
    ),
    Animal(
        "haproxy-gzip",
        "Compresses event streams that do not forbid it.",
        _NEEDS,
        _haproxy("compression algo gzip\n    compression type text/event-stream"),
    ),
)
