"""What a long poll costs on a connection that is kept: one that is answered at once, and one that waits."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import reduce
from operator import and_
from typing import Any, Final, TypeAlias

import pytest

from hybrid.model import Position
from hybrid.protocol.cursor import format_cursor
from tests.costs.counting import counted
from tests.support.bytewise import JSON, Connection, connected, request, until
from tests.support.server import RunningServer, running_server, settings_for

Question: TypeAlias = Callable[[Position], bytes]
"""The poll that asks for what comes behind a position."""

CHANNEL: Final = "polled"
ONCE_ONLY: Final = ("read_head", "find_credential", "DoorPolicy.check", "DoorPolicy.cors_headers", "_accepted")
"""What is found in headers is found anew only where they differ from those before them on their connection."""
TIMES: Final = 6
MANY: Final = 3
OURS_MAX: Final = {"plain": 125, "session": 121}
"""Calls of our own functions for one poll. More is more work for each; say why where this is raised."""
WAITING_MAX: Final = {"plain": 176, "session": 175}
"""The same for one that waits beside others. A coroutine that is resumed counts as called once more."""
KEPT_MAX: Final = {"plain": 7, "session": 9}
"""Coroutines that a poll keeps while it waits, one inside the other: all of them are cold when it is woken."""


async def published(server: RunningServer, connection: Connection) -> None:
    connection.send(request("POST", f"/v1/channels/{CHANNEL}", {**JSON, **server.bearer()}, b"1"))
    assert (await connection.answer()).status == 200


async def plain(server: RunningServer, connection: Connection) -> Question:
    headers = server.bearer()

    def question(position: Position) -> bytes:
        return request("GET", f"/v1/channels/{CHANNEL}?after={format_cursor(position)}&wait=25", headers)

    return question


async def session(server: RunningServer, connection: Connection) -> Question:
    headers = {**JSON, **server.bearer()}
    attach = {"method": "attach", "attempt": 1, "confirm": True, "subscriptions": [{"channel": CHANNEL}]}
    connection.send(request("POST", "/v1/stream", headers, json.dumps(attach).encode()))
    attached, subscribed = (await connection.answer()).json()["pushes"]
    poll = {"method": "poll", "session": attached["attached"]["session"], "attempt": 1, "wait_s": 25}
    poll["sealed"] = subscribed["subscribed"]["sealed"]

    def question(position: Position) -> bytes:
        place = {"offset": position.offset, "epoch": position.epoch, "tag": position.tag}
        body = {**poll, "positions": [{"channel": CHANNEL, "position": place if position.offset else {"offset": 0}}]}
        return request("POST", "/v1/stream", headers, json.dumps(body).encode())

    return question


@pytest.mark.parametrize(("kind", "begin"), [("plain", plain), ("session", session)])
async def test_a_poll_is_little_work_and_never_more(kind: str, begin: Any) -> None:
    async with running_server(settings_for()) as server, connected(server) as connection:
        question = await begin(server, connection)
        position = await server.engine.hub.position_now(CHANNEL)
        await published(server, connection)

        async def ask() -> None:
            connection.send(question(position))
            answer = await connection.answer()
            assert answer.status == 200
            assert b'"data":1' in answer.body

        async def count() -> Counter[str]:
            """What each of some polls did; what a timer did meanwhile is not done for all of them."""
            each = []
            with counted() as calls:
                await ask()  # and what has become due while garbage was collected
                for _ in range(TIMES):
                    before = calls.ours
                    await ask()
                    each.append(calls.ours - before)
            return reduce(and_, each)

        await ask()
        early, late = await count(), await count()
    assert late == early
    assert not [name for name in early if name.endswith(ONCE_ONLY)]
    assert early.total() <= OURS_MAX[kind], early


@pytest.mark.parametrize(("kind", "begin"), [("plain", plain), ("session", session)])
async def test_a_poll_that_waits_is_little_work_and_keeps_little(kind: str, begin: Any) -> None:
    async with running_server(settings_for()) as server, AsyncExitStack() as stack:
        hub = server.engine.hub
        connections = [await stack.enter_async_context(connected(server)) for _ in range(MANY)]
        publisher = await stack.enter_async_context(connected(server))
        await published(server, publisher)
        questions = [await begin(server, connection) for connection in connections]

        async def all_wait(count: int) -> None:
            position = await hub.position_now(CHANNEL)
            for connection, question in zip(connections[:count], questions, strict=False):
                connection.send(question(position))
            await until(lambda: hub._polls.waiting == count)

        async def all_hear(count: int) -> None:
            await published(server, publisher)
            for connection in connections[:count]:
                assert b'"data":1' in (await connection.answer()).body

        async def work(count: int) -> Counter[str]:
            """What so many polls that wait for one publication cost, with that."""
            each = []
            with counted() as calls:
                for _ in range(TIMES):
                    before = calls.ours
                    await all_wait(count)
                    await all_hear(count)
                    each.append(calls.ours - before)
            return reduce(and_, each)

        for _ in range(2):  # the first answer gives a connection over, the second finds it kept
            await all_wait(MANY)
            await all_hear(MANY)
        alone, together = await work(1), await work(MANY)

        await all_wait(MANY)
        kept = [
            names
            for task in asyncio.all_tasks()
            if (names := suspended(task.get_coro())) and names[-1] == "Polls.collect"
        ]
        await all_hear(MANY)
    assert len(kept) == MANY
    assert all(len(names) <= KEPT_MAX[kind] for names in kept), kept
    for_each = Counter(
        {
            name: (count - alone[name]) / (MANY - 1)
            for name, count in together.items()
            if name != "engine.wheel._Slot.__init__"  # one for each quarter of a second that has passed
        }
    )
    assert for_each.total() <= WAITING_MAX[kind], for_each


def suspended(coroutine: Any) -> list[str]:
    """The names of the coroutines that wait, each for the next."""
    names = []
    while hasattr(coroutine, "cr_await"):
        names.append(coroutine.__qualname__)
        coroutine = coroutine.cr_await
    return names
