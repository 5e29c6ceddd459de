"""What all channels and feeds of one hub have in common: bounds, time, the timer wheel, rings, counts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from hybrid.clock import Clock
from hybrid.engine.counts import Tally
from hybrid.engine.ring import Rings
from hybrid.engine.wheel import Wheel
from hybrid.limits import Limits

if TYPE_CHECKING:
    from hybrid.engine.bundle import Bundles
    from hybrid.engine.channel import Channel
    from hybrid.engine.reads import Reads


class Upkeep(Protocol):
    """Who talks with the broker for a channel."""

    def drive(self, channel: Channel) -> None:
        """Bring the channel to HOT, or to COLD and away; nothing if that is under way already."""

    def look(self, channels: Sequence[Channel]) -> None:
        """Find out which of these have missed something in silence, and heal them."""

    def doubt(self, channel: Channel) -> None:
        """Compare the channel's head with the broker's, and heal it if they differ."""


class Shared:
    """See the module's text."""

    __slots__ = ("bundles", "clock", "limits", "loop", "reads", "rings", "tally", "upkeep", "wheel")

    def __init__(
        self,
        limits: Limits,
        clock: Clock,
        wheel: Wheel,
        loop: asyncio.AbstractEventLoop,
        upkeep: Upkeep,
        reads: Reads,
        bundles: Bundles,
    ) -> None:
        self.limits = limits
        self.clock = clock
        self.wheel = wheel
        self.loop = loop
        self.upkeep = upkeep
        self.reads = reads
        self.bundles = bundles
        self.rings = Rings(limits, clock, wheel)
        self.tally = Tally()
