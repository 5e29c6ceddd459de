from __future__ import annotations

from collections.abc import Hashable

from hypothesis import given
from hypothesis import strategies as st

from hybrid.broker.deadlines import Deadlines


def popped(deadlines: Deadlines[str], now_s: float) -> list[Hashable]:
    keys: list[Hashable] = []
    while (key := deadlines.pop(now_s)) is not None:
        keys.append(key)
    return keys


def test_earliest_first_and_each_once() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for key, due_s in (("c", 3.0), ("a", 1.0), ("b", 2.0), ("d", 4.0)):
        deadlines.set(key, due_s)
    assert popped(deadlines, 0.9) == []
    assert popped(deadlines, 3.0) == ["a", "b", "c"]
    assert popped(deadlines, 3.0) == []
    assert len(deadlines) == 1


def test_moved_and_dropped() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for key in "abc":
        deadlines.set(key, 1.0)
    deadlines.set("a", 5.0)
    deadlines.set("b", 0.5)
    deadlines.drop("c")
    deadlines.drop("never")
    assert popped(deadlines, 1.0) == ["b"]
    assert popped(deadlines, 5.0) == ["a"]


def test_moved_away_and_back_ends_once() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for due_s in (1.0, 2.0, 1.0):
        deadlines.set("a", due_s)
    assert popped(deadlines, 9.0) == ["a"]


def test_keys_without_order() -> None:
    deadlines: Deadlines[object] = Deadlines()
    for _ in range(3):
        deadlines.set(object(), 1.0)
    assert sum(1 for _ in iter(lambda: deadlines.pop(1.0), None)) == 3


def test_renewing_for_ever_takes_no_memory() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for turn in range(10_000):
        deadlines.set("a", float(turn))
        deadlines.set(f"k{turn}", float(turn))
        deadlines.drop(f"k{turn}")
    assert len(deadlines) == 1
    assert len(deadlines._heap) < 100


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("set"), st.sampled_from("abcd"), st.integers(0, 9)),
            st.tuples(st.just("drop"), st.sampled_from("abcd"), st.just(0)),
            st.tuples(st.just("pop"), st.just(""), st.integers(0, 9)),
        ),
        max_size=200,
    )
)
def test_against_a_dictionary(steps: list[tuple[str, str, int]]) -> None:
    deadlines: Deadlines[str] = Deadlines()
    model: dict[str, int] = {}
    for action, key, number in steps:
        if action == "set":
            deadlines.set(key, number)
            model[key] = number
        elif action == "drop":
            deadlines.drop(key)
            model.pop(key, None)
        else:
            due = {item for item, due_s in model.items() if due_s <= number}
            assert set(popped(deadlines, number)) == due
            model = {item: due_s for item, due_s in model.items() if item not in due}
        assert len(deadlines) == len(model)
