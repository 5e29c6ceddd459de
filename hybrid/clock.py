"""Time as a dependency, so that tests can own it."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks, never mixed: one for waiting and one for showing and for token lifetimes."""

    def monotonic_s(self) -> float:
        """Seconds from an arbitrary start; never goes back. For deadlines and intervals."""
        ...

    def wall_s(self) -> float:
        """Unix time in seconds; may jump. For `exp`, ages in the history and time stamps shown to people."""
        ...


class SystemClock:
    """The clocks of this machine."""

    def monotonic_s(self) -> float:
        """See `Clock.monotonic_s`."""
        return time.monotonic()

    def wall_s(self) -> float:
        """See `Clock.wall_s`."""
        return time.time()
