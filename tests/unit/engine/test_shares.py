"""Counts of keys that are not remembered, against a plain counter. Whole numbers are their own hashes: some collide."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from hybrid.engine.shares import FOLLOWED_MAX, PLACES, Shares

keys = st.sampled_from([1, 2, 1 + PLACES, 2 + PLACES, 1 + 2 * PLACES])
steps = st.lists(st.tuples(st.sampled_from(["more", "less", "ask"]), keys, st.integers(1, 4)), max_size=60)


@given(steps)
def test_a_key_reaches_a_limit_when_it_has_so_many_itself(steps: list[tuple[str, int, int]]) -> None:
    shares, model = Shares(), Counter[int]()
    for what, key, limit in steps:
        if what == "ask":
            assert shares.reaches(key, limit, model.elements) == (model[key] >= limit)
        elif what == "more" or model[key]:
            by = 1 if what == "more" else -1
            shares.change(key, by)
            model[key] += by
        assert shares.at_most(key) >= model[key]


def test_everybody_is_walked_over_once_for_a_key_at_its_limit() -> None:
    shares, walks = Shares(), 0

    def everybody() -> list[str]:
        nonlocal walks
        walks += 1
        return ["a"] * 3

    for _ in range(3):
        shares.change("a", 1)
    assert not shares.reaches("a", 4, everybody)
    assert walks == 0
    assert [shares.reaches("a", 3, everybody) for _ in range(5)] == [True] * 5
    shares.change("a", -1)
    assert not shares.reaches("a", 3, everybody)
    shares.change("a", 1)
    assert shares.reaches("a", 3, everybody)
    assert walks == 2


def test_few_keys_are_followed() -> None:
    shares = Shares()
    for key in range(FOLLOWED_MAX + 10):
        shares.change(key, 1)
        assert shares.reaches(key, 1, lambda key=key: [key])  # type: ignore[misc]
    assert len(shares._followed) <= FOLLOWED_MAX
