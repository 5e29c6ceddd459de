"""`make bench-compression`: what permessage-deflate costs the server, and what it saves on the wire.

First the compressor alone: the level, the size from which it pays, one compressor for all against one for each message.
Then real servers, in one run, in turn: the same crowd with and without the extension. CPU time is that of the server's
whole process, so receiving the publish is in it. Bytes are those that each client got, frames and all.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from hybrid.auth.development import FULL_SCOPE, DevelopmentIssuer
from hybrid.clock import SystemClock
from hybrid.engine.deflated import deflate
from hybrid.engine.encodings import SESSION_JSON
from hybrid.links.inflate import inflate
from hybrid.model import Publication
from tests.bench.dialects import CHANNEL, HYBRID_WEBSOCKET
from tests.bench.load import Failed
from tests.bench.payloads import payloads
from tests.bench.pipes import Crowd, Door, Press
from tests.bench.process import Server

HOST = "bench.test"
AUDIENCE = f"http://{HOST}"
ISSUER = "http://issuer.bench.test"
SIZES = (128, 1_024, 16_384)
LEVELS = (1, 3, 6)
RAW = -15
Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    rounds: int
    few: int
    many: int
    idle: int
    publishes: int


FULL = Plan(rounds=3, few=5, many=500, idle=1_000, publishes=100)
QUICK = Plan(rounds=1, few=5, many=100, idle=200, publishes=30)


def frames_of(size: int, count: int) -> list[bytes]:
    """Payloads as a session on a WebSocket gets them."""
    return [
        SESSION_JSON.encode(Publication(CHANNEL, number, "k3f9", f"{number * 2654435761 % 2**32:08x}", text.encode()))
        for number, text in enumerate(islice(payloads(size), count), 1)
    ]


def each_us(work: Callable[[bytes], object], items: list[bytes]) -> float:
    """CPU of this process for each, in microseconds: the best of three goes."""
    found = []
    for _ in range(3):
        start_s = time.process_time()
        for item in items:
            work(item)
        found.append((time.process_time() - start_s) / len(items) * 1e6)
    return min(found)


def alone(say: Say) -> None:
    """The compressor by itself."""

    say(f"zlib {zlib.ZLIB_RUNTIME_VERSION}; bytes of a frame, and CPU for it:")
    for size in (64, 128, 256, 384, 512, 768, *SIZES[1:], 65_000):
        items = frames_of(size, max(20, 400_000 // (size + 1_000)))
        plain = statistics.fmean(map(len, items))
        told = []
        for level in LEVELS:

            def each_anew(payload: bytes, level: int = level) -> bytes:
                packer = zlib.compressobj(level, wbits=RAW)
                return packer.compress(payload) + packer.flush(zlib.Z_SYNC_FLUSH)

            packed = statistics.fmean(len(each_anew(item)) - 4 for item in items)
            told.append(f"level {level} {packed:,.0f} in {each_us(each_anew, items):.1f} us")
        keeping = zlib.compressobj(LEVELS[0], wbits=RAW)

        def kept(payload: bytes, packer: zlib._Compress = keeping) -> bytes:
            return packer.compress(payload) + packer.flush(zlib.Z_FULL_FLUSH)

        told.append(f"one compressor for all {each_us(kept, items):.1f} us")
        ours = [deflate(item) for item in items]
        told.append(f"inflating {each_us(lambda item: inflate(item, 100_000), ours):.1f} us")
        say(f"  data of {size:,}: {plain:,.0f} bytes; {'; '.join(told)}")


class Bench:
    def __init__(self, plan: Plan, say: Say) -> None:
        self.plan = plan
        self.say = say
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        server_core = cores[0] if len(cores) > 1 else None
        if server_core is not None:
            os.sched_setaffinity(0, {cores[1]})
        issuer = DevelopmentIssuer(ISSUER, AUDIENCE, SystemClock())
        self.order = {
            "jwks": issuer.jwks(),
            "issuer": ISSUER,
            "audience": AUDIENCE,
            "core": server_core,
            "server": "hypercorn",
            "handoff": True,
        }
        self.tokens = [
            issuer.mint(f"user-{n}", FULL_SCOPE, lifetime_s=36_000) for n in range(max(plan.many, plan.idle) + 50)
        ]
        self.publisher = issuer.mint("publisher", FULL_SCOPE, lifetime_s=36_000)

    def run(self) -> None:
        self.memory()
        self.delivery()

    def memory(self) -> None:
        """What an idle client weighs, with the extension and without."""
        found: dict[bool, list[float]] = {False: [], True: []}
        for number in range(self.plan.rounds):
            for offers in (number % 2 == 0, number % 2 == 1):
                with Server("hypercorn", self.order, module="tests.bench.serving") as server:
                    crowd = Crowd(Door(server.address, HOST, HYBRID_WEBSOCKET, offers_deflate=offers))
                    crowd.open(self.tokens[:50])
                    if offers != crowd.is_deflated:
                        raise Failed("the extension was not agreed on as it should be")
                    server.quiet()
                    before = server.memory_bytes()["rss"]
                    crowd.open(self.tokens[50 : 50 + self.plan.idle])
                    crowd.settle()
                    server.quiet()
                    found[offers].append((server.memory_bytes()["rss"] - before) / self.plan.idle / 1024)
                    crowd.close()
        for offers, name in ((False, "without"), (True, "with")):
            self.say(f"memory of an idle client {name} the extension: {statistics.median(found[offers]):.1f} KB")

    def delivery(self) -> None:
        """CPU and bytes of one publication at a time, awaited by all."""
        for clients in (self.plan.few, self.plan.many):
            for size in SIZES:
                found: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
                with Server("hypercorn", self.order, module="tests.bench.serving") as server:
                    press = Press(Door(server.address, HOST, HYBRID_WEBSOCKET), self.publisher)
                    for number in range(self.plan.rounds):
                        for offers in (number % 2 == 0, number % 2 == 1):
                            crowd = Crowd(Door(server.address, HOST, HYBRID_WEBSOCKET, offers_deflate=offers))
                            crowd.open(self.tokens[:clients])
                            crowd.settle()
                            server.quiet()
                            found[offers].append(self._deliver(server, crowd, press, size))
                            crowd.close()
                    press.close()
                cost = {offers: statistics.median(us for us, _ in pairs) for offers, pairs in found.items()}
                wire = {offers: statistics.median(size for _, size in pairs) for offers, pairs in found.items()}
                self.say(
                    f"{clients} clients, data of {size:,} bytes: CPU of a publication {cost[False]:,.0f} us plain, "
                    f"{cost[True]:,.0f} us compressed ({cost[True] / cost[False]:.2f}x); to each client "
                    f"{wire[False]:,.0f} and {wire[True]:,.0f} bytes, {1 - wire[True] / wire[False]:.0%} saved"
                )

    def _deliver(self, server: Server, crowd: Crowd, press: Press, size: int) -> tuple[float, float]:
        """Microseconds of CPU and bytes to each client, for one publication."""
        texts: Iterator[str] = payloads(size)
        for text in islice(texts, 5):  # what is made once, and the connection of the publisher
            crowd.begin()
            crowd.until(1, press.publish([text]))
        count = max(10, self.plan.publishes if len(crowd) > 50 else self.plan.publishes * 3)
        total = 0
        before_s = server.cpu_s()
        for text in islice(texts, count):
            crowd.begin()
            offset = press.publish([text])
            total += crowd.until(1, offset)
        return (server.cpu_s() - before_s) / count * 1e6, total / count


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.compression", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--alone", action="store_true", help="the compressor only, without servers")
    options = parser.parse_args()
    print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")

    def say(line: str) -> None:
        print(line, flush=True)

    alone(say)
    if not options.alone:
        try:
            Bench(QUICK if options.quick else FULL, say).run()
        except Failed as error:
            print(f"FAULT: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
