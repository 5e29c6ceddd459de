"""What a log in memory keeps, against a plain list."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.broker.kept import Kept

bounds = st.none() | st.integers(-120, 120)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 60)),
        st.tuples(st.just("drop"), st.integers(1, 60)),
        st.tuples(st.just("clear"), st.just(0)),
    ),
    max_size=12,
)


@given(steps, bounds, bounds)
def test_it_is_a_list_whose_beginning_goes(steps: list[tuple[str, int]], start: int | None, stop: int | None) -> None:
    kept: Kept[int] = Kept()
    model: list[int] = []
    for what, count in steps:
        if what == "clear":
            kept.clear()
            model.clear()
        for number in range(count):
            if what == "append":
                kept.append(number)
                model.append(number)
            elif model:
                kept.drop_oldest()
                del model[0]
        assert (len(kept), list(kept), list(reversed(kept))) == (len(model), model, model[::-1])
        assert kept[start:stop] == model[start:stop]
        for index in {0, -1, len(model) // 2, start or 0}:
            if -len(model) <= index < len(model):
                assert kept[index] == model[index]
            else:
                with pytest.raises(IndexError):
                    kept[index]


def test_what_was_let_go_is_not_held() -> None:
    kept: Kept[int] = Kept()
    for number in range(100_000):
        kept.append(number)
        if number >= 10:
            kept.drop_oldest()
    assert len(kept) == 10
    assert len(kept._items) < 100
