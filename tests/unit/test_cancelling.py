"""Tasks that hear of one cancellation: by themselves, and around the library that loses connections by a second one."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from anyio import CancelScope

from hybrid.cancelling import ended, once
from hybrid.client.endpoint import Endpoint
from hybrid.hooks.post import Poster


class Cleaner:
    """Takes some turns to clean up behind itself."""

    def __init__(self) -> None:
        self.is_clean = False

    async def work(self) -> str:
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            self.is_clean = True
        return ""


@pytest.mark.parametrize("again", range(7))
async def test_a_second_cancellation_disturbs_no_cleaning(again: int) -> None:
    cleaner = Cleaner()
    inner = asyncio.create_task(cleaner.work())
    await asyncio.sleep(0)
    outer = asyncio.create_task(ended(inner))
    for _ in range(again):
        await asyncio.sleep(0)
    outer.cancel()
    await asyncio.wait({outer})
    assert cleaner.is_clean == bool(again)  # before its first turn it has cancelled nobody
    await ended(inner)
    assert cleaner.is_clean


async def test_what_is_done_once_ends_behind_its_shield_before_who_waits_for_it() -> None:
    is_clean = False

    async def work() -> None:
        nonlocal is_clean
        try:
            await asyncio.Event().wait()
        finally:
            with CancelScope(shield=True):  # as httpx2 closes connections
                for _ in range(5):
                    await asyncio.sleep(0)
            is_clean = True

    waiting = asyncio.create_task(once(work()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert is_clean


async def test_results_and_errors_pass() -> None:
    async def fail() -> None:
        raise ValueError("as it is")

    assert await once(asyncio.sleep(0, "kept")) == "kept"
    with pytest.raises(ValueError, match="as it is"):
        await once(fail())


class Counting:
    """A server that answers `/slow` without end and everything else at once, and counts the connections it has."""

    def __init__(self) -> None:
        self.open = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        with suppress(OSError, EOFError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if b" /slow" in head:
                    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                    while not reader.at_eof():
                        writer.write(b"2\r\nok\r\n")
                        await writer.drain()
                        await asyncio.sleep(0.003)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        self.open -= 1
        writer.close()

    async def emptied(self) -> None:
        """Wait until its clients have closed all connections; TimeoutError when they do not."""
        async with asyncio.timeout(5):
            while self.open:  # noqa: ASYNC110
                await asyncio.sleep(0.001)


@pytest.fixture
async def counting() -> AsyncIterator[Counting]:
    made = Counting()
    async with await asyncio.start_server(made.serve, "127.0.0.1", 0) as server:
        made.port = server.sockets[0].getsockname()[1]
        yield made


@pytest.mark.parametrize("turns", range(12))
async def test_a_request_that_is_cancelled_drops_no_connection_that_it_was_to_close(
    counting: Counting, turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever request comes first closes those of others that are over."""
    monkeypatch.setattr("hybrid.client.endpoint._KEPT_S", 0.02)
    endpoint = Endpoint(f"http://127.0.0.1:{counting.port}")
    await endpoint.open()
    await asyncio.gather(*(endpoint.request("GET", "/", "longpoll", {}) for _ in range(4)))
    await asyncio.sleep(0.03)  # four are over, by httpx2's clock
    asking = asyncio.create_task(endpoint.request("GET", "/", "longpoll", {}))
    for _ in range(turns):
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait({asking})
    await endpoint.close()
    await counting.emptied()


@pytest.mark.parametrize("is_again", [False, True], ids=["once", "twice"])
@pytest.mark.parametrize("seed", range(20))
async def test_requests_that_are_cancelled_leave_no_connection_open(
    counting: Counting, seed: int, is_again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hybrid.client.endpoint._KEPT_S", 0.02)  # closing those that are over takes turns as well
    draw = random.Random(seed)
    endpoint = Endpoint(f"http://127.0.0.1:{counting.port}")
    await endpoint.open()
    asking: list[asyncio.Task[object]] = []
    for _ in range(12):
        for _ in range(draw.randrange(6)):
            path = draw.choice(("/slow", "/fast", "/fast"))
            asking.append(asyncio.create_task(endpoint.request("GET", path, "longpoll", {})))
        if draw.random() < 0.5:
            await asyncio.sleep(draw.random() * 0.03)
        for _ in range(draw.randrange(20)):
            await asyncio.sleep(0)
        for task in asking:
            if draw.random() < 0.3:
                task.cancel()
                for _ in range(draw.randrange(4)):
                    await asyncio.sleep(0)
                if is_again:
                    task.cancel()
    for task in asking:
        if is_again or not task.cancelling():
            task.cancel()
    await asyncio.wait(asking)
    await endpoint.close()
    await counting.emptied()


@pytest.mark.parametrize("turns", range(12))
async def test_a_question_to_a_backend_that_is_given_up_drops_no_connection_either(
    counting: Counting, turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hybrid.hooks.post._KEPT_S", 0.02)
    url = f"http://127.0.0.1:{counting.port}/"
    poster = Poster(url, timeout_s=5, answer_max_bytes=100, connections_max=4)
    await asyncio.gather(*(poster.tell(b"", {}) for _ in range(4)))
    await asyncio.sleep(0.03)  # four are over, by httpx2's clock
    asking = asyncio.create_task(poster.tell(b"", {}))
    for _ in range(turns):
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait({asking})
    await poster.close()
    await counting.emptied()
