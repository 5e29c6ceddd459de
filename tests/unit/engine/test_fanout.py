"""What a flush costs, in counts that do not depend on a machine, and that it cannot be stopped by an error."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Coroutine
from typing import Any

import pytest

from hybrid.engine.encodings import PLAIN_JSON, SESSION_JSON, SESSION_MSGPACK, Encoding
from hybrid.limits import Limits
from hybrid.model import PresenceEntry, Publication
from hybrid.protocol.pushes import Push
from tests.support.hubs import offsets, staged
from tests.support.links import FakeLink, Reader, items, joined
from tests.support.virtual_time import in_virtual_time, settle


def counted(encoding: Encoding, counts: Counter[str]) -> Encoding:
    def encode(publication: Publication) -> bytes:
        counts[encoding.name] += 1
        return encoding.encode(publication)

    return Encoding(encoding.name, encode, encoding.announce)


@in_virtual_time
async def test_a_publication_is_encoded_once_for_each_encoding_that_is_listened_to() -> None:
    counts: Counter[str] = Counter()
    wanted = [counted(SESSION_JSON, counts), counted(PLAIN_JSON, counts)]
    unwanted = counted(SESSION_MSGPACK, counts)
    async with staged() as stage:
        readers = [Reader(stage.hub, wanted[number % 2]) for number in range(20)]
        for reader in readers:
            await reader.follow("a")
        gone = Reader(stage.hub, unwanted)
        await gone.follow("a")
        gone.feed.close()
        stage.publish(10)
        await asyncio.sleep(0.01)
        assert counts == {"session-json": 10, "plain-json": 10}
        # Who comes later, and polls, are given the same bytes.
        late = Reader(stage.hub, wanted[0])
        start = stage.broker.parents[stage.broker.head("a")]
        await late.follow("a", start)
        await settle()
        await stage.hub.collect({"a": start}, encoding=wanted[1], wait_s=0, max_bytes=1_000)
        assert counts == {"session-json": 10, "plain-json": 10}
        assert late.link.payloads[-1] is readers[0].link.payloads[-1] or late.link.payloads == [
            readers[0].link.payloads[-1]
        ]


@in_virtual_time
async def test_a_flush_is_one_write_of_the_same_bytes_to_every_link() -> None:
    framed: Counter[str] = Counter()

    def framing(payloads: object) -> bytes:
        framed["joined"] += 1
        return joined(payloads)  # type: ignore[arg-type]

    async with staged() as stage:
        same = [Reader(stage.hub, link=FakeLink(framing)) for _ in range(30)]
        others = [Reader(stage.hub, link=FakeLink(items)) for _ in range(3)]
        for reader in same + others:
            await reader.follow("a")
        stage.publish()  # a quiet channel: at once
        assert [len(reader.link.segments) for reader in same + others] == [1] * 33
        stage.publish(9)  # and these gather
        assert [len(reader.link.segments) for reader in same + others] == [1] * 33
        await asyncio.sleep(0.003)
        assert [len(reader.link.segments) for reader in same + others] == [2] * 33
        assert all(reader.link.segments[1] is same[0].link.segments[1] for reader in same)
        assert all(reader.link.segments[1] is others[0].link.segments[1] for reader in others)
        assert framed["joined"] == 2
        assert offsets(others[0].link.payloads) == list(range(1, 11))
        assert stage.hub.stats().flushes == 2
        assert stage.hub.stats().deliveries == 330


@in_virtual_time
async def test_deliveries_make_no_task() -> None:
    async with staged() as stage:
        for _ in range(50):
            await Reader(stage.hub).follow("a")
        made: list[object] = []
        loop = asyncio.get_running_loop()

        def noted(
            loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **rest: Any
        ) -> asyncio.Task[Any]:
            made.append(coroutine)
            return asyncio.Task(coroutine, loop=loop, **rest)

        loop.set_task_factory(noted)
        for _ in range(20):
            stage.publish(5)
            await asyncio.sleep(0.003)
        loop.set_task_factory(None)
        assert made == []
        assert stage.hub.stats().deliveries == 5_000


@in_virtual_time
async def test_flushes_are_an_interval_apart_and_no_larger_than_a_segment_may_be() -> None:
    limits = Limits(flush_interval_s=0.5, flush_max_bytes=1_000)
    async with staged(limits) as stage:
        reader = Reader(stage.hub)
        await reader.follow("a")
        begun: list[tuple[float, int]] = []
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        reader.link.on_write = lambda: begun.append((round(loop.time() - start_s, 3), len(reader.link.payloads)))
        stage.publish(1)
        stage.publish(10, data=b"1" * 200)  # three of them make about 1000 bytes
        await asyncio.sleep(10)
        assert begun == [(0.0, 1), (0.5, 4), (1.0, 7), (1.5, 10), (2.0, 11)]
        stage.publish(1, data=b"1" * 5_000)  # one larger than a segment goes alone
        assert begun[-1] == (10.0, 12)


@in_virtual_time
async def test_a_long_fan_out_lets_others_work_and_writes_a_slice_at_a_time() -> None:
    async with staged(Limits(fan_out_slice=10)) as stage:
        readers = [Reader(stage.hub, [SESSION_JSON, PLAIN_JSON][number % 2]) for number in range(35)]
        for reader in readers:
            await reader.follow("a")
        seen = []
        stage.publish()
        for _ in range(5):
            seen.append(sum(bool(reader.link.segments) for reader in readers))
            await asyncio.sleep(0)
        assert seen == [10, 20, 30, 35, 35]


@in_virtual_time
async def test_a_link_that_fails_is_aborted_and_harms_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async with staged() as stage:
        readers = [Reader(stage.hub) for _ in range(5)]
        for reader in readers:
            await reader.follow("a")
        readers[2].link.error = OSError("broken")
        with caplog.at_level(logging.ERROR):
            stage.publish(2)
            await asyncio.sleep(0.01)
        assert readers[2].link.is_aborted
        assert readers[2].feed.channels() == []
        assert caplog.text.count("a link failed in a fan-out") == 1
        assert [offsets(reader.link.payloads) for reader in readers if reader is not readers[2]] == [[1, 2]] * 4
        assert stage.hub.stats().live_links == 4


@in_virtual_time
async def test_a_publication_that_cannot_be_written_is_told_as_a_reset(caplog: pytest.LogCaptureFixture) -> None:
    def encode(publication: Publication) -> bytes:
        if publication.offset == 2:
            raise ValueError("no")
        return PLAIN_JSON.encode(publication)

    broken = Encoding("broken", encode)
    async with staged() as stage:
        poor, rich = Reader(stage.hub, broken), Reader(stage.hub, PLAIN_JSON)
        for reader in (poor, rich):
            await reader.follow("a")
        with caplog.at_level(logging.ERROR):
            stage.publish(4)
            await asyncio.sleep(0.01)
            stage.publish(1)
            await asyncio.sleep(0.01)
        assert offsets(rich.link.payloads) == [1, 2, 3, 4, 5]
        assert offsets(poor.link.payloads) == [1, -2, 3, 4, 5]
        assert caplog.text.count("publication 2 of channel 'a' cannot be written") == 1
        assert stage.hub.stats().live_links == 2
        first = await stage.hub.collect(
            {"a": stage.broker.parents[poor.resets[0][1]]}, encoding=broken, wait_s=0, max_bytes=10_000
        )
        assert (first.payloads, first.resets) == ([], dict(poor.resets))


@in_virtual_time
async def test_a_framing_that_fails_costs_its_links_and_no_others(caplog: pytest.LogCaptureFixture) -> None:
    def framing(payloads: object) -> bytes:
        raise ValueError("no")

    async with staged() as stage:
        broken, good = Reader(stage.hub, link=FakeLink(framing)), Reader(stage.hub)
        for reader in (broken, good):
            await reader.follow("a")
        with caplog.at_level(logging.ERROR):
            stage.publish(2)
            await asyncio.sleep(0.01)
        assert offsets(good.link.payloads) == [1, 2]
        assert broken.link.is_aborted


@in_virtual_time
async def test_joins_and_leaves_stand_between_the_publications_they_came_between() -> None:
    async with staged(Limits(flush_interval_s=1.0)) as stage:
        session, plain = Reader(stage.hub), Reader(stage.hub, PLAIN_JSON)
        for reader in (session, plain):
            await reader.follow("a")
        stage.publish(1)
        stage.publish(1)
        stage.hub.presence_changed("a", PresenceEntry("alice"), True)
        stage.publish(1)
        stage.hub.presence_changed("a", PresenceEntry("alice"), False)
        stage.hub.presence_changed("a", PresenceEntry("bob"), True)
        stage.hub.presence_changed("nobody-listens", PresenceEntry("bob"), True)
        await asyncio.sleep(2)
        kinds = [payload.split(b'"')[1].decode() for payload in session.link.payloads]
        assert kinds == ["publication", "publication", "join", "publication", "leave", "join"]
        assert offsets(plain.link.payloads) == [1, 2, 3]
        stage.hub.presence_changed("a", PresenceEntry("bob"), False)  # alone, and at once
        assert session.link.payloads[-1] == b'{"leave":{"channel":"a","subject":"bob"}}'
        assert session.feed.position("a") == plain.feed.position("a") == stage.broker.head("a")


@in_virtual_time
async def test_announcements_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybrid.engine.channel.ANNOUNCEMENTS_MAX", 10)
    async with staged(Limits(flush_interval_s=1.0)) as stage:
        reader = Reader(stage.hub)
        await reader.follow("a")
        stage.publish(1)
        for number in range(25):
            stage.hub.presence_changed("a", PresenceEntry(f"s{number}"), True)
        await asyncio.sleep(2)
        assert len(reader.link.payloads) == 11
        stage.hub.presence_changed("a", PresenceEntry("late"), True)
        assert len(reader.link.payloads) == 12
        reader.feed.close()
        stage.hub.presence_changed("a", PresenceEntry("nobody-hears"), True)
        assert not stage.channel()._announcements


def test_a_push_without_join_or_leave_is_not_what_encodings_are_asked_for() -> None:
    assert PLAIN_JSON.announce(Push()) is None
