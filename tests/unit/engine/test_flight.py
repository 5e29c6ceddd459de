"""Bytes held for others: whom a process gives up when there are too many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from hybrid.engine.flight import Bodies, SlowLinks
from hybrid.errors import LimitError
from hybrid.limits import Limits

LIMITS = Limits(
    buffered_max_bytes=1_000, bodies_max_bytes=1_000, bodies_per_address_max_bytes=600, high_water_bytes=300
)


class Link:
    """A link that is not read. `gone` is told when it is aborted."""

    def __init__(self, size: int, gone: Callable[[Link], None]) -> None:
        self.size = size
        self.is_aborted = False
        self._gone = gone

    def buffered(self) -> int:
        return self.size

    def abort(self) -> None:
        self.is_aborted = True
        self._gone(self)


class Stage:
    def __init__(self) -> None:
        self.soon: list[Callable[[], object]] = []
        self.hits: Counter[str] = Counter()
        self.slow = SlowLinks(LIMITS, self.soon.append, self.hits)

    def paused(self, size: int = 300) -> Link:
        link = Link(size, self.slow.gone)
        self.slow.paused(link)
        return link

    def turn(self) -> None:
        soon, self.soon[:] = self.soon[:], []
        for callback in soon:
            callback()


def test_the_one_that_has_not_read_for_longest_is_cut_and_not_before_the_turn_is_over() -> None:
    stage = Stage()
    links = [stage.paused() for _ in range(3)]
    assert stage.soon == []
    links += [stage.paused(), stage.paused()]
    assert len(stage.soon) == 1
    assert [link.is_aborted for link in links] == [False] * 5
    stage.turn()
    assert [link.is_aborted for link in links] == [True, True, False, False, False]
    assert (stage.slow.held_bytes, len(stage.slow), stage.slow.cut) == (900, 3, 2)
    assert stage.hits == {"buffered_max_bytes": 2}


def test_who_reads_again_or_ends_counts_no_more_and_is_last_the_next_time() -> None:
    stage = Stage()
    first, second, third = (stage.paused() for _ in range(3))
    stage.slow.gone(first)
    stage.slow.gone(first)
    assert stage.slow.held_bytes == 600
    stage.slow.paused(first)
    stage.slow.paused(first)
    assert stage.slow.held_bytes == 900
    stage.paused()
    stage.turn()
    assert [link.is_aborted for link in (first, second, third)] == [False, True, False]


def test_what_was_read_meanwhile_saves_the_others() -> None:
    stage = Stage()
    links = [stage.paused() for _ in range(4)]
    stage.slow.gone(links[3])
    stage.turn()
    assert not any(link.is_aborted for link in links)


def test_bodies_are_bounded_for_each_address_and_in_all() -> None:
    bodies = Bodies(LIMITS)
    bodies.hold("192.0.2.1", 600)
    with pytest.raises(LimitError) as caught:
        bodies.hold("192.0.2.1", 1)
    assert (caught.value.limit, caught.value.row.http_status) == ("bodies_per_address_max_bytes", 429)
    assert caught.value.retry_after_s == 2.0
    bodies.hold("2001:db8::1", 400)
    with pytest.raises(LimitError) as caught:
        bodies.hold("192.0.2.3", 1)
    assert (caught.value.limit, caught.value.row.http_status) == ("bodies_max_bytes", 429)
    assert bodies.held_bytes == 1_000, "what was refused is not counted"
    bodies.release("2001:db8::1", 400)
    bodies.hold("2001:db8::ffff", 400)
    bodies.release("2001:db8::2", 400)  # the same /64
    bodies.release("192.0.2.1", 600)
    assert (bodies.held_bytes, bodies._per_address) == (0, {})
