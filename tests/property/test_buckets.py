"""Whatever comes and whenever: no key gets more than `burst + rate * t` through, and none is refused too long."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from hybrid.engine.buckets import Buckets

RATES = st.sampled_from([0.5, 1.0, 3.0, 7.0, 1_000.0])
BURSTS = st.sampled_from([0.001, 0.5, 1.0, 4.0])
COMINGS = st.lists(
    st.tuples(st.integers(0, 6), st.floats(0, 2, allow_nan=False), st.integers(1, 12)), min_size=1, max_size=80
)
"""Who, how long after the one before, and how often."""


@given(RATES, BURSTS, COMINGS, st.integers(1, 8))
def test_never_more_than_the_burst_and_the_rate(
    per_s: float, burst_s: float, comings: list[tuple[int, float, int]], keys_max: int
) -> None:
    """Also for those who share a bucket, and for who leaves it: `keys_max` may be less than there are keys."""
    buckets = Buckets(per_s, burst_s, keys_max)
    through: dict[int, list[Fraction]] = defaultdict(list)
    now_s = 1_000.0
    for key, pause_s, times in comings:
        now_s += pause_s
        through[key] += [Fraction(now_s)] * sum(buckets.take(key, now_s) == 0.0 for _ in range(times))
        assert len(buckets) <= keys_max
    rate, tolerance = Fraction(per_s), Fraction(1, 1_000_000)
    for times_s in through.values():
        for first, begin_s in enumerate(times_s):
            for last in range(first, len(times_s)):
                most = buckets.burst + rate * (times_s[last] - begin_s + tolerance)
                assert last - first + 1 <= most + tolerance


@given(RATES, BURSTS, COMINGS)
def test_who_keeps_to_the_rate_is_never_refused(
    per_s: float, burst_s: float, comings: list[tuple[int, float, int]]
) -> None:
    buckets = Buckets(per_s, burst_s, 100)
    now_s = 1_000.0
    for key, pause_s, _ in comings:
        now_s += 1 / per_s + pause_s
        assert buckets.take(key, now_s) == 0.0


@given(RATES, BURSTS, COMINGS, st.integers(1, 8))
def test_who_is_refused_and_waits_gets_through(
    per_s: float, burst_s: float, comings: list[tuple[int, float, int]], keys_max: int
) -> None:
    """Alone: of those who share a bucket another one may have been there before."""
    buckets = Buckets(per_s, burst_s, keys_max)
    now_s = 1_000.0
    for key, pause_s, times in comings:
        now_s += pause_s
        for _ in range(times):
            wait_s = buckets.take(key, now_s)
            assert wait_s <= 1 / per_s + 1e-6
            if wait_s:
                now_s += wait_s
                assert buckets.take(key, now_s) == 0.0
