"""What `OccupancyStore` promises, held against every store: the step that makes a difference says so, once."""

from __future__ import annotations

import asyncio

import pytest

from hybrid.broker.base import OccupancyStore
from tests.support.clock import FakeClock

LEASE_S = 30.0


async def test_the_first_node_occupies_and_the_last_one_vacates(occupancy: OccupancyStore) -> None:
    since = await occupancy.hold("a", "n1", LEASE_S)
    assert since is not None
    assert await occupancy.hold("a", "n2", LEASE_S) is None
    assert await occupancy.hold("a", "n1", LEASE_S) is None
    assert await occupancy.release("a", "n1") is None
    assert await occupancy.release("a", "n1") is None, "it had gone"
    until = await occupancy.release("a", "n2")
    assert until is not None
    assert until >= since
    assert await occupancy.release("a", "n2") is None
    assert await occupancy.hold("a", "n2", LEASE_S) is not None


async def test_channels_are_apart(occupancy: OccupancyStore) -> None:
    assert await occupancy.hold("a", "n1", LEASE_S) is not None
    assert await occupancy.hold("b", "n1", LEASE_S) is not None
    assert await occupancy.release("a", "n1") is not None
    assert await occupancy.release("b", "n1") is not None


async def test_of_many_that_come_together_one_is_told(occupancy: OccupancyStore) -> None:
    came = await asyncio.gather(*(occupancy.hold("a", f"n{number}", LEASE_S) for number in range(8)))
    assert len([at_ms for at_ms in came if at_ms is not None]) == 1
    went = await asyncio.gather(*(occupancy.release("a", f"n{number}") for number in range(8)))
    assert len([at_ms for at_ms in went if at_ms is not None]) == 1


async def test_what_a_dead_node_read_is_vacated_once_by_whoever_looks(
    occupancy: OccupancyStore, clock: FakeClock
) -> None:
    if not occupancy.is_shared:
        pytest.skip("a node that is alone outlives its store")
    for channel in ("a", "b"):
        await occupancy.hold(channel, "dead", LEASE_S)
    await occupancy.hold("b", "alive", LEASE_S * 3)
    await occupancy.hold("c", "alive", LEASE_S * 3)
    await occupancy.release("c", "alive")
    assert await occupancy.expire() == []
    clock.advance(LEASE_S + 1)
    found = await asyncio.gather(occupancy.expire(), occupancy.expire())
    assert [channel for vacated in found for channel, _ in vacated] == ["a"]
    clock.advance(LEASE_S * 2)
    assert [channel for channel, _ in await occupancy.expire()] == ["b"]
    assert await occupancy.expire() == []


async def test_a_lease_that_ran_out_while_another_node_comes_is_no_change(
    occupancy: OccupancyStore, clock: FakeClock
) -> None:
    if not occupancy.is_shared:
        pytest.skip("a node that is alone outlives its store")
    await occupancy.hold("a", "dead", LEASE_S)
    clock.advance(LEASE_S + 1)
    assert await occupancy.hold("a", "alive", LEASE_S) is None, "nobody saw it vacated"
    assert await occupancy.expire() == []
    assert await occupancy.release("a", "alive") is not None


async def test_many_that_are_due_are_all_found(occupancy: OccupancyStore, clock: FakeClock) -> None:
    if not occupancy.is_shared:
        pytest.skip("a node that is alone outlives its store")
    for number in range(130):
        await occupancy.hold(f"c{number}", "dead", LEASE_S)
    clock.advance(LEASE_S + 1)
    assert len(await occupancy.expire()) == 130
