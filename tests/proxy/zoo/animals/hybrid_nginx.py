"""The project's own nginx.conf in front of the origin: what hybrid's users are told to run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.proxy.zoo.animals.base import Animal, Origin, Route
from tests.proxy.zoo.animals.daemons import HOST, Daemon
from tests.support.certificates import make_certificate
from tests.support.nginx import HOST as NAME
from tests.support.nginx import Change, Nginx

# A name of this machine instead of a site's, so that clients need no name server.
_NAMES: Final = Change(f"server_name {NAME};", f"server_name localhost {HOST} hybrid.test;", 2)


@asynccontextmanager
async def _nginx(origin: Origin, scratch: Path, changes: Sequence[Change]) -> AsyncIterator[Nginx]:
    nginx = Nginx(scratch, make_certificate(scratch), [origin.port], changes)
    nginx.process = Daemon("nginx", nginx.process.arguments, scratch)  # its workers outlive a master that is killed
    try:
        await nginx.start()
        yield nginx
    finally:
        try:
            await nginx.end()
        finally:
            nginx.process.kill()


@asynccontextmanager
async def _tls(origin: Origin, scratch: Path) -> AsyncIterator[Route]:
    async with _nginx(origin, scratch, [_NAMES]) as nginx:
        yield Route(f"https://localhost:{nginx.https_port}", ca=Path(nginx.certificate.certificate))


@asynccontextmanager
async def _plain(origin: Origin, scratch: Path) -> AsyncIterator[Route]:
    # As behind a balancer that has taken TLS off. The server for clear text refuses everything, so ours loses its TLS.
    async with _nginx(origin, scratch, [_NAMES, Change(" ssl http2", "", 4)]) as nginx:
        yield Route(f"http://{HOST}:{nginx.https_port}")


ANIMALS: Final = (
    Animal("hybrid-nginx", "The project's nginx.conf, without TLS.", ("nginx",), _plain),
    Animal("hybrid-nginx-tls", "The project's nginx.conf: TLS and HTTP/2.", ("nginx",), _tls, "tls"),
)
