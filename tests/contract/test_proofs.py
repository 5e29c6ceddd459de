"""What `ProofStore` promises, held against every store."""

from __future__ import annotations

import asyncio

from hybrid.auth.dpop import ProofStore
from hybrid.broker.redis.broker import RedisBroker

ID = bytes(range(32))


async def test_a_proof_is_used_once(proofs: ProofStore) -> None:
    assert await proofs.first_use(ID, "k", 120.0)
    assert not await proofs.first_use(ID, "k", 120.0)
    assert await proofs.first_use(ID[::-1], "k", 120.0)


async def test_of_many_at_once_one_is_first(proofs: ProofStore) -> None:
    uses = await asyncio.gather(*[proofs.first_use(bytes([n]) * 32, "k", 60.0) for n in range(20) for _ in range(10)])
    assert uses.count(True) == 20


async def test_what_was_used_is_forgotten_in_time(proofs: ProofStore, made_on_redis: RedisBroker | None) -> None:
    assert await proofs.first_use(ID, "k", 120.0)
    if made_on_redis is not None:
        key = made_on_redis.keys.proof(ID)
        assert 110_000 < await made_on_redis.servers.run(key, "PTTL", key) <= 120_000
