"""The circuit breaker, in time made by hand."""

from __future__ import annotations

from hybrid.hooks.breaker import FAILURES_MAX, REST_MAX_S, REST_MIN_S, Breaker, State
from tests.support.clock import FakeClock


def opened(clock: FakeClock) -> Breaker:
    breaker = Breaker(clock)
    for _ in range(FAILURES_MAX):
        assert breaker.admits()
        breaker.failed()
    assert breaker.state is State.OPEN
    return breaker


def test_it_opens_at_the_last_of_some_failures_in_a_row() -> None:
    breaker = Breaker(FakeClock())
    for _ in range(FAILURES_MAX - 1):
        breaker.failed()
    breaker.succeeded()
    for _ in range(FAILURES_MAX - 1):
        breaker.failed()
    assert breaker.admits()
    assert breaker.opens_in_s() == 0
    breaker.failed()
    assert not breaker.admits()
    assert breaker.opens_in_s() == REST_MIN_S


def test_behind_its_rest_one_question_tries() -> None:
    clock = FakeClock()
    breaker = opened(clock)
    clock.advance(REST_MIN_S)
    assert breaker.admits()
    assert not breaker.admits(), "one is under way"
    breaker.succeeded()
    assert breaker.admits()
    assert breaker.admits()


def test_its_rests_grow_to_a_bound_and_begin_anew() -> None:
    clock = FakeClock()
    breaker = opened(clock)
    rests = []
    for _ in range(6):
        rests.append(breaker.opens_in_s())
        clock.advance(rests[-1])
        assert breaker.admits()
        breaker.failed()
    assert rests == [1, 2, 4, 8, REST_MAX_S, REST_MAX_S]
    clock.advance(REST_MAX_S)
    assert breaker.admits()
    breaker.succeeded()
    for _ in range(FAILURES_MAX):
        breaker.failed()
    assert breaker.opens_in_s() == REST_MIN_S


def test_what_was_under_way_when_it_opened_does_not_prolong_its_rest() -> None:
    clock = FakeClock()
    breaker = opened(clock)
    clock.advance(REST_MIN_S / 2)
    breaker.failed()
    assert breaker.opens_in_s() == REST_MIN_S / 2


def test_a_try_that_was_never_reported_is_not_the_last_one() -> None:
    clock = FakeClock()
    breaker = opened(clock)
    clock.advance(REST_MIN_S)
    assert breaker.admits()
    clock.advance(REST_MAX_S)
    assert breaker.admits()
