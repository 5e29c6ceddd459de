"""Whatever breaks behind a transport, the client is told `internal` and the log why; neither tells the other's part."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hybrid.settings import Namespace
from tests.support.bytewise import (
    EVENTS,
    JSON,
    WEBSOCKET,
    Bystander,
    Connection,
    bystander,
    call,
    connected,
    event_stream,
    request,
    text,
    until,
    websocket,
)
from tests.support.server import RunningServer, running_server, settings_for

SECRET = "password=hunter2"
ERRORS = [
    RuntimeError(SECRET),
    ConnectionResetError(SECRET),
    KeyError(SECRET),
    TimeoutError(SECRET),
    ValueError(SECRET),
]
ATTACH = {"method": "attach", "attempt": 1, "confirm": True, "subscriptions": [{"channel": "room:1"}]}


@pytest.fixture(params=[True, False], ids=["hand-off", "asgi"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[RunningServer]:
    namespaces = {"room": Namespace("room", presence=True), "default": Namespace("default")}
    async with running_server(settings_for(handoff=request.param, namespaces=namespaces)) as running:
        yield running


@pytest.fixture(autouse=True)
async def other(server: RunningServer) -> AsyncIterator[Bystander]:
    async with bystander(server) as made:
        yield made
        await made.still_hears()


def failing(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, error: Exception) -> None:
    async def fail(*arguments: Any, **options: Any) -> Any:
        raise error

    monkeypatch.setattr(owner, name, fail)


def is_logged(caplog: pytest.LogCaptureFixture) -> bool:
    return any(record.levelno == logging.ERROR and SECRET in str(record.exc_info) for record in caplog.records)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_a_verifier_that_breaks(
    server: RunningServer, error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failing(monkeypatch, server.engine.verifier, "verify", error)
    headers = server.bearer()
    for method, target, extra in (
        ("GET", "/v1/channels/a", {}),
        ("GET", "/v1/channels/a", EVENTS),
        ("GET", "/v1/channels/a", WEBSOCKET),
        ("GET", "/v1/stream", WEBSOCKET),
        ("GET", "/v1/history/a", {}),
        ("POST", "/v1/channels/a", JSON),
        ("POST", "/v1/publish", JSON),
        ("POST", "/v1/ticket", JSON),
        ("POST", "/v1/command", JSON),
        ("POST", "/v1/stream", JSON),
        ("POST", "/v1/stream", {**JSON, **EVENTS}),
    ):
        caplog.clear()
        answer = await call(server, method, target, {**extra, **headers}, b"{}" if method == "POST" else b"")
        assert (answer.status, answer.name) == (500, "internal")
        assert SECRET not in f"{answer.headers} {answer.body!r}"
        assert is_logged(caplog)
    for target in ("/v1/stream", "/v1/channels/a"):
        caplog.clear()
        async with websocket(server, target) as socket:
            socket.send(text({"method": "auth", "token": server.token()}))
            assert await socket.close_code() == (4450, "internal")
        assert is_logged(caplog)
    await until(lambda: server.engine.door.count == 0)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_a_broker_that_breaks(
    server: RunningServer, error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broker = server.engine.broker
    with monkeypatch.context() as patched:
        for name in ("append", "history", "read"):
            failing(patched, broker, name, error)
        failing(patched, server.engine.operations._presence, "entries", error)
        batch = json.dumps({"publications": [{"channel": "a", "data": 1}]}).encode()
        command = json.dumps({"commands": [{"method": "publish", "id": 1, "channel": "a", "data": 1}]}).encode()
        for method, target, body in (
            ("POST", "/v1/channels/a", b"1"),
            ("POST", "/v1/publish", batch),
            ("POST", "/v1/command", command),
            ("GET", "/v1/history/a", b""),
            ("GET", "/v1/history/a?after=k-1-00000000", b""),
            ("GET", "/v1/presence/room:1", b""),
        ):
            caplog.clear()
            answer = await call(server, method, target, {**JSON, **server.bearer()}, body)
            assert (answer.status, answer.name) == (500, "internal")
            assert SECRET not in f"{answer.headers} {answer.body!r}"
            assert is_logged(caplog)
        for sent in (
            {"method": "publish", "channel": "a", "data": 1},
            {"method": "history", "channel": "a"},
            {"method": "presence", "channel": "room:1"},
        ):
            caplog.clear()
            async with websocket(server, "/v1/stream", server.bearer()) as socket:
                socket.send(text({**sent, "id": 1}))
                assert await socket.close_code() == (4450, "internal")
            assert is_logged(caplog)


async def attached(socket: Connection) -> None:
    socket.send(text(ATTACH))
    assert "attached" in await socket.push()


async def test_a_hub_that_breaks(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What starts delivery fails: nobody is left waiting on a stream that would stay silent for ever."""
    with monkeypatch.context() as patched:
        failing(patched, server.engine.hub, "locate", RuntimeError(SECRET))
        for made in ("feed", "bundle_feed"):

            def fail(*arguments: Any, **options: Any) -> Any:
                raise RuntimeError(SECRET)

            patched.setattr(server.engine.hub, made, fail)
        for target in ("/v1/channels/a", "/v1/channels?name=a&name=b"):
            polled = await call(server, "GET", target, server.bearer())
            assert (polled.status, polled.name) == (500, "internal")
            async with event_stream(server, target, server.bearer()) as stream:
                assert (await stream.rest())[-2][0].startswith(": 4450 internal: ")
            async with websocket(server, target, server.bearer()) as socket:
                assert await socket.close_code() == (4450, "internal")
        async with websocket(server, "/v1/stream", server.bearer()) as socket:
            await attached(socket)
            assert await socket.close_code() == (4450, "internal")
        body = json.dumps(ATTACH).encode()
        async with event_stream(server, "/v1/stream", server.bearer(), method="POST", body=body) as stream:
            told = [json.loads(line[0].removeprefix("data: ")) for line in (await stream.rest())[1:]]
            assert told[-1]["disconnect"]["code"] == 4450
        polled = await call(server, "POST", "/v1/stream", server.bearer(), body)
        assert (polled.status, polled.name) == (500, "internal")
        assert is_logged(caplog)
    await until(lambda: len(server.engine.open) == 1)


