"""On a kept connection every answer is the one that Hypercorn would have written."""

from __future__ import annotations

import gc
import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from quart import Quart

from hybrid.links.kept import KeptConnections
from hybrid.settings import Namespace
from tests.support.bytewise import Answer, Connection, connected, request, until
from tests.support.server import RunningServer, running_server, settings_for

PAGE = "https://app.example"
JSON = {"Content-Type": "application/json"}
ATTACH = b'{"method":"attach","attempt":1,"confirm":true,"subscriptions":[{"channel":"chat:a"}]}'
BATCH = b'{"publications":[{"channel":"chat:a","data":1},{"channel":"*","data":1}]}'
COMMANDS = b'{"commands":[{"id":1,"method":"publish","channel":"chat:a","data":1}]}'
_CHANGING = re.compile(
    rb'"(at_ms|offset|epoch|tag|session|sealed|ticket|cursor|expires_in_s|retry_after_s|token_expires_in_s)":'
    rb'("[^"]*"|[0-9.]+)'
)


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    namespaces = {"chat": Namespace("chat", history_size=10), "open": Namespace("open", subscribe="anyone")}
    settings = replace(
        settings_for(namespaces=namespaces), fast_requests=True, allowed_origins=(PAGE,), trusted_proxies=("127.0.0.1",)
    )
    async with running_server(settings) as running:
        yield running


