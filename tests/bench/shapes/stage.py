"""A server with its load, for one shape: opened, published to, measured, and judged."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from hybrid.auth.development import FULL_SCOPE, DevelopmentIssuer
from hybrid.clock import SystemClock
from tests.bench.shapes.children import Crowds, Served
from tests.bench.shapes.publisher import Publisher
from tests.bench.unlimited import UNLIMITED

HOST: Final = "bench.test"
AUDIENCE: Final = f"http://{HOST}"
ISSUER: Final = "http://issuer.bench.test"
SIZE: Final = 128
CROWDS: Final = 2
"""Processes that load: 20,000 descriptors each."""
LIMITS: Final = {
    **UNLIMITED,  # unless that is what is measured
    "links_max": 16_000,  # the publisher is one more than 15,000
    "heartbeat_interval_s": 3_600.0,  # heartbeats are no deliveries, and these clients send none
    "stream_age_max_s": 3_600.0,
    "channels_per_session_max": 256,
}


class Cast:
    """Who plays: tokens, made once for all shapes, and the cores."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self._issuer = DevelopmentIssuer(ISSUER, AUDIENCE, SystemClock())
        self._tokens: list[str] = []
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        self.server_core = cores[0] if len(cores) > 1 else None
        self.load_core = cores[1] if len(cores) > 1 else None
        if self.load_core is not None:
            os.sched_setaffinity(0, {self.load_core})

    def tokens(self, count: int) -> list[str]:
        """So many, each of a subject of its own."""
        while len(self._tokens) < count:
            name = f"user-{len(self._tokens)}"
            self._tokens.append(self._issuer.mint(name, FULL_SCOPE, lifetime_s=36_000))
        return self._tokens[:count]

    def order(self, limits: dict[str, Any], namespaces: dict[str, Any]) -> dict[str, Any]:
        return {
            "jwks": self._issuer.jwks(),
            "issuer": ISSUER,
            "audience": AUDIENCE,
            "core": self.server_core,
            "limits": LIMITS | limits,
            "namespaces": namespaces,
        }


@dataclass
class Outcome:
    """What one phase came to. `cpu_us` is the server's, of each delivery with its share of the publishing."""

    publications: int = 0
    deliveries: int = 0
    cpu_s: float = 0.0
    seconds: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    faults: list[str] = field(default_factory=list)

    @property
    def cpu_us(self) -> float:
        return self.cpu_s / self.deliveries * 1e6 if self.deliveries else 0.0

    @property
    def per_cpu_s(self) -> float:
        return self.deliveries / self.cpu_s if self.cpu_s else 0.0


class Stage:
    """See the module's text."""

    def __init__(self, cast: Cast, served: Served, crowds: Crowds, publisher: Publisher) -> None:
        self.cast = cast
        self.served = served
        self.crowds = crowds
        self.publisher = publisher
        self.faults: list[str] = []
        self._groups: dict[str, list[Counter[str]]] = {}
        self._resting: set[str] = set()

    # -- who reads

    def open(
        self,
        group: str,
        kind: str,
        tokens: Sequence[str],
        channels: Sequence[Sequence[str]],
        *,
        receive_bytes: int | None = None,
    ) -> None:
        """A client for each token on its channels, in equal shares for each crowd. Raises Failed."""
        self.crowds.open(group, kind, tokens, channels, receive_bytes=receive_bytes)
        shares = [Counter(name for names in channels[place::CROWDS] for name in names) for place in range(CROWDS)]
        for share, more in zip(self._groups.setdefault(group, [Counter() for _ in shares]), shares, strict=True):
            share.update(more)

    def pause(self, group: str) -> None:
        """Read what comes for a group no more."""
        self.crowds.all(do="pause", group=group)
        self._resting.add(group)

    def resume(self, group: str, offset: int) -> list[dict[str, Any]]:
        """Read on, until each has got everything up to this offset."""
        self._resting.discard(group)
        return self.crowds.all(do="resume", group=group, offset=offset)

    def close_all(self) -> None:
        """Everybody leaves."""
        for group in self._groups:
            self.crowds.all(do="close", group=group)
        self._groups.clear()

    def readers(self, channel: str) -> list[int]:
        """How many of each crowd read a channel now."""
        active = [shares for group, shares in self._groups.items() if group not in self._resting]
        return [sum(shares[place][channel] for shares in active) for place in range(CROWDS)]

    # -- measuring

    def measure(self, rounds: Sequence[Sequence[str]], size: int = SIZE, *, awaited: bool = True) -> Outcome:
        """Publish a publication on each channel of each round. The next round follows when all have got the one before,
        or (not `awaited`) when it is in the log. Raises Failed when something does not come.
        """
        outcome = Outcome()
        expected = [0] * CROWDS
        self.crowds.all(do="start")
        self.served.quiet()
        cpu_s, began_s = self.served.cpu_s(), time.monotonic()
        for channels in rounds:
            for channel in channels:
                expected = [sum(pair) for pair in zip(expected, self.readers(channel), strict=True)]
            self.publisher.publish(channels, size)
            outcome.publications += len(channels)
            if awaited:
                self.crowds.each([{"do": "expect", "publications": count} for count in expected])
        self.crowds.each([{"do": "expect", "publications": count} for count in expected])
        outcome.seconds = time.monotonic() - began_s
        self.served.quiet()
        outcome.cpu_s = self.served.cpu_s() - cpu_s
        outcome.deliveries = sum(expected)
        self.judge(outcome)
        return outcome

    def judge(self, outcome: Outcome) -> None:
        reports = self.crowds.all(do="report")
        came = sum(report["came"] for report in reports)
        if came != outcome.deliveries:
            outcome.faults.append(f"{came} publications came instead of {outcome.deliveries}")
        for name in ("wrong", "left", "resets"):
            if found := sum(report[name] for report in reports):
                outcome.faults.append(f"{name}: {found}")
        latencies = [report["latencies_ms"] for report in reports if report["latencies_ms"]]
        if latencies:
            outcome.p50_ms, outcome.p99_ms = (max(values) for values in zip(*latencies, strict=True))
        self.faults += outcome.faults


@contextmanager
def staged(
    cast: Cast, *, limits: dict[str, Any] | None = None, namespaces: dict[str, Any] | None = None
) -> Iterator[Stage]:
    """A server and its crowds, gone afterwards."""
    with ExitStack() as stack:
        served = Served(cast.order(limits or {}, namespaces or {}))
        stack.enter_context(served)
        load = stack.enter_context(Crowds(served.port, HOST, CROWDS, cast.load_core))
        publisher = Publisher(served.port, HOST, cast.tokens(1)[0])
        stack.callback(publisher.close)
        yield Stage(cast, served, load, publisher)
