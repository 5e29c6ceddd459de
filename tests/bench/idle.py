"""`make bench-idle`: what clients cost that do nothing: heartbeats both ways on a WebSocket, one way on a stream.

They ask for one every 5 s, the least there is, so that a few seconds tell. Each answers each, as clients do.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import time
from dataclasses import replace
from typing import Any

from hybrid.auth.development import FULL_SCOPE, DevelopmentIssuer
from hybrid.clock import SystemClock
from tests.bench.dialects import CHANNEL, HYBRID_SSE, HYBRID_WEBSOCKET, Dialect, literal
from tests.bench.pipes import Crowd, Door
from tests.bench.process import Server
from tests.support.asgi_server import client_frame

HOST = "bench.test"
AUDIENCE = f"http://{HOST}"
ISSUER = "http://issuer.bench.test"
INTERVAL_S = 5.0
BEAT = client_frame(1, json.dumps({"method": "heartbeat"}).encode())
ATTACH = json.dumps(
    {
        "method": "attach",
        "attempt": 1,
        "nonce": "n",
        "confirm": True,
        "heartbeat_s": INTERVAL_S,
        "subscriptions": [{"channel": CHANNEL}],
    }
)


def asking(dialect: Dialect) -> Dialect:
    """The same, with an attach that asks for frequent heartbeats."""
    if dialect.greeting:
        return replace(dialect, greeting=literal(ATTACH))
    head, _, _ = dialect.opening.partition("Content-Length")
    return replace(dialect, opening=f"{head}Content-Length: {len(ATTACH)}\r\n\r\n{literal(ATTACH)}")


def measure(order: dict[str, Any], tokens: list[str], dialect: Dialect, seconds: float) -> float:
    """Microseconds of CPU for each interval of each client, beyond what a server without clients uses."""
    with Server("hypercorn", order, module="tests.bench.serving") as server:
        crowd = Crowd(Door(server.address, HOST, asking(dialect)))
        server.quiet()
        before_s = server.cpu_s()
        time.sleep(INTERVAL_S)
        without_s = server.cpu_s() - before_s
        crowd.open(tokens)
        crowd.settle(0.2)
        crowd.answer = BEAT if dialect.greeting else b""
        before_s, start_s = server.cpu_s(), time.monotonic()
        crowd.wait(seconds)
        passed = (time.monotonic() - start_s) / INTERVAL_S
        spent_s = server.cpu_s() - before_s - without_s * passed
        intervals = passed * len(crowd)
        crowd.close()
    return spent_s / intervals * 1e6


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.idle", description=__doc__)
    parser.add_argument("--clients", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536) if hard > 0 else 65_536, hard))
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    core = cores[0] if len(cores) > 1 else None
    if core is not None:
        os.sched_setaffinity(0, {cores[1]})
    issuer = DevelopmentIssuer(ISSUER, AUDIENCE, SystemClock())
    order: dict[str, Any] = {"jwks": issuer.jwks(), "issuer": ISSUER, "audience": AUDIENCE, "core": core}
    order |= {"server": "hypercorn", "handoff": True}
    tokens = [issuer.mint(f"user-{n}", FULL_SCOPE, lifetime_s=36_000) for n in range(options.clients)]
    print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for dialect in (HYBRID_WEBSOCKET, HYBRID_SSE):
        found = [measure(order, tokens, dialect, 3 * INTERVAL_S) for _ in range(options.rounds)]
        spread = f"{min(found):.1f}-{max(found):.1f}"
        print(f"{dialect.name}: {statistics.median(found):.1f} us of CPU for an interval of an idle client ({spread})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
