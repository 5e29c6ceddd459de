from __future__ import annotations

from collections.abc import Iterator

import pytest

from hybrid.errors import UnrecoverablePosition
from hybrid.model import START, Position, Publication
from hybrid.protocol.recovery import first_after, take_page


def log(first: int, last: int, epoch: str = "k") -> list[Publication]:
    return [Publication("a", offset, epoch, f"{offset:08x}", b"x" * 10) for offset in range(first, last + 1)]


def at(offset: int, epoch: str = "k", tag: str | None = None) -> Position:
    return Position(offset, epoch, tag if tag is not None else f"{offset:08x}")


def test_continues_behind_any_kept_entry() -> None:
    entries = log(3, 6)
    assert [first_after(entries, at(6), at(offset)) for offset in (3, 4, 5, 6)] == [1, 2, 3, 4]
    assert first_after(tuple(entries), at(6), at(4)) == 2


def test_head_is_continued_without_any_entry() -> None:
    assert first_after((), at(6), at(6)) == 0


def test_start() -> None:
    assert first_after((), START, START) == 0
    assert first_after(log(1, 3), at(3), START) == 0
    for entries in (log(2, 3), []):
        with pytest.raises(UnrecoverablePosition):
            first_after(entries, at(3), START)


@pytest.mark.parametrize(
    "after",
    [
        at(2),  # no longer kept: even the one just before the first kept one, whose tag nobody knows any more
        at(1),
        at(7),  # beyond the head
        at(4, tag="ffffffff"),
        at(6, tag="ffffffff"),
        at(4, epoch="other"),
        at(6, epoch="other"),
    ],
)
def test_everything_else_is_unrecoverable(after: Position) -> None:
    with pytest.raises(UnrecoverablePosition) as caught:
        first_after(log(3, 6), at(6), after)
    assert caught.value.head == at(6)


def test_position_in_a_log_that_was_never_begun() -> None:
    with pytest.raises(UnrecoverablePosition) as caught:
        first_after((), START, at(1))
    assert caught.value.head == START


@pytest.mark.parametrize(
    ("limit", "max_bytes", "count"),
    [(100, 1000, 4), (2, 1000, 2), (100, 20, 2), (100, 29, 2), (100, 30, 3), (100, 1, 1)],
)
def test_page(limit: int, max_bytes: int, count: int) -> None:
    entries = log(1, 5)
    assert take_page(entries, 1, limit=limit, max_bytes=max_bytes) == entries[1 : 1 + count]
    assert take_page(tuple(entries), 1, limit=limit, max_bytes=max_bytes) == entries[1 : 1 + count]


def test_page_behind_the_end() -> None:
    assert take_page(log(1, 2), 2, limit=10, max_bytes=100) == []


def test_nothing_is_walked_to_reach_the_place() -> None:
    """However long the log is: only the page is looked at."""

    class Watched(list[Publication]):
        def __iter__(self) -> Iterator[Publication]:
            raise AssertionError("a walk from the beginning")

    entries = Watched(log(1, 1_000))
    first = first_after(entries, at(1_000), at(990))
    assert [publication.offset for publication in take_page(entries, first, limit=3, max_bytes=100)] == [991, 992, 993]
