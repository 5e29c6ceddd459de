"""Origin, Host and tickets at every door of a whole server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from tests.support.bytewise import (
    EVENTS,
    JSON,
    WEBSOCKET,
    Answer,
    bystander,
    call,
    connected,
    event_stream,
    request,
    until,
)
from tests.support.server import RunningServer, running_server, settings_for

APP = "https://app.example"
ATTACH = b'{"method":"attach","attempt":1,"confirm":true}'
DOORS: dict[str, tuple[str, str, dict[str, str], bytes]] = {
    "poll": ("GET", "/v1/channels/news", {}, b""),
    "event stream": ("GET", "/v1/channels/news", EVENTS, b""),
    "plain websocket": ("GET", "/v1/channels/news", WEBSOCKET, b""),
    "publish": ("POST", "/v1/channels/news", JSON, b"1"),
    "batch": ("POST", "/v1/publish", JSON, b'{"publications":[]}'),
    "history": ("GET", "/v1/history/news", {}, b""),
    "ticket": ("POST", "/v1/ticket", JSON, b'{"purpose":"channels","channels":["news"]}'),
    "command": ("POST", "/v1/command", JSON, b'{"commands":[]}'),
    "session websocket": ("GET", "/v1/stream", WEBSOCKET, b""),
    "session event stream": ("POST", "/v1/stream", {**JSON, **EVENTS}, ATTACH),
    "session poll": ("POST", "/v1/stream", JSON, ATTACH),
    "preflight": ("OPTIONS", "/v1/stream", {}, b""),
    "ping": ("GET", "/v1/ping", {}, b""),
    "nothing": ("GET", "/v1/nothing", {}, b""),
}


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    settings = replace(settings_for(), allowed_origins=(APP,), allowed_hosts=("hybrid.example", "127.0.0.1"))
    async with running_server(settings) as running:
        yield running


async def knock(server: RunningServer, door: str, extra: list[tuple[str, str]], *, host: str | None) -> Answer:
    """The head of the answer; its body too where it is no stream."""
    method, target, headers, body = DOORS[door]
    async with connected(server) as connection:
        pairs = [*headers.items(), *server.bearer().items(), *extra]
        connection.send(request(method, target, pairs, body, host=host))
        head = await connection.head()
        length = int(head.headers.get("content-length", 0))
        return replace(head, body=await connection.reader.readexactly(length))


@pytest.mark.parametrize("door", DOORS)
async def test_every_door_looks_at_origin_and_host_first(server: RunningServer, door: str) -> None:
    async with bystander(server) as other:
        good = {101, 200, 201, 204, 404}
        for origin in (None, APP, "http://hybrid.example"):
            extra = [] if origin is None else [("Origin", origin)]
            assert (await knock(server, door, extra, host="hybrid.example")).status in good
        for origin in ("null", "https://evil.example", "http://app.example", "https://app.example.evil", "", "*"):
            refused = await knock(server, door, [("Origin", origin)], host="hybrid.example")
            assert (refused.status, refused.name) == (403, "origin_refused")
            assert "access-control-allow-origin" not in refused.headers
        for host in ("evil.example", "hybrid.example:80", "hybrid.example.", "127.0.0.1:9", ""):
            refused = await knock(server, door, [], host=host)
            assert (refused.status, refused.name) == (403, "origin_refused")
        twice = await knock(server, door, [("Origin", APP), ("Origin", APP)], host="hybrid.example")
        assert (twice.status, twice.name) == (403, "origin_refused")
        history = await call(server, "GET", "/v1/history/news", server.bearer())
        published = 3 if door == "publish" else 0  # those that were let in
        assert len(history.json()["publications"]) == published
        await other.still_hears()


async def ticket_for(server: RunningServer, wanted: dict[str, Any], origin: str | None = None, **bearer: Any) -> str:
    headers = {**server.bearer(**bearer), **({} if origin is None else {"Origin": origin})}
    answer = await call(server, "POST", "/v1/ticket", headers, json.dumps(wanted).encode())
    assert answer.status == 201, answer
    text: str = answer.json()["ticket"]
    return text


NEWS = {"purpose": "channels", "channels": ["news"]}
SESSION = {"purpose": "session", "attach": json.loads(ATTACH)}


async def test_a_channels_ticket_can_be_opened_again_and_the_newer_stream_ends_the_older(
    server: RunningServer,
) -> None:
    ticket = await ticket_for(server, NEWS)
    target = f"/v1/channels/news?ticket={ticket}"
    async with event_stream(server, target, {}) as first:
        assert (await first.event())["id"] == "0"
        await server.engine.publish("news", 1)
        cursor = (await first.event())["id"]
        async with event_stream(server, target, {"Last-Event-ID": cursor}) as second:
            assert (await first.rest())[-1][0].startswith(": 4509 replaced: ")
            await second.event()
            await server.engine.publish("news", 2)
            assert (await second.event())["data"] == "2"
    await until(lambda: not server.engine.ticket_streams)
    await server.engine.publish("news", 3)
    async with event_stream(server, target, {"Last-Event-ID": cursor}) as third:
        assert (await third.event())["id"] == cursor
        assert [(await third.event())["data"] for _ in range(2)] == ["2", "3"]


async def test_a_channels_ticket_is_for_its_channels_and_its_use(server: RunningServer) -> None:
    ticket = await ticket_for(server, NEWS)
    for target in ("/v1/channels/other", "/v1/channels?name=news&name=other", "/v1/channels/news%2Fx"):
        joint = "&" if "?" in target else "?"
        refused = await call(server, "GET", f"{target}{joint}ticket={ticket}", EVENTS)
        assert (refused.status, refused.name) == (401, "token_refused")
    # A ticket opens event streams and nothing else.
    for method, target, headers in (
        ("GET", "/v1/channels/news", {}),
        ("GET", "/v1/history/news", {}),
        ("GET", "/v1/presence/news", {}),
        ("POST", "/v1/channels/news", JSON),
        ("POST", "/v1/stream", JSON),
        ("POST", "/v1/command", JSON),
        ("POST", "/v1/ticket", JSON),
    ):
        answer = await call(server, method, f"{target}?ticket={ticket}", headers, b"{}" if headers else b"")
        assert (answer.status, answer.name) == (401, "unauthorized")
    async with event_stream(server, f"/v1/channels?ticket={ticket}", {}) as stream:
        assert (await stream.event())["id"] == "0"


@pytest.mark.parametrize("wanted", [NEWS, SESSION], ids=["channels", "session"])
@pytest.mark.parametrize(("made", "used"), [(APP, None), (None, APP), (APP, "http://hybrid.example")])
async def test_a_ticket_from_another_page_is_refused_and_burned(
    server: RunningServer, wanted: dict[str, Any], made: str | None, used: str | None
) -> None:
    ticket = await ticket_for(server, wanted, made)
    target = f"/v1/{'stream' if wanted is SESSION else 'channels/news'}?ticket={ticket}"
    for origin in (used, made):
        headers = {**EVENTS, **({} if origin is None else {"Origin": origin})}
        refused = await call(server, "GET", target, headers, host="hybrid.example")
        assert (refused.status, refused.name) == (401, "token_refused")
        assert ticket not in f"{refused.headers}{refused.body!r}"


@pytest.mark.parametrize("wanted", [NEWS, SESSION], ids=["channels", "session"])
async def test_a_ticket_for_one_purpose_does_not_serve_the_other(server: RunningServer, wanted: dict[str, Any]) -> None:
    ticket = await ticket_for(server, wanted)
    right, wrong = ("stream", "channels/news") if wanted is SESSION else ("channels/news", "stream")
    for target in (wrong, right):
        refused = await call(server, "GET", f"/v1/{target}?ticket={ticket}", EVENTS)
        assert (refused.status, refused.name) == (401, "token_refused")


async def test_a_session_ticket_is_used_once_however_many_try(server: RunningServer) -> None:
    ticket = await ticket_for(server, SESSION)

    async def use() -> int:
        async with connected(server) as connection:
            connection.send(request("GET", f"/v1/stream?ticket={ticket}", EVENTS))
            return (await connection.head()).status

    statuses = await asyncio.gather(*(use() for _ in range(20)))
    assert sorted(statuses) == [200] + [401] * 19
    await until(lambda: not len(server.engine.open))


@pytest.mark.parametrize("ticket", ["", "x", "A" * 43, "A" * 44, "%00" * 43, "%ff", "A" * 5_000])
async def test_tickets_that_are_none(server: RunningServer, ticket: str) -> None:
    for target in ("/v1/stream", "/v1/channels/news"):
        refused = await call(server, "GET", f"{target}?ticket={ticket}", EVENTS)
        assert refused.status in (400, 401)
        assert refused.name in ("bad_request", "token_refused")
    twice = await call(server, "GET", f"/v1/channels/news?ticket={'A' * 43}&ticket={'A' * 43}", EVENTS)
    assert (twice.status, twice.name) == (400, "bad_request")


async def test_a_ticket_lives_no_longer_than_its_token(server: RunningServer) -> None:
    ticket = await ticket_for(server, NEWS, lifetime_s=1.5)
    target = f"/v1/channels/news?ticket={ticket}"
    async with event_stream(server, target, {}) as stream:
        assert (await stream.rest())[-2][0].startswith(": 4401 token_expired: ")
    refused = await call(server, "GET", target, EVENTS)
    assert (refused.status, refused.name) == (401, "token_refused")


async def test_who_speaks_before_the_answer_and_goes_leaves_the_doorway() -> None:
    """Hypercorn refuses by itself what comes behind a handshake, while the door has counted who knocks."""
    handshake = (
        b"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\x81\x82\0\0\0\0hi"
    )
    async with running_server(settings_for()) as server, asyncio.timeout(30):
        for number in range(300):
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(handshake)
            await asyncio.sleep(0.0003 * (number % 6))
            writer.transport.abort()
            if number % 50 == 49:
                while server.engine.door.count:  # noqa: ASYNC110 -- nothing tells of it
                    await asyncio.sleep(0.01)
        assert server.engine.door.count == 0
