"""A node's lease: kept, lost, taken anew; and what happens to those who are present here meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from hybrid.broker.base import Kept
from hybrid.broker.memory import MemoryBroker
from hybrid.broker.memory_nodes import MemoryNodes
from hybrid.engine.nodes import LEASE_S, NodeInfo, Nodes
from hybrid.engine.presence import HAND_OVER_S, PresenceKeeper
from hybrid.engine.presence import LEASE_S as PRESENCE_LEASE_S
from hybrid.engine.tasks import Tasks
from hybrid.engine.wheel import Wheel
from hybrid.errors import BrokerError
from hybrid.limits import Limits
from hybrid.model import PresenceEntry, Principal
from tests.support.listeners import RecordingListener
from tests.support.virtual_time import clock, in_virtual_time

ALICE = Principal(issuer="i", subject="alice")


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


class Faulty(MemoryNodes):
    """Away while it is told so."""

    is_away = False

    async def keep(self, node: str, generation: int, lease_s: float, text: bytes) -> Kept:
        if self.is_away:
            raise BrokerError
        return await super().keep(node, generation, lease_s, text)


@asynccontextmanager
async def keeping(store: MemoryNodes, node: str, lost: list[str]) -> AsyncIterator[Nodes]:
    wheel, tasks = Wheel(clock()), Tasks()
    made = Nodes(
        node,
        store,
        wheel,
        tasks,
        describe=lambda: NodeInfo(id=node, room=5, accepts_per_s=1.0),
        heard=lambda sealed: None,
        lost=lambda: lost.append(node),
    )
    await made.start()
    yield made
    await tasks.close()
    await made.leave()
    wheel.close()


@in_virtual_time
async def test_nodes_keep_their_leases_and_see_one_another() -> None:
    store, lost = MemoryNodes(clock()), list[str]()
    async with keeping(store, "a", lost) as a:
        async with keeping(store, "b", lost) as b:
            await asyncio.sleep(LEASE_S * 5)
            assert [other.id for other in a.others] == ["b"]
            assert [other.id for other in b.others] == ["a"]
            assert a.is_there("a")
            assert a.is_there("b")
            assert not a.is_there("c")
        await asyncio.sleep(LEASE_S)
        assert a.others == []
    assert lost == []


@in_virtual_time
async def test_a_lease_that_ran_out_is_taken_anew_and_told() -> None:
    store, lost = Faulty(clock()), list[str]()
    async with keeping(store, "a", lost) as a:
        store.is_away = True
        await asyncio.sleep(LEASE_S * 2)
        assert lost == []
        store.is_away = False
        await asyncio.sleep(2)
        assert lost == ["a"]
        await asyncio.sleep(LEASE_S * 2)
        assert lost == ["a"], "once"
        assert a.is_there("a")


@in_virtual_time
async def test_a_broker_that_is_away_at_the_start_is_tried_again() -> None:
    store, lost = Faulty(clock()), list[str]()
    store.is_away = True
    async with keeping(store, "a", lost):
        await asyncio.sleep(3)
        store.is_away = False
        await asyncio.sleep(3)
        assert (await store.keep("b", 0, LEASE_S, b"{}")).others != []
    assert lost == []


@in_virtual_time
async def test_what_another_version_says_of_itself_is_read_as_far_as_it_is_known() -> None:
    store = MemoryNodes(clock())
    later = {"id": "z", "room": 7, "accepts_per_s": 2, "version": "9.9", "something": {"new": [1]}}
    await store.keep("z", 0, LEASE_S, msgspec.json.encode(later))
    async with keeping(store, "a", []) as a:
        assert [(other.id, other.room, other.version) for other in a.others] == [("z", 7, "9.9")]


# -- presence


@asynccontextmanager
async def present() -> AsyncIterator[tuple[PresenceKeeper, MemoryBroker, RecordingListener]]:
    wheel, tasks = Wheel(clock()), Tasks()
    broker, listener = MemoryBroker(clock(), Limits()), RecordingListener()
    await broker.open(listener)
    await broker.subscribe("a")
    keeper = PresenceKeeper(broker, wheel, tasks)
    keeper.start()
    yield keeper, broker, listener
    await tasks.close()
    wheel.close()


@in_virtual_time
async def test_leases_of_a_node_that_died_end_also_where_nobody_else_is_present() -> None:
    async with present() as (_, broker, listener):
        await broker.join("a", PresenceEntry("bob"), "elsewhere", PRESENCE_LEASE_S)
        await asyncio.sleep(PRESENCE_LEASE_S + 3)
        assert listener.presence == [("a", PresenceEntry("bob"), True), ("a", PresenceEntry("bob"), False)]


@in_virtual_time
async def test_leases_are_renewed_for_as_long_as_somebody_is_here() -> None:
    async with present() as (keeper, _, listener):
        keeper.join(ALICE, "s", "a")
        await asyncio.sleep(PRESENCE_LEASE_S * 4)
        assert [joined for _, _, joined in listener.presence] == [True]
        keeper.leave("s", "a")
        await keeper.written()
        assert [joined for _, _, joined in listener.presence] == [True, False]


@in_virtual_time
async def test_whoever_was_taken_for_gone_joins_again_at_once() -> None:
    """A thawed node: the others have told the leaves meanwhile."""
    async with present() as (keeper, broker, listener):
        keeper.join(ALICE, "s", "a")
        await keeper.written()
        await broker.leave("a", PresenceEntry("alice"), "s")
        keeper.rejoin()
        await asyncio.sleep(0.1)
        assert [joined for _, _, joined in listener.presence] == [True, False, True]


@in_virtual_time
async def test_who_was_handed_over_is_seen_for_a_moment_and_no_longer() -> None:
    async with present() as (keeper, broker, listener):
        keeper.join(ALICE, "s", "a")
        await keeper.written()
        await keeper.hand_over()
        await asyncio.sleep(HAND_OVER_S - 1)
        assert await broker.entries("a", 9) == [PresenceEntry("alice")]
        await asyncio.sleep(4)
        assert [joined for _, _, joined in listener.presence] == [True, False]
