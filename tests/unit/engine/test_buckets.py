"""Token buckets: what gets through, what whoever is refused is told, and what a full table does."""

from __future__ import annotations

import pytest

from hybrid.engine.buckets import KEYS_MIN, LOOK_S, Buckets


def taken(buckets: Buckets, key: object, now_s: float, tries: int) -> int:
    return sum(buckets.take(key, now_s) == 0.0 for _ in range(tries))


def test_a_burst_and_then_the_rate() -> None:
    buckets = Buckets(per_s=2.0, burst_s=3.0, keys_max=10)
    assert buckets.burst == 6
    assert taken(buckets, "a", 100.0, 50) == 6
    assert taken(buckets, "a", 100.5, 50) == 1
    assert taken(buckets, "a", 102.5, 50) == 4
    assert taken(buckets, "a", 1_000.0, 50) == 6, "what is saved up is a burst, however long it took"


def test_whoever_waits_as_long_as_told_gets_through_and_no_sooner() -> None:
    buckets = Buckets(per_s=3.0, burst_s=1.0, keys_max=10)
    now_s = 1e6 + 0.1
    assert taken(buckets, "a", now_s, 10) == 3
    for _ in range(1_000):
        wait_s = buckets.take("a", now_s)
        assert 0 < wait_s <= 1 / 3 + 1e-6
        assert buckets.wait_s("a", now_s) == wait_s, "to ask takes nothing"
        assert buckets.take("a", now_s + 0.9 * wait_s) > 0
        now_s += wait_s
        assert buckets.take("a", now_s) == 0.0


def test_a_refusal_costs_nothing() -> None:
    buckets = Buckets(per_s=1.0, burst_s=1.0, keys_max=10)
    buckets.take("a", 0.0)
    assert all(buckets.take("a", 0.5) == pytest.approx(0.5) for _ in range(1_000))
    assert buckets.take("a", 1.0) == 0.0


def test_keys_do_not_know_of_each_other() -> None:
    buckets = Buckets(per_s=1.0, burst_s=2.0, keys_max=10)
    assert taken(buckets, "a", 0.0, 9) == 2
    assert taken(buckets, ("a", "b"), 0.0, 9) == 2


def test_one_at_least_gets_through_whatever_the_burst() -> None:
    buckets = Buckets(per_s=0.01, burst_s=1.0, keys_max=10)
    assert taken(buckets, "a", 0.0, 9) == 1
    assert buckets.take("a", 50.0) == pytest.approx(50.0)
    assert buckets.take("a", 100.0) == 0.0


def test_who_has_paid_is_forgotten_and_who_owes_is_not() -> None:
    buckets = Buckets(per_s=1.0, burst_s=100.0, keys_max=10_000)
    assert taken(buckets, "owes", 0.0, 200) == 100
    for number in range(5_000):
        buckets.take(number, number / 10)
        assert len(buckets) < 64 + KEYS_MIN, "as many as owe at once, twice at most"
        if number == 500:
            assert taken(buckets, "owes", 50.0, 200) == 50
    buckets.forget("owes")
    assert taken(buckets, "owes", 500.0, 200) == 100


def test_a_full_table_gives_up_no_debt_and_the_others_share_one_bucket() -> None:
    buckets = Buckets(per_s=1.0, burst_s=10.0, keys_max=50)
    for key in range(50):
        assert taken(buckets, key, 0.0, 20) == 10
    # Everybody owes, so whoever comes now has no place: all of them together get what one gets.
    assert sum(buckets.take(f"new {number}", 0.0) == 0.0 for number in range(10_000)) == 10
    assert len(buckets) == 50
    assert buckets.wait_s("new", 0.0) == pytest.approx(1.0)
    assert buckets.take("another", 0.0) == pytest.approx(1.0)
    assert [taken(buckets, key, 2.0, 20) for key in range(50)] == [2] * 50, "not one debt was lost"
    assert buckets.take("another", 2.0) == 0.0


def test_whoever_gets_a_place_at_last_brings_the_shared_debt_along() -> None:
    """Otherwise a table that is filled and emptied by turns would give a burst each time."""
    buckets = Buckets(per_s=1.0, burst_s=10.0, keys_max=20)
    for key in range(20):
        buckets.take(key, 0.0)
    assert taken(buckets, "new", 0.0, 20) == 10
    later_s = 1.0 + LOOK_S  # all twenty have paid, and the shared bucket owes nearly nine
    assert taken(buckets, "new", later_s, 20) == 1
    assert taken(buckets, "other", later_s, 20) == 1, "nobody without a place can be told from it"
    assert taken(buckets, "new", 20.0, 20) == taken(buckets, "third", 20.0, 20) == 10


def test_a_full_table_is_not_searched_for_each_who_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    searches = 0
    search = Buckets._forget_paid

    def counted(buckets: Buckets, now_s: float) -> None:
        nonlocal searches
        before = buckets._due_s
        search(buckets, now_s)
        searches += buckets._due_s is not before

    monkeypatch.setattr(Buckets, "_forget_paid", counted)
    buckets = Buckets(per_s=1.0, burst_s=1_000.0, keys_max=500)
    for key in range(500):
        taken(buckets, key, 0.0, 1_000)
    before = searches
    for number in range(10_000):
        buckets.take(f"new {number}", number / 10_000)
    assert 1 <= searches - before <= 1 / LOOK_S + 1
