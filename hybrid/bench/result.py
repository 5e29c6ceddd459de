"""What a run came to: the shape of `--json`, and what the text and the report are written from.

Times are in milliseconds, `None` where there is none to tell. Field names are part of the interface; `version` changes
when one changes its meaning.
"""

from __future__ import annotations

import msgspec

from hybrid.bench.histogram import Histogram
from hybrid.bench.plan import Plan


class Latency(msgspec.Struct, frozen=True):
    """Of deliveries, from send to receipt; or of publishes, from send to answer."""

    count: int = 0
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    p999_ms: float | None = None
    max_ms: float | None = None

    @classmethod
    def of(cls, histogram: Histogram) -> Latency:
        """The percentiles of a histogram."""
        if not histogram.count:
            return cls()
        p50, p90, p99, p999 = (round(histogram.percentile_us(share) / 1_000, 3) for share in (0.5, 0.9, 0.99, 0.999))
        return cls(histogram.count, p50, p90, p99, p999, round(histogram.max_us / 1_000, 3))


class Connects(msgspec.Struct):
    """Clients that connected, or came back. Waiting as they were told is in all times but `attempt`."""

    clients: int = 0
    ready: int = 0
    failed: int = 0
    is_storm: bool = False
    first_ms: float | None = None
    """From the beginning until the first one was subscribed; where they were cut one by one, since it was cut."""
    last_ms: float | None = None
    each: Latency = Latency()
    """From the moment at which a client was to connect until it was subscribed."""
    attempt: Latency = Latency()
    """Of the last attempt alone: from dialling until it was subscribed."""
    delayed: int = 0
    errors: dict[str, int] = {}
    curve: list[tuple[float, int]] = []
    """Milliseconds, and how many were in by then; at most 200 points."""


class OfTransport(msgspec.Struct):
    """One transport's share."""

    clients: int = 0
    deliveries: int = 0
    latency: Latency = Latency()


class Delivered(msgspec.Struct):
    """The time from the first publish until the last delivery."""

    duration_s: float = 0.0
    publications: int = 0
    answered: int = 0
    unsent: int = 0
    """Due by the rate and not sent when the time was up, because the answers of others were waited for."""
    publications_per_s: float = 0.0
    deliveries: int = 0
    deliveries_per_s: float = 0.0
    received_bytes_per_s: float = 0.0
    latency: Latency = Latency()
    answer: Latency = Latency()
    transports: dict[str, OfTransport] = {}
    refused: dict[str, int] = {}


class Order(msgspec.Struct):
    """Whether every client got everything once and in order. All publications of all clients were looked at."""

    is_right: bool = True
    is_checked_to_the_end: bool = True
    """False where a load process ended before it could tell what its clients have."""
    lost: int = 0
    repeated: int = 0
    reordered: int = 0
    unexpected: int = 0
    incomplete_clients: int = 0
    resets: int = 0
    cuts: dict[str, int] = {}
    renewed: int = 0
    examples: list[str] = []


class Server(msgspec.Struct):
    """Of the processes that `--pid` named, and their children."""

    processes: int
    cpu_s: float
    """While publications were delivered."""
    cpu_share: float
    """Of one core: 2.0 is two cores."""
    deliveries_per_cpu_s: float | None
    connect_cpu_us: float | None
    """For each client that connected."""
    memory_before_bytes: int
    memory_idle_bytes: int
    memory_end_bytes: int
    memory_per_client_bytes: float | None


class Effort(msgspec.Struct):
    """What the busiest load process used in some span of time."""

    busy_share: float = 0.0
    """CPU, of one core."""
    busy_share_max: float = 0.0
    """The same in its busiest step of time."""
    starved_share: float | None = None
    """For how much of the time it could have run and had no core; None where the system does not tell."""


class LoadSide(msgspec.Struct):
    """The load's own processes: whether they were the limit of what was measured."""

    processes: int = 1
    connecting: Effort | None = None
    delivering: Effort | None = None
    lag_max_ms: float = 0.0
    """The longest that one was held up at once, while publications were delivered."""
    late: Latency = Latency()
    """By how much publishes were sent later than due though one could have been sent (only with a rate)."""
    is_limit: bool = False
    reasons: list[str] = []


class Point(msgspec.Struct):
    """One step of time."""

    at_s: float
    seconds: float
    ready: int = 0
    deliveries_per_s: float = 0.0
    publications_per_s: float = 0.0
    p50_ms: float | None = None
    p99_ms: float | None = None
    max_ms: float | None = None
    server_cpu: float | None = None
    server_memory_bytes: int | None = None
    load_cpu: float = 0.0
    """Of the busiest process."""


class Result(msgspec.Struct, kw_only=True):
    """One run."""

    version: int = 1
    hybrid: str
    url: str
    started_at: str
    """UTC, ISO 8601."""
    was_interrupted: bool = False
    exit_code: int = 0
    faults: list[str] = []
    """Why the exit code is 1, in words."""
    plan: Plan
    cores: int
    system: str
    connect: Connects
    reconnect: Connects | None = None
    delivered: Delivered
    order: Order
    server: Server | None = None
    unknown: list[str] = []
    """What could not be known, in words."""
    load_side: LoadSide
    phases: list[tuple[str, float]] = []
    """What began when, in seconds since the beginning."""
    series: list[Point] = []
    latency_us: list[tuple[int, int]] = []
    """The whole distribution: the lowest microseconds of a bucket, and how many deliveries fell into it."""

    def to_json(self) -> bytes:
        """As the file has it."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"
