"""Latencies in buckets of a constant relative width, so that percentiles of many processes can be added up.

The buckets are those of an HDR histogram with 64 steps an octave: whole microseconds up to 128, then never wider than
1/64 (1.6 %) of the value. The largest value is kept as it is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Final

_STEP_BITS: Final = 6


def bucket_of(value_us: int) -> int:
    """The number of the bucket that holds this many microseconds; what is below 0 counts as 0."""
    if value_us < 128:
        return value_us if value_us > 0 else 0
    shift = value_us.bit_length() - (_STEP_BITS + 1)
    return (shift << _STEP_BITS) + (value_us >> shift)


def bounds_of(bucket: int) -> tuple[int, int]:
    """The lowest value of a bucket and that of the next one, in microseconds."""
    if bucket < 128:
        return bucket, bucket + 1
    shift = (bucket >> _STEP_BITS) - 1
    low = ((bucket & 63) + 64) << shift
    return low, low + (1 << shift)


class Histogram:
    """How often each bucket was met. `max_us` is exact."""

    __slots__ = ("count", "counts", "max_us")

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()
        self.count = 0
        self.max_us = 0

    def add(self, value_us: int, times: int = 1) -> None:
        """Count a value so many times."""
        self.counts[bucket_of(value_us)] += times
        self.count += times
        if value_us > self.max_us:
            self.max_us = value_us

    def add_spread(self, sent_ns: list[int], arrived_ns: list[int]) -> None:
        """Count every arrival of every one that was sent: each pair is one delivery. Both lists are sorted.

        Where many clients got many publications in one piece, times are put together as far as it makes no difference
        to a bucket, or this would cost more than receiving.
        """
        shift = 0
        if len(sent_ns) * len(arrived_ns) > 64:
            least_ns = arrived_ns[0] - sent_ns[-1]
            if least_ns > 0:
                shift = max(0, least_ns.bit_length() - 9)
        self.max_us = max(self.max_us, (arrived_ns[-1] - sent_ns[0]) // 1_000)
        counts = self.counts
        if not shift:
            for sent in sent_ns:
                for arrived in arrived_ns:
                    counts[bucket_of((arrived - sent) // 1_000)] += 1
        else:
            arrivals = Counter([value >> shift for value in arrived_ns])
            for sent, sent_times in Counter([value >> shift for value in sent_ns]).items():
                for arrived, times in arrivals.items():
                    counts[bucket_of(((arrived - sent) << shift) // 1_000)] += times * sent_times
        self.count += len(sent_ns) * len(arrived_ns)

    def merge(self, pairs: Iterable[tuple[int, int]], max_us: int) -> None:
        """Add what `pairs` of another one has told."""
        for bucket, times in pairs:
            self.counts[bucket] += times
            self.count += times
        self.max_us = max(self.max_us, max_us)

    def pairs(self) -> list[tuple[int, int]]:
        """Buckets and how often they were met, in order."""
        return sorted(self.counts.items())

    def percentile_us(self, share: float) -> float:
        """The value that this share (0 to 1) of all does not pass: the upper end of its bucket, at most the largest.

        NaN where nothing was counted.
        """
        if not self.count:
            return math.nan
        wanted, seen = math.ceil(share * self.count), 0
        for bucket, times in self.pairs():
            seen += times
            if seen >= wanted:
                return float(min(bounds_of(bucket)[1], self.max_us))
        return float(self.max_us)

    def clear(self) -> None:
        """Forget everything."""
        self.counts.clear()
        self.count = self.max_us = 0
