"""The session cookie of an embedding app: signed in by its own route, counted only where a page of ours asks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from quart import Quart, Response, session

from hybrid.errors import SettingsError
from hybrid.model import Grant, Principal
from hybrid.web.app import create_app
from tests.support.bytewise import EVENTS, JSON, WEBSOCKET, Answer, call, connected, request, text, websocket
from tests.support.server import RunningServer, running_server, settings_for
from tests.support.tokens import tampered

NAME = "__Host-session"
APP = "https://app.example"
EVIL = "https://evil.example"
ATTACH = {"method": "attach", "attempt": 1, "nonce": "n", "confirm": True, "subscriptions": []}


def signed_in(held: Mapping[str, Any]) -> Principal | None:
    if held.get("broken"):
        raise RuntimeError("no database")
    if "user" not in held:
        return None
    return Principal(
        issuer="app", subject=held["user"], grants=(Grant("subscribe", "room:*"), Grant("publish", "room:*"))
    )


def prepare(app: Quart) -> None:
    app.secret_key = "k" * 32

    @app.post("/sign-in/<name>")
    async def sign_in(name: str) -> Response:
        session[name] = name
        return Response("in")


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    settings = replace(settings_for(), session_cookie=NAME, allowed_origins=(APP,))
    async with running_server(settings, prepare=prepare, signed_in=signed_in) as running:
        yield running


async def cookie(server: RunningServer, name: str = "user") -> dict[str, str]:
    answer = await call(server, "POST", f"/sign-in/{name}")
    given = answer.headers["set-cookie"]
    assert given.startswith(f"{NAME}=")
    for attribute in ("Secure", "HttpOnly", "Path=/", "SameSite=Lax"):
        assert f"; {attribute}" in given
    assert "Domain" not in given
    return {"Cookie": given.partition(";")[0]}


PAGE = {"Origin": APP}
WAYS: dict[str, tuple[str, str, dict[str, str], bytes]] = {
    "publish": ("POST", "/v1/channels/room%3Aa", JSON, b"1"),
    "batch": ("POST", "/v1/publish", JSON, b'{"publications":[]}'),
    "poll a channel": ("GET", "/v1/channels/room%3Aa?wait=0", {}, b""),
    "history": ("GET", "/v1/history/room%3Aa", {}, b""),
    "stream a channel": ("GET", "/v1/channels/room%3Aa", EVENTS, b""),
    "poll a session": ("POST", "/v1/stream", JSON, json.dumps(ATTACH).encode()),
    "stream a session": ("POST", "/v1/stream", {**EVENTS, **JSON}, json.dumps(ATTACH).encode()),
    "ticket": ("POST", "/v1/ticket", JSON, b'{"purpose":"channels","channels":["room:a"]}'),
    "socket of a session": ("GET", "/v1/stream", WEBSOCKET, b""),
    "socket of a channel": ("GET", "/v1/channels/room%3Aa", WEBSOCKET, b""),
}


async def ask(server: RunningServer, way: str, headers: Mapping[str, str]) -> Answer:
    method, path, more, body = WAYS[way]
    async with connected(server) as connection:
        connection.send(request(method, path, {**more, **headers}, body))
        return await connection.head()


@pytest.mark.parametrize("way", WAYS)
async def test_a_cookie_counts_for_pages_of_ours_only(server: RunningServer, way: str) -> None:
    held = await cookie(server)
    good = 101 if "socket" in way else 201 if way == "ticket" else 200
    own = {"Origin": f"http://127.0.0.1:{server.port}", "Host": f"127.0.0.1:{server.port}"}
    for page in (PAGE, own, {"Sec-Fetch-Site": "same-origin"}, {**PAGE, "Sec-Fetch-Site": "same-site"}):
        answer = await ask(server, way, {**held, **page})
        assert answer.status == good, (page, answer)
    for page in ({}, {"Origin": EVIL}, {"Origin": "null"}, {"Sec-Fetch-Site": "same-site"}, {"Referer": f"{APP}/x"}):
        assert (await ask(server, way, {**held, **page})).status == 403, page
    assert (await ask(server, way, {**held, **PAGE, "Sec-Fetch-Site": "cross-site"})).status == 403


@pytest.mark.parametrize("way", [way for way in WAYS if "socket" not in way])
async def test_what_is_no_session_is_nobody(server: RunningServer, way: str) -> None:
    held = await cookie(server)
    forged = {"Cookie": tampered(held["Cookie"])}
    stranger = await cookie(server, "cart")
    for shown in (forged, stranger, {"Cookie": f"{NAME}=x"}, {"Cookie": held["Cookie"].replace(NAME, "session")}):
        assert (await ask(server, way, {**shown, **PAGE})).status == 401, shown
    broken = await cookie(server, "broken")
    assert (await ask(server, way, {**broken, **PAGE})).status == 500


async def test_a_token_counts_before_a_cookie(server: RunningServer) -> None:
    held = await cookie(server)
    answer = await ask(server, "publish", {**held, **PAGE, "Authorization": "Bearer nonsense"})
    assert answer.status == 401


async def test_its_rights_are_those_of_the_hook(server: RunningServer) -> None:
    held = {**await cookie(server), **PAGE}
    assert (await call(server, "POST", "/v1/channels/other", {**held, **JSON}, b"1")).status == 403
    async with websocket(server, "/v1/stream", held) as socket:
        socket.send(text({**ATTACH, "subscriptions": [{"channel": "room:a"}, {"channel": "other"}]}))
        attached = (await socket.push())["attached"]
        assert 590 < attached["token_expires_in_s"] <= 600
        channels = (await socket.push())["subscribed"]["channels"]
        assert [channel.get("error") for channel in channels] == [None, 3403]


async def test_listed_pages_may_read_what_they_ask_with_a_cookie(server: RunningServer) -> None:
    answer = await call(server, "OPTIONS", "/v1/history/room%3Aa", PAGE)
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert answer.headers["access-control-allow-origin"] == APP


async def test_it_is_off_unless_asked_for() -> None:
    async with running_server(replace(settings_for(), allowed_origins=(APP,))) as server:
        answer = await call(server, "GET", "/v1/history/room%3Aa", {"Cookie": f"{NAME}=x", **PAGE})
        assert answer.status == 401
        assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    ("name", "hook"), [(NAME, None), ("", signed_in), ("session", signed_in), ("__Secure-a", signed_in)]
)
def test_half_of_it_or_an_unsafe_name_does_not_start(name: str, hook: Any) -> None:
    with pytest.raises(SettingsError, match="session_cookie"):
        create_app(replace(settings_for(), session_cookie=name), signed_in=hook)


async def test_without_a_key_for_sessions_it_does_not_start() -> None:
    app = create_app(replace(settings_for(), session_cookie=NAME), signed_in=signed_in)
    with pytest.raises(SettingsError, match="secret_key"):
        await app.startup()
    await app.shutdown()


@pytest.mark.parametrize("way", [name for name in WAYS if "socket" not in name])
async def test_a_subject_that_was_revoked_is_refused_with_its_cookie(server: RunningServer, way: str) -> None:
    """Until it signs in again, which the hook of this app does not tell: see `SessionHook`."""
    method, target, headers, body = WAYS[way]
    shown = {**headers, **await cookie(server), **PAGE}
    await server.engine.revoke(issuer="app", subject="user")
    answer = await call(server, method, target, shown, body)
    assert (answer.status, answer.name) == (401, "token_refused")
