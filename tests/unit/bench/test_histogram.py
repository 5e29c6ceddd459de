"""Buckets, percentiles, and what is put together."""

from __future__ import annotations

import math
import random

import pytest

from hybrid.bench.histogram import Histogram, bounds_of, bucket_of


@pytest.mark.parametrize("value", [0, 1, 127, 128, 129, 255, 256, 1_000, 65_535, 1_000_000, 2**40])
def test_a_value_lies_in_its_bucket_which_is_narrow(value: int) -> None:
    low, high = bounds_of(bucket_of(value))
    assert low <= value < high
    assert high - low <= max(1, value / 63)


def test_buckets_follow_each_other_without_gaps() -> None:
    for bucket in range(2_000):
        assert bounds_of(bucket)[1] == bounds_of(bucket + 1)[0]
        assert bucket_of(bounds_of(bucket)[0]) == bucket


def test_what_is_below_zero_counts_as_zero() -> None:
    assert bucket_of(-5) == 0


def test_percentiles_are_within_a_bucket_of_the_exact_ones() -> None:
    numbers = random.Random(1)
    values = sorted(int(numbers.lognormvariate(7, 1.5)) for _ in range(10_000))
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    for share in (0.01, 0.5, 0.9, 0.99, 0.999):
        exact = values[math.ceil(share * len(values)) - 1]
        assert exact <= histogram.percentile_us(share) <= exact * 1.02 + 1
    assert histogram.percentile_us(1.0) == histogram.max_us == values[-1]


def test_nothing_has_no_percentiles() -> None:
    assert math.isnan(Histogram().percentile_us(0.5))


def test_merging_is_counting_together() -> None:
    one, other, both = Histogram(), Histogram(), Histogram()
    for place, value in enumerate(range(0, 100_000, 37)):
        (one if place % 3 else other).add(value)
        both.add(value)
    one.merge(other.pairs(), other.max_us)
    assert (one.pairs(), one.count, one.max_us) == (both.pairs(), both.count, both.max_us)


def test_many_deliveries_of_one_piece_are_counted_as_if_one_by_one() -> None:
    """Sixteen publications that 200 clients got in one piece: every pair is a delivery, none is off by 2 %."""
    numbers = random.Random(2)
    sent = sorted(numbers.randrange(10**15, 10**15 + 10**6) for _ in range(16))
    arrived = sorted(10**15 + 3 * 10**6 + numbers.randrange(10**7) for _ in range(200))
    together, single = Histogram(), Histogram()
    together.add_spread(sent, arrived)
    for s in sent:
        for a in arrived:
            single.add((a - s) // 1_000)
    assert together.count == single.count == 16 * 200
    assert together.max_us == single.max_us
    for share in (0.001, 0.1, 0.5, 0.9, 0.99):
        assert together.percentile_us(share) == pytest.approx(single.percentile_us(share), rel=0.025)


def test_arrivals_before_the_clock_read_are_counted_too() -> None:
    """Times of one clock on two cores can differ by some nanoseconds: nothing is lost or negative by that."""
    histogram = Histogram()
    histogram.add_spread([1_000_000_000] * 10, [999_999_000] * 10)
    assert (histogram.count, histogram.percentile_us(1.0)) == (100, 0.0)
