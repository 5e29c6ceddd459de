"""Runs a hybrid server in a process of its own: `python -m tests.bench.shapes.server`.

The first line of its input is an order (JSON: jwks, issuer, audience, core, limits, namespaces), the first of its
output says where it listens. Every further line collects garbage and answers with counts of the hub; the end of the
input ends the process at once: nobody is left who would want to be told.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
from dataclasses import asdict
from typing import Any

from joserfc.jwk import ECKey

from hybrid.auth.jwt import IssuerConfig, JwtVerifier
from hybrid.auth.keys import StaticKeys
from hybrid.clock import SystemClock
from hybrid.engine.engine import Engine
from hybrid.limits import Limits
from hybrid.settings import Namespace, Settings
from hybrid.web import launcher
from hybrid.web.app import EXTENSION, create_app, streams_under
from tests.bench.shapes.descriptors import raise_limit


def main() -> None:
    order = json.loads(sys.stdin.readline())
    if order["core"] is not None:
        os.sched_setaffinity(0, {order["core"]})
    raise_limit()
    launcher.run(lambda: serve(order))


async def serve(order: dict[str, Any]) -> None:
    settings = Settings(
        port=0,
        public_url=order["audience"],
        allowed_hosts=(order["audience"].removeprefix("http://"),),
        limits=Limits(**order["limits"]),
        namespaces={name: Namespace(name, **options) for name, options in order["namespaces"].items()},
        log_level="warning",
    )
    clock = SystemClock()
    keys = StaticKeys([ECKey.import_key(key) for key in order["jwks"]["keys"]])
    issuer = IssuerConfig(issuer=order["issuer"], keys=keys)
    app = create_app(settings, verifier=JwtVerifier([issuer], settings.public_url, clock, settings.limits), clock=clock)
    engine: Engine = app.extensions[EXTENSION]
    await launcher.serve(
        app,  # type: ignore[arg-type]
        host=settings.host,
        port=settings.port,
        limits=settings.limits,
        shutdown_event=asyncio.Event(),
        on_started=lambda port: obey(engine, port),
        drain=engine.drain,
        streams_under=streams_under(settings),
    )


def obey(engine: Engine, port: int) -> None:
    """Say where we listen, and do what the input says from now on."""
    loop = asyncio.get_running_loop()

    def read() -> None:
        line = os.read(0, 4_096)
        if not line:
            os._exit(0)
        gc.collect()
        print(json.dumps(asdict(engine.hub.stats())), flush=True)

    loop.add_reader(0, read)
    print(json.dumps({"port": port, "loop": type(loop).__module__.partition(".")[0]}), flush=True)


if __name__ == "__main__":
    main()
