"""Redis under Sentinel: the primary dies, and a replica takes over that may lack what was answered last.

Replication is not waited for (unless a namespace is `durable`), so answered publications can be lost: with the primary
that alone had them. What hybrid promises then is that nobody keeps them unknowingly: whoever got one is told a reset.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest

from hybrid.auth.development import DevelopmentIssuer
from tests.faults.stage import Stage, stage
from tests.support.checker import StreamKey
from tests.support.crowd import CHANNELS
from tests.support.redis_servers import SERVICE, Sentinels, sentinels

LOST = 5
_ON_ITS_WAY_S = 0.5  # what was answered so shortly before a crash may not have been replicated


def url(group: Sentinels) -> str:
    return f"redis+sentinel://{','.join(f'{host}:{port}' for host, port in group.addresses)}/{SERVICE}"


def answered_since(here: Stage, since_s: float) -> list[str]:
    return [id for id, answer in here.people.checker.answers.items() if answer.at_s >= since_s]


@dataclass(frozen=True)
class Lost:
    """What a failover took: ids that may be missing, ids that are, and the streams that had got those."""

    may_miss: list[str]
    ids: list[str]
    got: list[StreamKey]


async def lose_the_last_answered(here: Stage, group: Sentinels) -> Lost:
    """Have a replica promoted that lacks the last answered publications, and their offsets used again at once.

    The nodes stand still meanwhile, and somebody else publishes first: when they look, the log is longer than it ever
    was, and only the tags tell that it is another one.
    """
    checker = here.people.checker
    primary = await group.primary()
    cut_s = time.monotonic()
    await group.cut_replication()
    ids = await here.people.publish_answered(CHANNELS[0], LOST)
    got = [key for key in checker.streams if key[1] == CHANNELS[0]]
    last = checker.answers[ids[-1]].position
    await here.people.until(
        lambda: all(checker.streams[key].last.offset >= last.offset for key in got), 5.0, lambda: "not delivered"
    )
    for node in here.nodes:
        node.freeze()
    await group.crash_primary()
    crash_s = time.monotonic()
    promoted = await group.until_primary_is_not(primary)
    assert promoted is not primary
    await here.people.publish_past_the_nodes(promoted.url, CHANNELS[0], 4 * LOST)
    for node in here.nodes:
        node.thaw()
    here.fault_ended()
    await here.healed()
    may_miss = [id for id in answered_since(here, cut_s) if checker.answers[id].at_s <= crash_s + 0.2]
    return Lost(may_miss, ids, got)


async def test_a_replica_is_promoted_that_lacks_the_last_answered_publications(issuer: DevelopmentIssuer) -> None:
    async with (
        sentinels() as group,
        stage(f"failover without the last {LOST} answered", broker=url(group), issuer=issuer) as here,
    ):
        lost = await lose_the_last_answered(here, group)
        verdict = await here.judged(may_miss=lost.may_miss)
        assert {answer.id for answer in verdict.missing} >= set(lost.ids), "the replica did lack them"
        assert verdict.resets >= len(lost.got), "everybody who had got one of them was told"


@pytest.mark.faults
async def test_the_primary_is_killed_and_comes_back_as_a_replica(issuer: DevelopmentIssuer) -> None:
    async with (
        sentinels(replicas=2) as group,
        stage("kill -9 of the primary under Sentinel", broker=url(group), issuer=issuer) as here,
    ):
        primary = await group.crash_primary()
        crash_s = time.monotonic()
        await group.until_primary_is_not(primary)
        here.fault_ended()
        await here.healed()
        await primary.start()
        await group.until_settled()
        here.fault_ended()
        await here.healed()
        may_miss = [
            id
            for id in answered_since(here, crash_s - _ON_ITS_WAY_S)
            if here.people.checker.answers[id].at_s <= crash_s + 0.2
        ]
        await here.judged(may_miss=may_miss)


@pytest.mark.faults
async def test_a_failover_in_good_order(issuer: DevelopmentIssuer) -> None:
    """The former primary lives on as a replica: whoever still asks it is refused, and whoever listens is not told."""
    async with (
        sentinels() as group,
        stage("SENTINEL FAILOVER", broker=url(group), issuer=issuer) as here,
    ):
        began_s = time.monotonic()
        await group.force_failover()
        ended_s = time.monotonic()
        here.fault_ended()
        await here.healed()
        # Until the former primary was told, it took writes that the new one has never seen.
        may_miss = [id for id in answered_since(here, began_s) if here.people.checker.answers[id].at_s <= ended_s + 2.0]
        await here.judged(may_miss=may_miss)
