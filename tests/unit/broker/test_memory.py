"""What the memory broker adds to the contract: its bounds, and that nothing comes between append and announcement."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from hybrid.broker.base import Append, Appended, BrokerListener
from hybrid.broker.memory import MemoryBroker
from hybrid.errors import BrokerError
from hybrid.limits import Limits
from hybrid.model import START, PresenceEntry, Publication
from tests.support.clock import FakeClock
from tests.support.listeners import RecordingListener

PAGE: dict[str, int] = {"limit": 1000, "max_bytes": 1_000_000}


def append(channel: str = "a", data: bytes = b"1", **options: Any) -> Append:
    return Append(channel=channel, data=data, **options)


def kept(channel: str = "a", **options: Any) -> Append:
    return append(channel, **{"history_size": 100, "history_ttl_s": 60.0, **options})


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def listener() -> RecordingListener:
    return RecordingListener()


async def opened(clock: FakeClock, listener: BrokerListener, **limits: Any) -> MemoryBroker:
    broker = MemoryBroker(clock, Limits(**limits))
    await broker.open(listener)
    return broker


async def test_append_has_been_announced_when_it_returns(clock: FakeClock, listener: RecordingListener) -> None:
    broker = await opened(clock, listener)
    await broker.subscribe("a")
    result = broker.append_nowait(append())
    assert isinstance(result, Appended)
    assert [publication.position for publication in listener.publications] == [result.position]


async def test_what_a_listener_appends_comes_after_what_it_is_hearing(clock: FakeClock) -> None:
    """A nested announcement would let a listener finish the second publication before the first."""
    finished: list[int] = []

    class Answering(RecordingListener):
        def published(self, publication: Publication) -> None:
            if publication.offset < 4:
                result = broker.append_nowait(append())
                assert isinstance(result, Appended)
                assert result.position.offset == publication.offset + 1
            finished.append(publication.offset)

    broker = await opened(clock, Answering())
    await broker.subscribe("a")
    await broker.append([append()])
    assert finished == [1, 2, 3, 4]


async def test_channel_left_while_an_announcement_waits_is_not_heard(clock: FakeClock) -> None:
    class Leaving(RecordingListener):
        def published(self, publication: Publication) -> None:
            super().published(publication)
            if publication.channel == "a":
                broker.append_nowait(append("b"))
                # Runs to its end at once: nothing is awaited inside.
                with pytest.raises(StopIteration):
                    broker.unsubscribe("b").send(None)

    listener = Leaving()
    broker = await opened(clock, listener)
    await broker.subscribe("a")
    await broker.subscribe("b")
    await broker.append([append("a")])
    assert [publication.channel for publication in listener.publications] == ["a"]


async def test_listener_that_fails_spoils_nothing(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    class Failing(RecordingListener):
        def published(self, publication: Publication) -> None:
            super().published(publication)
            raise RuntimeError("listener")

        def presence_changed(self, channel: str, entry: PresenceEntry, has_joined: bool) -> None:
            raise RuntimeError("listener")

    listener = Failing()
    broker = await opened(clock, listener)
    await broker.subscribe("a")
    with caplog.at_level(logging.ERROR):
        results = await broker.append([append(), append()])
        assert await broker.join("a", PresenceEntry("alice"), "s1", 30.0)
    assert all(isinstance(result, Appended) for result in results)
    assert [publication.offset for publication in listener.publications] == [1, 2]
    assert len(caplog.records) == 3


async def test_too_many_logs_cost_the_one_longest_unused(clock: FakeClock, listener: RecordingListener) -> None:
    broker = await opened(clock, listener, channels_max=3)
    await broker.append([kept("a"), kept("b"), kept("c")])
    await broker.append([kept("a")])
    await broker.read("b", START, **PAGE)
    await broker.append([kept("d")])
    heads = await broker.heads(["a", "b", "c", "d"])
    assert [head.offset for head in heads] == [2, 1, 0, 1]


async def test_logs_with_listeners_are_not_dropped(clock: FakeClock, listener: RecordingListener) -> None:
    broker = await opened(clock, listener, channels_max=2)
    await broker.subscribe("a")
    await broker.append([append("a"), append("b")])
    await broker.append([append("c")])
    assert [head.offset for head in await broker.heads(["a", "b", "c"])] == [1, 0, 1]
    await broker.subscribe("c")
    [full, known] = await broker.append([append("d"), append("a")])
    assert isinstance(full, BrokerError)
    assert full.row.name == "limit_exceeded"
    assert isinstance(known, Appended)
    await broker.unsubscribe("a")
    assert isinstance((await broker.append([append("d")]))[0], Appended)
    assert [head.offset for head in await broker.heads(["a", "c", "d"])] == [0, 1, 1]


async def test_dropped_log_begins_a_new_epoch(clock: FakeClock, listener: RecordingListener) -> None:
    broker = await opened(clock, listener, channels_max=1)
    first = (await broker.append([append("a")]))[0]
    await broker.append([append("b")])
    again = (await broker.append([append("a")]))[0]
    assert isinstance(first, Appended)
    assert isinstance(again, Appended)
    assert again.position.offset == 1
    assert again.position.epoch != first.position.epoch


async def test_forgotten_logs_go_before_the_bound_is_reached(clock: FakeClock, listener: RecordingListener) -> None:
    broker = await opened(clock, listener, meta_ttl_s=100.0)
    await broker.append([append(f"c{number}") for number in range(10)])
    clock.advance(101)
    await broker.append([append("new")])
    assert list(broker._logs) == ["new"]


async def test_keys_are_bounded_and_none_is_forgotten_early(clock: FakeClock, listener: RecordingListener) -> None:
    broker = await opened(clock, listener, idempotency_keys_max=2)
    await broker.append([append(key="k1")])
    clock.advance(100)
    await broker.append([append(key="k2")])
    [full, repeat, without] = await broker.append([append(key="k3"), append(key="k1"), append()])
    assert isinstance(full, BrokerError)
    assert full.row.name == "limit_exceeded"
    assert full.retry_after_s == 200.0
    assert isinstance(repeat, Appended)
    assert repeat.was_repeated
    assert isinstance(without, Appended)
    assert without.position.offset == 3
    clock.advance(200)
    [free] = await broker.append([append(key="k3")])
    assert isinstance(free, Appended)
    assert len(broker._keys) == 2


async def test_key_of_a_refused_append_is_not_taken(clock: FakeClock, listener: RecordingListener) -> None:
    broker = await opened(clock, listener, channels_max=1)
    await broker.subscribe("a")
    await broker.append([append("a")])
    [refused] = await broker.append([append("b", key="k1")])
    assert isinstance(refused, BrokerError)
    await broker.unsubscribe("a")
    [accepted] = await broker.append([append("b", key="k1")])
    assert isinstance(accepted, Appended)
    assert not accepted.was_repeated


async def test_old_history_is_freed_without_being_read(clock: FakeClock, listener: RecordingListener) -> None:
    broker = await opened(clock, listener)
    await broker.append([kept(f"c{number}") for number in range(5)])
    clock.advance(30)
    await broker.append([kept("c0")])
    clock.advance(31)
    await broker.append([append("other")])
    assert {channel: len(log.entries) for channel, log in broker._logs.items() if log.entries} == {"c0": 1}
    clock.advance(30)
    await broker.append([append("other")])
    assert not any(log.entries for log in broker._logs.values())


async def test_history_on_the_very_edge_of_its_age(clock: FakeClock, listener: RecordingListener) -> None:
    """At exactly its age an entry is still kept, though its deadline has come: the sweep must not spin over it."""
    broker = await opened(clock, listener)
    await broker.append([kept("a")])
    clock.advance(60.0)
    await broker.append([append("b")])
    assert len((await broker.history("a", limit=9, max_bytes=1_000_000, is_reverse=False)).publications) == 1
    clock.advance(0.01)
    await broker.append([append("b")])
    assert not broker._logs["a"].entries


async def test_jump_of_the_wall_clock_empties_nothing(clock: FakeClock, listener: RecordingListener) -> None:
    broker = await opened(clock, listener)
    await broker.append([kept("a", key="k1")])
    clock.jump_wall(100_000_000)
    assert len((await broker.history("a", limit=9, max_bytes=1_000_000, is_reverse=False)).publications) == 1
    [repeat] = await broker.append([kept("a", key="k1")])
    assert isinstance(repeat, Appended)
    assert repeat.was_repeated


async def test_closing_frees_everything_and_tells_nobody(clock: FakeClock, listener: RecordingListener) -> None:
    broker = await opened(clock, listener)
    await broker.subscribe("a")
    await broker.append([kept("a", key="k1")])
    await broker.close()
    assert isinstance(broker.append_nowait(append()), BrokerError)
    assert not broker._logs
    assert len(listener.publications) == 1
    with pytest.raises(BrokerError):
        await broker.join("a", PresenceEntry("alice"), "s1", 30.0)
