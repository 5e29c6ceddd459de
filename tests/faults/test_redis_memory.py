"""Redis' memory limit is reached: publishing says so, reading goes on, and all is well when there is room again."""

from __future__ import annotations

import time

from hybrid.auth.development import DevelopmentIssuer
from tests.faults.stage import stage
from tests.support.redis_servers import redis_server


async def test_the_memory_limit_is_reached(issuer: DevelopmentIssuer) -> None:
    async with redis_server() as redis, stage("Redis' memory limit reached", broker=redis.url, issuer=issuer) as here:
        attaches = here.people.counts()["attaches"]
        used = int((await redis.info("memory"))["used_memory"])
        began_s = time.monotonic()
        await redis.command("CONFIG", "SET", "maxmemory", used // 2)
        await here.people.until(lambda: len(list(here.people.refused_between(began_s))) >= 10, 20.0)
        position = next(iter(here.people.checker.answers.values())).channel
        log = await here.people.read_log(position)
        assert log, "what is there can be read"
        ended_s = time.monotonic()
        await redis.command("CONFIG", "SET", "maxmemory", 0)
        here.fault_ended()
        await here.healed()
        refusals = list(here.people.refused_between(began_s, ended_s))
        for refusal in refusals:
            assert refusal.status in (503, -1), refusal
            assert refusal.name == "broker_unavailable", refusal
            assert refusal.retry_after_s is not None, refusal
            assert "memory is full" in refusal.detail, refusal
        assert here.people.counts()["attaches"] == attaches, "clients stay connected"
        verdict = await here.judged()
        assert verdict.resets == 0
