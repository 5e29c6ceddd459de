"""How long to wait before trying again: full jitter, so that a thousand clients never come back together."""

from __future__ import annotations

import random as _random
from collections.abc import Callable
from typing import Final

_EXPONENT_MAX: Final = 16  # 2**16 is past every ceiling; larger exponents would only overflow
_PATIENT_TRIES: Final = 15


class Backoff:
    """Delays drawn evenly from 0 to a bound that doubles with each failure, from `base_s` up to `max_s` seconds.

    For the first fifteen `patient_s` is the ceiling, where it is given.
    """

    def __init__(
        self,
        base_s: float = 0.5,
        max_s: float = 20.0,
        random: Callable[[], float] = _random.random,
        *,
        patient_s: float | None = None,
    ) -> None:
        self._base_s = base_s
        self._max_s = max_s
        self._patient_s = max_s if patient_s is None else min(patient_s, max_s)
        self._random = random
        self.failures = 0

    def next_delay_s(self) -> float:
        """The next delay in seconds; each call counts as one failure."""
        ceiling_s = self._patient_s if self.failures < _PATIENT_TRIES else self._max_s
        bound_s = min(ceiling_s, self._base_s * 2.0 ** min(self.failures, _EXPONENT_MAX))
        self.failures += 1
        return self._random() * bound_s

    def jitter_s(self, span_s: float) -> float:
        """An even draw from 0 to `span_s` that counts as no failure."""
        return self._random() * span_s

    def reset(self) -> None:
        """Things went well for a while: the next delay is short again."""
        self.failures = 0
