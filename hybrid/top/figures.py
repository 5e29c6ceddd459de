"""Two snapshots as what goes on between them. Pure.

A rate is None where there is nothing to compare with: at the first look, of a worker that was restarted meanwhile, of a
channel that began a new log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hybrid.protocol.management import NodeItem
from hybrid.top.reading import NEEDED_PURPOSES, Worker
from hybrid.top.snapshot import Channel, Channels, Server, Snapshot, Trouble


@dataclass(frozen=True, slots=True)
class WorkerFigures:
    """One process. Rates are a second; `cpu` is in cores; times are bounds of a histogram's buckets, in seconds."""

    name: str
    state: str
    clients: int
    room: int
    slow: int
    publications_per_s: float | None
    deliveries_per_s: float | None
    lag_s: float | None
    cpu: float | None
    memory_bytes: int
    trouble: str = ""
    """Why nothing else is known, for a server that did not answer."""


@dataclass(frozen=True, slots=True)
class ChannelFigures:
    """One channel; `deliveries_per_s` is its publications times its subscribers."""

    name: str
    subscribers: int
    publications_per_s: float | None
    deliveries_per_s: float | None


@dataclass(frozen=True, slots=True)
class Count:
    """Something that should not happen: how often since the servers were started, and a second now."""

    name: str
    total: float
    per_s: float | None


@dataclass(slots=True)
class Figures:
    """Everything that is shown. Sums are over all workers that have told."""

    wall_s: float
    interval_s: float | None
    """Between the two looks; None for a first one."""
    versions: tuple[str, ...] = ()
    clients: dict[str, int] = field(default_factory=dict)
    room: int = 0
    sessions: int = 0
    slow: int = 0
    catching_up: int = 0
    behind: int = 0
    buffered_bytes: int = 0
    publications_per_s: float | None = None
    deliveries_per_s: float | None = None
    bytes_per_s: float | None = None
    lagged_per_s: float | None = None
    write_s: tuple[float | None, float | None] = (None, None)
    """The median and the 99th percentile."""
    publish_s: tuple[float | None, float | None] = (None, None)
    lag_s: float | None = None
    """The 99th percentile of the worker that is latest."""
    broker: str = ""
    broker_down: tuple[str, ...] = ()
    """Workers that lack a connection to Redis without which they serve nobody."""
    broker_waiting: int = 0
    broker_oldest_s: float = 0.0
    broker_answer_s: float | None = None
    broker_failures_per_s: float | None = None
    limits: tuple[Count, ...] = ()
    refusals: tuple[Count, ...] = ()
    silent: int = 0
    workers: tuple[WorkerFigures, ...] = ()
    nodes: tuple[NodeItem, ...] = ()
    channels: tuple[ChannelFigures, ...] = ()
    channels_seen: int = 0
    has_more_channels: bool = False
    troubles: tuple[Trouble, ...] = ()


@dataclass(frozen=True, slots=True)
class _Pair:
    """A worker now, and what it had told before, where that is the same process."""

    name: str
    now: Worker
    before: Worker | None
    passed_s: float

    def rate(self, count: str) -> float | None:
        if self.before is None:
            return None
        return max(0.0, self.now.counts.get(count, 0.0) - self.before.counts.get(count, 0.0)) / self.passed_s


def compare(before: Snapshot | None, now: Snapshot) -> Figures:
    """What two snapshots of the same deployment say; with None before, what one says."""
    pairs = [pair for server in now.servers for pair in _pairs(_same(before, server), server)]
    figures = Figures(now.wall_s, now.at_s - before.at_s if before is not None else None)
    figures.troubles = now.troubles
    if pairs:
        _sum(figures, pairs)
    figures.workers = tuple(_workers(now.servers, pairs))
    figures.silent = sum(server.reading.silent for server in now.servers if server.reading is not None)
    figures.nodes = now.nodes if isinstance(now.nodes, tuple) else ()
    if isinstance(now.channels, Channels):
        known = before.channels.items if before is not None and isinstance(before.channels, Channels) else ()
        figures.channels = tuple(_channels(known, now.channels.items))
        figures.channels_seen, figures.has_more_channels = now.channels.seen, now.channels.has_more
    return figures


def percentile(buckets: Mapping[float, float], share: float) -> float | None:
    """The bound of the bucket that this share ends in; None where nothing was counted. Infinite: above all of them."""
    total = max(buckets.values(), default=0.0)
    if total <= 0:
        return None
    return next((bound for bound, count in sorted(buckets.items()) if count >= share * total), float("inf"))


def _same(before: Snapshot | None, server: Server) -> Server | None:
    return next((other for other in before.servers if other.name == server.name), None) if before is not None else None


def _pairs(before: Server | None, now: Server) -> Iterable[_Pair]:
    known: dict[tuple[str, float], Worker] = {}
    if before is not None and before.reading is not None and now.at_s > before.at_s:
        # By start time as well: whoever has taken a worker's place counts from nothing. Not by the name alone, which
        # changes when a worker begins to leave.
        known = {(worker.name.partition("-")[0], worker.started_s): worker for worker in before.reading.workers}
    for worker in now.reading.workers if now.reading is not None else ():
        name = f"{now.name}/{worker.name}" if worker.name else now.name
        former = known.get((worker.name.partition("-")[0], worker.started_s))
        yield _Pair(name, worker, former, now.at_s - before.at_s if before is not None else 0.0)


