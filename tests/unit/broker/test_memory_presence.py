from __future__ import annotations

from hybrid.broker.memory_presence import MemoryPresence
from hybrid.model import PresenceEntry
from tests.support.clock import FakeClock

ALICE = PresenceEntry("alice")


def test_nothing_is_kept_of_who_left() -> None:
    clock = FakeClock()
    presence = MemoryPresence(clock, lambda channel, entry, has_joined: None)
    for number in range(1_000):
        presence.join(f"c{number}", ALICE, f"s{number}", 30.0)
        if number % 2:
            presence.leave(f"c{number}", ALICE, f"s{number}")
    assert len(presence._leases) == len(presence._channels) == 500
    clock.advance(30.0)
    presence.expire()
    assert not presence._channels
    assert len(presence._leases) == 0


def test_leave_at_the_moment_the_lease_ends_is_announced_once() -> None:
    clock = FakeClock()
    heard: list[tuple[str, PresenceEntry, bool]] = []
    presence = MemoryPresence(clock, lambda *change: heard.append(change))
    presence.join("a", ALICE, "s1", 30.0)
    clock.advance(30.0)
    assert not presence.leave("a", ALICE, "s1")
    assert heard == [("a", ALICE, True), ("a", ALICE, False)]


def test_listener_that_leaves_while_it_hears_of_a_join() -> None:
    clock = FakeClock()
    heard: list[bool] = []

    def announce(channel: str, entry: PresenceEntry, has_joined: bool) -> None:
        heard.append(has_joined)
        if has_joined:
            presence.leave(channel, entry, "s1")

    presence = MemoryPresence(clock, announce)
    assert presence.join("a", ALICE, "s1", 30.0)
    assert heard == [True, False]
    assert presence.entries("a", 10) == []
