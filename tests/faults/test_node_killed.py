"""A node dies without a word: its clients come back at others, and nothing is lost, repeated or reordered."""

from __future__ import annotations

import pytest

from hybrid.auth.development import DevelopmentIssuer
from tests.faults.stage import stage
from tests.support.redis_servers import redis_server


async def test_kill_9_of_a_node(issuer: DevelopmentIssuer) -> None:
    async with redis_server() as redis, stage("kill -9 of a node", broker=redis.url, issuer=issuer) as here:
        here.nodes[0].kill()
        here.fault_ended()
        await here.healed()
        await here.nodes[0].start()
        verdict = await here.judged()
        assert verdict.resets == 0


@pytest.mark.faults
async def test_kill_9_of_each_node_in_turn_while_the_others_serve(issuer: DevelopmentIssuer) -> None:
    async with redis_server() as redis, stage("kill -9 of each node in turn", broker=redis.url, issuer=issuer) as here:
        for node in here.nodes:
            node.kill()
            await node.start()
            await here.nodes.balancer.until_ready(len(here.nodes))
        here.fault_ended()
        await here.healed()
        verdict = await here.judged()
        assert verdict.resets == 0
