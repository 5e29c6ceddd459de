"""hybrid under one of several ASGI servers, in a process of its own: `python -m tests.bench.serving`.

The first line of its input is what it needs to know (JSON: server, handoff, jwks, issuer, audience, core, certificate),
the first of its output says where it listens. `gc` on a line collects garbage; the end of its input ends it.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import sys
from pathlib import Path
from typing import Any

from joserfc.jwk import ECKey
from quart import Quart

from hybrid.auth.jwt import IssuerConfig, JwtVerifier
from hybrid.auth.keys import StaticKeys
from hybrid.clock import SystemClock
from hybrid.limits import Limits
from hybrid.settings import Settings
from hybrid.transports.app import PREFIX
from hybrid.web import launcher
from hybrid.web.app import EXTENSION, create_app
from tests.bench.server import obey
from tests.bench.unlimited import UNLIMITED

LIMITS = Limits(**{**UNLIMITED, "heartbeat_interval_s": 3_600.0})  # type: ignore[arg-type]
"""Clients come as fast as they are served, and those that ask for no heartbeats get nothing but publications."""


def main() -> None:
    order = json.loads(sys.stdin.readline())
    if order["core"] is not None:
        os.sched_setaffinity(0, {order["core"]})
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536) if hard > 0 else 65_536, hard))
    launcher.run(lambda: SERVERS[order["server"]](app_for(order), order))


def app_for(order: dict[str, Any]) -> Quart:
    settings = Settings(
        port=0,
        public_url=order["audience"],
        allowed_hosts=(order["audience"].removeprefix("http://"),),
        handoff=order["handoff"],
        limits=LIMITS,
    )
    clock = SystemClock()
    keys = StaticKeys([ECKey.import_key(key) for key in order["jwks"]["keys"]])
    issuer = IssuerConfig(issuer=order["issuer"], keys=keys)
    verifier = JwtVerifier([issuer], settings.public_url, clock, settings.limits)
    return create_app(settings, verifier=verifier, clock=clock)


def certificate_of(order: dict[str, Any]) -> tuple[str | None, str | None]:
    certificate, key = order.get("certificate") or (None, None)
    return certificate, key


async def hypercorn(app: Quart, order: dict[str, Any]) -> None:
    stop = asyncio.Event()
    certificate, key = certificate_of(order)
    await launcher.serve(
        app,  # type: ignore[arg-type]
        host="127.0.0.1",
        port=0,
        limits=LIMITS,
        shutdown_event=stop,
        on_started=lambda port: obey(stop, port),
        drain=app.extensions[EXTENSION].drain,
        streams_under=PREFIX if order["handoff"] else None,
        certificate_file=certificate,
        key_file=key,
    )


async def uvicorn(app: Quart, order: dict[str, Any]) -> None:
    from uvicorn import Config, Server

    certificate, key = certificate_of(order)
    listener = socket.create_server(("127.0.0.1", 0), backlog=1_024)
    server = Server(Config(app, log_level="warning", access_log=False, ssl_certfile=certificate, ssl_keyfile=key))
    await beside(server.serve(sockets=[listener]), listener.getsockname()[1])


async def granian(app: Quart, order: dict[str, Any]) -> None:
    from granian.constants import Interfaces, SSLProtocols
    from granian.server.embed import Server

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    certificate, key = certificate_of(order)
    server = Server(
        app,
        address="127.0.0.1",
        port=port,
        interface=Interfaces.ASGI,
        backlog=1_024,
        log_enabled=False,
        ssl_cert=Path(certificate) if certificate else None,
        ssl_key=Path(key) if key else None,
        ssl_protocol_min=SSLProtocols.tls12,
    )
    await beside(server.serve(), port)


async def beside(serving: Any, port: int) -> None:
    """Serve until the input ends, and end without ceremony: what goodbyes cost is not measured."""
    task = asyncio.ensure_future(serving)
    while not task.done():
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.01)
            continue
        writer.close()
        break
    stop = asyncio.Event()
    obey(stop, port)
    await stop.wait()
    os._exit(0)


SERVERS = {"hypercorn": hypercorn, "uvicorn": uvicorn, "granian": granian}


if __name__ == "__main__":
    main()
