"""Continuing after a position, against a model that remembers everything that ever was."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hybrid.errors import UnrecoverablePosition
from hybrid.model import START, UNVERIFIED_TAG, Position, Publication
from hybrid.protocol.recovery import first_after, take_page


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Publication], int]:
    """All publications of one epoch, and how many of the last are still kept."""
    count = draw(st.integers(0, 8))
    everything = [
        Publication("a", offset, "k", draw(st.sampled_from(["00000001", "00000002"])), b"x" * draw(st.integers(1, 9)))
        for offset in range(1, count + 1)
    ]
    return everything, draw(st.integers(0, count))


afters = st.just(START) | st.builds(
    Position,
    st.integers(1, 9),
    st.sampled_from(["k", "other"]),
    st.sampled_from([UNVERIFIED_TAG, "00000001", "00000002"]),
)


@given(histories(), afters)
def test_continues_exactly_or_says_that_it_cannot(history: tuple[list[Publication], int], after: Position) -> None:
    everything, kept_count = history
    kept = everything[len(everything) - kept_count :]
    head = everything[-1].position if everything else START
    missing = [publication for publication in everything if publication.offset > after.offset]
    if after.offset == 0:
        # The start is known without its entry, so only what comes behind it must be there.
        can_continue = all(publication in kept for publication in missing)
    else:
        known = [publication.position for publication in kept] + [head]
        can_continue = after in known and all(publication in kept for publication in missing)
        # The place of a purge, which no entry has: all behind it is there.
        can_continue |= after == Position(1, "k", UNVERIFIED_TAG) and kept[:1] == everything[1:2] != []
    try:
        first = first_after(kept, head, after)
        outcome: object = kept[first:]
    except UnrecoverablePosition as error:
        outcome = error.head
    assert outcome == (missing if can_continue else head)


@given(histories(), st.integers(1, 9), st.integers(1, 40), st.integers(0, 9))
def test_pages_together_are_the_rest(
    history: tuple[list[Publication], int], limit: int, max_bytes: int, first: int
) -> None:
    everything, _ = history
    seen: list[Publication] = []
    at = first
    while page := take_page(everything, at, limit=limit, max_bytes=max_bytes):
        assert len(page) <= limit
        assert len(page) == 1 or sum(len(publication.data) for publication in page) <= max_bytes
        following = everything[at + len(page) : at + len(page) + 1]
        # No page is smaller than it must be.
        assert len(page) == limit or not following or sum(len(p.data) for p in page + following) > max_bytes
        seen += page
        at += len(page)
    assert seen == everything[first:]
