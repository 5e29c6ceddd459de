"""What keys do."""

from __future__ import annotations

import pytest

from hybrid.top.view import INTERVALS_S, PREFIX_MAX, SORTS, View, press


def typed(view: View, keys: str) -> View:
    for key in keys:
        view = press(view, key)
    return view


def test_keys() -> None:
    assert typed(View(), "q").is_over
    assert typed(View(), "s").sort == SORTS[1]
    assert typed(View(), "s" * len(SORTS)).sort == SORTS[0]
    assert typed(View(), "r").is_reversed
    assert typed(View(), "p").is_paused
    assert typed(View(), "pp") == typed(View(), "xyz\x00") == View()


def test_the_interval_stays_among_those_there_are() -> None:
    assert typed(View(), "+").interval_s == INTERVALS_S[1]
    assert typed(View(), "+" * 99).interval_s == INTERVALS_S[-1]
    assert typed(View(), "-").interval_s == INTERVALS_S[0]
    assert typed(View(interval_s=3_600.0), "+").interval_s == 3_600.0
    assert typed(View(interval_s=7.0), "-").interval_s == 5.0


def test_a_filter_is_typed() -> None:
    view = typed(View(), "/chat:q")
    assert (view.typed, view.prefix, view.is_over) == ("chat:q", "", False)
    assert typed(view, "\x7f\r") == View(prefix="chat:")
    assert typed(view, "\x1b") == View()
    assert typed(View(prefix="chat:"), "/").typed == "chat:"


@pytest.mark.parametrize("key", ["*", "\x00", "\x1f", "\t"])
def test_what_no_channel_is_called_cannot_be_typed(key: str) -> None:
    assert typed(View(), f"/a{key}b").typed == "ab"


def test_a_filter_is_no_longer_than_a_name() -> None:
    assert typed(View(), "/" + "ä" * 300).typed == "ä" * (PREFIX_MAX // 2)


def test_marks_join_what_is_before_them() -> None:
    assert typed(View(), "/e\u0301").typed == "é"
