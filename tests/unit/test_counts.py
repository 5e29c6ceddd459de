"""Counting in powers of two, and what becomes of it for Prometheus."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.counts import Sizes
from hybrid.engine.counts import Counts
from hybrid.errors import AuthError, LimitError
from hybrid.web.metrics.families import (
    MICROSECONDS,
    NUMBERS,
    Distribution,
    Family,
    bounded,
    by_label,
    distribution,
    gauge,
    merged,
)


@given(st.lists(st.integers(0, 2**30)))
def test_every_bucket_holds_what_is_not_above_its_bound(values: list[int]) -> None:
    sizes = Sizes()
    for value in values:
        sizes.add(value)
    shown = distribution(sizes, NUMBERS)
    for bound, count in shown.buckets:
        assert count == sum(value <= float(bound) for value in values)
    assert shown.sum == sum(values)
    assert shown.buckets[-1] == ("+Inf", len(values))


@pytest.mark.parametrize("span_s", [0.0, -1.0, 0.000063, 0.0015, 0.9, 3.0, 100.0, 1e6])
def test_spans_are_in_seconds_and_a_clock_that_goes_back_counts_as_none(span_s: float) -> None:
    sizes = Sizes()
    sizes.add_s(span_s)
    shown = distribution(sizes, MICROSECONDS)
    assert shown.sum == pytest.approx(max(0.0, span_s))
    for bound, count in shown.buckets:
        assert count == (span_s < float(bound))


def test_the_largest_values_have_a_place_and_larger_ones_raise() -> None:
    sizes = Sizes()
    sizes.add(2**64 - 1)
    with pytest.raises(IndexError):
        sizes.add(2**64)


def test_a_limit_is_counted_by_its_name_as_well() -> None:
    counts = Counts()
    counts.refused(LimitError("links_max", name="draining"))
    counts.refused(AuthError("token_expired"))
    assert counts.refusals == {"draining": 1, "token_expired": 1}
    assert counts.limits == {"links_max": 1}


@pytest.mark.parametrize(
    ("code", "reason"),
    [(4410, "slow_client"), (1000, "client"), (1001, "client"), (1005, "client"), (1006, "lost"), (3999, "other")],
)
def test_why_a_stream_ended_is_a_known_word(code: int, reason: str) -> None:
    counts = Counts()
    counts.left("sse", code)
    assert counts.closed == {("sse", reason): 1}


def test_words_that_are_not_known_are_one() -> None:
    assert bounded(Counter({"a": 1, "made up": 2, "again": 3}), ["a"]) == {("a",): 1, ("other",): 5}


def test_what_has_not_happened_yet_is_shown_as_zero() -> None:
    family = by_label("counter", "x", "", ["l"], {("b",): 2}, [("a",), ("b",)])
    assert family.values == [(("a",), 0), (("b",), 2)]


def test_workers_are_told_apart_and_what_contradicts_is_left_out() -> None:
    ones = [gauge("up", "", 1), Family("h", "histogram", "", values=[((), Distribution([("+Inf", 3)], 1.5))])]
    twos = [gauge("up", "", 2), Family("h", "counter", "", values=[((), 9)])]
    up, histogram = merged([("1", ones), ("2", twos)])
    assert (up.labels, up.values) == (("worker",), [(("1",), 1), (("2",), 2)])
    assert histogram.values == [(("1",), Distribution([("+Inf", 3)], 1.5))]
