"""One flush on its way to the LIVE links of a channel.

The whole hot path is `FanOut.step`: for each link one `write` of bytes it shares with all others. After a slice of
writes the event loop gets a turn. Nothing that goes wrong with one link reaches another one.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from hybrid.engine.link import Segment
from hybrid.engine.live import Group
from hybrid.model import Position

if TYPE_CHECKING:
    from hybrid.engine.channel import Channel
    from hybrid.engine.subscription import Subscription

_log = logging.getLogger(__name__)


class FanOut:
    """Writes the segments of one flush; tells the channel when it is through."""

    __slots__ = ("_channel", "_index", "_is_cancelled", "_plan", "_since_s", "publications", "target")

    def __init__(
        self,
        channel: Channel,
        plan: list[tuple[Group, Segment]],
        target: Position,
        publications: int,
        since_s: float | None,
    ) -> None:
        """`since_s`: this flush is measured, and the first of its publications came then."""
        self._channel = channel
        self._plan = plan
        self._index = 0
        self._is_cancelled = False
        self.target = target
        self.publications = publications
        self._since_s = since_s

    def step(self) -> None:
        """Write to the next `fan_out_slice` links, and come back if there are more."""
        if self._is_cancelled:
            return
        shared = self._channel.shared
        tally, room = shared.tally, shared.limits.fan_out_slice
        while self._index < len(self._plan):
            group, segment = self._plan[self._index]
            first = group.written
            end = min(len(group.links), first + room)
            self._write(group, segment, first, end)
            count = end - first
            tally.deliveries += count * self.publications
            tally.bytes += count * (len(segment) if isinstance(segment, bytes) else sum(map(len, segment)))
            room -= count
            if end == len(group.links):
                self._index += 1
            if room <= 0 and self._index < len(self._plan):
                shared.loop.call_soon(self.step)
                return
        if self._since_s is not None:
            self._measure(self._since_s)
        self._channel.fan_out_ended()

    def cancel(self) -> None:
        """Write no more. The channel does not hear of it."""
        self._is_cancelled = True

    def _measure(self, since_s: float) -> None:
        shared = self._channel.shared
        shared.tally.flush_publications.add(self.publications)
        shared.tally.flush_links.add(sum(group.written for group, _ in self._plan))
        shared.tally.write_us.add_s(shared.clock.monotonic_s() - since_s)

    @staticmethod
    def _write(group: Group, segment: Segment, first: int, end: int) -> None:
        # By place, not over a copy: a link that another one's `write` made leave must not be written to any more.
        links = group.links
        for place in range(first, end):
            # Counted before it is written: a link that passes its high-water mark leaves from inside `write`, and
            # what it was just given is in its buffer and will arrive.
            group.written = place + 1
            try:
                links[place].write(segment)
            except Exception:
                FanOut._failed(group.members[place])

    @staticmethod
    def _failed(member: Subscription | None) -> None:
        if member is not None:
            _log.exception("a link failed in a fan-out; it is aborted")
            member.feed.fail()
