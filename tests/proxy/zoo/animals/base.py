"""What every animal of the zoo is, and how a client gets through it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Leg = Literal["plain", "tls", "intercepted"]


class Absent(Exception):
    """The machine has not what an animal needs. The text begins with "needs " and names it."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The server behind the animals: plain HTTP on the loopback, and the same over TLS where there is a `tls_port`.

    `ca` is the PEM file of the authority behind its certificate, which is for localhost, 127.0.0.1 and hybrid.test.
    """

    host: str
    port: int
    tls_port: int | None = None
    ca: Path | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """How a client gets to the origin through an animal.

    `url` is the base URL that the client opens: the animal's own address when it stands in front of the origin, the
    origin's address when it is a proxy that the client is told of. `proxy` is that proxy, as "http://127.0.0.1:port".
    `ca` is the PEM file of an authority that the client must trust.
    """

    url: str
    proxy: str | None = None
    ca: Path | None = None


Release = Callable[[Origin, Path], AbstractAsyncContextManager[Route]]
"""From the origin and a scratch directory that exists. Yields when the animal answers, and ends all that it started.

Raises Absent where the machine does not allow it, RuntimeError with the end of its log when it ends too early.
"""


@dataclass(frozen=True, slots=True)
class Animal:
    """One network. `says` is one sentence on what it does; `needs` are executables.

    `leg`: "plain" takes http://, "tls" https:// with the origin's or its own certificate, "intercepted" https:// that
    it opens and closes again, under a certificate of its own authority. `is_port_bound`: it serves only who asks for
    its own port, so that nothing can stand in front of it under another one.
    """

    name: str
    says: str
    needs: tuple[str, ...]
    release: Release
    leg: Leg = "plain"
    is_port_bound: bool = False

    def missing(self) -> tuple[str, ...]:
        """Those of `needs` that this machine has not."""
        return tuple(name for name in self.needs if executable(name) is None)


def executable(name: str) -> str | None:
    """Its path. Debian keeps daemons out of the PATH of ordinary users."""
    return shutil.which(name) or shutil.which(f"/usr/sbin/{name}") or shutil.which(f"/sbin/{name}")
