"""The network between the nodes and Redis is cut, slow, or swallows everything."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from hybrid.auth.development import DevelopmentIssuer
from tests.faults.stage import Stage, stage
from tests.support.redis_servers import RedisServer, redis_server
from tests.support.relay import Relay


@asynccontextmanager
async def relayed(fault: str, issuer: DevelopmentIssuer) -> AsyncIterator[tuple[Stage, Relay, RedisServer]]:
    async with redis_server() as redis, Relay(redis.port) as relay:
        url = redis.url_for(None, None, port=relay.port)
        async with stage(fault, broker=url, issuer=issuer) as here:
            yield here, relay, redis


@pytest.mark.faults
async def test_the_connections_are_cut_and_refused_for_a_while_and_again_and_again(issuer: DevelopmentIssuer) -> None:
    async with relayed("connection to Redis cut for 2 s, and 10 times", issuer) as (here, relay, _):
        attaches = here.people.counts()["attaches"]
        began_s = time.monotonic()
        assert relay.sever() >= len(here.nodes)
        await asyncio.sleep(2.0)
        relay.mend()
        here.fault_ended()
        await here.healed()
        for _ in range(10):
            relay.cut()
            await asyncio.sleep(0.3)
        here.fault_ended()
        await here.healed()
        assert here.people.counts()["attaches"] == attaches
        for refusal in here.people.refused_between(began_s):
            assert refusal.status in (503, -1), refusal
            assert refusal.retry_after_s is not None, refusal
        verdict = await here.judged()
        assert verdict.resets == 0


@pytest.mark.faults
async def test_redis_is_far_away_and_then_gone_without_a_word(issuer: DevelopmentIssuer) -> None:
    """Every byte takes a quarter of a second each way: slow is not away. Then nothing passes, as behind a firewall that
    forgot the connections: no reset, no answer, until each side gives up by itself."""
    async with relayed("Redis 250 ms away each way, then dead for 9 s", issuer) as (here, relay, _):
        attaches = here.people.counts()["attaches"]
        began_s = time.monotonic()
        relay.delay(0.25, 0.25)
        await asyncio.sleep(3.0)
        here.fault_ended()
        await here.healed()  # under the delay
        assert list(here.people.refused_between(began_s)) == []
        relay.freeze()
        await asyncio.sleep(9.0)
        relay.mend()
        here.fault_ended()
        await here.healed()
        assert here.people.counts()["attaches"] == attaches
        verdict = await here.judged()
        assert verdict.resets == 0
