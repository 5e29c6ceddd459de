"""Proofs of possession that were used in this process."""

from __future__ import annotations

from hybrid.broker.deadlines import Deadlines
from hybrid.clock import Clock
from hybrid.errors import LimitError
from hybrid.limits import Limits


class MemoryProofStore:
    """Implements `auth.dpop.ProofStore`. One event loop; nothing is awaited inside, so all of it is atomic."""

    def __init__(self, clock: Clock, limits: Limits) -> None:
        self._clock = clock
        self._limits = limits
        self._ends: Deadlines[bytes] = Deadlines()
        self._used: set[bytes] = set()

    async def first_use(self, proof_id: bytes, ttl_s: float) -> bool:
        """See `ProofStore.first_use`. Raises LimitError when too many are remembered: none is forgotten before time."""
        now_s = self._clock.monotonic_s()
        while (ended := self._ends.pop(now_s)) is not None:
            self._used.discard(ended)
        if proof_id in self._used:
            return False
        if len(self._used) >= self._limits.proofs_max:
            raise LimitError("proofs_max", retry_after_s=1.0)
        self._used.add(proof_id)
        self._ends.set(proof_id, now_s + ttl_s)
        return True
