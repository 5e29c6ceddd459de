"""A token bound to a key (RFC 9449): taken with a proof wherever there are headers, and as a bearer token nowhere."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from hybrid.auth.dpop import ALGORITHMS
from hybrid.errors import BrokerError
from hybrid.limits import Limits
from tests.support.bytewise import EVENTS, JSON, WEBSOCKET, Answer, call, connected, request, text, websocket
from tests.support.proofs import CLIENT_KEY, OTHER_CLIENT_KEY, proof
from tests.support.server import AUDIENCE, ISSUER, RunningServer, running_server, settings_for
from tests.support.tokens import EC_KEY, claims, sign

SCOPE = "hybrid:subscribe:* hybrid:publish:*"
ATTACH = {"method": "attach", "attempt": 1, "nonce": "n", "confirm": True, "subscriptions": []}


def token(*, is_bound: bool = True, **changes: Any) -> str:
    now_s = int(time.time())
    binding = {"cnf": {"jkt": CLIENT_KEY.thumbprint()}} if is_bound else {}
    made = claims(iss=ISSUER, aud=AUDIENCE, iat=now_s, exp=now_s + 600, scope=SCOPE, **binding, **changes)
    return sign(made)


def proven(shown: str, method: str, path: str, *, base: str = AUDIENCE, **changes: Any) -> dict[str, str]:
    made = proof(shown, base + path.partition("?")[0], time.time(), method, **changes)
    return {"Authorization": f"DPoP {shown}", "DPoP": made}


def bearer(shown: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {shown}"}


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with running_server(settings_for()) as running:
        running.issuer.keys.replace([EC_KEY])
        yield running


Way = tuple[str, str, dict[str, str], bytes]

WAYS: dict[str, Way] = {
    "publish": ("POST", "/v1/channels/room%3Aa", JSON, b"1"),
    "batch": ("POST", "/v1/publish", JSON, b'{"publications":[]}'),
    "poll a channel": ("GET", "/v1/channels/room%3Aa?wait=0", {}, b""),
    "history": ("GET", "/v1/history/room%3Aa", {}, b""),
    "poll a session": ("POST", "/v1/stream", JSON, json.dumps(ATTACH).encode()),
    "ticket": ("POST", "/v1/ticket", JSON, b'{"purpose":"channels","channels":["room:a"]}'),
}
STREAMS = {
    "stream a channel": ("GET", "/v1/channels/room%3Aa", EVENTS, b""),
    "stream a session": ("POST", "/v1/stream", {**EVENTS, **JSON}, json.dumps(ATTACH).encode()),
}
SOCKETS = {"socket of a channel": "/v1/channels/room%3Aa?history=1", "socket of a session": "/v1/stream"}


async def ask(server: RunningServer, way: Way, headers: dict[str, str]) -> Answer:
    method, path, more, body = way
    return await call(server, method, path, {**more, **headers}, body)


async def stream(server: RunningServer, way: Way, headers: dict[str, str]) -> Answer:
    method, path, more, body = way
    async with connected(server) as connection:
        connection.send(request(method, path, {**more, **headers}, body))
        return await connection.head()


ALL: dict[str, tuple[Callable[[RunningServer, Way, dict[str, str]], Awaitable[Answer]], Way]] = {
    **{name: (ask, way) for name, way in WAYS.items()},
    **{name: (stream, way) for name, way in STREAMS.items()},
}


@pytest.mark.parametrize("name", ALL)
async def test_over_http_with_and_without_proof(server: RunningServer, name: str) -> None:
    go, way = ALL[name]
    method, path = way[:2]
    shown = token()
    good = proven(shown, method, path)
    assert (await go(server, way, good)).status in (200, 201)
    for headers, error in (
        (good, "invalid_dpop_proof"),  # once is enough
        (proven(shown, method, path, key=OTHER_CLIENT_KEY), "invalid_token"),
        (proven(shown, "PUT", path), "invalid_dpop_proof"),
        (proven(shown, method, "/v1/other"), "invalid_dpop_proof"),
        (proven(shown, method, path, base="https://evil.example"), "invalid_dpop_proof"),
        ({**proven(token(jti="t2"), method, path), "Authorization": f"DPoP {shown}"}, "invalid_dpop_proof"),
        ({"Authorization": f"DPoP {shown}"}, "invalid_dpop_proof"),
        (proven(token(is_bound=False), method, path), "invalid_token"),
    ):
        answer = await go(server, way, headers)
        assert answer.status == 401
        challenge = answer.headers["www-authenticate"]
        assert challenge.startswith(f'DPoP error="{error}", error_description="')
        assert f'algs="{" ".join(ALGORITHMS)}"' in challenge
        assert "resource_metadata=" in challenge
    answer = await go(server, way, bearer(shown))
    assert (answer.status, answer.headers["www-authenticate"][:28]) == (401, 'Bearer error="invalid_token"')
    assert (await go(server, way, bearer(token(is_bound=False)))).status in (200, 201)


@pytest.mark.parametrize("path", SOCKETS.values(), ids=SOCKETS)
async def test_on_a_handshake_with_headers_and_never_in_a_frame(server: RunningServer, path: str) -> None:
    await server.engine.publish("room:a", 1)
    shown = token()
    async with websocket(server, path, proven(shown, "GET", path)) as socket:
        if path == "/v1/stream":
            socket.send(text(ATTACH))
        assert await socket.push()
    async with websocket(server, path) as socket:
        socket.send(text({"method": "auth", "token": shown}))
        assert (await socket.close_code())[0] == 4501
    async with connected(server) as connection:
        connection.send(request("GET", path, {**WEBSOCKET, **bearer(shown)}))
        assert (await connection.head()).status == 401


async def test_a_bound_token_cannot_be_a_refresh_in_a_frame_but_by_post(server: RunningServer) -> None:
    shown = token()
    async with websocket(server, "/v1/stream", proven(shown, "GET", "/v1/stream")) as socket:
        socket.send(text(ATTACH))
        session = (await socket.push())["attached"]["session"]
        socket.send(text({"method": "refresh", "id": 5, "token": token(jti="t2")}))
        while "reply" not in (push := await socket.push()):
            pass
        assert push["reply"]["error"]["name"] == "token_refused"
        body = json.dumps({"session": session, "commands": [{"method": "refresh", "id": 6, "n": 1}]}).encode()
        newer = token(jti="t3")
        answer = await call(server, "POST", "/v1/command", {**JSON, **proven(newer, "POST", "/v1/command")}, body)
        assert answer.status == 200, answer
        assert "error" not in answer.json()["replies"][0]


async def test_the_url_may_be_the_one_that_was_asked(server: RunningServer) -> None:
    shown = token()
    path = "/v1/history/room%3Aa"
    base = f"http://127.0.0.1:{server.port}"
    headers = {**proven(shown, "GET", path, base=base), "Host": f"127.0.0.1:{server.port}"}
    assert (await call(server, "GET", path, headers)).status == 200


async def test_where_what_was_used_cannot_be_remembered_nobody_is_let_in(server: RunningServer) -> None:
    async def fails(proof_id: bytes, key: str, ttl_s: float) -> bool:
        raise BrokerError(retry_after_s=1.0)

    server.engine.proofs._store.first_use = fails  # type: ignore[method-assign]
    shown = token()
    answer = await call(server, "GET", "/v1/history/room%3Aa", proven(shown, "GET", "/v1/history/room%3Aa"))
    assert (answer.status, answer.name) == (503, "broker_unavailable")
    assert (await call(server, "GET", "/v1/history/room%3Aa", bearer(token(is_bound=False)))).status == 200


# -- too many of them

GUESSES = Limits(failed_auths_per_s=0.001, failed_auths_burst_s=3_000.0)
"""Three, and then none for a long time."""
HERE, ELSEWHERE = {"X-Forwarded-For": "192.0.2.1"}, {"X-Forwarded-For": "192.0.2.2"}


@pytest.fixture
async def guessed() -> AsyncIterator[tuple[RunningServer, list[str]]]:
    """A server behind a proxy, and the proofs that it has looked at."""
    settings = replace(settings_for(limits=GUESSES), trusted_proxies=("127.0.0.1",))
    async with running_server(settings) as running:
        running.issuer.keys.replace([EC_KEY])
        desk, looked_at = running.engine.proofs, []
        check = desk.check

        def counting(text: str, *arguments: Any, **options: Any) -> Any:
            looked_at.append(text)
            return check(text, *arguments, **options)

        desk.check = counting  # type: ignore[method-assign]
        yield running, looked_at


HISTORY = "/v1/history/room%3Aa"


async def history(server: RunningServer, headers: dict[str, str]) -> Answer:
    return await call(server, "GET", HISTORY, headers)


async def test_bad_proofs_of_an_address_are_not_looked_at_for_ever(guessed: tuple[RunningServer, list[str]]) -> None:
    server, looked_at = guessed
    neighbour = token(jti="neighbour")
    assert (await history(server, {**proven(neighbour, "GET", HISTORY), **HERE})).status == 200
    wrong = [{**proven(token(jti=str(n)), "PUT", HISTORY), **HERE} for n in range(5)]
    answers = [await history(server, each) for each in wrong]
    assert [answer.status for answer in answers] == [401, 401, 401, 429, 429]
    assert (answers[-1].name, answers[-1].json()["limit"]) == ("rate_limited", "failed_auths_per_s")
    assert len(looked_at) == 4, "the neighbour's, and three"
    good = token(jti="good")
    assert (await history(server, {**proven(good, "GET", HISTORY), **HERE})).status == 429, "nobody knows it yet"
    assert len(looked_at) == 4
    assert (await history(server, {**proven(neighbour, "GET", HISTORY), **HERE})).status == 200, "it is known"
    assert (await history(server, {**proven(good, "GET", HISTORY), **ELSEWHERE})).status == 200


@pytest.mark.parametrize("fault", ["another request", "again"])
async def test_bad_proofs_for_a_token_that_is_known(guessed: tuple[RunningServer, list[str]], fault: str) -> None:
    server, looked_at = guessed
    known = token()
    good = proven(known, "GET", HISTORY)
    assert (await history(server, {**good, **HERE})).status == 200
    bad = good if fault == "again" else proven(known, "PUT", HISTORY)
    assert [(await history(server, {**bad, **HERE})).status for _ in range(5)] == [401, 401, 401, 429, 429]
    assert len(looked_at) == 4
    other = token(jti="other")
    assert (await history(server, {**proven(other, "GET", HISTORY), **HERE})).status == 200, "its address is not guilty"
    assert (await history(server, {**proven(known, "GET", HISTORY), **ELSEWHERE})).status == 200, "nor who owns it"


async def test_proofs_by_another_key_than_that_of_a_known_token(guessed: tuple[RunningServer, list[str]]) -> None:
    server, looked_at = guessed
    known = token()
    assert (await history(server, {**proven(known, "GET", HISTORY), **HERE})).status == 200
    stolen = [proven(known, "GET", HISTORY, key=OTHER_CLIENT_KEY) for _ in range(5)]
    assert [(await history(server, {**each, **HERE})).status for each in stolen] == [401, 401, 401, 429, 429]
    assert len(looked_at) == 4
    assert (await history(server, {**proven(known, "GET", HISTORY), **HERE})).status == 200
