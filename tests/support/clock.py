"""A clock that moves only when a test says so."""

from __future__ import annotations

from hybrid.embed.testing import TestClock


class FakeClock(TestClock):
    """The clock of `hybrid.embed`'s tests, whose `jump_wall` moves one of the two alone."""

    def jump_wall(self, seconds: float) -> None:
        self._wall_s += seconds
