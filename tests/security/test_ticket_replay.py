"""A ticket counts once, here or at another node, and to whom it was given: through the whole server.

What the stores promise is held against each of them in `tests/contract/test_tickets.py`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any

import pytest
import pytest_asyncio

from tests.support.bytewise import EVENTS, EventStream, call, connected, event_stream, request, text, until
from tests.support.redis_servers import RedisServer, redis_server
from tests.support.server import SECRET, RunningServer, new_issuer, running_server, settings_for

TICKETS = 50
TAKERS = 20
APP = "https://app.example"
CHANNELS = {"purpose": "channels", "channels": ["news"]}


def session(nonce: str = "") -> dict[str, Any]:
    return {"purpose": "session", "attach": {"method": "attach", "attempt": 1, "nonce": nonce}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one_redis() -> AsyncIterator[RedisServer]:
    async with redis_server() as server:
        yield server


@dataclass
class Nodes:
    """One node, or two on one Redis; whatever is asked goes to each in turn."""

    servers: list[RunningServer]

    def __post_init__(self) -> None:
        self._turn = cycle(self.servers)

    def next(self) -> RunningServer:
        return next(self._turn)

    async def ticket(self, wanted: dict[str, Any], origin: str | None = None, **bearer: Any) -> str:
        headers = {**self.servers[0].bearer(**bearer), **({} if origin is None else {"Origin": origin})}
        answer = await call(self.next(), "POST", "/v1/ticket", headers, json.dumps(wanted).encode())
        assert answer.status == 201, answer
        return str(answer.json()["ticket"])

    async def refused(self, target: str, headers: dict[str, str] | None = None) -> None:
        answer = await call(self.next(), "GET", target, {**EVENTS, **(headers or {})})
        assert (answer.status, answer.name) == (401, "token_refused")
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]


@pytest.fixture(params=["memory", "two nodes on redis"])
def redis_url(request: pytest.FixtureRequest) -> str:
    """Where the nodes of a test meet; empty for one alone."""
    return "" if request.param == "memory" else str(request.getfixturevalue("one_redis").url)


@pytest_asyncio.fixture(loop_scope="module")
async def nodes(redis_url: str) -> AsyncIterator[Nodes]:
    settings = replace(settings_for(), allowed_origins=(APP,))
    if redis_url:
        settings = replace(settings, broker=redis_url, secret=SECRET)
    async with AsyncExitStack() as stack:
        issuer = new_issuer()
        made = [
            await stack.enter_async_context(running_server(settings, issuer=issuer))
            for _ in range(2 if redis_url else 1)
        ]
        yield Nodes(made)


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_of_twenty_parallel_redemptions_of_each_of_fifty_tickets_exactly_one_wins(nodes: Nodes) -> None:
    tickets = [await nodes.ticket(session(f"n{number}")) for number in range(TICKETS)]

    async def redeem(ticket: str) -> str | None:
        async with connected(nodes.next()) as connection:
            connection.send(request("GET", f"/v1/stream?ticket={ticket}", EVENTS))
            answer = await connection.head()
            if answer.status == 200:
                attached = json.loads((await EventStream(connection, answer).event())["data"])["attached"]
                return str(attached["nonce"])
            assert answer.status == 401
            return None

    won = []
    for start in range(0, TICKETS, 10):  # 200 connections at once
        takers = [ticket for _ in range(TAKERS) for ticket in tickets[start : start + 10]]
        won += await asyncio.gather(*map(redeem, takers))
    assert len(won) == TICKETS * TAKERS
    assert sorted(filter(None, won)) == sorted(f"n{number}" for number in range(TICKETS))
    for ticket in tickets:
        await nodes.refused(f"/v1/stream?ticket={ticket}")


@pytest.mark.parametrize("wanted", [session(), CHANNELS], ids=["session", "channels"])
@pytest.mark.parametrize("origin", [None, "http://127.0.0.1", APP], ids=["none", "our own", "listed"])
async def test_another_origin_burns_it_at_every_node(nodes: Nodes, wanted: dict[str, Any], origin: str | None) -> None:
    """Made for a listed page, shown by another one or none; and the other way round. Then the right one is too late."""
    made, shown = (APP, origin) if origin != APP else (None, APP)
    target = f"/v1/{'channels' if wanted is CHANNELS else 'stream'}?ticket={await nodes.ticket(wanted, made)}"
    for used in (shown, made, made):
        await nodes.refused(target, {} if used is None else {"Origin": used})


@pytest.mark.parametrize("wanted", [session(), CHANNELS], ids=["session", "channels"])
async def test_another_purpose_burns_it_at_every_node(nodes: Nodes, wanted: dict[str, Any]) -> None:
    ticket = await nodes.ticket(wanted)
    right, wrong = ("channels/news", "stream") if wanted is CHANNELS else ("stream", "channels/news")
    await nodes.refused(f"/v1/{wrong}?ticket={ticket}")
    for _ in nodes.servers:
        await nodes.refused(f"/v1/{right}?ticket={ticket}")


async def test_a_ticket_is_for_event_streams_and_no_other_transport(nodes: Nodes) -> None:
    """Anywhere else it is no credential at all; and it is not used up by that."""
    tickets = {"stream": await nodes.ticket(session()), "channels/news": await nodes.ticket(CHANNELS)}
    upgrade = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }  # fmt: skip
    for path, ticket in tickets.items():
        async with connected(nodes.next()) as connection:
            connection.send(request("GET", f"/v1/{path}?ticket={ticket}", upgrade))
            assert (await connection.head()).status == 101
            connection.send(text({"method": "heartbeat"}))
            assert (await connection.close_code())[0] == 3401, "it waited for a token"
        for method, target, body in (
            ("POST", "/v1/stream", b"{}"),
            ("POST", "/v1/command", b"{}"),
            ("POST", "/v1/channels/news", b"1"),
            ("POST", "/v1/ticket", b"{}"),
            ("GET", "/v1/history/news", b""),
            ("GET", "/v1/presence/news", b""),
            ("GET", "/v1/channels/news", b""),
        ):
            headers = {"Content-Type": "application/json"} if body else {}
            answer = await call(nodes.next(), method, f"{target}?ticket={ticket}", headers, body)
            assert (answer.status, answer.name) == (401, "unauthorized"), target
        async with event_stream(nodes.next(), f"/v1/{path}?ticket={ticket}", {}) as stream:
            await stream.event()


async def test_a_ticket_that_was_never_used_ends_with_its_token(nodes: Nodes) -> None:
    """Made with short tokens (whole seconds: 2 to 3 s). The stream of one tells when its time is over."""
    told, late = [await nodes.ticket(CHANNELS, lifetime_s=3) for _ in range(2)]
    late_session = await nodes.ticket(session(), lifetime_s=3)
    async with event_stream(nodes.next(), f"/v1/channels?ticket={told}", {}) as stream:
        assert (await stream.rest())[-2][0].startswith(": 4401 token_expired: ")
    for _ in nodes.servers:
        await nodes.refused(f"/v1/channels?ticket={told}")
        await nodes.refused(f"/v1/channels?ticket={late}")
        await nodes.refused(f"/v1/stream?ticket={late_session}")


async def test_of_twenty_parallel_streams_of_one_channels_ticket_one_is_left(nodes: Nodes) -> None:
    """The newer stream ends the older."""
    server, ticket = nodes.servers[0], await nodes.ticket(CHANNELS)
    async with AsyncExitStack() as stack:

        async def opened() -> EventStream:
            return await stack.enter_async_context(event_stream(server, f"/v1/channels?ticket={ticket}", {}))

        streams = [await opened() for _ in range(TAKERS)]
        ends = [asyncio.create_task(stream.rest()) for stream in streams[:-1]]
        for blocks in await asyncio.gather(*ends):
            assert blocks[-1][0].startswith(": 4509 replaced: ")
        assert len(server.engine.ticket_streams) == 1
        await server.engine.publish("news", "to one")
        while "data" not in (event := await streams[-1].event()):
            pass
        assert event["data"] == '"to one"'
    await until(lambda: not server.engine.ticket_streams)


async def test_the_newer_stream_of_a_channels_ticket_ends_the_older_at_another_node(one_redis: RedisServer) -> None:
    """What docs/protocol.md says of channels tickets: one stream at a time."""
    settings = replace(settings_for(), broker=one_redis.url, secret=SECRET)
    issuer = new_issuer()
    async with running_server(settings, issuer=issuer) as one, running_server(settings, issuer=issuer) as two:
        ticket = await Nodes([one, two]).ticket(CHANNELS)
        async with event_stream(one, f"/v1/channels?ticket={ticket}", {}) as first:
            await first.event()
            async with event_stream(two, f"/v1/channels?ticket={ticket}", {}) as second:
                await second.event()
                async with asyncio.timeout(1.0):
                    assert (await first.rest())[-1][0].startswith(": 4509 replaced: ")
