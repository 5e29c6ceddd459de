"""Heartbeats: one payload a moment and kind of wire, shared by every leg that is due."""

from __future__ import annotations

from hybrid.clock import Clock
from hybrid.engine.link import Link, Segment
from hybrid.engine.wire import Wire
from hybrid.limits import Limits
from hybrid.protocol.pushes import HeartbeatPush, Push

_SHARED_S = 0.25  # as fine as the timer wheel: all legs of one of its slots share one heartbeat


def interval_s(asked_s: float | None, limits: Limits) -> float:
    """How often a leg that asked for this has its heartbeats: seldom at its peril, often at everybody's."""
    most_s = limits.heartbeat_interval_s
    # In this order, a NaN (which MessagePack can say) counts as too little.
    return most_s if asked_s is None else min(most_s, max(limits.heartbeat_interval_min_s, asked_s))


class Heartbeats:
    """Writes heartbeats; keeps the last ones made."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._made_s = float("-inf")
        self._segments: dict[tuple[int, int], Segment] = {}

    def beat(self, link: Link, wire: Wire, now_s: float) -> None:
        """Write a heartbeat. `now_s` is monotonic."""
        if now_s - self._made_s >= _SHARED_S:
            self._made_s = now_s
            self._segments.clear()
        kind = (id(wire), id(link.framing))
        segment = self._segments.get(kind)
        if segment is None:
            payload = wire.encode_push(Push(heartbeat=HeartbeatPush(int(self._clock.wall_s() * 1000))))
            segment = self._segments[kind] = link.framing((payload,))
        link.write(segment)
