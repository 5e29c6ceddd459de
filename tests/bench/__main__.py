"""`make bench`: hybrid and a textbook Quart server measured in turn, on the same core, by the same load.

Exit status 0 when everything was delivered in order, 1 when not. Whether a target is met is printed and never fails:
times of a shared machine are no test.
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
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version

from hybrid.auth.development import FULL_SCOPE, DevelopmentIssuer
from hybrid.clock import SystemClock
from tests.bench.dialects import DIALECTS, PUBLISHING, Dialect
from tests.bench.load import Audience, Failed, Publisher, deliver
from tests.bench.process import Server

HOST = "bench.test"
AUDIENCE = f"http://{HOST}"
ISSUER = "http://issuer.bench.test"
SIZE = 128
IN_FLIGHT = 64
WARM_CLIENTS = 500
CONNECT_REPEATS = 3  # in each round: one costs little and differs much
KINDS = ("textbook", "hybrid")


@dataclass(frozen=True)
class Plan:
    rounds: int
    subscribers: int
    idle: int
    connects: int
    seconds: float


FULL = Plan(rounds=3, subscribers=500, idle=2_000, connects=500, seconds=3.0)
QUICK = Plan(rounds=1, subscribers=500, idle=500, connects=250, seconds=1.0)


@dataclass(frozen=True)
class Figure:
    """One line of the table. `ratio`: at least so many times the textbook's; `at_most`: no more than this."""

    key: str
    label: str
    unit: str
    ratio: float | None = None
    at_most: float | None = None
    is_exact: bool = False  # shown with a decimal


def figures() -> Iterator[Figure]:
    rate = "deliveries/CPU-s"
    for name in ("websocket", "sse", "plain sse"):
        yield Figure(f"{name}, one at a time", f"{name}: one publish at a time", rate, ratio=3.0)
        yield Figure(f"{name}, in flight", f"{name}: {IN_FLIGHT} publishes in flight", rate, ratio=10.0)
        yield Figure(f"{name}, awaited", f"{name}: each publish awaited by all", rate)
        for part in ("p50", "p99"):
            yield Figure(f"{name}, awaited, {part}", f"{name}: latency {part}, awaited", "ms", is_exact=True)
        most_kb = 4.0 if name == "websocket" else 3.0
        yield Figure(f"{name}, memory", f"{name}: memory per idle client", "KB", at_most=most_kb, is_exact=True)
        yield Figure(f"{name}, connect", f"{name}: accept, authenticate, attach", "us CPU", at_most=500.0)


