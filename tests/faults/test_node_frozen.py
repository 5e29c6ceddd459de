"""A node stops (SIGSTOP: a debugger, a hypervisor, swapping) and goes on later, believing that no time has passed."""

from __future__ import annotations

import asyncio
import time

import pytest

from hybrid.auth.development import DevelopmentIssuer
from hybrid.engine.nodes import LEASE_S
from tests.faults.stage import Stage, stage
from tests.support.redis_servers import redis_server


async def freeze(here: Stage, seconds: float) -> None:
    """Stop a node, let everybody come back elsewhere, and let it go on when the time is over."""
    began_s = time.monotonic()
    here.nodes[0].freeze()
    here.fault_ended()
    await here.healed()
    assert here.nodes.balancer.ready == {node.port for node in here.nodes[1:]}
    await asyncio.sleep(max(0.0, seconds - (time.monotonic() - began_s)))
    here.nodes[0].thaw()
    await here.nodes.balancer.until_ready(len(here.nodes))


@pytest.mark.faults
async def test_a_node_stops_for_longer_than_its_lease(issuer: DevelopmentIssuer) -> None:
    title = "SIGSTOP of a node past its lease, SIGCONT"
    async with redis_server() as redis, stage(title, broker=redis.url, issuer=issuer) as here:
        await freeze(here, LEASE_S + 5.0)
        here.fault_ended()
        await here.healed()
        verdict = await here.judged()
        assert verdict.resets == 0
