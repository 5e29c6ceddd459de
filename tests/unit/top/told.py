"""Snapshots by hand."""

from __future__ import annotations

from typing import Any

from hybrid.protocol.management import NodeItem
from hybrid.top.reading import Reading, Worker
from hybrid.top.snapshot import Channel, Channels, Server, Snapshot, Trouble

BOUNDS = (0.001, 0.01, 0.1, float("inf"))


def buckets(*counts: int) -> dict[float, float]:
    """By how many are in each."""
    return {bound: float(sum(counts[: place + 1])) for place, bound in enumerate(BOUNDS)}


def worker(name: str = "", *, started_s: float = 100.0, deliveries: float = 0.0, **more: Any) -> Worker:
    made = Worker(name, version="0.1.0", broker="memory", started_s=started_s, room=15_000, memory_bytes=80 << 20)
    made.clients = {"websocket": 100, "sse": 20, "longpoll": 3}
    made.sessions = 110
    made.counts = {
        "deliveries": deliveries,
        "published": deliveries / 100,
        "cpu": deliveries / 10_000,
        "bytes": deliveries,
    }
    for field, value in more.items():
        setattr(made, field, value)
    return made


def node(name: str = "Qm8xk2aaaaaa", **more: Any) -> NodeItem:
    item = {"version": "0.1.0", "address": "10.1.2.10:8000", "uptime_s": 93_784.0, "streams": 120, "sessions": 110}
    return NodeItem(node=name, **{**item, "channels": 7, "room": 14_880, **more})


def channel(name: str, subscribers: int, offset: int | None = None, *, at_s: float = 0.0, epoch: str = "e1") -> Channel:
    return Channel(name, subscribers, at_s, epoch, offset)


def snapshot(
    at_s: float,
    *workers: Worker,
    nodes: tuple[NodeItem, ...] | Trouble = (),
    channels: Channels | Trouble | None = None,
    servers: tuple[Server, ...] = (),
    silent: int = 0,
) -> Snapshot:
    named = Server("10.1.2.10:8000", at_s, Reading(workers, silent))
    return Snapshot(at_s, 1_795_843_200.0 + at_s, (named, *servers) if workers else servers, nodes, channels)
