"""Counting that costs next to nothing: plain numbers, changed on the event loop's thread and read by whoever asks.

Nothing here knows who reads them; `web/metrics` turns them into what Prometheus takes.
"""

from __future__ import annotations

from typing import Final

_PLACES: Final = 65
"""Values of up to 64 bits; larger ones do not happen, and would raise."""


class Sizes:
    """How often values of each size came: sizes are powers of two, so that placing a value is one `int.bit_length`.

    `counts[n]` is how many values of at least 2**(n-1) and less than 2**n came; `counts[0]` counts zeros. `total` is
    their sum. Values are whole and not negative: microseconds, bytes, links.
    """

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * _PLACES
        self.total = 0

    def add(self, value: int) -> None:
        """One more value."""
        self.counts[value.bit_length()] += 1
        self.total += value

    def add_s(self, span_s: float) -> None:
        """One more span of time, in seconds; kept in whole microseconds, and a negative one (a clock's) as zero."""
        self.add(max(0, int(span_s * 1e6)))
