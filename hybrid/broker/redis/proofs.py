"""Proofs of possession that were used at any node: implements `auth.dpop.ProofStore`."""

from __future__ import annotations

from hybrid.broker.redis.keys import Keys
from hybrid.broker.redis.servers import Servers


class RedisProofStore:
    """See the module's text."""

    def __init__(self, servers: Servers, keys: Keys) -> None:
        self._servers = servers
        self._keys = keys

    async def first_use(self, proof_id: bytes, key: str, ttl_s: float) -> bool:
        """See `ProofStore.first_use`. Their number is bounded by Redis' memory: they are small and end soon.

        An answer that was lost is a False at the repeat: a new proof is soon made.
        """
        where = self._keys.proof(proof_id)
        return await self._servers.run(where, "SET", where, b"", "NX", "PX", round(ttl_s * 1000)) is not None
