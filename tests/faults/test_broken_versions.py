"""The faults find a broken hybrid: versions in which one safeguard was taken out fail where the real one passes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hybrid.auth.development import DevelopmentIssuer
from hybrid.broker.redis.line import TIMEOUT_S
from tests.faults.stage import stage
from tests.faults.test_sentinel import lose_the_last_answered, url
from tests.support.nodes import changed_tree
from tests.support.redis_servers import redis_server, sentinels

pytestmark = pytest.mark.faults

NO_KEYS = (
    (
        "broker/redis/scripts/publish.lua",
        "if known[1] and tonumber(known[2]) > now then",
        "if false then",
    ),
)
NO_TAGS = (
    (
        "broker/redis/scripts/read.lua",
        "(tonumber(offset) ~= after or string.format('%08x', tag) ~= ARGV[3])",
        "tonumber(offset) ~= after",
    ),
)


async def test_without_idempotency_keys_publications_stand_twice_in_the_log(
    issuer: DevelopmentIssuer, tmp_path: Path
) -> None:
    """What was sent to a stopped Redis is carried out later, beside what was tried again meanwhile."""
    tree = changed_tree(tmp_path / "no-keys", NO_KEYS)
    async with redis_server() as redis, stage("-", broker=redis.url, issuer=issuer, tree=tree) as here:
        redis.freeze()
        await asyncio.sleep(TIMEOUT_S + 1.5)
        redis.thaw()
        here.fault_ended()
        await here.healed()
        verdict = await here.people.settle()
        assert verdict.twice
        with pytest.raises(AssertionError, match="twice"):
            verdict.check()


async def test_without_tags_readers_go_from_one_log_into_another_and_do_not_know(
    issuer: DevelopmentIssuer, tmp_path: Path
) -> None:
    tree = changed_tree(tmp_path / "no-tags", NO_TAGS)
    async with sentinels() as group, stage("-", broker=url(group), issuer=issuer, tree=tree) as here:
        lost = await lose_the_last_answered(here, group)
        verdict = await here.people.settle()
        assert verdict.forked
        with pytest.raises(AssertionError, match="forked"):
            verdict.check(may_miss=lost.may_miss)
