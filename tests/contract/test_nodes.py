"""What `NodeStore` and `CallStore` promise, held against every store."""

from __future__ import annotations

import asyncio

from hybrid.broker.base import CallOutcome, CallStore, NodeStore
from tests.support.clock import FakeClock

LEASE_S = 15.0


async def test_nodes_see_one_another(nodes: NodeStore) -> None:
    first = await nodes.keep("a", 0, LEASE_S, b"I am a")
    second = await nodes.keep("b", 0, LEASE_S, b"I, b, too, 1,2")
    assert first.others == []
    assert second.others == [b"I am a"]
    assert 0 < first.generation < second.generation
    again = await nodes.keep("a", first.generation, LEASE_S, b"changed")
    assert (again.generation, again.others) == (first.generation, [b"I, b, too, 1,2"])
    assert (await nodes.keep("b", second.generation, LEASE_S, b"b")).others == [b"changed"]


async def test_a_lease_that_ran_out_is_not_renewed(nodes: NodeStore, clock: FakeClock) -> None:
    """A thawed node learns that it was away, also when nobody else was there to notice."""
    first = await nodes.keep("a", 0, LEASE_S, b"a")
    clock.advance(LEASE_S - 1)
    assert (await nodes.keep("a", first.generation, LEASE_S, b"a")).generation == first.generation
    clock.advance(LEASE_S + 1)
    assert (await nodes.keep("a", first.generation, LEASE_S, b"a")).generation == 0
    anew = await nodes.keep("a", 0, LEASE_S, b"a")
    assert anew.generation > first.generation
    assert (await nodes.keep("a", first.generation, LEASE_S, b"a")).generation == 0


async def test_the_dead_are_not_listed(nodes: NodeStore, clock: FakeClock) -> None:
    await nodes.keep("a", 0, LEASE_S, b"a")
    kept = await nodes.keep("b", 0, LEASE_S * 3, b"b")
    clock.advance(LEASE_S + 1)
    assert (await nodes.keep("b", kept.generation, LEASE_S, b"b")).others == []


async def test_leaving(nodes: NodeStore, clock: FakeClock) -> None:
    first = await nodes.keep("a", 0, LEASE_S, b"a")
    second = await nodes.keep("a", 0, LEASE_S, b"a")
    await nodes.leave("a", first.generation)
    assert (await nodes.keep("b", 0, LEASE_S, b"b")).others == [b"a"]
    await nodes.leave("a", second.generation)
    await nodes.leave("a", second.generation)
    assert (await nodes.keep("c", 0, LEASE_S, b"c")).others == [b"b"]
    assert (await nodes.keep("a", second.generation, LEASE_S, b"a")).generation == 0


async def test_messages_reach_their_node_in_order(nodes: NodeStore) -> None:
    heard: list[bytes] = []
    other: list[bytes] = []
    all_heard = asyncio.Event()

    def hear(message: bytes) -> None:
        heard.append(message)
        if len(heard) == 50:
            all_heard.set()

    await nodes.listen("a", hear)
    await nodes.listen("b", other.append)
    for number in range(50):
        assert await nodes.tell("a", b"\x00\n%d" % number)
    async with asyncio.timeout(10):
        await all_heard.wait()
    assert heard == [b"\x00\n%d" % number for number in range(50)]
    assert other == []


async def test_nobody_listens(nodes: NodeStore) -> None:
    assert not await nodes.tell("gone", b"hello")


async def test_a_call_runs_once(calls: CallStore) -> None:
    outcomes = await asyncio.gather(*[calls.begin(b"k", b"body", f"n{number}", 60) for number in range(5)])
    assert [outcome.is_ours for outcome in outcomes].count(True) == 1
    owner = f"n{[outcome.is_ours for outcome in outcomes].index(True)}"
    assert {outcome.claimant for outcome in outcomes if not outcome.is_ours} == {owner}
    assert (await calls.begin(b"k", b"body", owner, 60)).is_ours
    await calls.finish(b"k", b"body", owner, b'{"sum":3}', 60)
    assert await calls.begin(b"k", b"body", "n9", 60) == CallOutcome(result=b'{"sum":3}')
    assert await calls.begin(b"k", b"other", "n9", 60) == CallOutcome(is_conflict=True)
    assert (await calls.begin(b"another", b"body", "n9", 60)).is_ours
