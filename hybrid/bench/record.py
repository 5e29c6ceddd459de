"""Adds up what the load processes tell, over all and over time, and makes the result of it."""

from __future__ import annotations

import math
import os
import platform
from collections import Counter
from typing import Final

from hybrid.bench.histogram import Histogram, bounds_of
from hybrid.bench.messages import TICK_NS, Tally, Target, Tick
from hybrid.bench.plan import Plan
from hybrid.bench.result import (
    Connects,
    Delivered,
    Effort,
    Latency,
    LoadSide,
    OfTransport,
    Order,
    Point,
    Result,
    Server,
)
from hybrid.bench.server import Sample
from hybrid.bench.verdict import TELLS_STARVED, faults, limits, unknown

_BIN_S: Final = 0.5
_BINS_MAX: Final = 400
_CURVE_POINTS: Final = 150


class _Bin:
    def __init__(self) -> None:
        self.deliveries = self.sent = 0
        self.latency = Histogram()
        self.busy_us: Counter[int] = Counter()
        self.wall_us: Counter[int] = Counter()
        self.starved_us: Counter[int] = Counter()
        self.ready = 0
        self.sample: tuple[Sample, int] | None = None


class Record:
    """Everything that was told until now. Times are monotonic nanoseconds of this host."""

    def __init__(self, plan: Plan, began_ns: int) -> None:
        self.plan = plan
        self.began_ns = began_ns
        expected_s = plan.duration_s + plan.drain_s + 10
        # Whole ticks, which all processes tell at the same moments: a step has as many of them as any other.
        self._bin_ns = TICK_NS * math.ceil(max(_BIN_S, expected_s / _BINS_MAX) * 1e9 / TICK_NS)
        self._bins: dict[int, _Bin] = {}
        self.phases: list[tuple[str, int]] = []
        self.ready: dict[str, dict[int, int]] = {}
        self.deliveries: Counter[str] = Counter()
        self.latency = {name: Histogram() for name in plan.mix}
        self.sent = self.answered = self.received_bytes = self.renewed = self.unsent = 0
        self.answering, self.late = Histogram(), Histogram()
        self.refused: Counter[str] = Counter()
        self.cuts: Counter[str] = Counter()
        self.connects: list[tuple[int, int, int]] = []
        self.reconnects: list[tuple[int, int, int]] = []
        self.errors: Counter[str] = Counter()
        self.connect_errors: Counter[str] = Counter()
        self.delayed = self.connect_delayed = 0
        self.faults: dict[int, int] = {}
        self.resets: dict[int, int] = {}
        self.last_ns = 0
        self.lag_max_us = 0
        self.cut_count = self.away_count = 0
        self._back_before = 0
        self.recent = Histogram()
        self.tallies: dict[int, Tally] = {}
        self.failed: dict[int, int] = {}
        self.lost_processes: list[str] = []
        self._mute: dict[int, bool] = {}
        self._samples: dict[str, Sample] = {}

    # -- what comes

    def begin(self, phase: str, now_ns: int) -> None:
        """A phase begins, `start` being over: `connect`, `idle`, `deliver`, `reconnect`, `drain` or `end`."""
        self.phases.append((phase, now_ns))
        if phase == "reconnect":
            self.cut_count, self._back_before = self.ready_count, len(self.reconnects)
        if phase == "idle":  # whatever fails from here on is not of the first connects
            self.connect_errors, self.errors = self.errors, Counter()
            self.connect_delayed, self.delayed = self.delayed, 0

    @property
    def phase(self) -> str:
        """The one that is going on."""
        return self.phases[-1][0] if self.phases else "start"

    def at(self, phase: str) -> int | None:
        """When a phase began."""
        return next((at_ns for name, at_ns in self.phases if name == phase), None)

    def take(self, index: int, tick: Tick) -> None:
        """What a process has told."""
        place = self._bin(tick.at_ns)
        for name, counted in tick.transports.items():
            self.ready.setdefault(name, {})[index] = counted.ready
            self.deliveries[name] += counted.deliveries
            self.latency[name].merge(counted.latency, counted.latency_max_us)
            place.latency.merge(counted.latency, counted.latency_max_us)
            self.recent.merge(counted.latency, counted.latency_max_us)
            place.deliveries += counted.deliveries
            self.last_ns = max(self.last_ns, counted.last_ns)
        place.sent += tick.sent
        place.ready = self.ready_count
        self.sent += tick.sent
        self.answered += tick.answered
        self.received_bytes += tick.received_bytes
        self.renewed += tick.renewed
        self.delayed += tick.delayed
        self.answering.merge(tick.answering, tick.answering_max_us)
        self.refused.update(tick.refused)
        self.cuts.update(tick.cuts)
        self.errors.update(tick.errors)
        self.connects += tick.connects
        self.reconnects += tick.reconnects
        self._mute[index] = tick.is_mute
        self.faults[index] = tick.faults
        self.resets[index] = tick.resets
        place.busy_us[index] += tick.busy_us
        place.wall_us[index] += tick.wall_us
        place.starved_us[index] += tick.starved_us
        if self.phase in ("deliver", "reconnect", "drain"):
            self.late.merge(tick.late, tick.late_max_us)
            self.lag_max_us = max(self.lag_max_us, tick.lag_max_us)

    def sampled(self, what: str, sample: Sample | None, now_ns: int) -> None:
        """The server, at the beginning of a phase or in between (`now`)."""
        if sample is not None:
            self._samples[what] = sample
            self._bin(now_ns).sample = sample, now_ns

    def _bin(self, at_ns: int) -> _Bin:
        # A tick tells of the time before it.
        return self._bins.setdefault(max(0, self._number(at_ns - TICK_NS // 2)), _Bin())

    def _number(self, at_ns: int) -> int:
        """Of the step that this moment lies in, from the one in which all began."""
        return at_ns // self._bin_ns - self.began_ns // self._bin_ns

    # -- what it is now

    @property
    def ready_count(self) -> int:
        """Clients that are subscribed now."""
        return sum(sum(counts.values()) for counts in self.ready.values())

    def end_storm(self) -> None:
        """Whoever was cut is back by now, or its time is up."""
        self.away_count = max(0, self.cut_count - (len(self.reconnects) - self._back_before))

    @property
    def is_hopeless(self) -> bool:
        """Whether no client, or no publisher, will ever come: more time would change nothing."""
        nobody = bool(self.plan.clients) and sum(self.failed.values()) == self.plan.clients
        is_mute = len(self._mute) == self.plan.processes and all(self._mute.values())
        return nobody or (bool(self.plan.publishers) and is_mute)

    @property
    def fault_count(self) -> int:
        """Offsets that were lost, repeated or out of order until now."""
        return sum(self.faults.values())

    def rates(self, now_ns: int) -> Point | None:
        """The last step of time that is over."""
        number = self._number(now_ns - TICK_NS // 2) - 1
        return self._point(number) if number in self._bins else None

    def series(self) -> list[Point]:
        """All steps, with those in between in which nothing was told."""
        if not self._bins:
            return []
        return [self._point(number) for number in range(max(self._bins) + 1)]

    def _point(self, number: int) -> Point:
        place = self._bins.get(number) or _Bin()
        seconds = self._bin_ns / 1e9
        latency = Latency.of(place.latency)
        before = self._bins.get(number - 1)
        server_cpu = memory_bytes = None
        if place.sample is not None:
            (sample, at_ns) = place.sample
            memory_bytes = sample.memory_bytes
            if before is not None and before.sample is not None:
                (earlier, earlier_ns) = before.sample
                server_cpu = round((sample.cpu_s - earlier.cpu_s) / (at_ns - earlier_ns) * 1e9, 3)
        return Point(
            at_s=round(max(0, number * self._bin_ns - self.began_ns % self._bin_ns) / 1e9, 3),
            seconds=seconds,
            ready=place.ready or (before.ready if before is not None else 0),
            deliveries_per_s=round(place.deliveries / seconds, 1),
            publications_per_s=round(place.sent / seconds, 1),
            p50_ms=latency.p50_ms,
            p99_ms=latency.p99_ms,
            max_ms=latency.max_ms,
            server_cpu=server_cpu,
            server_memory_bytes=memory_bytes,
            load_cpu=round(max(self._busy(place).values(), default=0.0), 3),
        )

    @staticmethod
    def _busy(place: _Bin) -> dict[int, float]:
        return {index: place.busy_us[index] / wall for index, wall in place.wall_us.items() if wall > 0}

    # -- what it came to

    def result(self, target: Target, started_at: str, *, was_interrupted: bool) -> Result:
        """The whole."""
        from hybrid import __version__

        whole = Histogram()
        for histogram in self.latency.values():
            whole.merge(histogram.pairs(), histogram.max_us)
        result = Result(
            hybrid=__version__,
            url=target.url,
            started_at=started_at,
            was_interrupted=was_interrupted,
            plan=self.plan,
            cores=os.cpu_count() or 1,
            system=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
            connect=self._connected(),
            reconnect=self._reconnected(),
            delivered=self._delivered(whole),
            order=self._order(),
            load_side=self._load_side(),
            phases=[(name, round((at_ns - self.began_ns) / 1e9, 3)) for name, at_ns in self.phases],
            series=self.series(),
            latency_us=[(bounds_of(bucket)[0], count) for bucket, count in whole.pairs()],
        )
        result.server = self._server(result)
        result.unknown = unknown(result)
        result.faults = faults(result)
        result.exit_code = 130 if was_interrupted else 1 if result.faults else 0
        return result

    def _connected(self) -> Connects:
        told = _connects(self.connects)
        told.clients = self.plan.clients
        told.failed = sum(self.failed.values())
        told.is_storm = self.plan.is_connect_storm
        has_left = self.at("idle") is not None
        told.errors = dict((self.connect_errors if has_left else self.errors).most_common())
        told.delayed = self.connect_delayed if has_left else self.delayed
        return told

    def _reconnected(self) -> Connects | None:
        if not self.reconnects and not self.errors and not self.plan.is_reconnect_storm:
            return None
        told = _connects(self.reconnects)
        told.clients = self.cut_count + sum(self.cuts.values())
        told.failed = self.away_count
        told.is_storm = self.plan.is_reconnect_storm
        told.errors, told.delayed = dict(self.errors.most_common()), self.delayed
        return told

    @property
    def _delivering_s(self) -> float:
        began = self.at("deliver")
        if began is None:
            return 0.0
        # Without a single delivery the time is that of publishing.
        ended = max(self.last_ns, self.at("drain") or 0 if not self.last_ns else 0)
        return max(0.0, (ended - began) / 1e9)

    def _delivered(self, whole: Histogram) -> Delivered:
        seconds = self._delivering_s
        deliveries = sum(self.deliveries.values())
        publishing_s = ((self.at("drain") or 0) - (self.at("deliver") or 0)) / 1e9
        return Delivered(
            duration_s=round(seconds, 3),
            publications=self.sent,
            answered=self.answered,
            unsent=self.unsent,
            publications_per_s=round(self.sent / publishing_s, 1) if publishing_s > 0 else 0.0,
            deliveries=deliveries,
            deliveries_per_s=round(deliveries / seconds, 1) if seconds else 0.0,
            received_bytes_per_s=round(self.received_bytes / seconds, 1) if seconds else 0.0,
            latency=Latency.of(whole),
            answer=Latency.of(self.answering),
            transports={
                name: OfTransport(count, self.deliveries[name], Latency.of(self.latency[name]))
                for name, count in self.plan.mix.items()
            },
            refused=dict(self.refused.most_common()),
        )

    def _order(self) -> Order:
        told = Order(cuts=dict(self.cuts.most_common()), renewed=self.renewed)
        for tally in self.tallies.values():
            told.lost += tally.lost
            told.repeated += tally.repeated
            told.reordered += tally.reordered
            told.unexpected += tally.unexpected
            told.incomplete_clients += tally.incomplete
            told.resets += tally.resets
            told.examples = [*told.examples, *tally.examples][:5]
        told.is_checked_to_the_end = len(self.tallies) == self.plan.processes
        if not told.is_checked_to_the_end:
            told.resets = sum(self.resets.values())
        told.is_right = not (
            told.lost or told.repeated or told.reordered or told.unexpected or told.incomplete_clients
        ) and not (self.fault_count and not told.is_checked_to_the_end)
        return told

    def _server(self, result: Result) -> Server | None:
        before, idle = self._samples.get("before"), self._samples.get("idle")
        if before is None:
            return None
        deliver, end = self._samples.get("deliver"), self._samples.get("end")
        last = end or deliver or idle or before
        cpu_s = end.cpu_s - deliver.cpu_s if end is not None and deliver is not None else 0.0
        ready = result.connect.ready
        opened = self._samples.get("opened")
        return Server(
            processes=last.processes,
            cpu_s=round(cpu_s, 3),
            cpu_share=round(cpu_s / result.delivered.duration_s, 3) if result.delivered.duration_s else 0.0,
            deliveries_per_cpu_s=round(result.delivered.deliveries / cpu_s, 1) if cpu_s > 0.01 else None,
            connect_cpu_us=round((opened.cpu_s - before.cpu_s) / ready * 1e6, 1) if opened and ready else None,
            memory_before_bytes=before.memory_bytes,
            memory_idle_bytes=(idle or before).memory_bytes,
            memory_end_bytes=last.memory_bytes,
            memory_per_client_bytes=(
                round((idle.memory_bytes - before.memory_bytes) / ready, 1) if idle is not None and ready else None
            ),
        )

    def _load_side(self) -> LoadSide:
        told = LoadSide(processes=self.plan.processes, lag_max_ms=round(self.lag_max_us / 1_000, 1))
        begun, opened, deliver = self.at("connect"), self.at("idle"), self.at("deliver")
        if begun is not None and self.plan.clients:
            told.connecting = self._effort(begun, opened or max(self._bins, default=0) * self._bin_ns + self.began_ns)
        if deliver is not None:
            told.delivering = self._effort(deliver, max(deliver, self.last_ns))
        told.late = Latency.of(self.late)
        told.reasons = limits(told, self.plan)
        told.is_limit = bool(told.reasons)
        return told

    def _effort(self, from_ns: int, until_ns: int) -> Effort:
        busy: Counter[int] = Counter()
        wall: Counter[int] = Counter()
        starved: Counter[int] = Counter()
        told = Effort()
        for number in range(self._number(from_ns), self._number(until_ns) + 1):
            place = self._bins.get(number)
            if place is not None:
                busy.update(place.busy_us)
                wall.update(place.wall_us)
                starved.update(place.starved_us)
                told.busy_share_max = round(max([told.busy_share_max, *self._busy(place).values()]), 3)
        told.busy_share = _most(busy, wall)
        if TELLS_STARVED:
            told.starved_share = min(1.0, _most(starved, wall))
        return told


def _most(part: Counter[int], whole: Counter[int]) -> float:
    return round(max((part[index] / whole[index] for index in whole if whole[index] > 0), default=0.0), 3)


def _connects(told_us: list[tuple[int, int, int]]) -> Connects:
    each, attempt = Histogram(), Histogram()
    for _, since_us, attempt_us in told_us:
        each.add(since_us)
        attempt.add(attempt_us)
    told = Connects(ready=len(told_us), each=Latency.of(each), attempt=Latency.of(attempt))
    if told_us:
        ordered = sorted(at_us for at_us, _, _ in told_us)
        told.first_ms, told.last_ms = round(ordered[0] / 1_000, 3), round(ordered[-1] / 1_000, 3)
        step = max(1, len(ordered) // _CURVE_POINTS)
        told.curve = [(round(ordered[n] / 1_000, 3), n + 1) for n in range(0, len(ordered), step)]
        if told.curve[-1][1] != len(ordered):
            told.curve.append((told.last_ms, len(ordered)))
    return told
