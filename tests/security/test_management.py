"""The server API refuses whoever may not, and whatever makes no sense, before anything happens."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from hybrid.auth.development import FULL_SCOPE
from hybrid.auth.grants import MANAGING_SCOPES, REVOKE_SCOPE
from tests.support.bytewise import JSON, Answer, call
from tests.support.raw import Door, RawWebSocket, attach_of
from tests.support.server import RunningServer, new_issuer, running_server
from tests.support.world import LIMITS, settings

SESSION = "/v1/info/sessions/x"
REQUESTS: dict[str, tuple[str, str, Any]] = {
    "subscribe": ("POST", "/v1/subscribe", {"channel": "chat:a", "subject": "alice"}),
    "unsubscribe": ("POST", "/v1/unsubscribe", {"channel": "chat:a", "subject": "alice"}),
    "disconnect": ("POST", "/v1/disconnect", {"subject": "alice"}),
    "purge": ("POST", "/v1/purge", {"channel": "chat:a"}),
    "drain": ("POST", "/v1/drain", {"node": "nobody"}),
    "channels": ("GET", "/v1/info/channels", None),
    "channel": ("GET", "/v1/info/channels/chat%3Aa", None),
    "sessions": ("GET", "/v1/info/sessions", None),
    "session": ("GET", SESSION, None),
    "nodes": ("GET", "/v1/info/nodes", None),
    "stats": ("GET", "/v1/info/stats", None),
}
SCOPES = {
    "subscribe": "hybrid:assign:chat:*",
    "unsubscribe": "hybrid:assign:chat:*",
    "disconnect": "hybrid:disconnect",
    "purge": "hybrid:purge:chat:*",
    "drain": "hybrid:drain",
    "channels": "hybrid:channels:chat:*",
    "channel": "hybrid:channels:chat:*",
    "sessions": "hybrid:sessions",
    "session": "hybrid:sessions",
    "nodes": "hybrid:nodes",
    "stats": "hybrid:admin",
}
LEADS_TO = {"drain": 404, "session": 404}  # there are none


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[RunningServer]:
    async with running_server(settings(True, limits=LIMITS), issuer=new_issuer()) as running:
        yield running


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def ask(
    server: RunningServer, name: str, scope: str, body: Any = None, headers: dict[str, str] | None = None
) -> Answer:
    method, path, usual = REQUESTS[name]
    body = usual if body is None else body
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return await call(server, method, path, {**server.bearer("backend", scope=scope), **JSON, **(headers or {})}, raw)


@pytest.mark.parametrize("name", REQUESTS)
async def test_without_a_token(server: RunningServer, name: str) -> None:
    method, path, body = REQUESTS[name]
    answer = await call(server, method, path, JSON, b"" if body is None else json.dumps(body).encode())
    assert (answer.status, answer.name) == (401, "unauthorized")
    assert "www-authenticate" in answer.headers


@pytest.mark.parametrize("name", REQUESTS)
async def test_with_every_scope_but_the_right_one(server: RunningServer, name: str) -> None:
    """Nor does a pattern for other channels, or that of a name which begins with this one, do."""
    action = SCOPES[name].split(":")[1]
    others = [scope for scope in (*MANAGING_SCOPES, REVOKE_SCOPE) if scope.split(":")[1] != action]
    if SCOPES[name].endswith("*") and name != "channels":
        others.append(f"hybrid:{action}:chat:a2")
    answer = await ask(server, name, " ".join((FULL_SCOPE, *others)))
    assert (answer.status, answer.name) == (403, "forbidden")
    assert f"hybrid:{action}" in answer.json()["detail"]
    assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize("name", REQUESTS)
async def test_with_the_right_scope(server: RunningServer, name: str) -> None:
    answer = await ask(server, name, SCOPES[name])
    assert answer.status == LEADS_TO.get(name, 200), answer
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("name", REQUESTS)
async def test_the_other_method(server: RunningServer, name: str) -> None:
    method, path, _ = REQUESTS[name]
    answer = await call(
        server, "PUT" if method == "GET" else "GET", path, server.bearer("backend", scope=" ".join(MANAGING_SCOPES))
    )
    assert (answer.status, answer.name) == (404, "not_found")
    assert method in answer.json()["detail"]


@pytest.mark.parametrize(
    ("name", "body", "status", "words"),
    [
        ("subscribe", {"subject": "a"}, 400, "channel"),
        ("subscribe", {"channel": "chat:a"}, 400, "exactly one"),
        ("subscribe", {"channel": "chat:a", "subject": "a", "client": "b"}, 400, "exactly one"),
        ("subscribe", {"channel": "chat:*", "subject": "a"}, 400, "`*`"),
        ("subscribe", {"channel": "chat:a", "subject": ""}, 400, "subject"),
        ("subscribe", {"channel": "chat:a", "subject": "x" * 256}, 400, "subject"),
        ("subscribe", {"channel": "chat:a", "subject": "\u20ac" * 200}, 400, "255 bytes"),
        ("subscribe", {"channel": "chat:a", "subject": 1}, 400, "subject"),
        ("subscribe", {"channel": "chat:a", "user": "a"}, 400, "user"),
        ("unsubscribe", {"channel": "chat:a"}, 400, "exactly one"),
        ("disconnect", {}, 400, "exactly one"),
        ("disconnect", {"subject": "a", "recconect": False}, 400, "recconect"),
        ("disconnect", {"subject": "a", "reconnect": 0}, 400, "reconnect"),
        ("disconnect", {"subject": "a", "delay_s": -1}, 400, "delay_s"),
        ("disconnect", {"subject": "a", "delay_s": 3_601}, 400, "delay_s"),
        ("disconnect", {"subject": "a", "reason": "x" * 124}, 400, "reason"),
        ("disconnect", {"subject": "a", "reason": "\u20ac" * 42}, 400, "123 bytes"),
        ("disconnect", {"subject": "a", "reason": "a\n\ndata: forged"}, 400, "one line"),
        ("disconnect", {"subject": "a", "reason": "x" * 9_000}, 413, ""),
        ("purge", {"channel": ""}, 400, "channel"),
        ("purge", {}, 400, "channel"),
        ("purge", ["chat:a"], 400, "object"),
        ("purge", b"nothing", 400, "JSON"),
        ("purge", b"[" * 5_000, 400, ""),
        ("drain", {}, 400, "node"),
        ("drain", {"node": ""}, 400, "node"),
    ],
)
async def test_what_makes_no_sense_is_told(
    server: RunningServer, name: str, body: Any, status: int, words: str
) -> None:
    scope = " ".join(MANAGING_SCOPES)
    answer = await ask(server, name, scope, body)
    assert answer.status == status, answer
    assert words in answer.json()["detail"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/info/channels?limit=0", 400),
        ("/v1/info/channels?limit=x", 400),
        ("/v1/info/channels?limit=1&limit=2", 400),
        ("/v1/info/channels?limit=100000", 200),
        ("/v1/info/channels/", 400),
        ("/v1/info/channels/a%2", 400),
        ("/v1/info/channels/a/b", 404),
        ("/v1/info/sessions?subject=a&subject=b", 400),
        ("/v1/info/sessions/%FF", 404),
        ("/v1/info/nodes/x", 404),
        ("/v1/info/", 404),
        ("/v1/info", 404),
    ],
)
async def test_odd_paths_and_queries(server: RunningServer, path: str, status: int) -> None:
    shown = server.bearer("backend", scope=" ".join(MANAGING_SCOPES))
    assert (await call(server, "GET", path, shown)).status == status


@pytest.mark.parametrize("key", ["", "x" * 129])
async def test_keys_are_bounded(server: RunningServer, key: str) -> None:
    for name in ("purge", "disconnect", "subscribe", "unsubscribe", "drain"):
        answer = await ask(server, name, " ".join(MANAGING_SCOPES), headers={"Idempotency-Key": key})
        assert (answer.status, answer.name) == (400, "bad_request")


async def test_nobody_of_another_issuer_is_concerned(server: RunningServer) -> None:
    """As somebody who is signed in by the cookie of the embedding app, or at another issuer, would be."""
    leg = RawWebSocket(Door(("127.0.0.1", server.port), f"127.0.0.1:{server.port}", server.token("alice")))
    try:
        await leg.open(attach_of(1, "chat:a"))
        await leg.next("subscribed")
        runner = server.engine.registry.get(leg.session)
        assert runner is not None
        session = runner.session
        session.principal = replaced(session.principal, issuer="https://other.example")
        scope = " ".join(MANAGING_SCOPES)
        for body in ({"subject": "alice"}, {"session": leg.session}):
            assert json.loads((await ask(server, "disconnect", scope, body)).body)["sessions"] == 0
            told = {"channel": "chat:a", **body}
            assert json.loads((await ask(server, "unsubscribe", scope, told)).body)["sessions"] == 0
            assert json.loads((await ask(server, "subscribe", scope, told)).body)["already"] == 0
        shown = server.bearer("backend", scope=scope)
        assert (await call(server, "GET", f"/v1/info/sessions/{leg.session}", shown)).status == 404
        assert (await call(server, "GET", "/v1/info/sessions", shown)).json()["sessions"] == []
        assert (await server.engine.manage.disconnect(session=leg.session)).sessions == 1, "the app itself may"
    finally:
        leg.close()


async def test_what_is_changed_is_in_the_log_in_one_line(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "hybrid.audit"):
        body = b'{"subject": "x",\n "reason": "%s"}' % (b"y" * 100)
        assert (await ask(server, "disconnect", "hybrid:disconnect", body)).status == 200
        assert (await ask(server, "disconnect", "hybrid:nodes", body)).status == 403
        assert (await ask(server, "nodes", "hybrid:nodes")).status == 200
    [line] = [record.getMessage() for record in caplog.records if record.name == "hybrid.audit"]
    assert "/v1/disconnect by 'backend' of 'https://issuer.example'" in line
    assert "\n" not in line


def replaced(principal: Any, **changes: Any) -> Any:
    import msgspec

    return msgspec.structs.replace(principal, **changes)


async def test_a_revoked_token_manages_nothing() -> None:
    async with running_server(settings(True, limits=replace(LIMITS)), issuer=new_issuer()) as server:
        shown = {**server.bearer("backend", scope="hybrid:sessions"), **JSON}
        assert (await call(server, "GET", "/v1/info/sessions", shown)).status == 200
        await server.engine.revoke(issuer="https://issuer.example", subject="backend")
        assert (await call(server, "GET", "/v1/info/sessions", shown)).status == 401
