"""What is measured of one peer over one transport, in one round: the same for all, with the load of tests/bench."""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from tests.bench.dialects import Dialect
from tests.bench.load import Audience, Failed, Outcome, Publisher, deliver
from tests.bench.peers.base import HOST, Peer
from tests.bench.process import Running

SIZE: Final = 128
IN_FLIGHT: Final = 64
WARM_CLIENTS: Final = 500
CONNECT_REPEATS: Final = 2  # in each round: one costs little and differs much

RATE_HZ: Final = 50
RATE_SECONDS: Final = 5.0  # whatever the plan: a percentile of few publications says little

ONE, MANY, AWAITED, RATE = "one at a time", f"{IN_FLIGHT} in flight", "awaited", f"{RATE_HZ} a second"
MEMORY, CONNECT = "memory", "connect"


@dataclass(frozen=True)
class Plan:
    """`sizes` are numbers of subscribers, rising; `seconds` are those of one phase of publishing."""

    rounds: int
    sizes: tuple[int, ...]
    idle: int
    connects: int
    seconds: float

    @property
    def clients(self) -> int:
        """How many tokens are needed."""
        return max(self.idle, self.connects, *self.sizes) + WARM_CLIENTS


FULL: Final = Plan(rounds=5, sizes=(500, 1_000), idle=2_000, connects=500, seconds=2.0)
QUICK: Final = Plan(rounds=1, sizes=(500,), idle=500, connects=250, seconds=1.0)


@dataclass
class Result:
    """`figures` are by what was measured, and so is what was wrong with it, in `faults`.

    The figures of a phase that was not whole are kept apart, in `apart`.
    """

    figures: dict[str, float] = field(default_factory=dict)
    apart: dict[str, float] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)


class Bench:
    """All peers with their tokens, on two cores if there are two: one for the server, one for the load."""

    def __init__(self, peers: list[Peer], plan: Plan, folder: Path) -> None:
        self._plan = plan
        self._folder = folder
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        self.core = cores[0] if len(cores) > 1 else None
        if self.core is not None:
            os.sched_setaffinity(0, {cores[1]})
        self._subscribers = {peer.name: peer.subscribers(plan.clients) for peer in peers}
        self._publishers = {peer.name: peer.publishers(IN_FLIGHT) for peer in peers}

    def measure(self, peer: Peer, dialect: Dialect) -> Result:
        """Everything, once. What the peer fails at is a fault, and what can be measured all the same is."""
        result = Result()
        parts: list[tuple[str, Callable[[Running], None]]] = [
            (MEMORY, lambda server: self._memory_and_connects(server, peer, dialect, result)),
            *(
                # Each on a server of its own: one that has left its clients behind serves nobody any more.
                (f"{size}, deliveries", partial(self._deliveries, peer=peer, dialect=dialect, size=size, result=result))
                for size in self._plan.sizes
            ),
        ]
        for what, part in parts:
            try:
                with self._start(peer) as server:
                    part(server)
            except (Failed, OSError) as error:
                result.faults.setdefault(what, []).append(str(error))
        return result

    def _start(self, peer: Peer) -> Running:
        return peer.start(self.core, Path(tempfile.mkdtemp(dir=self._folder)))

    def _memory_and_connects(self, server: Running, peer: Peer, dialect: Dialect, result: Result) -> None:
        tokens = self._subscribers[peer.name]
        audience = Audience(server.address, HOST, dialect)
        try:
            # These stay: neither what is made once for all nor memory that was free before is an idle client's.
            audience.open(tokens[-WARM_CLIENTS:])
            audience.settle(0.5)
            server.quiet()
            before = server.memory_bytes()
            idle = tokens[: self._plan.idle]
            audience.open(idle)
            audience.settle(0.5)
            server.quiet()
            after = server.memory_bytes()
            result.figures[MEMORY] = (after["rss"] - before["rss"]) / len(idle) / 1024
            audience.close()
            again = tokens[: self._plan.connects]
            costs = []
            for _ in range(CONNECT_REPEATS):
                server.quiet(1.0)
                before_s = server.cpu_s()
                audience.open(again)
                audience.settle(0.3)
                costs.append((server.cpu_s() - before_s) / len(again) * 1e6)
                audience.close()
            result.figures[CONNECT] = statistics.median(costs)
        finally:
            audience.close()

    def _deliveries(self, server: Running, *, peer: Peer, dialect: Dialect, size: int, result: Result) -> None:
        publishers = self._publishers[peer.name]
        audience = Audience(server.address, HOST, dialect)
        seconds = self._plan.seconds
        try:
            audience.open(self._subscribers[peer.name][:size])
            audience.settle(0.5)
            phases: list[tuple[str, int, float, float | None]] = [
                ("warm", 8, 0.3, None),
                (ONE, 1, seconds, None),
                (AWAITED, 1, seconds / 2, None),
                (RATE, 4, RATE_SECONDS, RATE_HZ),
                (MANY, IN_FLIGHT, seconds, None),
            ]
            while phases:
                what, count, lasting, rate_hz = phases.pop(0)
                publisher = Publisher(server.address, HOST, peer.publishing, publishers[:count], SIZE)
                server.quiet()
                before_s = server.cpu_s()
                key = f"{size}, {what}"
                try:
                    awaits = what == AWAITED
                    outcome = deliver(audience, publisher, seconds=lasting, awaits_delivery=awaits, rate_hz=rate_hz)
                except Failed as error:  # no use in going on with those who are left
                    result.faults[key] = [str(error)]
                    return
                cpu_s = server.cpu_s() - before_s
                if outcome.faults:
                    result.faults[key] = outcome.faults
                if what != "warm":
                    figures = result.apart if outcome.faults else result.figures
                    figures.update(_figures(key, outcome, cpu_s))
                if outcome.faults:  # whoever was left behind would be missing in all that follows
                    return
        finally:
            for what, *_ in phases:
                result.faults.setdefault(f"{size}, {what}", ["not measured, because of what was before it"])
            audience.close()


def _figures(what: str, outcome: Outcome, cpu_s: float) -> Iterator[tuple[str, float]]:
    yield what, outcome.deliveries / cpu_s
    yield f"{what}, publishes/s", outcome.publications / outcome.seconds
    yield f"{what}, core used", cpu_s / outcome.seconds
    if outcome.latencies_ms:
        yield f"{what}, p50", outcome.latencies_ms[len(outcome.latencies_ms) // 2]
        yield f"{what}, p99", outcome.latencies_ms[len(outcome.latencies_ms) * 99 // 100]
