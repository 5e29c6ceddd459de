"""Which transports the clients of this process use, and what kept them from the better ones.

Only counts, of words that are known here: nothing that a client writes gets into a log. Written to the log while there
is something new, and once at the end.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Final

from hybrid.engine.wheel import Wheel
from hybrid.protocol.commands import Tried

_log = logging.getLogger(__name__)

TRANSPORTS: Final = ("websocket", "sse", "longpoll")
REASONS: Final = frozenset(
    {"unsupported", "refused", "unreachable", "mute", "dying", "held", "late", "idle_cut", "slow"}
)
"""Why a transport is not used, in the words of `docs/protocol.md`, "Why not a better one"."""
OTHER: Final = "other"
TOLD_EVERY_S: Final = 600.0


class TransportCounts:
    """See the module's text. Also its own timer on the wheel, only while there is something new."""

    def __init__(self, wheel: Wheel) -> None:
        self.legs: Counter[str] = Counter()
        """Confirmed legs since the start, by transport."""
        self.tried: Counter[tuple[str, str, str]] = Counter()
        """The same by (transport, better one that was tried, reason); the last two may be `other`."""
        self._wheel = wheel
        self._has_news = False

    def confirmed(self, transport: str, tried: Sequence[Tried]) -> None:
        """A leg became the current one of its session; `tried` is what its client said of the others."""
        self.legs[transport] += 1
        for item in tried:
            other = item.transport if item.transport in TRANSPORTS else OTHER
            self.tried[transport, other, item.reason if item.reason in REASONS else OTHER] += 1
        if not self._has_news:
            self._has_news = True
            self._wheel.schedule(self, TOLD_EVERY_S)

    def wheel_fired(self) -> None:
        """Tell what is new."""
        self.tell()

    def tell(self) -> None:
        """Write what was counted since the start into the log, unless it was told already."""
        if self._has_news:
            self._has_news = False
            self._wheel.cancel(self)
            _log.info("legs since the start: %s", self)

    def __str__(self) -> str:
        return "; ".join(f"{name} {self.legs[name]}{self._reasons(name)}" for name in TRANSPORTS if self.legs[name])

    def _reasons(self, transport: str) -> str:
        found = sorted(
            (other, reason, count) for (used, other, reason), count in self.tried.items() if used == transport
        )
        return f" ({', '.join(f'{other} {reason} {count}' for other, reason, count in found)})" if found else ""
