"""nghttpx: HTTP/2 in front, HTTP/1.1 to the origin."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.proxy.zoo.animals.authorities import make_authority, make_leaf
from tests.proxy.zoo.animals.base import Animal, Origin, Route
from tests.proxy.zoo.animals.daemons import HOST, daemon, required
from tests.support.processes import free_port


@asynccontextmanager
async def _release(origin: Origin, scratch: Path) -> AsyncIterator[Route]:
    port = free_port()
    authority = make_authority(scratch)
    leaf = make_leaf(scratch, authority)
    arguments = [
        required("nghttpx"), "--conf=/dev/null", "--workers=1", "--single-process",
        f"--frontend={HOST},{port}", f"--backend={origin.host},{origin.port}",
        str(leaf.key), str(leaf.certificate),
    ]  # fmt: skip
    async with daemon("nghttpx", arguments, scratch, port):
        yield Route(f"https://localhost:{port}", ca=authority.certificate)


ANIMALS: Final = (
    Animal(
        "nghttpx",
        "HTTP/2 in front, with WebSockets over it (RFC 8441), and HTTP/1.1 to the origin.",
        ("nghttpx",),
        _release,
        "tls",
    ),
)
