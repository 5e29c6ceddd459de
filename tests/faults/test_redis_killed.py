"""Redis dies and comes back, with its data or without: clients stay, publishing says so, and everything heals."""

from __future__ import annotations

import asyncio
import time

import pytest

from hybrid.auth.development import DevelopmentIssuer
from hybrid.engine.engine import BROKER_PATIENCE_S
from tests.faults.stage import Stage, stage
from tests.support.redis_servers import RedisServer, redis_server

AWAY_S = 2.0


async def go_away(here: Stage, redis: RedisServer, *, empty: bool) -> tuple[float, float]:
    """kill -9, absence and return, under load; when it was away."""
    redis.kill()
    gone_s = time.monotonic()
    await asyncio.sleep(AWAY_S)
    await redis.restart(empty=empty)
    return gone_s, time.monotonic()


def check_refusals(here: Stage, gone_s: float, back_s: float) -> None:
    """Whoever published meanwhile was told what to do."""
    told = list(here.people.refused_between(gone_s, back_s))
    by_http = [refusal for refusal in told if refusal.status > 0]
    on_sessions = [refusal for refusal in told if refusal.status < 0]
    assert by_http
    assert on_sessions
    for refusal in [*by_http, *on_sessions]:
        assert refusal.status in (503, -1), refusal
        assert refusal.name == "broker_unavailable", refusal
        assert refusal.retry_after_s is not None, refusal


@pytest.mark.faults
async def test_who_comes_to_a_new_node_while_redis_is_away_keeps_its_channels(issuer: DevelopmentIssuer) -> None:
    """A node that follows none of the channels yet cannot say where they are: streams wait, polls are told so.

    Clients that poll took that for a refusal, and their channels ended.
    """
    async with (
        redis_server(keeps_data=True) as redis,
        stage("nodes restarted while Redis is away", broker=redis.url, issuer=issuer) as here,
    ):
        redis.kill()
        for node in here.nodes:
            node.kill()
        await asyncio.gather(*(node.start(path="/healthz") for node in here.nodes))
        await asyncio.sleep(BROKER_PATIENCE_S * 3)
        await redis.restart()
        here.fault_ended()
        await here.healed()
        verdict = await here.judged()
        assert verdict.resets == 0


async def test_redis_comes_back_with_its_data(issuer: DevelopmentIssuer) -> None:
    async with (
        redis_server(keeps_data=True) as redis,
        stage("kill -9 of Redis, with its data", broker=redis.url, issuer=issuer) as here,
    ):
        attaches = here.people.counts()["attaches"]
        gone_s, back_s = await go_away(here, redis, empty=False)
        here.fault_ended()
        await here.healed()
        assert here.people.counts()["attaches"] == attaches, "clients stay connected while Redis is away"
        check_refusals(here, gone_s, back_s)
        verdict = await here.judged()
        assert verdict.resets == 0


async def test_redis_comes_back_empty(issuer: DevelopmentIssuer) -> None:
    async with (
        redis_server() as redis,
        stage("kill -9 of Redis, and back empty", broker=redis.url, issuer=issuer) as here,
    ):
        attaches = here.people.counts()["attaches"]
        gone_s, back_s = await go_away(here, redis, empty=True)
        here.fault_ended()
        await here.healed()
        assert here.people.counts()["attaches"] == attaches, "clients stay connected while Redis is away"
        check_refusals(here, gone_s, back_s)
        lost = [id for id, answer in here.people.checker.answers.items() if answer.at_s <= gone_s + 0.2]
        verdict = await here.judged(may_miss=lost)
        assert verdict.resets == verdict.streams, "everybody is told, once"
        assert len(verdict.missing) == len(lost)
