from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from hybrid.engine.encodings import PLAIN_JSON, SESSION_JSON
from hybrid.engine.poll import Collected
from hybrid.engine.wait import Wait
from hybrid.errors import BrokerError
from hybrid.limits import Limits
from hybrid.model import START, Position
from tests.support.hubs import Stage, offsets, staged
from tests.support.links import Reader
from tests.support.virtual_time import clock, in_virtual_time, settle


async def collect(stage: Stage, *channels: str, wait_s: float = 0, max_bytes: int = 100_000, **rest: Any) -> Collected:
    positions = dict.fromkeys(channels or ("a",), START)
    return await stage.hub.collect(
        positions, encoding=PLAIN_JSON, wait_s=wait_s, max_bytes=max_bytes, **rest  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.parametrize("is_warm", [True, False])
@in_virtual_time
async def test_what_is_there_is_answered_at_once(is_warm: bool) -> None:
    async with staged() as stage:
        if is_warm:
            await Reader(stage.hub).follow("a")
        stage.publish(5)
        await asyncio.sleep(0.01)
        before_s = clock().now_s
        collected = await collect(stage, wait_s=25)
        assert clock().now_s == before_s
        assert offsets(collected.payloads) == [1, 2, 3, 4, 5]
        assert collected.positions == {"a": stage.broker.head("a")}
        assert collected.resets == {}
        more = await stage.hub.collect(collected.positions, encoding=SESSION_JSON, wait_s=0, max_bytes=1)
        assert not more


@in_virtual_time
async def test_a_poll_of_what_is_at_hand_waits_for_nobody() -> None:
    """Not for one turn of the loop: no future, no timer. And the channels linger for as long again."""
    async with staged() as stage:
        start = {name: (await stage.hub.locate(name, None, 0)).position for name in "ab"}
        stage.publish(2, "a")
        await settle()

        def polled(positions: dict[str, Position], wait_s: float) -> Collected:
            polling = stage.hub.collect(positions, encoding=PLAIN_JSON, wait_s=wait_s, max_bytes=1_000)
            with pytest.raises(StopIteration) as ended:
                polling.send(None)
            collected: Collected = ended.value.value
            return collected

        await asyncio.sleep(stage.limits.channel_linger_s - 1)
        collected = polled(start, 25)
        assert offsets(collected.payloads) == [1, 2]
        assert collected.positions == {"a": stage.broker.head("a")}
        assert not polled(start | collected.positions, 0)
        await asyncio.sleep(stage.limits.channel_linger_s - 1)
        assert stage.hub.stats().channels["LINGERING"] == 2


@in_virtual_time
async def test_a_poll_waits_for_the_first_of_any_of_its_channels() -> None:
    async with staged() as stage:
        polling = asyncio.ensure_future(collect(stage, "a", "b", "c", wait_s=25))
        await asyncio.sleep(10)
        assert not polling.done()
        assert stage.hub.stats().polls_waiting == 1
        stage.publish(2, "b")
        collected = await polling
        assert clock().now_s < 1_010.1
        assert collected.positions == {"b": stage.broker.head("b")}
        assert stage.hub.stats().polls_waiting == 0
        assert stage.hub.stats().channels["LINGERING"] == 3
        assert not any(stage.channel(name)._watchers for name in "abc")


@in_virtual_time
async def test_the_end_of_the_wait_and_an_ended_poll_answer_with_nothing() -> None:
    async with staged() as stage:
        before_s = clock().now_s
        assert not await collect(stage, wait_s=25)
        assert clock().now_s == before_s + 25
        wait = Wait()
        polling = asyncio.ensure_future(collect(stage, wait_s=25, wait=wait))
        await asyncio.sleep(5)
        wait.end()
        assert not await polling
        assert clock().now_s == before_s + 30
        assert not await collect(stage, wait_s=25, wait=wait)  # over before it began
        assert clock().now_s == before_s + 30
        assert not await collect(stage, wait_s=0.5)
        assert clock().now_s == before_s + 30.5


@in_virtual_time
async def test_a_cancelled_poll_leaves_nothing_behind() -> None:
    async with staged() as stage:
        polling = asyncio.ensure_future(collect(stage, "a", "b", wait_s=25))
        await asyncio.sleep(1)
        polling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await polling
        assert stage.hub.stats().polls_waiting == 0
        assert stage.hub.stats().channels["LINGERING"] == 2
        assert not stage.channel("a")._watchers


@in_virtual_time
async def test_an_answer_holds_no_more_than_asked_but_at_least_one() -> None:
    async with staged() as stage:
        stage.publish(20, "a")
        stage.publish(20, "b")
        size = len((await collect(stage, max_bytes=1)).payloads[0])
        positions = {"a": START, "b": START}
        answers = 0
        while collected := await stage.hub.collect(positions, encoding=PLAIN_JSON, wait_s=0, max_bytes=size * 4 + 9):
            assert 1 <= len(collected.payloads) <= 4
            positions |= collected.positions
            answers += 1
        assert answers == 10
        assert positions == {name: stage.broker.head(name) for name in "ab"}


@in_virtual_time
async def test_a_busy_channel_does_not_fill_every_answer() -> None:
    async with staged() as stage:
        stage.publish(100, "a")
        stage.publish(1, "b")
        moved = set()
        for _ in range(2):
            moved |= set((await collect(stage, "a", "b", max_bytes=50)).positions)
        assert moved == {"a", "b"}


@in_virtual_time
async def test_what_cannot_be_continued_is_told_at_once_with_the_new_position() -> None:
    async with staged(history_size=3) as stage:
        stage.publish(10)
        stage.publish(1, "b")
        head = stage.broker.head("a")
        for name in "ab":
            await stage.hub.position_now(name)
        epoch, tag = head.epoch, head.tag
        for wrong in 2 * (
            START,
            Position(2, epoch, "00000002"),
            Position(99, epoch, tag),
            Position(1, "x", tag),
        ):  # each in both turns
            collected = await stage.hub.collect(
                {"a": wrong, "b": START}, encoding=PLAIN_JSON, wait_s=25, max_bytes=10_000
            )
            assert collected.resets == {"a": head}
            assert collected.positions == {"a": head, "b": stage.broker.head("b")}
        assert clock().now_s == 1_000


@in_virtual_time
async def test_a_poll_from_a_node_that_has_heard_more_is_not_reset() -> None:
    async with staged() as stage:
        await Reader(stage.hub).follow("a")
        stage.publish(1)
        stage.broker.lost_announcements = 3
        stage.publish(3)
        positions = {"a": stage.broker.parents[stage.broker.head("a")]}
        collected = await stage.hub.collect(positions, encoding=PLAIN_JSON, wait_s=0, max_bytes=10_000)
        assert collected.resets == {}
        again = await stage.hub.collect(positions, encoding=PLAIN_JSON, wait_s=25, max_bytes=10_000)
        assert offsets(collected.payloads + again.payloads)[:1] == [4]


@in_virtual_time
async def test_a_broker_that_is_away_makes_polls_empty_and_not_long(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.CRITICAL):
        async with staged() as stage:
            stage.broker.is_away = True
            before_s = clock().now_s
            assert not await collect(stage, wait_s=0)
            assert clock().now_s == before_s + 2  # it might have come back
            assert not await collect(stage, wait_s=25)
            assert clock().now_s == before_s + 27
            polling = asyncio.ensure_future(collect(stage, wait_s=25))
            await asyncio.sleep(3)
            stage.broker.is_away = False
            stage.publish(2)
            assert offsets((await polling).payloads) == [1, 2]


@in_virtual_time
async def test_who_asks_once_is_not_told_of_nothing_where_nobody_knows(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.CRITICAL):
        async with staged() as stage:
            stage.broker.is_away = True
            before_s = clock().now_s
            with pytest.raises(BrokerError):
                await collect(stage, wait_s=0, max_s=2)
            assert clock().now_s == before_s + 2
            assert not await collect(stage, wait_s=1, max_s=3), "that has waited, and comes again"
            wait = Wait()
            wait.end()
            assert not await collect(stage, wait_s=0, max_s=2, wait=wait), "whoever ended it says why"
            stage.broker.is_away = False
            await asyncio.sleep(3)
            assert not await collect(stage, wait_s=0, max_s=2)


@in_virtual_time
async def test_a_page_that_does_not_come_is_not_waited_for_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    async with staged() as stage:
        stage.publish(5)
        await stage.hub.position_now("a")
        stage.broker.holding = asyncio.Event()
        before_s = clock().now_s
        with pytest.raises(BrokerError):
            await collect(stage, wait_s=25, max_s=27)
        assert clock().now_s == before_s + 27
        stage.broker.holding.set()


@in_virtual_time
async def test_a_log_that_cannot_be_read_for_a_moment_is_read_again(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.CRITICAL):
        async with staged() as stage:
            stage.publish(5)
            await stage.hub.position_now("a")
            stage.broker.is_away = True
            polling = asyncio.ensure_future(collect(stage, wait_s=25))
            await asyncio.sleep(3.5)
            assert 3 <= stage.broker.calls.count("read a 0") <= 5
            stage.broker.is_away = False
            assert offsets((await polling).payloads) == [1, 2, 3, 4, 5]


@in_virtual_time
async def test_polls_wait_on_one_future_and_one_timer_each() -> None:
    async with staged() as stage:
        polls = [asyncio.ensure_future(collect(stage, "a", "b", wait_s=25)) for _ in range(100)]
        await settle()
        loop = clock()
        assert len(stage.channel("a")._watchers) == len(stage.channel("b")._watchers) == 100
        assert stage.channel("a")._watchers == stage.channel("b")._watchers
        assert len(loop._scheduled) <= 102  # type: ignore[attr-defined]
        stage.publish(3, "b")
        answers = await asyncio.gather(*polls)
        assert {tuple(offsets(answer.payloads)) for answer in answers} == {(1, 2, 3)}


@in_virtual_time
async def test_readers_of_the_same_page_share_one_read_and_reads_are_bounded() -> None:
    async with staged(Limits(recoveries_max=3)) as stage:
        stage.publish(40)
        await stage.hub.position_now("a")
        stage.broker.calls.clear()
        stage.broker.holding = asyncio.Event()
        same = [asyncio.ensure_future(collect(stage)) for _ in range(50)]
        position = stage.broker.head("a")
        others = []
        for _ in range(20):
            position = stage.broker.parents[position]
            others.append(
                asyncio.ensure_future(
                    stage.hub.collect({"a": position}, encoding=PLAIN_JSON, wait_s=0, max_bytes=10_000)
                )
            )
        await settle()
        assert stage.hub.stats().reads_in_flight == 21
        assert len(stage.broker.calls) == 3
        stage.broker.holding.set()
        answers = await asyncio.gather(*same, *others)
        assert [len(answer.payloads) for answer in answers] == [40] * 50 + list(range(1, 21))
        assert len(stage.broker.calls) == 21
        assert stage.hub.stats().reads_in_flight == 0
        assert answers[0].payloads[5] is answers[1].payloads[5]
