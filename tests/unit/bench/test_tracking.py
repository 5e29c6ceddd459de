"""Loss, repetition and disorder are told apart; what was told as a reset is no fault."""

from __future__ import annotations

import pytest

from hybrid.bench.messages import Tally
from hybrid.bench.reading import Run
from hybrid.bench.tracking import Track
from hybrid.protocol.commands import WirePosition


def run(first: int, last: int | None = None, epoch: str = "e1") -> Run:
    made = Run("c", epoch, first, "00000000")
    made.last = last or first
    return made


def take(*runs: Run, start: int = 0, epoch: str = "") -> tuple[Track, Tally]:
    """As a subscriber does it: only what is not the next goes the slow way."""
    track, tally = Track("c"), Tally()
    track.start(WirePosition(start, epoch))
    for item in runs:
        if track.next == item.first and track.epoch == item.epoch:
            track.next, track.position = item.last + 1, item
        else:
            track.receive_unexpected(item, tally)
    return track, tally


def counts(tally: Tally) -> tuple[int, int, int]:
    return tally.lost, tally.repeated, tally.reordered


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([run(1, 3), run(4)], (0, 0, 0)),
        ([run(1), run(3)], (1, 0, 0)),
        ([run(1), run(5, 9)], (3, 0, 0)),
        ([run(1), run(1)], (0, 1, 0)),
        ([run(1, 4), run(3, 5)], (0, 2, 0)),
        ([run(1), run(3), run(2), run(4)], (0, 0, 1)),
        ([run(1), run(4), run(2, 3), run(5)], (0, 0, 2)),
        ([run(1), run(3), run(2), run(2)], (0, 1, 1)),
        ([run(2)], (1, 0, 0)),
    ],
)
def test_each_fault_has_its_name(runs: list[Run], expected: tuple[int, int, int]) -> None:
    track, tally = take(*runs)
    assert counts(tally) == expected
    assert track.next == max(item.last for item in runs) + 1
    assert tally.is_right is (expected == (0, 0, 0))
    assert bool(tally.examples) is (expected != (0, 0, 0))


def test_a_large_gap_keeps_a_bounded_memory() -> None:
    track, tally = take(run(1), run(1_000_000))
    assert tally.lost == 999_998
    assert track.missing is not None
    assert len(track.missing) <= 10_000


def test_another_epoch_without_a_reset_is_a_fault() -> None:
    _, tally = take(run(1, 5), run(1, 2, "e2"))
    assert tally.unexpected == 1


def test_a_reset_is_counted_and_no_fault() -> None:
    track, tally = take(run(1, 5))
    track.receive_reset(WirePosition(9, "e1"), tally)
    track.receive_reset(WirePosition(3, "e2"), tally)
    assert (track.next, track.epoch, tally.resets, tally.is_right) == (4, "e2", 2, True)


@pytest.mark.parametrize(
    ("offset", "was_recovered", "lost", "resets", "following"),
    [(5, True, 0, 0, 6), (9, False, 0, 1, 10), (9, True, 4, 0, 10), (3, True, 0, 0, 6)],
)
def test_where_a_server_goes_on_is_where_the_client_was(
    offset: int, was_recovered: bool, lost: int, resets: int, following: int
) -> None:
    """Behind our position it may go on, which only repeats, and then the repetition is the fault."""
    track, tally = take(run(1, 5))
    track.receive_position(WirePosition(offset, "e1"), was_recovered=was_recovered, tally=tally)
    assert (tally.lost, tally.resets, track.next) == (lost, resets, following)


def test_what_comes_before_the_position_is_unexpected() -> None:
    track, tally = Track("c"), Tally()
    track.receive_unexpected(run(7), tally)
    assert (tally.unexpected, track.next, track.epoch) == (1, 8, "e1")


def test_examples_are_few() -> None:
    _, tally = take(*(run(n) for n in range(2, 100, 2)))
    assert len(tally.examples) == 5
