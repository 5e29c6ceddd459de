"""What `hybrid/broker/base.py` promises, held against every broker."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from hybrid.broker.base import Append, Appended, Broker
from hybrid.errors import BrokerError, KeyConflict, UnrecoverablePosition
from hybrid.limits import Limits
from hybrid.model import START, Position, Publication
from tests.support.clock import FakeClock
from tests.support.listeners import RecordingListener

PAGE: dict[str, int] = {"limit": 1000, "max_bytes": 1_000_000}


def append(channel: str = "a", data: bytes = b'{"x":1}', **options: Any) -> Append:
    return Append(channel=channel, data=data, **{"history_size": 100, "history_ttl_s": 60.0, **options})


async def publish(broker: Broker, *appends: Append) -> list[Position]:
    results = await broker.append(appends)
    positions = []
    for result in results:
        assert isinstance(result, Appended)
        assert not result.was_repeated
        positions.append(result.position)
    return positions


async def published(broker: Broker, count: int, channel: str = "a", **options: Any) -> list[Position]:
    return await publish(broker, *[append(channel, b"%d" % number, **options) for number in range(1, count + 1)])


async def refused(broker: Broker, after: Position, channel: str = "a") -> Position:
    with pytest.raises(UnrecoverablePosition) as caught:
        await broker.read(channel, after, **PAGE)
    return caught.value.head


# -- offsets, epochs, tags


async def test_offsets_rise_by_one_from_one_in_each_channel(broker: Broker) -> None:
    assert [position.offset for position in await publish(broker, append(), append("b"), append())] == [1, 1, 2]
    assert [position.offset for position in await publish(broker, append(), append("b"))] == [3, 2]


async def test_epoch_and_tag_have_the_form_of_the_wire(broker: Broker) -> None:
    positions = await published(broker, 20)
    assert len({position.epoch for position in positions}) == 1
    assert all(re.fullmatch("[a-z0-9]{1,16}", position.epoch) for position in positions)
    assert all(re.fullmatch("[0-9a-f]{8}", position.tag) for position in positions)
    assert len({position.tag for position in positions}) > 15


async def test_channels_have_epochs_of_their_own(broker: Broker) -> None:
    epochs = {(await publish(broker, append(f"c{number}")))[0].epoch for number in range(10)}
    assert len(epochs) == 10


async def test_reading_makes_no_epoch(broker: Broker) -> None:
    assert await broker.heads(["a", "b"]) == [START, START]
    await broker.subscribe("a")
    page = await broker.read("a", START, **PAGE)
    assert (page.publications, page.head) == ([], START)
    page = await broker.history("a", limit=10, max_bytes=1_000_000, is_reverse=False)
    assert (page.publications, page.head) == ([], START)
    [first] = await publish(broker, append())
    assert first.offset == 1
    assert await broker.heads(["b", "a"]) == [START, first]


async def test_nothing_to_append(broker: Broker) -> None:
    assert await broker.append([]) == []
    assert await broker.heads([]) == []


# -- live delivery


async def test_listener_hears_each_publication_once_and_in_order(broker: Broker, listener: RecordingListener) -> None:
    await broker.subscribe("a")
    positions = await publish(broker, *[append(data=b"%d" % number) for number in range(5)])
    positions += await publish(broker, append(data=b"5", type="said"), append(data=b'{"base64":""}', is_binary=True))
    await listener.until(lambda: len(listener.publications) >= 7)
    assert [publication.position for publication in listener.publications] == positions
    assert [publication.data for publication in listener.publications[:6]] == [b"%d" % number for number in range(6)]
    assert listener.publications[5].type == "said"
    assert not listener.publications[5].is_binary
    assert listener.publications[6].is_binary
    assert listener.publications[6].type is None


async def test_concurrent_publishers_and_one_order(broker: Broker, listener: RecordingListener) -> None:
    await broker.subscribe("a")

    async def publisher(number: int) -> None:
        for turn in range(10):
            await publish(broker, append(data=b"[%d,%d]" % (number, turn)))

    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(publisher(number))
    await listener.until(lambda: len(listener.publications) >= 50)
    assert [publication.offset for publication in listener.publications] == list(range(1, 51))
    page = await broker.read("a", START, **PAGE)
    assert page.publications == listener.publications


async def test_what_was_heard_is_in_the_log(broker: Broker, listener: RecordingListener) -> None:
    await broker.subscribe("a")
    await publish(broker, append(data=b'"x"', type="said"))
    await listener.until(lambda: bool(listener.publications))
    assert (await broker.read("a", START, **PAGE)).publications == listener.publications


async def test_only_subscribed_channels_are_heard(broker: Broker, listener: RecordingListener) -> None:
    await broker.subscribe("a")
    await broker.subscribe("a")
    await broker.subscribe("b")
    await broker.unsubscribe("b")
    await broker.unsubscribe("b")
    await broker.unsubscribe("never")
    await publish(broker, append("b"), append("c"), append("a"))
    await listener.until(lambda: bool(listener.of("a")))
    assert [publication.channel for publication in listener.publications] == ["a"]


async def test_one_unsubscribe_undoes_several_subscribes(broker: Broker, listener: RecordingListener) -> None:
    for channel in ("a", "a", "b"):
        await broker.subscribe(channel)
    await broker.unsubscribe("a")
    await publish(broker, append("a"), append("b"))
    await listener.until(lambda: bool(listener.of("b")))
    assert not listener.of("a")


async def test_head_read_after_subscribing_misses_nothing(broker: Broker, listener: RecordingListener) -> None:
    await published(broker, 3)
    await broker.subscribe("a")
    [head] = await broker.heads(["a"])
    await publish(broker, append(), append())
    await listener.until(lambda: len(listener.publications) >= 2)
    assert [publication.offset for publication in listener.publications] == [head.offset + 1, head.offset + 2]


async def test_listener_that_publishes_is_told_in_order(broker: Broker, listener: RecordingListener) -> None:
    """A listener may start a publish when it hears of one; both are delivered, in the order of their offsets."""
    await broker.subscribe("a")
    tasks: list[asyncio.Task[list[Position]]] = []

    def answer(publication: Publication) -> None:
        if publication.offset <= 3:
            tasks.append(asyncio.get_running_loop().create_task(publish(broker, append(data=b'"answer"'))))

    listener.on_publication = answer
    await publish(broker, append(data=b'"question"'))
    await listener.until(lambda: len(listener.publications) >= 4)
    await asyncio.gather(*tasks)
    assert [publication.offset for publication in listener.publications] == [1, 2, 3, 4]


# -- reading on


async def test_reading_on_after_each_position(broker: Broker) -> None:
    positions = await published(broker, 5)
    everything = (await broker.read("a", START, **PAGE)).publications
    assert [publication.position for publication in everything] == positions
    assert [publication.data for publication in everything] == [b"1", b"2", b"3", b"4", b"5"]
    for index, position in enumerate(positions, start=1):
        page = await broker.read("a", position, **PAGE)
        assert page.publications == everything[index:]
        assert page.head == positions[-1]


async def test_pages_by_count(broker: Broker) -> None:
    positions = await published(broker, 7)
    after, seen = START, []
    for expected in (3, 3, 1, 0):
        page = await broker.read("a", after, limit=3, max_bytes=1_000_000)
        assert len(page.publications) == expected
        assert page.head == positions[-1]
        seen += [publication.position for publication in page.publications]
        after = seen[-1]
    assert seen == positions


async def test_pages_by_size(broker: Broker) -> None:
    await publish(broker, *[append(data=b'"' + b"x" * 98 + b'"') for _ in range(5)])
    assert len((await broker.read("a", START, limit=100, max_bytes=300)).publications) == 3
    assert len((await broker.read("a", START, limit=100, max_bytes=299)).publications) == 2


async def test_page_holds_at_least_one(broker: Broker) -> None:
    await publish(broker, append(data=b'"' + b"x" * 1000 + b'"'), append())
    assert len((await broker.read("a", START, limit=100, max_bytes=1)).publications) == 1


async def test_positions_that_cannot_be_continued(broker: Broker) -> None:
    positions = await published(broker, 5)
    head = positions[-1]
    epoch, tag = head.epoch, positions[2].tag
    other_tag = "00000000" if tag != "00000000" else "00000001"
    for after in (
        Position(3, epoch, other_tag),
        Position(5, epoch, other_tag if other_tag != head.tag else "00000002"),
        Position(3, "x" + epoch[1:] if epoch[0] != "x" else "y" + epoch[1:], tag),
        Position(6, epoch, tag),
    ):
        assert await refused(broker, after) == head
    assert await refused(broker, head, "never") == START


async def test_history_is_bounded_by_count(broker: Broker) -> None:
    positions = await published(broker, 5, history_size=3)
    page = await broker.history("a", limit=100, max_bytes=1_000_000, is_reverse=False)
    assert [publication.offset for publication in page.publications] == [3, 4, 5]
    assert [p.offset for p in (await broker.read("a", positions[2], **PAGE)).publications] == [4, 5]
    for after in (START, positions[0], positions[1]):
        assert await refused(broker, after) == positions[4]


async def test_history_is_bounded_by_age(broker: Broker, clock: FakeClock) -> None:
    positions = await published(broker, 2, history_ttl_s=60.0)
    clock.advance(40)
    positions += await publish(broker, append())
    clock.advance(30)
    page = await broker.history("a", limit=100, max_bytes=1_000_000, is_reverse=False)
    assert [publication.offset for publication in page.publications] == [3]
    assert await refused(broker, positions[1]) == positions[2]
    clock.advance(31)
    page = await broker.history("a", limit=100, max_bytes=1_000_000, is_reverse=False)
    assert (page.publications, page.head) == ([], positions[2])
    assert (await broker.read("a", positions[2], **PAGE)).publications == []


async def test_bounds_of_the_last_append_count(broker: Broker) -> None:
    await published(broker, 5, history_size=100)
    await publish(broker, append(history_size=2))
    page = await broker.history("a", limit=100, max_bytes=1_000_000, is_reverse=False)
    assert [publication.offset for publication in page.publications] == [5, 6]


async def test_age_of_the_last_append_counts(broker: Broker, clock: FakeClock) -> None:
    await published(broker, 2, history_ttl_s=600.0)
    clock.advance(20)
    [head] = await publish(broker, append(history_ttl_s=10.0))
    assert [
        p.offset for p in (await broker.history("a", limit=9, max_bytes=1_000_000, is_reverse=False)).publications
    ] == [3]
    clock.advance(11)
    assert (await broker.read("a", head, **PAGE)).publications == []


async def test_channel_without_history(broker: Broker, listener: RecordingListener) -> None:
    await broker.subscribe("a")
    positions = await published(broker, 2, history_size=0, history_ttl_s=0.0)
    await listener.until(lambda: len(listener.publications) >= 2)
    assert await broker.heads(["a"]) == [positions[1]]
    page = await broker.read("a", positions[1], **PAGE)
    assert (page.publications, page.head) == ([], positions[1])
    assert await refused(broker, positions[0]) == positions[1]
    assert await refused(broker, START) == positions[1]
    assert (await broker.history("a", limit=9, max_bytes=1_000_000, is_reverse=False)).publications == []


async def test_history_begins_and_ends_with_its_namespace(broker: Broker) -> None:
    """What is kept always ends at the head: a hole would be taken for the end of the log."""
    await published(broker, 2)
    [third] = await publish(broker, append(history_size=0, history_ttl_s=0.0))
    assert (await broker.history("a", limit=9, max_bytes=1_000_000, is_reverse=False)).publications == []
    assert await refused(broker, START) == third
    await publish(broker, append(), append())
    page = await broker.history("a", limit=9, max_bytes=1_000_000, is_reverse=False)
    assert [publication.offset for publication in page.publications] == [4, 5]
    assert await refused(broker, third)


async def test_history_both_ways(broker: Broker) -> None:
    positions = await published(broker, 5)
    forward = await broker.history("a", limit=2, max_bytes=1_000_000, is_reverse=False)
    assert [publication.offset for publication in forward.publications] == [1, 2]
    backward = await broker.history("a", limit=2, max_bytes=1_000_000, is_reverse=True)
    assert [publication.offset for publication in backward.publications] == [5, 4]
    assert forward.head == backward.head == positions[4]


async def test_head_outlives_the_history(broker: Broker, clock: FakeClock, limits: Limits) -> None:
    positions = await published(broker, 3)
    clock.advance(limits.meta_ttl_s - 1)
    assert await broker.heads(["a"]) == [positions[2]]
    assert (await broker.read("a", positions[2], **PAGE)).publications == []
    [fourth] = await publish(broker, append())
    assert (fourth.offset, fourth.epoch) == (4, positions[0].epoch)
    clock.advance(limits.meta_ttl_s - 1)
    assert await broker.heads(["a"]) == [fourth]


async def test_forgotten_log_begins_a_new_epoch(broker: Broker, clock: FakeClock, limits: Limits) -> None:
    old = (await published(broker, 3))[-1]
    clock.advance(limits.meta_ttl_s + 1)
    assert await broker.heads(["a"]) == [START]
    assert await refused(broker, old) == START
    [first] = await publish(broker, append())
    assert first.offset == 1
    assert first.epoch != old.epoch
    assert await refused(broker, old) == first
    assert len((await broker.read("a", START, **PAGE)).publications) == 1


# -- idempotency


async def test_repeat_with_a_key_appends_nothing(broker: Broker, listener: RecordingListener) -> None:
    await broker.subscribe("a")
    [position] = await publish(broker, append(key="k1", type="said"))
    [again] = await broker.append([append(key="k1", type="said")])
    assert again == Appended(position, was_repeated=True)
    await publish(broker, append(key="k2"))
    await listener.until(lambda: len(listener.publications) >= 2)
    assert [publication.offset for publication in listener.publications] == [1, 2]
    assert (await broker.heads(["a"]))[0].offset == 2


async def test_repeat_in_one_batch(broker: Broker) -> None:
    first, second = await broker.append([append(key="k1"), append(key="k1")])
    assert isinstance(first, Appended)
    assert second == Appended(first.position, was_repeated=True)


async def test_repeat_with_other_bounds_is_the_same_publish(broker: Broker) -> None:
    """The bounds come from the settings, which may change between two tries."""
    [position] = await publish(broker, append(key="k1"))
    [again] = await broker.append([append(key="k1", history_size=5, history_ttl_s=1.0, is_durable=True)])
    assert again == Appended(position, was_repeated=True)


@pytest.mark.parametrize(
    "other", [{"data": b"2"}, {"type": "said"}, {"is_binary": True}, {"data": b"2", "type": "said"}]
)
async def test_key_with_another_body_is_a_conflict(broker: Broker, other: dict[str, Any]) -> None:
    await publish(broker, append(key="k1"))
    conflict, after_it = await broker.append([append(key="k1", **other), append()])
    assert isinstance(conflict, KeyConflict)
    assert isinstance(after_it, Appended)
    assert after_it.position.offset == 2


async def test_key_is_forgotten_after_its_window(broker: Broker, clock: FakeClock, limits: Limits) -> None:
    await publish(broker, append(key="k1"))
    clock.advance(limits.idempotency_window_s - 1)
    [within] = await broker.append([append(key="k1")])
    assert isinstance(within, Appended)
    assert within.was_repeated
    clock.advance(2)
    [after] = await publish(broker, append(key="k1"))
    assert after.offset == 2


async def test_keys_are_their_callers_scope(broker: Broker) -> None:
    """The same text in another scope is another key, because the caller puts the scope in front."""
    assert [p.offset for p in await publish(broker, append(key="alice k1"), append(key="bob k1"))] == [1, 2]


async def test_what_is_appended_together_is_answered_and_heard_one_by_one(
    broker: Broker, listener: RecordingListener
) -> None:
    await broker.subscribe("a")
    await broker.append([append(data=b"0", key="k0")])
    kinds: list[dict[str, Any]] = [{}, {"type": "t"}, {"is_binary": True}, {"key": "k1"}, {"key": "k0"}, {"key": "k2"}]
    together = [append(data=b"1", **kind) for kind in kinds] + [append(data=b"1", key="k1"), append("b"), append()]
    results = await broker.append(together)
    assert isinstance(results[4], KeyConflict)
    assert isinstance(results[6], Appended)
    assert results[6].was_repeated
    offsets = [result.position.offset if isinstance(result, Appended) else 0 for result in results]
    assert offsets == [2, 3, 4, 5, 0, 6, 5, 1, 7]
    await listener.until(lambda: len(listener.publications) == 7)
    assert [publication.offset for publication in listener.publications] == [1, 2, 3, 4, 5, 6, 7]
    assert [(p.type, p.is_binary) for p in listener.publications[1:4]] == [(None, False), ("t", False), (None, True)]
    assert (await broker.read("a", START, **PAGE)).publications == listener.publications


@pytest.mark.parametrize("has_keys", [False, True])
async def test_more_than_travel_together_keep_their_order(broker: Broker, has_keys: bool) -> None:
    def made(number: int) -> Append:
        return append(data=b"%d" % number, history_size=1_000, key=f"k{number}" if has_keys else None)

    callers = [[made(3 * caller + place) for place in range(3)] for caller in range(60)]
    answers = await asyncio.gather(*map(broker.append, callers))
    page = await broker.read("a", START, **PAGE)
    assert [publication.offset for publication in page.publications] == list(range(1, 181))
    data_at = {publication.offset: publication.data for publication in page.publications}
    for asked, answered in zip(callers, answers, strict=True):
        offsets = [result.position.offset for result in answered if isinstance(result, Appended)]
        assert offsets == sorted(offsets)
        assert [data_at[offset] for offset in offsets] == [one.data for one in asked]


async def test_large_ones_together(broker: Broker) -> None:
    data = b'"' + b"x" * 65_000 + b'"'
    assert [position.offset for position in await publish(broker, *[append(data=data)] * 12)] == list(range(1, 13))


async def test_a_caller_that_leaves_takes_nobody_along(broker: Broker) -> None:
    leaving = asyncio.create_task(broker.append([append(), append()]))
    staying = asyncio.create_task(broker.append([append()]))
    await asyncio.sleep(0)
    leaving.cancel()
    [result] = await staying
    assert isinstance(result, Appended)


# -- life


async def test_names_are_taken_as_they_are(broker: Broker, listener: RecordingListener) -> None:
    names = ["a b", "a/b", "{x}", "a:b", "日本", "100%", "a\\b", "x" * 255, "[a-z]", "?"]
    for name in names:
        await broker.subscribe(name)
    await publish(broker, *[append(name) for name in names])
    await listener.until(lambda: len(listener.publications) >= len(names))
    # Only within a channel the order is promised.
    assert sorted(publication.channel for publication in listener.publications) == sorted(names)
    assert [position.offset for position in await broker.heads(names)] == [1] * len(names)


async def test_closed_broker_answers_with_its_own_error(broker: Broker) -> None:
    await broker.close()
    await broker.close()
    with pytest.raises(BrokerError) as caught:
        await broker.append([append()])
    assert caught.value.row.name == "broker_unavailable"
    for call in (
        broker.subscribe("a"),
        broker.heads(["a"]),
        broker.read("a", START, **PAGE),
        broker.history("a", limit=1, max_bytes=1_000_000, is_reverse=False),
    ):
        with pytest.raises(BrokerError):
            await call


@pytest.mark.parametrize("is_reverse", [False, True])
async def test_history_is_bounded_by_bytes_but_gives_one_at_least(broker: Broker, is_reverse: bool) -> None:
    await publish(broker, *[append(data=b'"%s"' % (b"x" * 98), history_size=10, history_ttl_s=60.0)] * 3)
    for max_bytes, count in ((1, 1), (199, 1), (200, 2), (1_000, 3)):
        page = await broker.history("a", limit=9, max_bytes=max_bytes, is_reverse=is_reverse)
        assert len(page.publications) == count


# -- purging


async def test_a_purge_empties_the_log_and_begins_another_epoch(broker: Broker) -> None:
    *_, last = await published(broker, 5)
    start = await broker.purge("a")
    assert (start.offset, start.tag) == (1, "00000000")
    assert start.epoch != last.epoch
    assert await broker.heads(["a"]) == [start]
    page = await broker.history("a", limit=10, max_bytes=1_000, is_reverse=False)
    assert (page.publications, page.head) == ([], start)
    assert (await broker.read("a", start, **PAGE)).publications == []
    [following] = await publish(broker, append("a", b"6"))
    assert (following.offset, following.epoch) == (2, start.epoch)
    assert [p.data for p in (await broker.read("a", start, **PAGE)).publications] == [b"6"]


async def test_no_position_from_before_a_purge_goes_on(broker: Broker) -> None:
    """The start neither: who has read nothing yet would miss what was purged, and not be told."""
    before = [START, *await published(broker, 3)]
    start = await broker.purge("a")
    for position in before:
        assert await refused(broker, position) == start
    [following] = await publish(broker, append("a"))
    for position in before:
        assert await refused(broker, position) == following


async def test_what_follows_a_purge_can_be_read_for_as_long_as_it_is_kept(broker: Broker) -> None:
    await published(broker, 2)
    start = await broker.purge("a")
    await published(broker, 3, history_size=3)
    assert [p.offset for p in (await broker.read("a", start, **PAGE)).publications] == [2, 3, 4]
    [last] = await publish(broker, append(history_size=3))
    assert await refused(broker, start) == last
    assert await refused(broker, Position(1, last.epoch, "00000001")) == last


async def test_a_purge_is_announced_between_what_was_before_and_after(
    broker: Broker, listener: RecordingListener
) -> None:
    await broker.subscribe("a")
    *_, last = await published(broker, 2)
    start = await broker.purge("a")
    await publish(broker, append())
    await listener.until(lambda: len(listener.publications) == 3)
    assert listener.purges == [("a", start, last.epoch)]
    assert [publication.offset for publication in listener.of("a")] == [1, 2, 2]
    assert listener.gaps == []


async def test_a_purge_of_nothing_does_nothing(
    broker: Broker, listener: RecordingListener, clock: FakeClock, limits: Limits
) -> None:
    await broker.subscribe("a")
    assert await broker.purge("a") == START
    assert await broker.heads(["a"]) == [START]
    await published(broker, 1)
    clock.advance(limits.meta_ttl_s + 1)
    assert await broker.purge("a") == START
    [first] = await publish(broker, append())
    assert first.offset == 1
    await listener.until(lambda: len(listener.publications) == 2)
    assert listener.purges == []


async def test_purges_follow_one_another_and_leave_other_channels_alone(broker: Broker) -> None:
    await published(broker, 2)
    [other] = await publish(broker, append("b"))
    first, second = await broker.purge("a"), await broker.purge("a")
    assert first.epoch != second.epoch
    assert await refused(broker, first) == second
    assert await broker.heads(["a", "b"]) == [second, other]


async def test_a_key_that_was_used_stays_used_over_a_purge(broker: Broker) -> None:
    [position] = await publish(broker, append(key="k"))
    await broker.purge("a")
    assert await broker.append([append(key="k")]) == [Appended(position, was_repeated=True)]
    assert isinstance((await broker.append([append("a", b"2", key="k")]))[0], KeyConflict)


async def test_the_history_after_a_purge_is_kept_and_ends_as_any_other(broker: Broker, clock: FakeClock) -> None:
    await published(broker, 3, history_ttl_s=60.0)
    clock.advance(50)
    start = await broker.purge("a")
    await published(broker, 2, history_ttl_s=60.0)
    clock.advance(20)
    assert [p.offset for p in (await broker.read("a", start, **PAGE)).publications] == [2, 3]
    clock.advance(50)
    await publish(broker, append("a", b"new", history_ttl_s=60.0))
    page = await broker.history("a", limit=10, max_bytes=1_000, is_reverse=False)
    assert [p.data for p in page.publications] == [b"new"]
