"""Events over a real receiver that is late, wrong, away and back: in order, at least once, nothing lost in silence."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import pytest

from hybrid.hooks import telling
from hybrid.hooks.post import Poster
from hybrid.hooks.queue import EventQueue
from hybrid.hooks.signature import Signer, read_secret
from hybrid.hooks.telling import Teller
from tests.support.receiver import OTHER_SECRET, SECRET, Raw, Receiver, Request, receiver, status
from tests.support.world import Clock


class Rests:
    """Pauses that end when the test says so."""

    def __init__(self) -> None:
        self.taken: list[float] = []
        self._over = asyncio.Event()
        self._begun = asyncio.Condition()

    async def __call__(self, pause_s: float) -> None:
        async with self._begun:
            self.taken.append(pause_s)
            self._begun.notify_all()
        await self._over.wait()
        self._over.clear()

    def end(self) -> None:
        self._over.set()

    async def until(self, number: int) -> None:
        async with self._begun:
            await self._begun.wait_for(lambda: len(self.taken) == number)


class Place:
    def __init__(self, here: Receiver, *, size: int, batch_max: int, timeout_s: float) -> None:
        self.here = here
        self.clock = Clock()
        here.now_s = self.clock.wall_s
        self.rests = Rests()
        ids = count(1)
        poster = Poster(here.url, timeout_s=timeout_s, answer_max_bytes=0, connections_max=1)
        signer = Signer([read_secret(OTHER_SECRET), read_secret(SECRET)])
        queue = EventQueue(size, batch_max, lambda: f"msg_{next(ids)}")
        self.teller = Teller(poster, signer, self.clock, queue, age_max_s=3_600, rest=self.rests)
        self.teller.node = "n1"
        self._numbers = count()

    def tell(self, count: int) -> None:
        for number in range(count):
            self.teller.tell("occupied", channel=f"c{next(self._numbers)}")
            assert number < count

    @property
    def channels(self) -> list[str]:
        """Of what was told, without what came again: as a receiver should read it."""
        seen = {event["id"]: event["channel"] for event in self.here.told}
        return list(seen.values())

    async def until_told(self, count: int) -> None:
        await self.here.until(lambda: len(self.channels) >= count)
        while self.teller.waiting:  # noqa: ASYNC110 -- nothing tells of it
            await asyncio.sleep(0)


@asynccontextmanager
async def place(*, size: int = 100, batch_max: int = 10, timeout_s: float = 5.0) -> AsyncIterator[Place]:
    async with receiver() as here:
        there = Place(here, size=size, batch_max=batch_max, timeout_s=timeout_s)
        try:
            yield there
        finally:
            there.rests.end()
            await there.teller.close()


def channels(count: int) -> list[str]:
    return [f"c{number}" for number in range(count)]


async def test_what_happens_together_is_told_together_and_the_rest_gathers_meanwhile() -> None:
    gate = asyncio.Event()

    async def wait(request: Request) -> Any:
        await gate.wait()

    async with place(batch_max=4) as there:
        there.here.take = wait
        there.tell(2)
        await there.here.until(lambda: len(there.here.batches) == 1)
        there.tell(5)
        gate.set()
        await there.until_told(7)
        assert [len(batch["events"]) for batch in there.here.batches] == [2, 4, 1]
        assert there.channels == channels(7)
        assert there.here.connections == 1
        first = there.here.batches[0]
        assert (first["node"], first["dropped"]) == ("n1", 0)
        assert first["events"][0].keys() == {"type", "id", "at_ms", "channel"}


async def test_order_and_repeats_over_a_receiver_that_goes_away_and_comes_back() -> None:
    async with place(batch_max=3) as there:
        here = there.here
        there.tell(3)
        await there.until_told(3)
        here.take = lambda request: Raw(b"")  # it hears them, and its answer is lost
        there.tell(4)
        await there.rests.until(1)
        await here.stop()
        there.tell(2)
        for number in (2, 3):
            there.rests.end()
            await there.rests.until(number)
        here.take = lambda request: None
        await here.start()
        there.rests.end()
        await there.until_told(9)
        assert there.channels == channels(9)
        repeated = [request.id for request in here.requests if request.json["events"][0]["channel"] == "c3"]
        assert repeated == ["msg_2", "msg_2"], "a repeat has its former id"
        assert [event["channel"] for event in here.told] == [*channels(6), "c3", "c4", "c5", "c6", "c7", "c8"]
        assert there.teller.dropped == 0


async def late(request: Request) -> Any:
    await asyncio.Event().wait()


WRONG: dict[str, Any] = {
    "500": lambda request: status(500),
    "404": lambda request: status(404),
    "a redirect": lambda request: status(302, "location: /hybrid"),
    "not HTTP": lambda request: Raw(b"hello\r\n\r\n"),
    "cut short": lambda request: Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n"),
    "late": late,
}


@pytest.mark.parametrize("take", WRONG.values(), ids=WRONG)
async def test_what_is_not_taken_is_told_again(take: Any) -> None:
    async with place(timeout_s=0.05) as there:
        there.here.take = take
        there.tell(1)
        await there.rests.until(1)
        assert there.teller.waiting == 1
        there.here.take = lambda request: None
        there.rests.end()
        await there.until_told(1)
        assert {request.id for request in there.here.requests} == {"msg_1"}


@pytest.mark.parametrize(
    "take",
    [
        lambda request: status(202, body=b"thank you", media_type="text/plain"),
        lambda request: status(200, body=b" " * 100_000),
        lambda request: {"ok": True},
    ],
    ids=["202", "a huge body", "JSON"],
)
async def test_any_answer_of_2xx_has_taken_them(take: Any) -> None:
    async with place() as there:
        there.here.take = take
        there.tell(1)
        await there.until_told(1)
        there.tell(1)
        await there.until_told(2)
        assert len(there.here.batches) == 2


async def test_more_than_wait_are_dropped_and_the_next_batch_says_how_many(caplog: pytest.LogCaptureFixture) -> None:
    async with place(size=3, batch_max=2) as there:
        await there.here.stop()
        there.tell(5)
        assert there.teller.waiting == 3
        await there.rests.until(1)
        await there.here.start()
        there.rests.end()
        await there.until_told(3)
        assert [batch["dropped"] for batch in there.here.batches] == [2, 0]
        assert there.channels == channels(3)
        assert [r.levelno for r in caplog.records].count(logging.ERROR) == 1


async def test_what_nobody_took_for_too_long_is_given_up_and_told_as_dropped() -> None:
    async with place(batch_max=2) as there:
        await there.here.stop()
        there.tell(3)
        await there.rests.until(1)
        there.clock.advance(3_601)
        there.rests.end()
        await there.rests.until(2)  # the batch behind it
        await there.here.start()
        there.rests.end()
        await there.here.until(lambda: bool(there.here.batches))
        assert [(len(b["events"]), b["dropped"]) for b in there.here.batches] == [(1, 2)]
        assert there.teller.dropped == 2


async def test_pauses_grow() -> None:
    async with place() as there:
        await there.here.stop()
        there.tell(1)
        for number in range(1, 6):
            await there.rests.until(number)
            there.rests.end()
        await there.rests.until(6)
        await there.here.start()
        assert all(0.5 * 2**n <= pause <= 2**n for n, pause in enumerate(there.rests.taken[:5]))


async def test_the_end_waits_for_a_moment(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    async with place() as there:
        there.tell(3)
        await there.teller.close()
        assert there.channels == channels(3)
        there.teller.tell("occupied", channel="late")
        assert there.teller.waiting == 0
    monkeypatch.setattr(telling, "CLOSING_S", 0.05)
    async with place() as there:
        await there.here.stop()
        there.tell(3)
        await there.teller.close()
        assert "3 events" in caplog.text
