"""A circuit breaker: a backend that does not answer is left alone for a while, and nobody waits for it meanwhile.

| state  | succeeded | failed                  | its rest is over          |
| ------ | --------- | ----------------------- | ------------------------- |
| CLOSED | CLOSED    | OPEN, at the last of `failures_max` in a row |      |
| OPEN   | CLOSED    | OPEN                    | TRYING, with one question |
| TRYING | CLOSED    | OPEN, for twice as long |                           |

Sans-I/O; time is the clock's.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from hybrid.clock import Clock

FAILURES_MAX: Final = 5
"""In a row: one slow answer among good ones is no reason."""
REST_MIN_S: Final = 1.0
REST_MAX_S: Final = 15.0
"""A backend that has come back is noticed within it."""


class State(Enum):
    """See the table above."""

    CLOSED = "closed"
    OPEN = "open"
    TRYING = "trying"


class Breaker:
    """See the module's text. Ask `admits` before each question, and say afterwards what became of it."""

    __slots__ = ("_clock", "_failures", "_failures_max", "_rest_s", "_since_s", "state")

    def __init__(self, clock: Clock, failures_max: int = FAILURES_MAX) -> None:
        self.state = State.CLOSED
        self._clock = clock
        self._failures_max = failures_max
        self._failures = 0
        self._rest_s = REST_MIN_S
        self._since_s = 0.0

    def admits(self) -> bool:
        """Whether to ask now. Where the rest is over this is the one question that tries, so it has to be asked."""
        if self.state is State.CLOSED:
            return True
        now_s = self._clock.monotonic_s()
        # A try that was never reported (its task was cancelled) must not hold the next one up for ever.
        rest_s = self._rest_s if self.state is State.OPEN else REST_MAX_S
        if now_s - self._since_s < rest_s:
            return False
        self.state, self._since_s = State.TRYING, now_s
        return True

    def succeeded(self) -> None:
        """An answer came."""
        self.state, self._failures, self._rest_s = State.CLOSED, 0, REST_MIN_S

    def failed(self) -> None:
        """None came."""
        self._failures += 1
        if self.state is State.TRYING:
            self._rest_s = min(self._rest_s * 2, REST_MAX_S)
        elif self.state is State.OPEN or self._failures < self._failures_max:
            return  # those that were under way when it opened say nothing new
        self.state, self._since_s = State.OPEN, self._clock.monotonic_s()

    def opens_in_s(self) -> float:
        """How long until somebody may ask again; 0 where it admits."""
        if self.state is State.CLOSED:
            return 0.0
        return max(0.0, self._since_s + self._rest_s - self._clock.monotonic_s())
