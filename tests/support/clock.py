"""A clock that moves only when a test says so."""

from __future__ import annotations


class FakeClock:
    """Implements `hybrid.clock.Clock`. Both clocks advance together, until `jump_wall` moves one alone."""

    def __init__(self, monotonic_s: float = 1_000.0, wall_s: float = 1_800_000_000.0) -> None:
        self._monotonic_s = monotonic_s
        self._wall_s = wall_s

    def monotonic_s(self) -> float:
        return self._monotonic_s

    def wall_s(self) -> float:
        return self._wall_s

    def advance(self, seconds: float) -> None:
        if seconds < 0:
            raise ValueError("time does not go back; see jump_wall")
        self._monotonic_s += seconds
        self._wall_s += seconds

    def jump_wall(self, seconds: float) -> None:
        self._wall_s += seconds
