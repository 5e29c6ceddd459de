from __future__ import annotations

import logging
import tracemalloc
from random import Random

import pytest

from hybrid.engine.encodings import PLAIN_JSON, SESSION_JSON, Encoding
from hybrid.engine.ring import ENTRY_OVERHEAD_BYTES, UNENCODABLE, UNVERIFIED_TAG, Entry, Reach, Ring, Rings
from hybrid.engine.wheel import Wheel
from hybrid.limits import Limits
from hybrid.model import START, Position, Publication
from tests.support.clock import FakeClock

SIZE = ENTRY_OVERHEAD_BYTES + 100


def publication(offset: int, channel: str = "a", epoch: str = "e1", tag: str | None = None) -> Publication:
    return Publication(channel, offset, epoch, tag or f"{offset:08x}", b"1" * 100)


class Shelf:
    """Rings with a clock made by hand."""

    def __init__(self, **bounds: float) -> None:
        self.clock = FakeClock()
        self.wheel = Wheel(self.clock)
        self.rings = Rings(Limits(**bounds), self.clock, self.wheel)  # type: ignore[arg-type]

    def ring(self) -> Ring:
        return Ring(self.rings)

    def fill(self, ring: Ring, count: int) -> None:
        for _ in range(count):
            ring.append(publication(ring.head.offset + 1), self.clock.monotonic_s())


def kept(ring: Ring) -> list[int]:
    entries = ring.after(ring.base.offset, ring.head.offset, 10**9) if len(ring) else []
    return [entry.publication.offset for entry in entries]


def test_a_ring_holds_what_follows_each_of_its_positions() -> None:
    shelf = Shelf()
    ring = shelf.ring()
    shelf.fill(ring, 5)
    assert ring.base == START
    assert ring.head == publication(5).position
    assert kept(ring) == [1, 2, 3, 4, 5]
    assert [entry.publication.offset for entry in ring.after(2, 4, 10**9)] == [3, 4]
    assert [entry.publication.offset for entry in ring.after(2, 5, 1)] == [3]  # at least one
    assert [entry.publication.offset for entry in ring.after(2, 5, 2 * (100 + 128))] == [3, 4]
    assert ring.after(5, 5, 1) == []


def test_reach_tells_held_from_older_from_foreign() -> None:
    shelf = Shelf(ring_max_bytes=3 * SIZE)
    ring = shelf.ring()
    assert ring.reach(START) is Reach.HELD
    assert ring.reach(Position(1, "e1", "00000001")) is Reach.FOREIGN  # nothing was ever appended
    shelf.fill(ring, 5)
    assert ring.base == publication(2).position
    assert ring.reach(START) is Reach.OLDER
    assert ring.reach(publication(1).position) is Reach.OLDER
    assert [ring.reach(publication(offset).position) for offset in (2, 3, 4, 5)] == [Reach.HELD] * 4
    assert ring.reach(publication(6).position) is Reach.FOREIGN
    assert ring.reach(publication(4, epoch="e2").position) is Reach.FOREIGN
    assert ring.reach(publication(4, tag="ffffffff").position) is Reach.FOREIGN
    assert ring.reach(publication(2, tag="ffffffff").position) is Reach.FOREIGN  # also at its base
    assert ring.reach(publication(4, tag=UNVERIFIED_TAG).position) is Reach.HELD
    assert ring.reach(publication(1, tag=UNVERIFIED_TAG).position) is Reach.OLDER


def test_each_ring_keeps_its_bytes_but_always_one_entry() -> None:
    shelf = Shelf(ring_max_bytes=10 * SIZE)
    ring = shelf.ring()
    shelf.fill(ring, 1_000)
    assert kept(ring) == list(range(991, 1_001))
    assert ring.bytes == shelf.rings.bytes == 10 * SIZE
    small = Shelf(ring_max_bytes=1).ring()
    small.append(publication(1), 0)
    small.append(publication(2), 0)
    assert kept(small) == [2]


def test_payloads_count_too_and_are_made_once() -> None:
    shelf = Shelf(ring_max_bytes=10 * SIZE)
    ring = shelf.ring()
    shelf.fill(ring, 10)
    entries = ring.after(0, 10, 10**9)
    first = entries[0].payload(SESSION_JSON)
    assert entries[0].payload(SESSION_JSON) is first
    assert ring.bytes == shelf.rings.bytes == 10 * SIZE + len(first)
    shelf.fill(ring, 1)
    assert kept(ring)[0] == 2
    assert ring.bytes == 10 * SIZE
    entries[0].payload(PLAIN_JSON)  # it has left the ring, and weighs there no more
    assert ring.bytes == shelf.rings.bytes == 10 * SIZE


