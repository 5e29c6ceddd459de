"""How fast the clients of a node that drains are sent to the others, so that these can take them.

Whoever is told at once comes back at once, and thousands of handshakes in one second stall the nodes that go on. So the
goodbyes are spread over as much of the grace as the others need, in small batches; a client that is not told yet is
served as before. Only where the grace is too short for that, clients are asked to wait before they come back.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from typing import Final, NamedTuple

from hybrid.engine.nodes import NodeInfo
from hybrid.limits import Limits

_log = logging.getLogger(__name__)

_TELLING: Final = 0.7  # of the grace: the rest is for goodbyes to be read
_BATCH_S: Final = 0.1  # between two batches
_SPREAD_S: Final = 0.25  # of one batch's reconnects, at least


class Departure(NamedTuple):
    """`streams` are told over `telling_s` seconds, `batch` at a time; each waits up to `delay_s` before it returns."""

    streams: int
    telling_s: float
    delay_s: float
    batch: int

    def told_after_s(self, place: int) -> float:
        """When the stream at this place (from 0) is told, from the beginning."""
        return self.telling_s * place / max(1, self.streams)

    def delay_ms(self) -> int:
        """How long one client is asked to wait: full jitter."""
        return random.randint(0, round(self.delay_s * 1000))


def plan_departure(streams: int, others: Sequence[NodeInfo], grace_s: float, limits: Limits) -> Departure:
    """The plan for this many streams and waiting polls, with these nodes to go to (those that drain do not count)."""
    staying = [node for node in others if not node.is_draining]
    rate = sum(node.accepts_per_s for node in staying)
    if rate <= 0:
        # Nobody else: they come back to whoever takes this node's place, all at the same moment unless they spread.
        return Departure(streams, 0.0, limits.reconnect_delay_max_ms / 1000, limits.fan_out_slice)
    room = sum(node.room for node in staying)
    if room < streams:
        _log.warning("%d clients are sent away, and the other nodes have room for %d", streams, room)
    window_s = streams / rate
    telling_s = min(window_s, grace_s * _TELLING)
    delay_s = max(_SPREAD_S, window_s - telling_s)
    batch = max(1, min(limits.fan_out_slice, round(streams * _BATCH_S / max(telling_s, _BATCH_S))))
    return Departure(streams, telling_s, delay_s, batch)
