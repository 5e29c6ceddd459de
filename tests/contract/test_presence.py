"""What `PresenceStore` promises, held against every store."""

from __future__ import annotations

from hybrid.broker.base import Append, Broker, PresenceStore, Present
from hybrid.model import PresenceEntry
from tests.support.clock import FakeClock
from tests.support.listeners import RecordingListener

ALICE = PresenceEntry("alice")
ALICE_PHONE = PresenceEntry("alice", "phone")
BOB = PresenceEntry("bob", "app")
LEASE_S = 30.0


async def test_first_session_joins_and_last_one_leaves(presence: PresenceStore) -> None:
    assert await presence.join("a", ALICE, "s1", LEASE_S)
    assert not await presence.join("a", ALICE, "s2", LEASE_S)
    assert not await presence.join("a", ALICE, "s1", LEASE_S)
    assert await presence.entries("a", 10) == [ALICE]
    assert not await presence.leave("a", ALICE, "s1")
    assert await presence.entries("a", 10) == [ALICE]
    assert await presence.leave("a", ALICE, "s2")
    assert await presence.entries("a", 10) == []
    assert await presence.join("a", ALICE, "s3", LEASE_S)


async def test_principals_differ_by_client(presence: PresenceStore) -> None:
    assert await presence.join("a", ALICE, "s1", LEASE_S)
    assert await presence.join("a", ALICE_PHONE, "s1", LEASE_S)
    assert await presence.leave("a", ALICE, "s1")
    assert await presence.entries("a", 10) == [ALICE_PHONE]


async def test_channels_are_apart(presence: PresenceStore) -> None:
    assert await presence.join("a", ALICE, "s1", LEASE_S)
    assert await presence.join("b", ALICE, "s1", LEASE_S)
    assert await presence.leave("a", ALICE, "s1")
    assert await presence.entries("b", 10) == [ALICE]
    assert await presence.entries("c", 10) == []


async def test_unknown_ones_are_ignored(presence: PresenceStore) -> None:
    assert not await presence.leave("a", ALICE, "s1")
    await presence.join("a", ALICE, "s1", LEASE_S)
    assert not await presence.leave("a", ALICE, "s2")
    assert not await presence.leave("a", BOB, "s1")
    assert await presence.entries("a", 10) == [ALICE]


async def test_entries_in_order_of_coming_and_bounded(presence: PresenceStore, clock: FakeClock) -> None:
    people = [PresenceEntry(f"p{number}") for number in (3, 1, 2)]
    for person in people:
        await presence.join("a", person, "s", LEASE_S)
        clock.advance(1)
    await presence.join("a", people[0], "s", LEASE_S)
    assert await presence.entries("a", 10) == people
    assert await presence.entries("a", 2) == people[:2]


async def test_changes_are_announced_once_to_listeners_of_the_channel(
    broker: Broker, presence: PresenceStore, listener: RecordingListener
) -> None:
    await broker.subscribe("a")
    await presence.join("a", ALICE, "s1", LEASE_S)
    await presence.join("a", ALICE, "s2", LEASE_S)
    await presence.join("b", BOB, "s1", LEASE_S)
    await presence.leave("a", ALICE, "s1")
    await presence.leave("a", ALICE, "s2")
    await presence.join("a", BOB, "s1", LEASE_S)
    await listener.until(lambda: len(listener.presence) >= 3)
    assert listener.presence == [("a", ALICE, True), ("a", ALICE, False), ("a", BOB, True)]


async def test_lease_that_ran_out_is_a_leave_announced_once(
    broker: Broker, presence: PresenceStore, listener: RecordingListener, clock: FakeClock
) -> None:
    await broker.subscribe("a")
    await presence.join("a", ALICE, "s1", LEASE_S)
    await presence.join("a", BOB, "s2", LEASE_S * 2)
    clock.advance(LEASE_S + 1)
    await presence.expire()
    await presence.expire()
    assert await presence.entries("a", 10) == [BOB]
    assert not await presence.leave("a", ALICE, "s1")
    clock.advance(LEASE_S + 1)
    await presence.expire()
    await listener.until(lambda: len(listener.presence) >= 4)
    assert listener.presence == [("a", ALICE, True), ("a", BOB, True), ("a", ALICE, False), ("a", BOB, False)]


async def test_renewed_lease_lives_on(presence: PresenceStore, clock: FakeClock) -> None:
    await presence.join("a", ALICE, "s1", LEASE_S)
    for _ in range(5):
        clock.advance(LEASE_S - 1)
        assert not await presence.join("a", ALICE, "s1", LEASE_S)
        await presence.expire()
    assert await presence.entries("a", 10) == [ALICE]
    clock.advance(LEASE_S + 1)
    await presence.expire()
    assert await presence.entries("a", 10) == []


async def test_one_of_two_leases_runs_out(presence: PresenceStore, clock: FakeClock) -> None:
    await presence.join("a", ALICE, "s1", LEASE_S)
    await presence.join("a", ALICE, "s2", LEASE_S * 3)
    clock.advance(LEASE_S + 1)
    await presence.expire()
    assert await presence.entries("a", 10) == [ALICE]
    assert await presence.leave("a", ALICE, "s2")


async def test_whose_lease_ran_out_is_not_there(presence: PresenceStore, clock: FakeClock) -> None:
    """Even before anybody called `expire`."""
    await presence.join("a", ALICE, "s1", LEASE_S)
    clock.advance(LEASE_S + 1)
    assert await presence.entries("a", 10) == []


async def test_coming_back_after_the_lease_is_a_new_join(
    broker: Broker, presence: PresenceStore, listener: RecordingListener, clock: FakeClock
) -> None:
    """A thawed node renews leases that others have already taken for ended."""
    await broker.subscribe("a")
    await presence.join("a", ALICE, "s1", LEASE_S)
    clock.advance(LEASE_S + 1)
    await presence.expire()
    assert await presence.join("a", ALICE, "s1", LEASE_S)
    await listener.until(lambda: len(listener.presence) >= 3)
    assert [has_joined for _, _, has_joined in listener.presence] == [True, False, True]


async def test_presence_does_not_touch_the_log(broker: Broker, presence: PresenceStore) -> None:
    await presence.join("a", ALICE, "s1", LEASE_S)
    results = await broker.append([Append(channel="a", data=b"1")])
    assert [result.position.offset for result in results if not isinstance(result, Exception)] == [1]


async def test_principals_and_sessions_are_counted(presence: PresenceStore, clock: FakeClock) -> None:
    assert await presence.count("a") == Present(0, 0)
    for entry, session, lease_s in ((ALICE, "s1", 30), (ALICE, "s2", 60), (BOB, "s3", 30), (BOB, "s3", 30)):
        await presence.join("a", entry, session, lease_s)
    await presence.join("b", BOB, "s3", 30)
    assert await presence.count("a") == Present(2, 3)
    clock.advance(31)
    assert await presence.count("a") == Present(1, 1)
    await presence.leave("a", ALICE, "s2")
    assert await presence.count("a") == Present(0, 0)
