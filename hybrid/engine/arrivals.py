"""Storms: no more clients are let in than can be served, and the others are told when to come, one after another.

When a network or a node comes back, thousands attach in one second. Whoever is refused gets a *place*: the next moment
that nobody else has, a rate apart from the one before. So those who come back arrive at exactly the rate at which they
are let in, and each of them gets in. A place is known by who got it; one whose client does not come in time (it has
gone, or to another node) is given to whoever is there.

    next free moment = max(now - burst, the one given last) + 1/rate

Sans-I/O. Only who has shown a credential, or needs none, comes this far.
"""

from __future__ import annotations

import math
import random
from collections import Counter, deque
from typing import Final, NamedTuple

from hybrid.auth.door import address_group
from hybrid.clock import Clock
from hybrid.errors import LimitError
from hybrid.limits import Limits
from hybrid.model import Principal

EARLY_S: Final = 0.05
"""Who comes this much too soon is let in: timers differ, and another refusal costs nearly as much."""
FREE_AFTER_S: Final = 2.0
"""A place whose client has not come by then is anybody's: a second for whole-second Retry-After, one for the way."""
_SHARE_OF_ONE: Final = 0.25  # of all places, for one known party: its clients may be many, but it is not alone


class _Who(NamedTuple):
    """Whose place it is: of a party, or an address where there is none; and of a session, where it comes back in one.

    A session has one place, a client in a loop thus no second one. New ones cannot be told apart, and need not be.
    """

    group: tuple[str, ...]
    session: str


class _Place:
    __slots__ = ("at_s", "is_taken", "who")

    def __init__(self, at_s: float, who: _Who) -> None:
        self.at_s = at_s
        self.who = who
        self.is_taken = False


class Arrivals:
    """See the module's text. One per process. Bounded by `admissions_ahead_s`."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._next_s = -math.inf
        self._places: deque[_Place] = deque()  # by time; those that were taken leave when they are first
        self._waiting: dict[_Who, list[_Place]] = {}  # by time; nearly all have one, for which a deque is too large
        self._per_group: Counter[tuple[str, ...]] = Counter()

    def __len__(self) -> int:
        """How many have a place and have not come."""
        return self._per_group.total()

    def admit(self, principal: Principal, session: str, address: str) -> None:
        """Let somebody attach, who goes on in `session` or is new, from this address.

        Raises LimitError `draining`, limit `admissions_per_s`, with `retry_after_s`.
        """
        now_s = self._clock.monotonic_s()
        who = _Who(_group(principal, address), session)
        self._forget(now_s)
        own = self._waiting.get(who)
        if own and own[0].at_s <= now_s + EARLY_S:
            self._take(own[0])
        elif (at_s := max(self._next_s, now_s - self._limits.admissions_burst_s)) <= now_s:
            self._next_s = at_s + self._step_s
        elif self._places and self._places[0].at_s + FREE_AFTER_S <= now_s:
            self._take(self._places[0])
        elif own and session:
            raise _come_back(own[0].at_s - now_s)
        elif at_s - now_s > self._limits.admissions_ahead_s or self._per_group[who.group] >= self._most(principal):
            # No place for it: somewhere behind those that there are, and it has to try its luck then.
            raise _come_back(at_s - now_s + random.uniform(0, self._limits.admissions_ahead_s))
        else:
            self._next_s = at_s + self._step_s
            self._give(_Place(at_s, who))
            raise _come_back(at_s - now_s)

    def came(self) -> None:
        """Somebody attaches who was admitted before, when it got its ticket, and may have kept that with many others:
        it is not refused, and who has no place yet comes so much later. Bounded by `admissions_ahead_s`.
        """
        now_s = self._clock.monotonic_s()
        next_s = max(self._next_s, now_s - self._limits.admissions_burst_s) + self._step_s
        self._next_s = max(self._next_s, min(next_s, now_s + self._limits.admissions_ahead_s))

    # -- inside

    @property
    def _step_s(self) -> float:
        return 1 / self._limits.admissions_per_s

    def _most(self, principal: Principal) -> float:
        """How many places one group may have. For strangers it is what the door lets stand in it."""
        if principal.is_anonymous:
            return self._limits.unauthenticated_per_address_max
        return self._limits.admissions_per_s * self._limits.admissions_ahead_s * _SHARE_OF_ONE

    def _give(self, place: _Place) -> None:
        self._places.append(place)
        self._waiting.setdefault(place.who, []).append(place)
        self._per_group[place.who.group] += 1

    def _take(self, place: _Place) -> None:
        """Whether by its own client or another one, it is the first of its own client's."""
        place.is_taken = True
        own = self._waiting[place.who]
        del own[0]
        if not own:
            del self._waiting[place.who]
        group = place.who.group
        self._per_group[group] -= 1
        if not self._per_group[group]:
            del self._per_group[group]
        self._forget_taken()

    def _forget(self, now_s: float) -> None:
        """Places that nobody took are kept for as long as a burst may be, or they would make a larger one."""
        while self._places and self._places[0].at_s + FREE_AFTER_S + self._limits.admissions_burst_s < now_s:
            self._take(self._places[0])

    def _forget_taken(self) -> None:
        while self._places and self._places[0].is_taken:
            self._places.popleft()


def _group(principal: Principal, address: str) -> tuple[str, ...]:
    if principal.is_anonymous:
        return (address_group(address),)
    return (principal.issuer, principal.subject, principal.client)


def _come_back(delay_s: float) -> LimitError:
    detail = "More clients are coming than can be let in at once (admissions_per_s); come back after the delay given."
    return LimitError("admissions_per_s", detail, name="draining", retry_after_s=math.ceil(delay_s * 1000) / 1000)
