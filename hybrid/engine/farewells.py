"""Polled legs that were sent away, for as long as their clients may come back to be told.

Between two polls nothing is open on which a goodbye could be written, and the answer that brings it may be lost.
Without this, the next poll would simply begin anew. Bounded: the oldest goes, whose client then does begin anew.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from hybrid.clock import Clock
from hybrid.engine.polled import PolledLeg
from hybrid.model import Principal

KEPT_S: Final = 60.0
"""Longer than two polls of one session lie apart."""
KEPT_MAX: Final = 10_000


class Farewells:
    """See the module's text. One per process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: OrderedDict[str, tuple[PolledLeg, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, session: str, leg: PolledLeg) -> None:
        """The leg was ended, and its client shall be told so when it polls."""
        now_s = self._clock.monotonic_s()
        self._kept[session] = (leg, now_s + KEPT_S)
        self._kept.move_to_end(session)
        while len(self._kept) > KEPT_MAX or next(iter(self._kept.values()))[1] <= now_s:
            self._kept.popitem(last=False)

    def of(self, session: str, principal: Principal) -> PolledLeg | None:
        """What is to be told to a poll of this session; None for what was not sent away, or long ago."""
        leg, until_s = self._kept.get(session, (None, 0.0))
        if leg is None or until_s <= self._clock.monotonic_s() or not leg.principal.is_same_party(principal):
            return None
        return leg
