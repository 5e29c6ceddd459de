"""Which transport to try next: decided by what was measured here, never by the name of a proxy. Pure.

A transport that a network is seen to spoil is tried last for a while that grows: 30 s, 5 min, 50 min, ..., a day. A
life of a minute wipes that out. Whether it was the network is found out before, by a plain request: a server's restart
fails every transport alike and demotes none. The JavaScript client has the same rules (`static/hybrid/ladder.js`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from hybrid.protocol.commands import Tried

_DEMOTION_S: Final = 30.0
_DEMOTION_MAX_S: Final = 86_400.0
_SOUND_LIFE_S: Final = 60.0
_PROVEN_LIFE_S: Final = 10.0
_FORGIVEN_S: Final = 600.0
_CUT_MIN_S: Final = 0.9  # a silence before the end that may be why
_IDLE_MIN_S: Final = 8.0  # legs that are cut sooner cannot be kept by heartbeats
_HEARTBEAT_MIN_S: Final = 5.0
_MARGIN: Final = 0.6  # of the silence that was not survived: a network's patience varies


@dataclass(frozen=True, slots=True)
class Story:
    """How the network ended a leg: after `lived_s`, the last `idle_s` of which nothing passed.

    `fault`: it went deaf without an end that could be heard, from then on ("mute") or behind the attach ("held").
    """

    lived_s: float
    idle_s: float
    interval_s: float
    fault: str = ""


@dataclass(frozen=True, slots=True)
class _Strikes:
    count: int
    at_s: float


class Ladder:
    """`names` in order of preference; `now` gives seconds that only rise."""

    def __init__(self, names: Sequence[str], now: Callable[[], float]) -> None:
        self.heartbeat_s: float | None = None
        """How often this network needs to hear the server; None: as often as usual."""
        self.latency_s = 0.0
        """How long what worked last took to open."""
        self._names = tuple(names)
        self._now = now
        self._worked: str | None = None
        self._pinned: str | None = None
        self._reasons: dict[str, Tried] = {}
        self._strikes: dict[str, _Strikes] = {}

    def order(self) -> list[str]:
        """The transports to try: the one asked for, what worked last, then by preference; spoilt ones last."""

        def rank(name: str) -> int:
            return 10 * self.is_demoted(name) - 2 * (name == self._pinned) - self.has_worked(name)

        return sorted(self._names, key=rank)

    def better(self, name: str) -> list[str]:
        """Those preferred to `name` that deserve a try from time to time."""
        return [] if name == self._pinned else [other for other in self._above(name) if not self.is_demoted(other)]

    def tried(self, name: str) -> tuple[Tried, ...]:
        """What an attach tells of the transports preferred to `name`: why they are not used."""
        return tuple(self._reasons[other] for other in self._above(name) if other in self._reasons)

    def pin(self, name: str) -> None:
        """The application chose: this first, and no looking for better ones."""
        self._pinned = name

    def has_worked(self, name: str) -> bool:
        """It was the last that did."""
        return name == self._worked

    def worked(self, name: str, latency_s: float) -> None:
        """It carries the session now."""
        self._reasons.pop(name, None)
        self._worked, self.latency_s = name, latency_s

    def failed(self, name: str, reason: str) -> None:
        """It did not work this time; `reason` is a word of the protocol (section "Why not a better one")."""
        self._reasons[name] = Tried(name, reason)

    def is_demoted(self, name: str) -> bool:
        """It was seen to be spoilt, not long ago."""
        strikes = self._strikes.get(name)
        if strikes is None or not strikes.count:
            return False
        return self._now() - strikes.at_s < min(_DEMOTION_MAX_S, _DEMOTION_S * 10.0 ** min(strikes.count - 1, 9))

    def broke(self, name: str, story: Story) -> None:
        """The network has ended a stream. (Polls mend themselves, and there is nothing below them.)"""
        if story.idle_s >= _IDLE_MIN_S:
            # Cut in a silence: a shorter one may be survived. Where it went deaf, nobody knows when.
            bound_s = story.interval_s / 2 if story.fault else story.idle_s * _MARGIN
            heartbeat_s = max(_HEARTBEAT_MIN_S, float(int(bound_s)))
            if heartbeat_s < story.interval_s:
                self.heartbeat_s = heartbeat_s
                return
        strikes = self._strikes.get(name)
        if story.lived_s >= _SOUND_LIFE_S and not story.fault:
            self._strikes.pop(name, None)
        elif (
            story.fault
            and story.lived_s >= _PROVEN_LIFE_S
            and (strikes is None or self._now() - strikes.at_s >= _FORGIVEN_S)
        ):
            # It may have lost its network, not its transport; so often a network does not change.
            self._strikes[name] = _Strikes(0, self._now())
        elif story.fault or story.idle_s < _CUT_MIN_S:
            self._strike(name, story.fault or "dying")
        else:
            # Who cuts a stream for its silence cuts the other kind as well.
            for stream in self._names:
                if stream != "longpoll":
                    self._strike(stream, "idle_cut")

    def _above(self, name: str) -> tuple[str, ...]:
        return self._names[: self._names.index(name)] if name in self._names else ()

    def _strike(self, name: str, reason: str) -> None:
        self.failed(name, reason)
        strikes = self._strikes.get(name)
        self._strikes[name] = _Strikes(1 + (strikes.count if strikes else 0), self._now())
        if self.has_worked(name):
            self._worked = None
