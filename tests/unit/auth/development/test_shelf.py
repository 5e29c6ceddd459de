from __future__ import annotations

from hybrid.auth.development.shelf import Shelf
from tests.support.tokens import HandClock


def test_it_never_holds_more_than_its_size_and_the_oldest_goes() -> None:
    shelf = Shelf[int](HandClock(), size_max=3, lifetime_s=10)
    for number in range(1_000):
        shelf.put(str(number), number)
        assert len(shelf) <= 3
    assert [shelf.get(str(number)) for number in range(996, 1_000)] == [None, 997, 998, 999]


def test_what_is_over_is_gone_and_makes_room() -> None:
    clock = HandClock()
    shelf = Shelf[int](clock, size_max=100, lifetime_s=10)
    for number in range(100):
        shelf.put(str(number), number)
    clock.move(10)
    assert shelf.get("99") is None
    assert shelf.pop("98") is None
    shelf.put("new", 1)
    assert len(shelf) == 1


def test_a_shorter_life_is_kept_to_wherever_it_stands() -> None:
    clock = HandClock()
    shelf = Shelf[int](clock, size_max=100, lifetime_s=10)
    shelf.put("long", 1)
    shelf.put("short", 2, lifetime_s=1)
    clock.move(1)
    assert (shelf.get("long"), shelf.get("short")) == (1, None)


def test_it_gives_for_the_last_time() -> None:
    shelf = Shelf[int](HandClock(), size_max=100, lifetime_s=10)
    shelf.put("a", 1)
    assert (shelf.pop("a"), shelf.pop("a"), shelf.get("a")) == (1, None, None)


def test_it_does_not_hold_the_credential() -> None:
    shelf = Shelf[int](HandClock(), size_max=100, lifetime_s=10)
    shelf.put("credential", 1)
    assert "credential" not in repr(vars(shelf))
