"""Listening to topics, over a connection whose answers the test gives one by one: no server is that slow on demand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from hybrid.broker.redis.line import Command
from hybrid.broker.redis.servers import Servers
from hybrid.broker.redis.topics import Topics


class Connection:
    """A connection of redis-py as far as it is used here."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self._answers: asyncio.Queue[Any] = asyncio.Queue()

    def pack_commands(self, commands: list[Command]) -> list[Command]:
        return commands

    async def send_packed_command(self, commands: list[Command], check_health: bool) -> None:
        self.sent += [(str(verb), topic) for verb, *topics in commands for topic in cast(list[bytes], topics)]

    async def read_response(self, **options: Any) -> Any:
        answer = await self._answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def disconnect(self, nowait: bool) -> None:
        pass

    def answer(self, *answers: Any) -> None:
        for answer in answers:
            self._answers.put_nowait(answer)


class OneServer:
    """`Servers`, as far as it is used here."""

    is_cluster = False
    on_moved: object = None
    on_dropped: object = None

    def __init__(self) -> None:
        self.connections: list[Connection] = []

    async def ready(self) -> None:
        pass

    def server_of(self, topic: bytes) -> None:
        return None

    def refresh_soon(self) -> None:
        pass

    async def connect(self, server: object) -> Connection:
        self.connections.append(Connection())
        return self.connections[-1]


class Listening:
    """Topics on one server, and the gaps they told."""

    def __init__(self) -> None:
        self.server = OneServer()
        self.gaps: list[list[bytes]] = []
        self.heard: list[tuple[bytes, bytes, int]] = []  # and how many gaps were told before
        self.topics = Topics(cast(Servers, self.server), self._hear, self.gaps.append)

    def _hear(self, topic: bytes, message: bytes) -> None:
        self.heard.append((topic, message, len(self.gaps)))

    async def connection(self, number: int) -> Connection:
        await until(lambda: len(self.server.connections) == number)
        return self.server.connections[-1]

    async def subscribed(self, connection: Connection, *topics: bytes) -> None:
        tasks = [asyncio.ensure_future(self.topics.subscribe(topic)) for topic in topics]
        await until(lambda: {("SUBSCRIBE", topic) for topic in topics} <= set(connection.sent))
        connection.answer(*([b"subscribe", topic, 1] for topic in topics))
        await asyncio.gather(*tasks)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 -- nothing tells of it
            await asyncio.sleep(0)


@pytest.fixture
async def listening() -> AsyncIterator[Listening]:
    made = Listening()
    yield made
    await made.topics.close()


async def test_an_acknowledgement_that_an_unsubscribe_follows_is_none(listening: Listening) -> None:
    """Subscribed, given up, subscribed again before the first answer: between the two others nothing is heard."""
    first = asyncio.ensure_future(listening.topics.subscribe(b"a"))
    connection = await listening.connection(1)
    await until(lambda: len(connection.sent) == 1)
    first.cancel()
    await asyncio.wait([first])
    await until(lambda: len(connection.sent) == 2)
    again = asyncio.ensure_future(listening.topics.subscribe(b"a"))
    await until(lambda: len(connection.sent) == 3)
    assert connection.sent == [("SUBSCRIBE", b"a"), ("UNSUBSCRIBE", b"a"), ("SUBSCRIBE", b"a")]
    connection.answer([b"subscribe", b"a", 1], [b"unsubscribe", b"a", 0], [b"message", b"a", b""])
    await asyncio.sleep(0.01)
    assert not again.done()
    connection.answer([b"subscribe", b"a", 1])
    await again


async def test_what_was_acknowledged_while_others_were_awaited_is_told_after_the_next_break(
    listening: Listening,
) -> None:
    opening = asyncio.ensure_future(listening.topics.subscribe(b"a"))
    first = await listening.connection(1)
    await until(lambda: len(first.sent) == 1)
    first.answer([b"subscribe", b"a", 1])
    await opening
    first.answer(ConnectionError("broken"))
    second = await listening.connection(2)
    await listening.subscribed(second, b"b")  # and a is not acknowledged yet
    second.answer(ConnectionError("broken again"))
    third = await listening.connection(3)
    await until(lambda: len(third.sent) == 2)
    third.answer([b"subscribe", b"a", 1], [b"subscribe", b"b", 1])
    await until(lambda: bool(listening.gaps))
    assert sorted(listening.gaps[0]) == [b"a", b"b"]


async def test_a_gap_is_told_once_what_was_heard_is_heard_again_whatever_else_is_asked_for(
    listening: Listening,
) -> None:
    opening = asyncio.ensure_future(listening.topics.subscribe(b"a"))
    first = await listening.connection(1)
    await until(lambda: len(first.sent) == 1)
    first.answer([b"subscribe", b"a", 1])
    await opening
    first.answer(ConnectionError("broken"))
    second = await listening.connection(2)
    new = asyncio.ensure_future(listening.topics.subscribe(b"new"))
    await until(lambda: len(second.sent) == 2)
    second.answer([b"subscribe", b"a", 1])
    await until(lambda: listening.gaps == [[b"a"]])
    new.cancel()


async def test_nothing_is_heard_between_a_break_and_its_gap(listening: Listening) -> None:
    """On a Cluster each topic has a command of its own: one is heard while others are awaited."""
    opening = [asyncio.ensure_future(listening.topics.subscribe(topic)) for topic in (b"a", b"b", b"c")]
    first = await listening.connection(1)
    await until(lambda: len(first.sent) == 3)
    first.answer(*([b"subscribe", topic, 1] for topic in (b"a", b"b", b"c")))
    await asyncio.gather(*opening)
    first.answer([b"message", b"a", b"1"], ConnectionError("broken"))
    second = await listening.connection(2)
    await until(lambda: len(second.sent) == 3)
    second.answer([b"subscribe", b"a", 1], [b"subscribe", b"c", 1])
    second.answer([b"message", b"a", b"3"], [b"message", b"a", b"4"], [b"subscribe", b"b", 1])
    await until(lambda: len(listening.gaps) == 2)
    assert listening.gaps[0] == [b"a"]
    assert sorted(listening.gaps[1]) == [b"b", b"c"]
    assert listening.heard == [(b"a", b"1", 0), (b"a", b"3", 1), (b"a", b"4", 1)]
