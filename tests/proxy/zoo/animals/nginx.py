"""nginx in front of the origin, as people configure it who have not read how: one location, one `proxy_pass`."""

from __future__ import annotations

import getpass
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.proxy.zoo.animals.base import Animal, Origin, Release, Route
from tests.proxy.zoo.animals.daemons import HOST, daemon, required, to_front
from tests.support.processes import free_port

_CONFIGURATION: Final = """\
user {user};
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log {folder}/access.log;
    {places}
    server {{
        listen {host}:{port};
        location / {{
            proxy_pass http://{origin.host}:{origin.port};
            {more}
        }}
    }}
}}
"""
_GZIP: Final = "proxy_http_version 1.1; gzip on; gzip_proxied any; gzip_min_length 1; gzip_types text/event-stream;"


def _nginx(more: str = "") -> Release:
    @asynccontextmanager
    async def release(origin: Origin, scratch: Path) -> AsyncIterator[Route]:
        port = free_port()
        places = " ".join(f"{what}_temp_path {scratch}/{what};" for what in _TEMPORARY)
        text = _CONFIGURATION.format(
            user=getpass.getuser(), folder=scratch, places=places, host=HOST, port=port, origin=origin, more=more
        )
        (scratch / "nginx.conf").write_text(text)
        arguments = [
            required("nginx"), "-p", str(scratch), "-e", str(scratch / "error.log"), "-c", str(scratch / "nginx.conf")
        ]  # fmt: skip
        async with daemon("nginx", arguments, scratch, port, probe=to_front(port)):
            yield Route(f"http://{HOST}:{port}")

    return release


_TEMPORARY: Final = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
_NEEDS: Final = ("nginx",)
ANIMALS: Final = (
    Animal(
        "nginx-default",
        "A bare proxy_pass: no upgrades, HTTP/1.0 to the origin, and streams held unless they forbid it.",
        _NEEDS,
        _nginx(),
    ),
    Animal(
        "nginx-hold",
        "A bare proxy_pass that also ignores X-Accel-Buffering: streams come at their close.",
        _NEEDS,
        _nginx("proxy_ignore_headers X-Accel-Buffering;"),
    ),
    Animal(
        "nginx-1.1-buffered",
        "Buffers whatever the origin asks for, but speaks HTTP/1.1 to it: small events pass all the same.",
        _NEEDS,
        _nginx("proxy_http_version 1.1; proxy_ignore_headers X-Accel-Buffering;"),
    ),
    Animal(
        "nginx-504",
        "Gives the origin one second: long polls get 504; streams are held unless they forbid it.",
        _NEEDS,
        _nginx("proxy_read_timeout 1s; chunked_transfer_encoding off;"),
    ),
    Animal("nginx-gzip", "Compresses event streams, and holds those that do not forbid it.", _NEEDS, _nginx(_GZIP)),
)
