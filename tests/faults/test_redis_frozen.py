"""Redis stops (SIGSTOP) and goes on: connections stay open, nothing answers, and later all old commands are done.

The commands that were sent before the stop take effect after it, when their publishers have long tried again: only the
idempotency keys keep those from standing in the log twice.
"""

from __future__ import annotations

import asyncio
import time

import pytest

from hybrid.auth.development import DevelopmentIssuer
from hybrid.broker.redis.line import TIMEOUT_S
from tests.faults.stage import stage
from tests.support.redis_servers import redis_server


@pytest.mark.faults
async def test_redis_stops_and_goes_on(issuer: DevelopmentIssuer) -> None:
    spans_s = TIMEOUT_S / 2, TIMEOUT_S * 3
    title = "SIGSTOP of Redis for " + " and ".join(f"{seconds:g} s" for seconds in spans_s)
    async with redis_server() as redis, stage(title, broker=redis.url, issuer=issuer) as here:
        attaches = here.people.counts()["attaches"]
        began_s = time.monotonic()
        for seconds in spans_s:
            redis.freeze()
            await asyncio.sleep(seconds)
            redis.thaw()
            here.fault_ended()
            await here.healed()
        assert here.people.counts()["attaches"] == attaches, "clients stay connected while Redis is away"
        for refusal in here.people.refused_between(began_s):
            assert refusal.status in (503, -1, 0), refusal
        verdict = await here.judged()
        assert verdict.resets == 0
