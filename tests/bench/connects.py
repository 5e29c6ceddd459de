"""What a connect and an idle client cost, of two checkouts in one run: `python -m tests.bench.connects --against DIR`.

Both servers live side by side on one core and are measured in turn, so that whatever else the machine does meets both.
Without `--against` it measures this checkout alone. `DIR` is another one, whose bench this one's load can speak to.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from hybrid.auth.development import FULL_SCOPE, DevelopmentIssuer
from hybrid.clock import SystemClock
from tests.bench.__main__ import AUDIENCE, HOST, ISSUER, WARM_CLIENTS
from tests.bench.dialects import DIALECTS, Dialect
from tests.bench.load import Audience
from tests.bench.process import Server

HERE = Path(__file__).parent.parent.parent


class Run:
    """One run: the same tokens and order for all servers."""

    def __init__(self, roots: Sequence[Path], rounds: int, connects: int, idle: int) -> None:
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        core = cores[0] if len(cores) > 1 else None
        if core is not None:
            os.sched_setaffinity(0, {cores[1]})
        issuer = DevelopmentIssuer(ISSUER, AUDIENCE, SystemClock())
        self._order = {"jwks": issuer.jwks(), "issuer": ISSUER, "audience": AUDIENCE, "core": core}
        count = max(connects, idle) + WARM_CLIENTS
        self._tokens = [issuer.mint(f"user-{n}", FULL_SCOPE, lifetime_s=36_000) for n in range(count)]
        self._roots = roots
        self._rounds = rounds
        self._connects = connects
        self._idle = idle

    def memory_kb(self, root: Path, dialect: Dialect) -> float:
        """Growth of the resident memory of a fresh server, for each of the idle clients."""
        with Server("hybrid", self._order, root) as server:
            audience = Audience(server.address, HOST, dialect)
            audience.open(self._tokens[-WARM_CLIENTS:])
            audience.settle(0.5)
            server.quiet()
            before = server.memory_bytes()["rss"]
            audience.open(self._tokens[: self._idle])
            audience.settle(0.5)
            server.quiet()
            after = server.memory_bytes()["rss"]
            audience.close()
        return (after - before) / self._idle / 1024

    def connect_us(self, dialect: Dialect) -> list[list[tuple[float, float]]]:
        """For each checkout and round: CPU microseconds of a connect, and how many of them were the kernel's."""
        servers = [Server("hybrid", self._order, root) for root in self._roots]
        try:
            tokens = self._tokens[: self._connects]
            found: list[list[tuple[float, float]]] = [[] for _ in servers]
            for number in range(self._rounds + 1):
                places = range(len(servers)) if number % 2 else reversed(range(len(servers)))
                for place in places:
                    figures = self._connected(servers[place], dialect, tokens)
                    if number:  # the first one checks the tokens
                        found[place].append(figures)
            return found
        finally:
            for server in servers:
                server.__exit__(None, None, None)

    def _connected(self, server: Server, dialect: Dialect, tokens: Sequence[str]) -> tuple[float, float]:
        audience = Audience(server.address, HOST, dialect)
        process = psutil.Process(server.pid)
        server.quiet()
        before_s, kernel_before_s = server.cpu_s(), process.cpu_times().system
        audience.open(tokens)
        audience.settle(0.3)
        used_s, kernel_s = server.cpu_s() - before_s, process.cpu_times().system - kernel_before_s
        audience.close()
        return used_s / len(tokens) * 1e6, kernel_s / len(tokens) * 1e6


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.connects", description=__doc__)
    parser.add_argument("--against", metavar="DIR", type=Path, help="another checkout, the one before")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--connects", type=int, default=400, help="clients that connect in each round")
    parser.add_argument("--idle", type=int, default=2_000, help="clients whose memory is measured")
    parser.add_argument("--only", choices=("memory", "connect"))
    options = parser.parse_args()
    roots = [HERE] if options.against is None else [options.against.resolve(), HERE]
    run = Run(roots, options.rounds, options.connects, options.idle)
    for dialect in DIALECTS["hybrid"]:
        if options.only != "memory":
            found = run.connect_us(dialect)
            medians = [statistics.median(used for used, _ in figures) for figures in found]
            texts = [
                f"{statistics.median(u for u, _ in figures):.0f} ({min(figures)[0]:.0f}-{max(figures)[0]:.0f}; "
                f"kernel {statistics.mean(k for _, k in figures):.0f})"
                for figures in found
            ]
            pairs = [new[0] / old[0] for old, new in zip(found[0], found[-1], strict=True)]
            ratio = "" if len(found) < 2 else f"; ratio {medians[1] / medians[0]:.2f}, by round {_spread(pairs)}"
            print(f"{dialect.name}: connect, us of CPU: {' -> '.join(texts)}{ratio}", flush=True)
        if options.only != "connect":
            kb = [run.memory_kb(root, dialect) for root in roots]
            print(f"{dialect.name}: idle client, KB: {' -> '.join(f'{figure:.2f}' for figure in kb)}", flush=True)
    return 0


def _spread(ratios: Sequence[float]) -> str:
    return f"{min(ratios):.2f}-{max(ratios):.2f}"


if __name__ == "__main__":
    sys.exit(main())