async def test_a_command_of_a_session_that_breaks(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with websocket(server, "/v1/stream", server.bearer()) as socket:
        await attached(socket)
        while "subscribed" not in await socket.push():
            pass
        with monkeypatch.context() as patched:
            failing(patched, server.engine.verifier, "verify", RuntimeError(SECRET))
            socket.send(text({"method": "refresh", "id": 1, "n": 1, "token": server.token()}))
            assert await socket.close_code() == (4450, "internal")
    assert is_logged(caplog)
    async with websocket(server, "/v1/stream", server.bearer()) as socket:
        await attached(socket)


async def test_a_ticket_store_that_breaks(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = server.engine.tickets._store
    for name in ("put", "take", "look"):
        failing(monkeypatch, store, name, OSError(SECRET))
    body = b'{"purpose":"channels","channels":["a"]}'
    for method, target, headers, sent in (
        ("POST", "/v1/ticket", server.bearer(), body),
        ("GET", f"/v1/channels/a?ticket={'A' * 43}", EVENTS, b""),
        ("GET", f"/v1/stream?ticket={'A' * 43}", EVENTS, b""),
    ):
        caplog.clear()
        answer = await call(server, method, target, headers, sent)
        assert (answer.status, answer.name) == (500, "internal")
        assert is_logged(caplog)


async def test_an_error_behind_one_pipelined_request_leaves_the_others(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, server.engine.broker, "history", RuntimeError(SECRET))
    headers = server.bearer()
    async with connected(server) as connection:
        connection.send(
            request("GET", "/v1/history/a", headers)
            + request("GET", "/v1/channels/a", headers)
            + request("GET", "/healthz")
        )
        assert [(await connection.answer()).status for _ in range(3)] == [500, 200, 200]
