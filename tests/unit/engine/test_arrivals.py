"""Who is let in, and when the others are told to come; by a hand-made clock."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import Counter

import pytest

from hybrid.engine.arrivals import FREE_AFTER_S, Arrivals
from hybrid.errors import LimitError
from hybrid.limits import Limits
from hybrid.model import ANONYMOUS, Principal
from tests.support.clock import FakeClock

RATE = 100.0
LIMITS = Limits(admissions_per_s=RATE, admissions_burst_s=2.0, admissions_ahead_s=200.0)
ADDRESS = "192.0.2.1"


def party(number: int) -> Principal:
    return Principal(issuer="i", subject=f"user-{number}")


def refused(arrivals: Arrivals, principal: Principal, session: str = "", address: str = ADDRESS) -> float:
    """The delay told; 0 for who is let in."""
    try:
        arrivals.admit(principal, session, address)
    except LimitError as error:
        return error.retry_after_s or 0.0
    return 0.0


def test_a_refusal_says_which_limit_it_was_and_when_to_come() -> None:
    arrivals = Arrivals(Limits(admissions_per_s=1.0, admissions_burst_s=0.5), FakeClock())
    arrivals.admit(party(1), "", ADDRESS)
    with pytest.raises(LimitError, match="admissions_per_s") as caught:
        arrivals.admit(party(2), "", ADDRESS)
    assert (caught.value.row.name, caught.value.row.http_status) == ("draining", 503)
    assert caught.value.retry_after_s == 0.5


def test_who_comes_by_ticket_is_let_in_and_the_others_come_later() -> None:
    arrivals = Arrivals(Limits(admissions_per_s=1.0, admissions_burst_s=0.0, admissions_ahead_s=10.0), FakeClock())
    assert refused(arrivals, party(1)) == 0.0
    assert refused(arrivals, party(2)) == 1.0
    for _ in range(3):
        arrivals.came()
    assert refused(arrivals, party(3)) == 5.0
    for _ in range(1_000):
        arrivals.came()
    assert refused(arrivals, party(4)) == 10.0, "not for longer than places are given"


class Storm:
    """Clients that come back exactly when they are told, or a little later; each is (principal, session, address)."""

    def __init__(self, arrivals: Arrivals, clock: FakeClock, late_s: float = 0.0) -> None:
        self.arrivals = arrivals
        self.clock = clock
        self.late_s = late_s
        self.admitted_s: list[float] = []
        self.refusals: Counter[int] = Counter()
        self._queue: list[tuple[float, int, int, tuple[Principal, str, str]]] = []
        self._order = itertools.count()
        self._random = random.Random(7)

    def come(self, at_s: float, number: int, who: tuple[Principal, str, str]) -> None:
        heapq.heappush(self._queue, (at_s, next(self._order), number, who))

    def run(self) -> None:
        while self._queue:
            at_s, _, number, who = heapq.heappop(self._queue)
            self.clock.advance(max(0.0, at_s - self.clock.monotonic_s()))
            now_s = self.clock.monotonic_s()
            delay_s = refused(self.arrivals, *who)
            if delay_s:
                self.refusals[number] += 1
                self.come(now_s + delay_s + self._random.uniform(0, self.late_s), number, who)
            else:
                self.admitted_s.append(now_s)

    def most_in(self, window_s: float) -> int:
        """The most who were let in within any window of this length."""
        times, most, first = self.admitted_s, 0, 0
        for last, at_s in enumerate(times):
            while times[first] < at_s - window_s:
                first += 1
            most = max(most, last - first + 1)
        return most


@pytest.mark.parametrize("late_s", [0.0, 0.9])
@pytest.mark.parametrize("kind", ["new", "coming back", "one account coming back"])
def test_ten_thousand_at_once_are_let_in_at_the_rate_and_none_is_refused_twice(kind: str, late_s: float) -> None:
    clock = FakeClock()
    arrivals = Arrivals(LIMITS, clock)
    storm = Storm(arrivals, clock, late_s)
    start_s, count = clock.monotonic_s(), 5_000 if "one account" in kind else 10_000
    for number in range(count):
        principal = party(0 if "one account" in kind else number)
        storm.come(start_s, number, (principal, "" if kind == "new" else f"s{number}", ADDRESS))
    storm.run()
    assert len(storm.admitted_s) == count
    assert max(storm.refusals.values()) == 1, "who comes when it was told gets in"
    burst = RATE * LIMITS.admissions_burst_s
    assert len(storm.refusals) == count - burst - 1, "a burst passes untouched"
    assert storm.admitted_s[-1] - start_s == pytest.approx((count - burst) / RATE, abs=late_s + 0.05)
    assert storm.admitted_s.count(start_s) == burst + 1
    storm.admitted_s = [at_s for at_s in storm.admitted_s if at_s > start_s]
    assert storm.most_in(1.0) <= RATE * (1.05 + late_s)
    assert len(arrivals) == 0


def test_new_clients_of_one_account_are_let_in_at_the_rate_though_nobody_can_tell_them_apart() -> None:
    clock = FakeClock()
    storm = Storm(Arrivals(LIMITS, clock), clock, 0.5)
    start_s = clock.monotonic_s()
    for number in range(5_000):
        storm.come(start_s, number, (party(0), "", ADDRESS))
    storm.run()
    assert storm.admitted_s[-1] - start_s == pytest.approx(48.0, abs=1.0)
    assert sum(storm.refusals.values()) < 1.1 * 5_000


def test_who_comes_new_in_a_storm_stands_behind_those_who_wait() -> None:
    clock = FakeClock()
    storm = Storm(Arrivals(LIMITS, clock), clock)
    start_s = clock.monotonic_s()
    for number in range(2_000):
        storm.come(start_s, number, (party(number), "", ADDRESS))
    for number in range(2_000, 3_000):  # 100 a second: as many as are let in
        storm.come(start_s + (number - 2_000) / 100, number, (party(number), "", ADDRESS))
    storm.run()
    assert max(storm.refusals.values()) == 1
    assert storm.admitted_s[-1] - start_s == pytest.approx(28.0, abs=0.1)


def test_a_quiet_server_refuses_nobody() -> None:
    clock = FakeClock()
    arrivals = Arrivals(LIMITS, clock)
    for number in range(5_000):
        assert not refused(arrivals, party(number))
        clock.advance(1 / RATE)
    assert len(arrivals) == 0


def test_a_client_in_a_loop_has_one_place_and_gets_in_when_it_comes() -> None:
    clock = FakeClock()
    arrivals = Arrivals(LIMITS, clock)
    for number in range(1_000):
        refused(arrivals, party(number))
    alone = party(5_000)
    start_s, first_s = clock.monotonic_s(), refused(arrivals, alone, "mine")
    assert first_s == pytest.approx(8.0, abs=0.02)
    others, before = iter(range(201, 1_000)), len(arrivals)
    clock.advance(1 / RATE)
    while refused(arrivals, alone, "mine"):
        assert not refused(arrivals, party(next(others))), "they come when they were told, and get in"
        before -= 1
        assert len(arrivals) == before
        clock.advance(1 / RATE)
    assert clock.monotonic_s() - start_s == pytest.approx(first_s, abs=0.1)


def test_a_place_whose_client_does_not_come_goes_to_who_is_there() -> None:
    """On several nodes whoever was told to come back may come to another one, and some are gone for good."""
    clock = FakeClock()
    arrivals = Arrivals(LIMITS, clock)
    while not refused(arrivals, party(0)):
        pass
    for number in range(1, 1_000):
        refused(arrivals, party(number))
    clock.advance(FREE_AFTER_S)
    assert refused(arrivals, party(2_000)) > 0, "the first place is to come, or not overdue"
    clock.advance(1.0)
    let_in = sum(not refused(arrivals, party(number)) for number in range(3_000, 4_000))
    assert let_in == pytest.approx(RATE, abs=2)


def test_nobody_who_stays_away_makes_a_larger_burst_later() -> None:
    clock = FakeClock()
    arrivals = Arrivals(LIMITS, clock)
    for number in range(10_000):
        refused(arrivals, party(number))
    clock.advance(50.0)
    let_in = sum(not refused(arrivals, party(number)) for number in range(20_000, 30_000))
    assert let_in <= RATE * LIMITS.admissions_burst_s + 2
    clock.advance(1_000.0)
    assert not refused(arrivals, party(1))
    assert len(arrivals) == 0


def test_it_looks_ahead_so_far_and_no_further() -> None:
    clock = FakeClock()
    limits = Limits(admissions_per_s=RATE, admissions_burst_s=2.0, admissions_ahead_s=10.0)
    arrivals = Arrivals(limits, clock)
    delays_s = [refused(arrivals, party(number)) for number in range(20_000)]
    assert len(arrivals) == pytest.approx(1_000, abs=1)
    beyond_s = [delay_s for delay_s in delays_s if delay_s > 10.011]
    assert len(beyond_s) > 18_000
    assert max(beyond_s) <= 20.02
    assert max(Counter(math.floor(delay_s) for delay_s in beyond_s).values()) < 2_200, "spread, not all at once"


def test_strangers_of_one_address_leave_the_places_to_others() -> None:
    """They need no credential, so nothing but the address bounds them, as at the door."""
    clock = FakeClock()
    arrivals = Arrivals(LIMITS, clock)
    for number in range(10_000):
        refused(arrivals, ANONYMOUS, f"s{number}")
    assert len(arrivals) == LIMITS.unauthenticated_per_address_max
    assert refused(arrivals, ANONYMOUS, "s", "198.51.100.1") < 1.0
    assert refused(arrivals, party(1)) < 1.0


def test_one_account_has_a_quarter_of_the_places() -> None:
    clock = FakeClock()
    arrivals = Arrivals(LIMITS, clock)
    for number in range(20_000):
        refused(arrivals, party(1), f"s{number}")
    assert len(arrivals) == RATE * LIMITS.admissions_ahead_s / 4
    assert refused(arrivals, party(2)) == pytest.approx(50.0, abs=0.1)
