"""Redis closes the nodes' connections (an idle timeout, a full output buffer, an administrator): nobody notices."""

from __future__ import annotations

import asyncio
import time

import pytest

from hybrid.auth.development import DevelopmentIssuer
from tests.faults.stage import stage
from tests.support.redis_servers import redis_server

ROUNDS = 5


@pytest.mark.faults
async def test_client_kill(issuer: DevelopmentIssuer) -> None:
    title = f"CLIENT KILL TYPE normal, and pubsub, {ROUNDS} times"
    async with redis_server() as redis, stage(title, broker=redis.url, issuer=issuer) as here:
        attaches = here.people.counts()["attaches"]
        began_s = time.monotonic()
        for kind in ("normal", "pubsub"):
            for _ in range(ROUNDS):
                killed = await redis.command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
                assert killed >= len(here.nodes)
                await asyncio.sleep(0.4)
            here.fault_ended()
            await here.healed()
        assert here.people.counts()["attaches"] == attaches, "no client loses its connection over it"
        assert list(here.people.refused_between(began_s)) == [], "publishes are repeated by the node"
        verdict = await here.judged()
        assert verdict.resets == 0
