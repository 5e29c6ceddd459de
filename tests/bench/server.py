"""Runs one of the two servers in a process of its own: `python -m tests.bench.server textbook|hybrid`.

The first line of its input is what it needs to know (JSON: jwks, issuer, audience, core), the first of its output says
where it listens. `gc` on a line collects garbage; the end of its input ends it.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import socket
import sys
from typing import Any

from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config
from joserfc.jwk import ECKey

from hybrid.web import launcher


def main() -> None:
    kind = sys.argv[1]
    order = json.loads(sys.stdin.readline())
    if order["core"] is not None:
        os.sched_setaffinity(0, {order["core"]})
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536) if hard > 0 else 65_536, hard))
    launcher.run(lambda: {"textbook": serve_textbook, "hybrid": serve_hybrid}[kind](order))


async def serve_textbook(order: dict[str, Any]) -> None:
    from tests.bench.textbook import create_app

    app = create_app(order["jwks"], order["issuer"], order["audience"])
    listener = socket.create_server(("127.0.0.1", 0), backlog=1_024)
    port = listener.getsockname()[1]
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.loglevel = "WARNING"
    config.accesslog = None
    stop = asyncio.Event()

    async def shutdown_trigger() -> None:
        obey(stop, port)
        await stop.wait()
        os._exit(0)  # it has no way to end its streams, and what it would log about that is not worth the wait

    await hypercorn_serve(app, config, shutdown_trigger=shutdown_trigger)


async def serve_hybrid(order: dict[str, Any]) -> None:
    from hybrid.auth.jwt import IssuerConfig, JwtVerifier
    from hybrid.auth.keys import StaticKeys
    from hybrid.clock import SystemClock
    from hybrid.limits import Limits
    from hybrid.settings import Settings
    from hybrid.web.app import EXTENSION, create_app, streams_under
    from tests.bench.unlimited import UNLIMITED

    settings = Settings(
        port=0,
        public_url=order["audience"],
        allowed_hosts=(order["audience"].removeprefix("http://"),),
        limits=Limits(**UNLIMITED),  # type: ignore[arg-type]
    )
    clock = SystemClock()
    keys = StaticKeys([ECKey.import_key(key) for key in order["jwks"]["keys"]])
    verifier = JwtVerifier(
        [IssuerConfig(issuer=order["issuer"], keys=keys)], settings.public_url, clock, settings.limits
    )
    app = create_app(settings, verifier=verifier, clock=clock)
    stop = asyncio.Event()
    await launcher.serve(
        app,  # type: ignore[arg-type]
        host=settings.host,
        port=settings.port,
        limits=settings.limits,
        shutdown_event=stop,
        on_started=lambda port: obey(stop, port),
        drain=app.extensions[EXTENSION].drain,
        abort_links=app.extensions[EXTENSION].abort_all,
        streams_under=streams_under(settings),
    )


def obey(stop: asyncio.Event, port: int) -> None:
    """Say where we listen, and do what the input says from now on."""
    loop = asyncio.get_running_loop()

    def read() -> None:
        line = os.read(0, 4_096)
        if not line:
            loop.remove_reader(0)
            stop.set()
        elif line.strip() == b"gc":
            gc.collect()
            print("done", flush=True)

    loop.add_reader(0, read)
    print(json.dumps({"port": port, "loop": type(loop).__module__.partition(".")[0]}), flush=True)


if __name__ == "__main__":
    main()
