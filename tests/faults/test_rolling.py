"""All nodes are restarted one after the other, as for an upgrade: SIGTERM, drain, start."""

from __future__ import annotations

from hybrid.auth.development import DevelopmentIssuer
from tests.faults.stage import stage
from tests.support.redis_servers import redis_server


async def test_a_rolling_restart_loses_nothing(issuer: DevelopmentIssuer) -> None:
    async with redis_server() as redis, stage("rolling restart", broker=redis.url, issuer=issuer) as here:
        assert await here.nodes.roll() == [0] * len(here.nodes)
        here.fault_ended()
        await here.healed()
        verdict = await here.judged()
        assert verdict.resets == 0
