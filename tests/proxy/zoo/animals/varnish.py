"""Varnish: a cache in front of the origin."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.proxy.zoo.animals.base import Animal, Origin, Release, Route
from tests.proxy.zoo.animals.daemons import HOST, daemon, required, to_front
from tests.support.processes import free_port

_VCL: Final = """\
vcl 4.1;
backend default {{ .host = "{origin.host}"; .port = "{origin.port}"; }}
{more}
"""
_HOLD: Final = "sub vcl_backend_response { set beresp.do_stream = false; }"


def _varnish(more: str = "") -> Release:
    @asynccontextmanager
    async def release(origin: Origin, scratch: Path) -> AsyncIterator[Route]:
        port = free_port()
        vcl = scratch / "zoo.vcl"
        vcl.write_text(_VCL.format(origin=origin, more=more))
        # No jail: it would change the user to one that may not read the folder. It compiles the VCL before it listens.
        arguments = [
            required("varnishd"), "-F", "-j", "none", "-a", f"{HOST}:{port}", "-T", "none",
            "-n", str(scratch / "work"), "-s", "malloc,16m", "-f", str(vcl),
        ]  # fmt: skip
        async with daemon("varnish", arguments, scratch, port, probe=to_front(port), start_max_s=30.0):
            yield Route(f"http://{HOST}:{port}")

    return release


_NEEDS: Final = ("varnishd", "cc")
ANIMALS: Final = (
    Animal("varnish-default", "A cache with its stock rules: no upgrades, streams pass.", _NEEDS, _varnish()),
    Animal("varnish-hold", "A cache that fetches whole answers: streams come at their close.", _NEEDS, _varnish(_HOLD)),
)
