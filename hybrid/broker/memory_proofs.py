"""Proofs of possession that were used in this process."""

from __future__ import annotations

from collections import Counter

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
        self._used: dict[bytes, str] = {}  # proof -> its key
        self._per_key: Counter[str] = Counter()

    async def first_use(self, proof_id: bytes, key: str, ttl_s: float) -> bool:
        """See `ProofStore.first_use`. None is forgotten before its time; one key has a tenth of the room at most."""
        now_s = self._clock.monotonic_s()
        while (ended := self._ends.pop(now_s)) is not None:
            self._forget(ended)
        if proof_id in self._used:
            return False
        if len(self._used) >= self._limits.proofs_max or self._per_key[key] >= max(1, self._limits.proofs_max // 10):
            raise LimitError("proofs_max", retry_after_s=1.0)
        self._used[proof_id] = key
        self._per_key[key] += 1
        self._ends.set(proof_id, now_s + ttl_s)
        return True

    def _forget(self, proof_id: bytes) -> None:
        key = self._used.pop(proof_id)
        self._per_key[key] -= 1
        if not self._per_key[key]:
            del self._per_key[key]
