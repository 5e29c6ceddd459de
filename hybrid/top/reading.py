"""The text of `/metrics` as numbers, by worker. The home of prometheus_client's parser."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from hybrid.errors import SettingsError

if TYPE_CHECKING:
    from prometheus_client.samples import Sample

TEXT_MAX_BYTES: Final = 8_388_608
"""Of one server: what two hundred workers tell."""
STREAMS: Final = ("websocket", "sse")
POLLS: Final = "longpoll"
NEEDED_PURPOSES: Final = ("asking", "listening")
"""The connections to Redis without which a worker serves nobody: what the alert HybridBrokerUnreachable looks at."""

Buckets = Mapping[float, float]
"""A histogram: how many were at most this, by bound; cumulative."""


@dataclass(slots=True)
class Worker:
    """What one process has told of itself. Counts are since it was started."""

    name: str = ""
    """Its number, or `2-leaving`; empty where the server is one process."""
    version: str = ""
    broker: str = ""
    started_s: float = 0.0
    clients: dict[str, int] = field(default_factory=dict)
    """Open streams and waiting polls, by transport."""
    room: int = 0
    """How many of them it takes."""
    sessions: int = 0
    slow: int = 0
    """Streams that do not take what they are sent."""
    catching_up: int = 0
    behind: int = 0
    """Publications that are not written yet to those who are not live."""
    buffered_bytes: int = 0
    memory_bytes: int = 0
    is_draining: bool = False
    counts: dict[str, float] = field(default_factory=dict)
    """By the short name in `_COUNTERS`."""
    limits: dict[str, float] = field(default_factory=dict)
    """How often each limit was run into."""
    refusals: dict[str, float] = field(default_factory=dict)
    """Errors told, by name."""
    histograms: dict[str, dict[float, float]] = field(default_factory=dict)
    """By the short name in `_HISTOGRAMS`."""
    broker_up: dict[str, float] = field(default_factory=dict)
    """Connections to Redis that can be used, by what they are for."""
    broker_waiting: int = 0
    broker_oldest_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Reading:
    """What one server has told. `silent` workers did not tell in time."""

    workers: tuple[Worker, ...]
    silent: int = 0


_COUNTERS: Final = {
    "hybrid_deliveries_total": "deliveries",
    "hybrid_flushed_bytes_total": "bytes",
    "hybrid_links_lagged_total": "lagged",
    "hybrid_broker_failures_total": "broker_failures",
    "process_cpu_seconds_total": "cpu",
}
_HISTOGRAMS: Final = {
    "hybrid_write_delay_seconds_bucket": "write",
    "hybrid_publish_duration_seconds_bucket": "publish",
    "hybrid_event_loop_lag_seconds_bucket": "lag",
    "hybrid_broker_answer_seconds_bucket": "broker",
}
_GAUGES: Final = {
    "hybrid_connections_max": "room",
    "hybrid_lag_publications": "behind",
    "hybrid_buffered_bytes": "buffered_bytes",
    "process_resident_memory_bytes": "memory_bytes",
}


def check_installed() -> None:
    """Raises SettingsError where the library is missing."""
    try:
        import prometheus_client.parser  # noqa: F401
    except ImportError:
        raise SettingsError(
            detail="hybrid top needs the library prometheus-client: pip install 'hybrid-realtime[metrics]'."
        ) from None


def read(text: str) -> Reading:
    """What a server tells. Raises ValueError for what are not the metrics of a hybrid server."""
    from prometheus_client.parser import text_string_to_metric_families

    if len(text) > TEXT_MAX_BYTES:
        raise ValueError(f"it is larger than {TEXT_MAX_BYTES} bytes")
    workers: dict[str, Worker] = {}
    silent = 0
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == "hybrid_workers_silent":
                    silent += _whole(sample.value)
                elif sample.name.startswith(("hybrid_", "process_")) and sample.name != "hybrid_workers":
                    name = sample.labels.get("worker", "")
                    worker = workers.get(name)
                    if worker is None:
                        worker = workers[name] = Worker(name)
                    _add(worker, sample)
    except Exception as error:  # the parser has no error of its own: whatever it stumbles over comes out
        raise ValueError(f"it cannot be read: {type(error).__name__}") from None
    told = tuple(worker for worker in workers.values() if worker.version)
    if not told:
        raise ValueError("these are not the metrics of a hybrid server")
    return Reading(told, silent)


def _add(worker: Worker, sample: Sample) -> None:
    name, labels, value = sample.name, sample.labels, sample.value
    if not math.isfinite(value):
        return
    if name in _COUNTERS:
        short = _COUNTERS[name]
        worker.counts[short] = worker.counts.get(short, 0.0) + value
    elif name in _HISTOGRAMS:
        buckets, bound = worker.histograms.setdefault(_HISTOGRAMS[name], {}), float(labels["le"])
        buckets[bound] = buckets.get(bound, 0.0) + value
    elif name in _GAUGES:
        setattr(worker, _GAUGES[name], _whole(value))
    else:
        _add_labelled(worker, name, labels, value)


def _add_labelled(worker: Worker, name: str, labels: Mapping[str, str], value: float) -> None:
    match name:
        case "hybrid_connections":
            transport, state = labels.get("transport", ""), labels.get("state", "")
            worker.clients[transport] = worker.clients.get(transport, 0) + _whole(value)
            if state == "slow":
                worker.slow += _whole(value)
            elif state == "catching_up":
                worker.catching_up += _whole(value)
        case "hybrid_polls_waiting":
            worker.clients[POLLS] = worker.clients.get(POLLS, 0) + _whole(value)
        case "hybrid_sessions":
            worker.sessions += _whole(value)
        case "hybrid_publishes_total":
            if labels.get("outcome") == "appended":
                worker.counts["published"] = worker.counts.get("published", 0.0) + value
        case "hybrid_limits_hit_total":
            worker.limits[labels.get("limit", "")] = value
        case "hybrid_refusals_total":
            worker.refusals[labels.get("error", "")] = value
        case "hybrid_broker_up":
            worker.broker_up[labels.get("purpose", "")] = value
        case "hybrid_broker_waiting":
            worker.broker_waiting += _whole(value)
        case "hybrid_broker_oldest_seconds":
            worker.broker_oldest_s = max(worker.broker_oldest_s, value)
        case "hybrid_build_info":
            worker.version, worker.broker = labels.get("version", ""), labels.get("broker", "")
        case "hybrid_draining":
            worker.is_draining = bool(value)
        case "process_start_time_seconds":
            worker.started_s = value


def _whole(value: float) -> int:
    return int(value) if math.isfinite(value) else 0
