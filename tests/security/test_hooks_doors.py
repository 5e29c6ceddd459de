"""Every door of a channel that a backend decides about asks it, and none opens while it is away."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import httpx2
import pytest
import pytest_asyncio
import websockets

from hybrid.hooks.breaker import REST_MAX_S
from hybrid.settings import HooksSettings, Namespace
from tests.support.receiver import SECRET, Receiver, Request, receiver
from tests.support.server import RunningServer, running_server, settings_for
from tests.support.world import Clock


class Place:
    def __init__(self, server: RunningServer, backend: Receiver, clock: Clock, http: httpx2.AsyncClient) -> None:
        self.server = server
        self.backend = backend
        self.clock = clock
        self.http = http

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> int:
        """The status of an answer; of a stream, that of its head."""
        content = None if body is None else json.dumps(body)
        given = {"Content-Type": "application/json", "Authorization": f"Bearer {self.server.token()}", **headers}
        async with self.http.stream(method, self.server.url + path, content=content, headers=given) as answer:
            return answer.status_code


@pytest_asyncio.fixture
async def here() -> AsyncIterator[Place]:
    rooms = Namespace("room", subscribe="hook", publish="hook", presence=True)
    namespaces = {"room": rooms, "default": Namespace("default")}
    clock = Clock()
    async with receiver() as backend:
        backend.now_s = clock.wall_s
        hooks = HooksSettings(url=backend.url, secrets=(SECRET,))
        settings = replace(settings_for(), hooks=hooks, namespaces=namespaces)
        async with running_server(settings, clock=clock) as server, httpx2.AsyncClient(trust_env=False) as http:
            yield Place(server, backend, clock, http)


async def websocket(here: Place) -> int:
    """A plain channel over a WebSocket: 200 when it reads, otherwise the HTTP status of the error that ended it."""
    url = here.server.url.replace("http", "ws") + "/v1/channels/room:1?history=1"
    bearer = {"Authorization": f"Bearer {here.server.token()}"}
    await here.server.engine.publish("room:1", 1)
    async with websockets.connect(url, additional_headers=bearer, proxy=None) as socket:
        try:
            await socket.recv()
        except websockets.ConnectionClosed as closed:
            return {3403: 403, 3504: 503}[0 if closed.rcvd is None else closed.rcvd.code]
        return 200


async def ticket(here: Place) -> int:
    status = await here.ask("POST", "/v1/ticket", {"purpose": "channels", "channels": ["room:1"]})
    return 200 if status == 201 else status


async def batch(here: Place) -> int:
    headers = here.server.bearer()
    body = {"publications": [{"channel": "room:1", "data": 1}, {"channel": "a\u0000", "data": 1}]}
    answer = await here.http.post(f"{here.server.url}/v1/publish", json=body, headers=headers)
    first, second = answer.json()["results"]
    assert second["error"]["name"] == "bad_request"
    return 200 if "position" in first else {"forbidden": 403, "keys_unavailable": 503}[first["error"]["name"]]


DOORS: dict[str, Callable[[Place], Awaitable[int]]] = {
    "an event stream": lambda here: here.ask("GET", "/v1/channels/room:1", Accept="text/event-stream"),
    "a poll": lambda here: here.ask("GET", "/v1/channels/room:1?wait=0"),
    "a WebSocket": websocket,
    "history": lambda here: here.ask("GET", "/v1/history/room:1"),
    "presence": lambda here: here.ask("GET", "/v1/presence/room:1"),
    "a ticket": ticket,
    "a publish": lambda here: here.ask("POST", "/v1/channels/room:1", 1),
    "a batch": batch,
}


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
async def test_every_door_asks(here: Place, door: Callable[[Place], Awaitable[int]]) -> None:
    """By turns: denied, permitted, away, and back."""
    here.backend.answer = lambda request: {"allow": False}
    assert await door(here) == 403
    here.backend.answer = lambda request: {"allow": True}
    assert await door(here) == 200, "each token is asked about anew"
    await here.backend.stop()
    assert await door(here) == 503
    await here.backend.start()
    here.clock.advance(REST_MAX_S)
    assert await door(here) == 200
    assert {item["channel"] for item in here.backend.asked} == {"room:1"}, "never about what is no channel"


async def test_strangers_are_told_to_sign_in_and_not_asked_about(here: Place) -> None:
    for method, path in (
        ("GET", "/v1/channels/room:1"),
        ("POST", "/v1/channels/room:1"),
        ("GET", "/v1/history/room:1"),
    ):
        answer = await here.http.request(method, here.server.url + path)
        assert answer.status_code == 401
    assert here.backend.requests == []


async def test_other_namespaces_are_not_asked_about(here: Place) -> None:
    assert await here.ask("POST", "/v1/channels/chat:1", 1) == 200
    assert await here.ask("GET", "/v1/history/chat:1") == 200
    assert here.backend.requests == []


async def test_a_yes_of_before_is_worth_nothing_to_a_revoked_token(here: Place) -> None:
    here.backend.answer = lambda request: {"allow": True, "cache_s": 600}
    token = here.server.token()

    async def publish() -> int:
        answer = await here.http.post(
            f"{here.server.url}/v1/channels/room:1", json=1, headers={"Authorization": f"Bearer {token}"}
        )
        return answer.status_code

    assert await publish() == 200
    await here.server.engine.revoke(issuer=here.server.issuer.issuer, subject="alice")
    assert await publish() == 401
    assert len(here.backend.asked) == 1


async def test_one_attach_leaves_room_for_others(here: Place) -> None:
    """Of 40 channels, eight are asked about at once."""
    most = open_now = 0

    async def slowly(request: Request) -> Any:
        nonlocal most, open_now
        open_now += 1
        most = max(most, open_now)
        await here.backend.until(lambda: len(here.backend.requests) % 8 == 0)
        open_now -= 1
        return {"allow": True}

    here.backend.answer = slowly
    principal = await here.server.engine.verifier.verify(here.server.token())
    await here.server.engine.operations.ask_subscribe(principal, [f"room:{number}" for number in range(40)])
    assert len(here.backend.asked) == 40
    assert most == 8
