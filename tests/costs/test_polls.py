"""What a long poll costs that is answered at once, on a connection that is kept."""

from __future__ import annotations

import json
from collections import Counter
from functools import reduce
from operator import and_
from typing import Any, Final

import pytest

from hybrid.protocol.cursor import format_cursor
from tests.costs.counting import counted
from tests.support.bytewise import JSON, Connection, connected, request
from tests.support.server import RunningServer, running_server, settings_for

CHANNEL: Final = "polled"
ONCE_ONLY: Final = ("read_head", "find_credential", "DoorPolicy.check", "DoorPolicy.cors_headers", "_accepted")
"""What is found in headers is found anew only where they differ from those before them on their connection."""
TIMES: Final = 6
OURS_MAX: Final = {"plain": 130, "session": 140}
"""Calls of our own functions for one poll. More is more work for each; say why where this is raised."""


def attach() -> dict[str, Any]:
    return {"method": "attach", "attempt": 1, "confirm": True, "subscriptions": [{"channel": CHANNEL}]}


async def published(server: RunningServer, connection: Connection) -> None:
    connection.send(request("POST", f"/v1/channels/{CHANNEL}", {**JSON, **server.bearer()}, b"1"))
    assert (await connection.answer()).status == 200


async def plain_poll(server: RunningServer, connection: Connection) -> bytes:
    position = await server.engine.hub.position_now(CHANNEL)
    await published(server, connection)
    return request("GET", f"/v1/channels/{CHANNEL}?after={format_cursor(position)}&wait=25", server.bearer())


async def session_poll(server: RunningServer, connection: Connection) -> bytes:
    headers = {**JSON, **server.bearer()}
    connection.send(request("POST", "/v1/stream", headers, json.dumps(attach()).encode()))
    pushes = (await connection.answer()).json()["pushes"]
    session, subscribed = pushes[0]["attached"]["session"], pushes[1]["subscribed"]
    [place] = subscribed["channels"]
    positions = [{"channel": CHANNEL, "position": place["position"]}]
    poll = {"method": "poll", "session": session, "attempt": 1, "positions": positions, "wait_s": 25}
    await published(server, connection)
    body = json.dumps({**poll, "sealed": subscribed["sealed"]}).encode()
    return request("POST", "/v1/stream", headers, body)


@pytest.mark.parametrize(("kind", "poll"), [("plain", plain_poll), ("session", session_poll)])
async def test_a_poll_is_little_work_and_never_more(kind: str, poll: Any) -> None:
    async with running_server(settings_for()) as server, connected(server) as connection:
        question = await poll(server, connection)

        async def ask() -> None:
            connection.send(question)
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