class Bench:
    def __init__(self, plan: Plan, say: Callable[[str], None]) -> None:
        self.plan = plan
        self.say = say
        self.values: dict[str, dict[str, list[float]]] = {kind: defaultdict(list) for kind in KINDS}
        self.faults: list[str] = []
        self.loops: set[str] = set()
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        self.server_core = cores[0] if len(cores) > 1 else None
        if self.server_core is not None:
            os.sched_setaffinity(0, {cores[1]})
        issuer = DevelopmentIssuer(ISSUER, AUDIENCE, SystemClock())
        self.order = {"jwks": issuer.jwks(), "issuer": ISSUER, "audience": AUDIENCE, "core": self.server_core}
        count = max(plan.idle, plan.subscribers, plan.connects) + WARM_CLIENTS
        say(f"minting {count + IN_FLIGHT} tokens")
        self.tokens = [issuer.mint(f"user-{n}", FULL_SCOPE, lifetime_s=36_000) for n in range(count)]
        self.publishers = [issuer.mint(f"publisher-{n}", FULL_SCOPE, lifetime_s=36_000) for n in range(IN_FLIGHT)]

    def run(self) -> None:
        for number in range(self.plan.rounds):
            for kind in KINDS if number % 2 == 0 else reversed(KINDS):
                for dialect in DIALECTS[kind]:
                    started_s = time.monotonic()
                    self._memory_and_connects(kind, dialect)
                    self._deliveries(kind, dialect)
                    self.say(
                        f"round {number + 1} of {self.plan.rounds}: {kind} {dialect.name}, "
                        f"{time.monotonic() - started_s:.0f} s"
                    )

    def _server(self, kind: str) -> Server:
        server = Server(kind, self.order)
        self.loops.add(server.loop)
        return server

    def _add(self, kind: str, dialect: Dialect, what: str, value: float) -> None:
        self.values[kind][f"{dialect.name}, {what}"].append(value)

    def _memory_and_connects(self, kind: str, dialect: Dialect) -> None:
        with self._server(kind) as server:
            audience = Audience(server.address, HOST, dialect)
            # These stay: neither what is made once for all nor memory that was free before is an idle client's.
            audience.open(self.tokens[-WARM_CLIENTS:])
            audience.settle(0.5)
            server.quiet()
            before = server.memory_bytes()
            idle = self.tokens[: self.plan.idle]
            audience.open(idle)
            audience.settle(0.5)
            server.quiet()
            after = server.memory_bytes()
            for name in after:
                grown_kb = (after[name] - before[name]) / len(idle) / 1024
                self._add(kind, dialect, "memory" if name == "rss" else f"memory, {name}", grown_kb)
            audience.close()
            again = self.tokens[: self.plan.connects]
            for _ in range(CONNECT_REPEATS):
                server.quiet(1.0)
                before_s = server.cpu_s()
                audience.open(again)
                audience.settle(0.3)
                self._add(kind, dialect, "connect", (server.cpu_s() - before_s) / len(again) * 1e6)
                audience.close()

    def _deliveries(self, kind: str, dialect: Dialect) -> None:
        plan = self.plan
        with self._server(kind) as server:
            audience = Audience(server.address, HOST, dialect)
            audience.open(self.tokens[: plan.subscribers])
            audience.settle(0.5)
            for what, tokens, awaits, seconds in (
                ("warm", self.publishers[:8], False, 0.3),
                ("one at a time", self.publishers[:1], False, plan.seconds),
                ("awaited", self.publishers[:1], True, plan.seconds / 2),
                ("in flight", self.publishers, False, plan.seconds),
            ):
                publisher = Publisher(server.address, HOST, PUBLISHING[kind], tokens, SIZE)
                server.quiet()
                before_s = server.cpu_s()
                outcome = deliver(audience, publisher, seconds=seconds, awaits_delivery=awaits)
                cpu_s = server.cpu_s() - before_s
                if outcome.faults:  # what follows would only be more of it
                    self.faults += [f"{kind}, {dialect.name}, {what}: {fault}" for fault in outcome.faults]
                    break
                if what == "warm":
                    continue
                self._add(kind, dialect, what, outcome.deliveries / cpu_s)
                self._add(kind, dialect, f"{what}, publishes", outcome.publications / outcome.seconds)
                self._add(kind, dialect, f"{what}, p50", outcome.latencies_ms[len(outcome.latencies_ms) // 2])
                self._add(kind, dialect, f"{what}, p99", outcome.latencies_ms[len(outcome.latencies_ms) * 99 // 100])
            audience.close()


def table(values: dict[str, dict[str, list[float]]]) -> list[str]:
    """The medians, side by side; the spread (lowest to highest) where there was more than one round."""
    rows = [("", "textbook", "hybrid", "ratio", "target", "")]
    for figure in figures():
        # The textbook knows one kind of event stream; hybrid's plain one is compared with it too.
        theirs = values["textbook"].get(figure.key.replace("plain sse", "sse"))
        ours = values["hybrid"].get(figure.key)
        if not ours:
            continue
        ratio = statistics.median(ours) / statistics.median(theirs) if theirs else None
        target, verdict = "", ""
        if figure.ratio is not None and ratio is not None:
            target, verdict = f">= {figure.ratio:g}x", "met" if ratio >= figure.ratio else "NOT MET"
        elif figure.at_most is not None:
            target = f"<= {figure.at_most:g}"
            verdict = "met" if statistics.median(ours) <= figure.at_most else "NOT MET"
        shown = f"{ratio:.1f}x" if ratio is not None and ratio >= 1 else "" if ratio is None else f"{ratio:.2f}x"
        rows.append(
            (f"{figure.label} ({figure.unit})", _shown(theirs, figure), _shown(ours, figure), shown, target, verdict)
        )
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    return [
        "  ".join(cell.ljust(width) if place == 0 else cell.rjust(width) for place, (cell, width) in enumerate(pairs))
        for pairs in ([*zip(row, widths, strict=True)] for row in rows)
    ]


def _shown(values: list[float] | None, figure: Figure) -> str:
    if not values:
        return "-"
    form = "{:,.1f}" if figure.is_exact else "{:,.0f}"
    text = form.format(statistics.median(values))
    return text if len(values) == 1 else f"{text} ({form.format(min(values))}-{form.format(max(values))})"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round: about a minute")
    parser.add_argument("--rounds", type=int, help="how often each server is measured")
    parser.add_argument("--json", metavar="PATH", help="write every single figure to this file")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536) if hard > 0 else 65_536, hard))
    plan = QUICK if options.quick else FULL
    if options.rounds:
        plan = Plan(options.rounds, plan.subscribers, plan.idle, plan.connects, plan.seconds)
    bench = Bench(plan, lambda line: print(line, file=sys.stderr, flush=True))
    try:
        bench.run()
    except Failed as error:
        bench.faults.append(str(error))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    setting = {
        "python": platform.python_version(),
        "quart": version("quart"),
        "hypercorn": version("hypercorn"),
        "loop": ", ".join(sorted(bench.loops)),
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "server_core": bench.server_core,
        "plan": vars(plan),
    }
    print(
        f"{plan.subscribers} subscribers, {SIZE} bytes, memory with {plan.idle} idle clients; one core, plain TCP, "
        f"{setting['loop']}, Python {setting['python']}, Quart {setting['quart']}, Hypercorn {setting['hypercorn']}"
    )
    print("\n".join(table(bench.values)))
    for fault in bench.faults:
        print(f"FAULT: {fault}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"setting": setting, "values": bench.values, "faults": bench.faults}, file, indent=2)
    return 1 if bench.faults else 0


if __name__ == "__main__":
    sys.exit(main())