def test_all_rings_together_keep_their_bytes_oldest_entries_first() -> None:
    shelf = Shelf(rings_max_bytes=10 * SIZE)
    first, second = shelf.ring(), shelf.ring()
    shelf.fill(first, 4)
    shelf.fill(second, 6)
    assert (kept(first), kept(second)) == ([1, 2, 3, 4], [1, 2, 3, 4, 5, 6])
    shelf.fill(second, 3)
    assert (kept(first), kept(second)) == ([4], list(range(1, 10)))
    shelf.fill(second, 3)
    assert (kept(first), kept(second)) == ([], list(range(3, 13)))
    assert first.base == first.head == publication(4).position  # the end of its log is still known
    assert shelf.rings.bytes == 10 * SIZE


def test_entries_age_also_where_nothing_is_published_any_more() -> None:
    shelf = Shelf(ring_max_age_s=60.0)
    ring = shelf.ring()
    shelf.fill(ring, 3)
    shelf.clock.advance(30)
    shelf.fill(ring, 2)
    shelf.clock.advance(31)
    shelf.wheel.advance(shelf.clock.monotonic_s())
    assert kept(ring) == [4, 5]
    shelf.clock.advance(60)
    shelf.wheel.advance(shelf.clock.monotonic_s())
    assert kept(ring) == []
    assert shelf.rings.bytes == ring.bytes == 0
    assert len(shelf.wheel) == 0  # an empty shelf needs no timer
    shelf.fill(ring, 1)
    assert len(shelf.wheel) == 1


def test_restarting_forgets_all() -> None:
    shelf = Shelf()
    ring, other = shelf.ring(), shelf.ring()
    shelf.fill(ring, 5)
    shelf.fill(other, 2)
    ring.restart(Position(9, "e2", "99999999"))
    assert (len(ring), ring.bytes, shelf.rings.bytes) == (0, 0, 2 * SIZE)
    ring.append(publication(10, epoch="e2"), shelf.clock.monotonic_s())
    assert ring.reach(Position(9, "e2", "99999999")) is Reach.HELD
    assert ring.reach(publication(3).position) is Reach.FOREIGN


@pytest.mark.parametrize("seed", range(20))
def test_the_books_are_right_whatever_leaves_first(seed: int) -> None:
    random = Random(seed)
    shelf = Shelf(ring_max_bytes=random.randint(1, 20) * SIZE, rings_max_bytes=40 * SIZE, ring_max_age_s=5.0)
    rings = [shelf.ring() for _ in range(5)]
    for _ in range(3_000):
        ring = random.choice(rings)
        action = random.random()
        if action < 0.01:
            ring.restart(ring.head)
        elif action < 0.05:
            shelf.clock.advance(random.random())
            shelf.wheel.advance(shelf.clock.monotonic_s())
        else:
            shelf.fill(ring, 1)
        assert shelf.rings.bytes == sum(ring.bytes for ring in rings) <= 40 * SIZE
        assert sum(len(ring) + ring.gone for ring in rings) == len(shelf.rings._order)
        # What has left early is not remembered for longer than what is there.
        assert shelf.rings._gone <= max(1_001, len(shelf.rings._order) // 2 + 1)


def test_what_left_early_is_not_remembered_without_end() -> None:
    shelf = Shelf(ring_max_bytes=10 * SIZE, ring_max_age_s=1e9)
    ring = shelf.ring()
    shelf.fill(ring, 20_000)
    assert len(shelf.rings._order) <= 1_100
    assert len(ring._entries) <= 100


def test_a_publication_that_cannot_be_encoded_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    def fail(publication: Publication) -> bytes:
        raise ValueError(publication.offset)

    broken = Encoding("broken", fail)
    entry = Entry(publication(7))
    with caplog.at_level(logging.ERROR):
        assert entry.payload(broken) == UNENCODABLE
        assert entry.payload(broken) == UNENCODABLE
    assert caplog.text.count("publication 7 of channel 'a' cannot be written as <Encoding broken>") == 1


def test_the_weight_of_an_entry_is_honest() -> None:
    """The bound is on memory: what is counted must not be less than what is used."""
    shelf = Shelf(ring_max_bytes=10**9, rings_max_bytes=10**9)
    ring = shelf.ring()
    fixed = Encoding("fixed", lambda publication: bytes(200))
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for offset in range(1, 2_001):
            made = Publication("a", offset, "e1", f"{offset:08x}", bytes(128))
            ring.append(made, 0.0)
            ring.after(offset - 1, offset, 1)[0].payload(fixed)
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.8 * ring.bytes < used <= 1.1 * ring.bytes, used / len(ring)