def comparable(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    """All of an answer but the time, and what is drawn anew for each."""
    headers = {name: value for name, value in answer.headers.items() if name not in ("date", "content-length")}
    return answer.status, headers, _CHANGING.sub(rb'"\1":0', answer.body)


async def by_us(connection: Connection, port: int) -> None:
    """Have the connection taken over."""
    connection.send(request("GET", "/v1/ping"))
    assert (await connection.answer()).status == 200


GOOD: dict[str, tuple[str, str, dict[str, str], bytes]] = {
    "publish": ("POST", "/v1/channels/chat:a", JSON, b'{"text":"hello"}'),
    "publish text": ("POST", "/v1/channels/chat%3Aa", {"Content-Type": "text/plain"}, b"hello"),
    "publish bytes": ("POST", "/v1/channels/chat:a", {"Content-Type": "application/octet-stream"}, b"\0\1"),
    "publish from a page": ("POST", "/v1/channels/chat:a", {**JSON, "Origin": PAGE}, b"1"),
    "publish from a strange page": ("POST", "/v1/channels/chat:a", {**JSON, "Origin": "https://evil.example"}, b"1"),
    "a form": ("POST", "/v1/channels/chat:a", {"Content-Type": "application/x-www-form-urlencoded"}, b"a=b"),
    "bad JSON": ("POST", "/v1/channels/chat:a", JSON, b'{"text":'),
    "too much": ("POST", "/v1/channels/chat:a", JSON, b'"' + b"x" * 70_000 + b'"'),
    "no namespace": ("POST", "/v1/channels/nowhere:a", JSON, b"1"),
    "a bad name": ("POST", "/v1/channels/a%00", JSON, b"1"),
    "a batch": (
        "POST",
        "/v1/publish",
        JSON,
        b'{"publications":[{"channel":"chat:a","data":1},{"channel":"*","data":1}]}',
    ),
    "a batch of nothing": ("POST", "/v1/publish", JSON, b'{"publications":[]}'),
    "a bad batch": ("POST", "/v1/publish", JSON, b'{"publications":1}'),
    "too large a batch": (
        "POST",
        "/v1/publish",
        JSON,
        json.dumps({"publications": [{"channel": "chat:a", "data": 1}] * 65}).encode(),
    ),
    "a command": (
        "POST",
        "/v1/command",
        JSON,
        b'{"commands":[{"id":1,"method":"publish","channel":"chat:a","data":1}]}',
    ),
    "an attach": ("POST", "/v1/stream", JSON, ATTACH),
    "a poll of nobody": ("POST", "/v1/stream", JSON, b'{"method":"poll","session":"s","attempt":1,"wait_s":0}'),
    "no poll": ("POST", "/v1/stream", JSON, b'{"method":"heartbeat"}'),
    "a plain poll": ("GET", "/v1/channels/chat:a", {}, b""),
    "a plain poll from the start": ("GET", "/v1/channels/chat:b?after=0&wait=0", {}, b""),
    "a plain poll by nobody": ("GET", "/v1/channels/open:a", {"Authorization": ""}, b""),
    "the head of a poll": ("HEAD", "/v1/channels/chat:a", {}, b""),
    "a bad cursor": ("GET", "/v1/channels/chat:a?after=x", {}, b""),
    "a bad wait": ("GET", "/v1/channels/chat:a?wait=-1", {}, b""),
    "history": ("GET", "/v1/history/chat:c", {}, b""),
    "presence": ("GET", "/v1/presence/chat:c", {}, b""),
    "a ticket": ("POST", "/v1/ticket", JSON, b'{"purpose":"channels","channels":["chat:a"]}'),
    "a ping": ("GET", "/v1/ping", {}, b""),
    "a preflight": (
        "OPTIONS",
        "/v1/publish",
        {"Origin": PAGE, "Access-Control-Request-Method": "POST", "Authorization": ""},
        b"",
    ),
    "nothing there": ("GET", "/v1/nothing", {}, b""),
    "the wrong method": ("PUT", "/v1/publish", {}, b"1"),
    "revoking without the right": ("POST", "/v1/revoke", JSON, b'{"subject":"a"}'),
    "no token": ("POST", "/v1/channels/chat:a", {**JSON, "Authorization": ""}, b"1"),
    "a bad token": ("POST", "/v1/channels/chat:a", {**JSON, "Authorization": "Bearer nonsense"}, b"1"),
    "another scheme": ("GET", "/v1/channels/chat:a", {"Authorization": "Basic YTpi"}, b""),
    "a token in the URL": ("GET", "/v1/channels/chat:a?access_token=x", {}, b""),
    "a strange host": ("GET", "/v1/ping", {"Host": "evil.example"}, b""),
    "a session by no ticket": ("GET", "/v1/stream", {}, b""),
    "a page": ("GET", "/healthz", {}, b""),
    "no page": ("GET", "/nothing", {}, b""),
}


@pytest.mark.parametrize("name", GOOD)
async def test_answers_are_the_same(server: RunningServer, name: str) -> None:
    method, target, headers, body = GOOD[name]
    sent = {**server.bearer(), **headers}
    if not sent["Authorization"]:
        del sent["Authorization"]
    raw = request(method, target, sent, body)
    async with connected(server) as first, connected(server) as second:
        first.send(raw)
        by_hypercorn = await first.answer(is_head=method == "HEAD")
        await by_us(second, server.port)
        second.send(raw)
        kept = await second.answer(is_head=method == "HEAD")
        assert comparable(kept) == comparable(by_hypercorn)


@pytest.mark.parametrize("name", ["no Host", "two Hosts", "an absolute target", "two tokens"])
async def test_strange_requests_are_answered_the_same(server: RunningServer, name: str) -> None:
    bearer = f"Authorization: {server.bearer()['Authorization']}\r\n"
    raw = {
        "no Host": f"GET /v1/ping HTTP/1.1\r\n{bearer}\r\n",
        "two Hosts": f"GET /v1/ping HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: 127.0.0.1\r\n{bearer}\r\n",
        "an absolute target": f"GET http://127.0.0.1/v1/ping HTTP/1.1\r\nHost: 127.0.0.1\r\n{bearer}\r\n",
        "two tokens": f"GET /v1/channels/chat:a HTTP/1.1\r\nHost: 127.0.0.1\r\n{bearer}{bearer}\r\n",
    }[name].encode()
    async with connected(server) as first, connected(server) as second:
        first.send(raw)
        by_hypercorn = await first.answer()
        await by_us(second, server.port)
        second.send(raw)
        # Hypercorn alone refuses a request without a Host, by 400; to us it is one more Host that is not ours.
        assert (await second.answer()).status in {by_hypercorn.status, 403 if name.endswith(("Host", "Hosts")) else 0}


async def test_each_request_has_the_client_that_its_proxy_names(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    enter = server.engine.door.enter

    def note(address: str) -> Any:
        seen.append(address)
        return enter(address)

    monkeypatch.setattr(server.engine.door, "enter", note)
    async with connected(server) as connection:
        await by_us(connection, server.port)
        for address in ("192.0.2.1", "192.0.2.2"):
            headers = {**server.bearer(subject=address), "X-Forwarded-For": address}
            connection.send(request("GET", "/v1/channels/chat:a", headers))
            assert (await connection.answer()).status == 200
    assert seen == ["192.0.2.1", "192.0.2.2"]


async def test_a_draining_server_says_so_and_ends_the_connection(server: RunningServer) -> None:
    async with connected(server) as connection:
        await by_us(connection, server.port)
        polled = request("GET", "/v1/channels/chat:a?after=0&wait=20", server.bearer())
        connection.send(polled)
        await until(lambda: bool(server.engine.open.waiting()))
        await server.shut_down()
        answer = await connection.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert answer.json()["publications"] == []


async def test_a_poll_that_is_given_up_waits_no_longer(server: RunningServer) -> None:
    async with connected(server) as connection:
        await by_us(connection, server.port)
        connection.send(request("GET", "/v1/channels/chat:a?after=0&wait=20", server.bearer()))
        await until(lambda: server.engine.hub.stats().polls_waiting == 1)
    await until(lambda: server.engine.hub.stats().polls_waiting == 0 and not len(server.engine.open))


async def test_streams_leave_a_kept_connection_for_a_hand_off_of_their_own(server: RunningServer) -> None:
    async with connected(server) as connection:
        await by_us(connection, server.port)
        connection.send(request("GET", "/v1/channels/chat:a", {**server.bearer(), "Accept": "text/event-stream"}))
        assert (await connection.head()).headers["content-type"] == "text/event-stream; charset=utf-8"
        [stream] = server.engine.open.streams()
        assert stream.link.is_handed_off  # type: ignore[attr-defined]


@pytest.mark.parametrize(("handoff", "wanted"), [(True, True), (True, False), (False, True)])
async def test_the_settings_decide(handoff: bool, wanted: bool) -> None:
    settings = replace(settings_for(handoff=handoff), fast_requests=wanted)
    others = everywhere()
    async with running_server(settings) as server, connected(server) as connection:
        await by_us(connection, server.port)
        ours = [kept for kept in everywhere() if kept not in others]
        assert sum(map(len, ours)) == (handoff and wanted)


def everywhere() -> list[KeptConnections]:
    """Those of all servers that were in this process."""
    # Not by `isinstance`, which asks whatever other tests have left, a proxy of a request that is over for instance.
    return [owner for owner in gc.get_objects() if type(owner) is KeptConnections]


async def test_what_middleware_puts_into_a_scope_is_not_in_the_next_one() -> None:
    seen: list[tuple[Any, Any]] = []

    def prepare(app: Quart) -> None:
        behind: Any = app.asgi_app

        async def middleware(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                seen.append((scope["client"][0], scope.get("user")))
                scope["client"], scope["user"] = ("203.0.113.7", 0), "alice"
                scope["asgi"]["version"] = "touched"
            await behind(scope, receive, send)

        app.asgi_app = middleware  # type: ignore[method-assign]

    settings = replace(settings_for(), fast_requests=True)
    async with running_server(settings, prepare=prepare) as server, connected(server) as connection:
        for _ in range(3):
            await by_us(connection, server.port)
    assert seen == [("127.0.0.1", None)] * 3