def _sum(figures: Figures, pairs: list[_Pair]) -> None:
    workers = [pair.now for pair in pairs]
    figures.versions = tuple(sorted({worker.version for worker in workers}))
    clients: Counter[str] = Counter()
    for worker in workers:
        clients.update(worker.clients)
    figures.clients = dict(clients)
    for name in ("room", "sessions", "slow", "catching_up", "behind", "buffered_bytes", "broker_waiting"):
        setattr(figures, name, sum(getattr(worker, name) for worker in workers))
    figures.publications_per_s = _total(pair.rate("published") for pair in pairs)
    figures.deliveries_per_s = _total(pair.rate("deliveries") for pair in pairs)
    figures.bytes_per_s = _total(pair.rate("bytes") for pair in pairs)
    figures.lagged_per_s = _total(pair.rate("lagged") for pair in pairs)
    write, publish = _together(pairs, "write"), _together(pairs, "publish")
    figures.write_s = (percentile(write, 0.5), percentile(write, 0.99))
    figures.publish_s = (percentile(publish, 0.5), percentile(publish, 0.99))
    lags = [lag for pair in pairs if (lag := percentile(_between(pair, "lag"), 0.99)) is not None]
    figures.lag_s = max(lags, default=None)
    figures.broker = ", ".join(sorted({worker.broker for worker in workers}))
    figures.broker_down = tuple(pair.name for pair in pairs if _is_cut_off(pair.now))
    figures.broker_oldest_s = max(worker.broker_oldest_s for worker in workers)
    figures.broker_answer_s = percentile(_together(pairs, "broker"), 0.99)
    figures.broker_failures_per_s = _total(pair.rate("broker_failures") for pair in pairs)
    figures.limits = _counts(pairs, "limits")
    figures.refusals = _counts(pairs, "refusals")


def _is_cut_off(worker: Worker) -> bool:
    return worker.broker == "redis" and not all(worker.broker_up.get(purpose) for purpose in NEEDED_PURPOSES)


def _total(rates: Iterable[float | None]) -> float | None:
    known = [rate for rate in rates if rate is not None]
    return sum(known) if known else None


def _between(pair: _Pair, histogram: str) -> dict[float, float]:
    """What was counted since; all there is for one that is seen for the first time."""
    now = pair.now.histograms.get(histogram, {})
    before = pair.before.histograms.get(histogram, {}) if pair.before is not None else {}
    return {bound: count - before.get(bound, 0.0) for bound, count in now.items()}


def _together(pairs: list[_Pair], histogram: str) -> dict[float, float]:
    found: Counter[float] = Counter()
    for pair in pairs:
        found.update(_between(pair, histogram))
    return dict(found)


def _counts(pairs: list[_Pair], table: str) -> tuple[Count, ...]:
    """Those that have happened, the most frequent now first."""
    totals: Counter[str] = Counter()
    rates: dict[str, float] = {}
    for pair in pairs:
        now: dict[str, float] = getattr(pair.now, table)
        totals.update(now)
        if pair.before is not None:
            former: dict[str, float] = getattr(pair.before, table)
            for name, count in now.items():
                rate = max(0.0, count - former.get(name, 0.0)) / pair.passed_s
                rates[name] = rates.get(name, 0.0) + rate
    found = [Count(name, total, rates.get(name)) for name, total in totals.items() if total > 0]
    return tuple(sorted(found, key=lambda count: (-(count.per_s or 0.0), -count.total, count.name)))


def _workers(servers: tuple[Server, ...], pairs: list[_Pair]) -> Iterable[WorkerFigures]:
    for pair in pairs:
        now = pair.now
        yield WorkerFigures(
            name=pair.name,
            state="leaving" if "leaving" in now.name else "draining" if now.is_draining else "serving",
            clients=sum(now.clients.values()),
            room=now.room,
            slow=now.slow,
            publications_per_s=pair.rate("published"),
            deliveries_per_s=pair.rate("deliveries"),
            lag_s=percentile(_between(pair, "lag"), 0.99),
            cpu=pair.rate("cpu"),
            memory_bytes=now.memory_bytes,
        )
    for server in servers:
        if server.trouble is not None:
            yield WorkerFigures(
                server.name, server.trouble.kind, 0, 0, 0, None, None, None, None, 0, str(server.trouble.sentence)
            )


def _channels(before: tuple[Channel, ...], now: tuple[Channel, ...]) -> Iterable[ChannelFigures]:
    known = {channel.name: channel for channel in before}
    for channel in now:
        rate = _channel_rate(known.get(channel.name), channel)
        deliveries = None if rate is None else rate * channel.subscribers
        yield ChannelFigures(channel.name, channel.subscribers, rate, deliveries)


def _channel_rate(before: Channel | None, now: Channel) -> float | None:
    if before is None or before.offset is None or now.offset is None or now.at_s <= before.at_s:
        return None
    if before.epoch != now.epoch and before.offset:
        return None
    return max(0, now.offset - before.offset) / (now.at_s - before.at_s)
