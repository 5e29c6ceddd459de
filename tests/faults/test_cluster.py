"""A Redis Cluster of three: one server drops its connections, a slot moves while its channel is in use."""

from __future__ import annotations

import asyncio
import time

import pytest

from hybrid.auth.development import DevelopmentIssuer
from tests.faults.stage import stage
from tests.support.crowd import CHANNELS
from tests.support.redis_servers import Cluster, cluster


def url(group: Cluster) -> str:
    return f"redis+cluster://{','.join(f'{host}:{port}' for host, port in group.addresses)}"


async def slot_of(group: Cluster, channel: str) -> int:
    return await group.slot_of("{" + channel.replace(":", "%3A") + "}")


async def test_a_slot_moves_and_comes_back_while_its_channel_is_in_use(issuer: DevelopmentIssuer) -> None:
    async with (
        cluster() as group,
        stage("slots of a Cluster move", broker=url(group), issuer=issuer) as here,
    ):
        attaches = here.people.counts()["attaches"]
        for channel in CHANNELS[:2]:
            slot = await slot_of(group, channel)
            owner = await group.owner_of(slot)
            assert await owner.command("CLUSTER", "COUNTKEYSINSLOT", slot) > 0, "the channel does live there"
            other = next(server for server in group.servers if server is not owner)
            await group.move_slot(slot, other)
            await asyncio.sleep(0.5)
            await group.move_slot(slot, owner)
        here.fault_ended()
        await here.healed()
        assert here.people.counts()["attaches"] == attaches
        verdict = await here.judged()
        assert verdict.resets == 0


@pytest.mark.faults
async def test_one_server_of_the_cluster_drops_its_connections(issuer: DevelopmentIssuer) -> None:
    async with (
        cluster() as group,
        stage("one of a Cluster drops connections", broker=url(group), issuer=issuer) as here,
    ):
        attaches = here.people.counts()["attaches"]
        owner = await group.owner_of(await slot_of(group, CHANNELS[0]))
        began_s = time.monotonic()
        for kind in ("normal", "pubsub") * 3:
            await owner.command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
            await asyncio.sleep(0.4)
        here.fault_ended()
        await here.healed()
        assert here.people.counts()["attaches"] == attaches
        assert list(here.people.refused_between(began_s)) == []
        verdict = await here.judged()
        assert verdict.resets == 0


@pytest.mark.faults
async def test_one_server_of_the_cluster_is_away_for_a_while(issuer: DevelopmentIssuer) -> None:
    """With its data: what lives on the others goes on, what lives there waits."""
    async with (
        cluster(keeps_data=True) as group,
        stage("kill -9 of one of a Cluster", broker=url(group), issuer=issuer) as here,
    ):
        attaches = here.people.counts()["attaches"]
        owner = await group.owner_of(await slot_of(group, CHANNELS[0]))
        owner.kill()
        await asyncio.sleep(1.0)
        await owner.start()
        await group.until_ok()
        here.fault_ended()
        await here.healed()
        assert here.people.counts()["attaches"] == attaches
        verdict = await here.judged()
        assert verdict.resets == 0
