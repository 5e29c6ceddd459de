"""A whole hybrid in a process of its own, on a plain and on a TLS port: `python -m tests.silent.server FOLDER`.

Says where it is in one line of JSON, and publishes until it is ended. The waits of its settings are short, so that a
thousand peers that say nothing are ended within seconds; those that are no settings are as they are.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, cast

from hybrid.auth.development import FULL_SCOPE
from hybrid.auth.jwt import IssuerConfig, JwtVerifier
from hybrid.clock import SystemClock
from hybrid.limits import Limits
from hybrid.links.asgi import AsgiApp
from hybrid.web import launcher
from hybrid.web.app import EXTENSION, create_app, streams_under
from tests.soak.node import count_forever
from tests.support.certificates import make_certificate
from tests.support.server import AUDIENCE, ISSUER, new_issuer, settings_for

LIMITS: Final = Limits(
    unauthenticated_per_address_max=2_000,
    unauthenticated_max=2_000,
    auth_timeout_s=3.0,
    candidate_timeout_s=3.0,
    close_timeout_s=1.0,
    heartbeat_interval_s=2.0,
    session_kept_s=2.0,
    poll_wait_max_s=3.0,
    shutdown_grace_s=2.0,
    channel_linger_s=3.0,
    ring_max_age_s=5.0,
)
_COUNT_EVERY_S: Final = 1.0
_PUBLISH_EVERY_S: Final = 0.05
_DATA: Final = "x" * 20_000


async def main(folder: Path) -> None:
    settings = replace(settings_for(limits=LIMITS), log_level="error")
    clock = SystemClock()
    issuer = new_issuer()
    verifier = JwtVerifier([IssuerConfig(issuer=ISSUER, keys=issuer.keys)], AUDIENCE, clock, LIMITS)
    app = create_app(settings, verifier=verifier, clock=clock)
    engine = app.extensions[EXTENSION]
    certificate = make_certificate(folder / "tls")
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    bound: list[asyncio.Future[int]] = [loop.create_future(), loop.create_future()]

    async def serve(number: int) -> None:
        tls = {"certificate_file": certificate.certificate, "key_file": certificate.key} if number else {}
        await launcher.serve(
            cast("AsgiApp", app),
            host="127.0.0.1",
            port=0,
            limits=LIMITS,
            shutdown_event=stop,
            on_started=bound[number].set_result,
            abort_links=engine.abort_all,
            streams_under=streams_under(settings),
            **tls,
        )

    async with asyncio.TaskGroup() as group:
        for number in range(2):
            group.create_task(serve(number))
        port, tls_port = await asyncio.gather(*bound)
        threading.Thread(target=count_forever, args=(folder / "counts.json", _COUNT_EVERY_S), daemon=True).start()
        token = issuer.mint("alice", FULL_SCOPE, lifetime_s=36_000)
        print(json.dumps({"port": port, "tls_port": tls_port, "token": token}), flush=True)
        while True:
            await engine.publish("room", _DATA)
            await asyncio.sleep(_PUBLISH_EVERY_S)


if __name__ == "__main__":
    launcher.run(partial(main, Path(sys.argv[1])))  # on the loop that `hybrid serve` would take
