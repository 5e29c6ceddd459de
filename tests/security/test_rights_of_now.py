"""What a token permitted when the session began counts no more: every gate, on every transport, asks the one of now."""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from hybrid.engine.calls import Call
from hybrid.settings import Namespace
from hybrid.transports.exchange import Exchange
from tests.support.bytewise import EVENTS, call
from tests.support.raw import RAW_LEGS, Door, RawLeg, RawPolls, attach_of, post
from tests.support.server import ISSUER, RunningServer, running_server, settings_for

WIDE = "hybrid:subscribe:room:* hybrid:publish:room:*"
NARROW = "hybrid:subscribe:room:2 hybrid:publish:room:2"
NAMESPACES = {"room": Namespace("room", presence=True)}
FORBIDDEN = 3403
LOST: list[dict[str, Any]] = [
    {"method": "publish", "channel": "room:1", "data": 1},
    {"method": "history", "channel": "room:1"},
    {"method": "presence", "channel": "room:1"},
]
"""Commands that need no session: they are refused whoever's session it is."""


@pytest.fixture(params=[True, False], ids=["hand-off", "asgi"])
def handoff(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
async def server(handoff: bool) -> AsyncIterator[RunningServer]:
    async with running_server(settings_for(handoff=handoff, namespaces=NAMESPACES)) as running:
        yield running


@pytest.fixture(params=RAW_LEGS)
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def door(server: RunningServer, scope: str, subject: str = "alice") -> Door:
    return Door(("127.0.0.1", server.port), f"127.0.0.1:{server.port}", server.token(subject, scope))


@asynccontextmanager
async def opened(
    server: RunningServer, transport: str, scope: str, *channels: Any, **more: Any
) -> AsyncIterator[RawLeg]:
    """A leg, for as long as the block lasts: 20 s at most, so that what never comes is a failure."""
    leg = RAW_LEGS[transport](door(server, scope))
    try:
        async with asyncio.timeout(20):
            yield await leg.open(attach_of(more.pop("attempt", 1), *channels, **more))
    finally:
        leg.close()


async def refresh(server: RunningServer, leg: RawLeg, scope: str, n: int = 1) -> dict[str, Any]:
    """Show another token; polls show it with the next one."""
    leg.door = replace(leg.door, token=door(server, scope).token)
    if isinstance(leg, RawPolls):
        return {}
    shown = {"token": leg.door.token} if hasattr(leg, "send") else {}
    return await leg.command(method="refresh", n=n, **shown)


async def lost_at(leg: RawLeg) -> dict[str, int]:
    """Which channels it is told to have lost: by a push, or in what the next poll is answered with."""
    if not isinstance(leg, RawPolls):
        push = (await leg.next("unsubscribed"))["unsubscribed"]
        return {push["channel"]: push["error"]}
    told = (await leg.next("subscribed"))["subscribed"]["channels"]
    return {item["channel"]: item["error"] for item in told if "error" in item}


async def heard(server: RunningServer, leg: RawLeg) -> list[str]:
    """The channels of the publications that come, of one in each; the one in room:2 is the last."""
    await server.engine.publish("room:1", "secret")
    await server.engine.publish("room:2", "open")
    channels = []
    while "room:2" not in channels:
        channels.append((await leg.next("publication"))["publication"]["channel"])
    return channels


async def test_a_refresh_with_fewer_scopes_ends_subscriptions_at_once(server: RunningServer, transport: str) -> None:
    async with opened(server, transport, WIDE, "room:1", "room:2") as leg:
        await leg.next("subscribed")
        assert sorted(await heard(server, leg)) == ["room:1", "room:2"]
        assert "error" not in await refresh(server, leg, NARROW)
        assert await lost_at(leg) == {"room:1": FORBIDDEN}
        assert await heard(server, leg) == ["room:2"]
        for command in LOST:
            assert (await leg.command(**command))["error"]["number"] == FORBIDDEN, command
        more = {"sealed": leg.sealed} if isinstance(leg, RawPolls) else {"n": 2}
        reply = await leg.command(method="subscribe", channel="room:1", **more)
        assert reply["error"]["number"] == FORBIDDEN
        for command in LOST:
            assert "error" not in await leg.command(**{**command, "channel": "room:2"}), command


async def test_a_refresh_with_more_scopes_opens_what_was_closed(server: RunningServer, transport: str) -> None:
    async with opened(server, transport, NARROW, "room:1", "room:2") as leg:
        first = (await leg.next("subscribed"))["subscribed"]["channels"]
        assert {item["channel"]: item.get("error") for item in first} == {"room:1": FORBIDDEN, "room:2": None}
        assert await heard(server, leg) == ["room:2"]
        assert "error" not in await refresh(server, leg, WIDE)
        for command in LOST:
            assert "error" not in await leg.command(**command), command
        if isinstance(leg, RawPolls):
            await leg.next("subscribed")
            reply = await leg.command(method="subscribe", channel="room:1", sealed=leg.sealed)
            leg.sealed, leg.positions["room:1"] = reply["sealed"], reply["position"]
        else:
            reply = await leg.command(method="subscribe", channel="room:1", n=2)
        assert "error" not in reply
        assert "room:1" in await heard(server, leg)


@pytest.mark.parametrize("again", RAW_LEGS)
async def test_recovery_is_with_the_rights_of_now(server: RunningServer, transport: str, again: str) -> None:
    """The session comes back, on this transport or another, with positions of both channels and the smaller token."""
    async with opened(server, transport, WIDE, "room:1", "room:2") as leg:
        told = (await leg.next("subscribed"))["subscribed"]["channels"]
        positions = [{"channel": item["channel"], "position": item["position"]} for item in told]
        session = leg.session
    await server.engine.publish("room:1", "secret")
    await server.engine.publish("room:2", "open")
    async with opened(server, again, NARROW, *positions, attempt=2, session=session) as leg:
        told = (await leg.next("subscribed"))["subscribed"]["channels"]
        assert {item["channel"]: item.get("error") for item in told} == {"room:1": FORBIDDEN, "room:2": None}
        missed = (await leg.next("publication"))["publication"]
        assert (missed["channel"], missed["data"]) == ("room:2", "open")
        assert await heard(server, leg) == ["room:2"]


async def test_a_confirm_is_with_the_rights_of_now(server: RunningServer) -> None:
    """A candidate that was opened with the smaller token does not get what the current leg's may."""
    async with opened(server, "websocket", WIDE, "room:1", "room:2") as leg:
        told = (await leg.next("subscribed"))["subscribed"]["channels"]
        positions = [{"channel": item["channel"], "position": item["position"]} for item in told]
        more = {"attempt": 2, "session": leg.session, "confirm": False}
        async with opened(server, "websocket", NARROW, *positions, **more) as candidate:
            assert (await candidate.next("attached"))["attached"]["is_resumed"]
            candidate.send(method="confirm", attempt=2, subscriptions=positions)  # type: ignore[attr-defined]
            told = (await candidate.next("subscribed"))["subscribed"]["channels"]
            assert {item["channel"]: item.get("error") for item in told} == {"room:1": FORBIDDEN, "room:2": None}
            assert await heard(server, candidate) == ["room:2"]


async def test_plain_reads_go_on_with_the_rights_of_now(server: RunningServer) -> None:
    """What has no session shows its token each time: a cursor is no permission."""
    wide, narrow = ({"Authorization": f"Bearer {door(server, scope).token}"} for scope in (WIDE, NARROW))
    await server.engine.publish("room:1", "secret")
    cursor = (await call(server, "GET", "/v1/channels/room%3A1", wide)).json()["cursor"]
    await server.engine.publish("room:1", "secret, too")
    for headers in ({}, EVENTS, {**EVENTS, "Last-Event-ID": cursor}):
        answer = await call(server, "GET", f"/v1/channels/room%3A1?after={cursor}", {**narrow, **headers})
        assert (answer.status, answer.name) == (403, "forbidden")
        assert b"secret" not in answer.body
    for composite in (f"room%3A1={cursor},room%3A2=0",):
        answer = await call(server, "GET", f"/v1/channels?name=room%3A1&name=room%3A2&after={composite}&wait=0", narrow)
        assert (answer.status, answer.name) == (403, "forbidden")


async def test_a_handler_sees_who_calls_now(server: RunningServer, transport: str) -> None:
    seen: list[Call] = []

    async def note(called: Call) -> str:
        seen.append(called)
        return called.principal.subject

    server.engine.calls.register("note", note)
    async with opened(server, transport, WIDE, "room:2") as leg:
        await leg.next("subscribed")
        assert (await leg.command(method="call", name="note"))["result"] == "alice"
        await refresh(server, leg, NARROW)
        assert (await leg.command(method="call", name="note"))["result"] == "alice"
    assert [{grant.pattern for grant in called.principal.grants} for called in seen] == [{"room:*"}, {"room:2"}]


async def test_a_call_needs_a_token_and_a_registered_name(server: RunningServer) -> None:
    async def never(called: Call) -> None:
        raise AssertionError("it was called")

    nobody = Door(("127.0.0.1", server.port), f"127.0.0.1:{server.port}", "x")
    server.engine.calls.register("note", never)
    answer = await post(nobody, "/v1/command", {"commands": [{"method": "call", "id": 1, "name": "note"}]})
    assert (answer.status, answer.body["name"]) == (401, "token_refused")
    command = {"method": "call", "id": 1, "name": "other"}
    answer = await post(door(server, WIDE), "/v1/command", {"commands": [command]})
    assert answer.body["replies"][0]["error"]["name"] == "not_found"


async def test_an_older_token_does_not_widen_a_session_again(server: RunningServer) -> None:
    """The wide token is still good by itself; the session was given the smaller one, and goes by that."""
    async with opened(server, "sse", WIDE, "room:1", "room:2") as leg:
        await leg.next("subscribed")
        wide = leg.door
        await refresh(server, leg, NARROW)
        assert await lost_at(leg) == {"room:1": FORBIDDEN}
        command = {"method": "subscribe", "id": 9, "channel": "room:1", "n": 2}
        answer = await post(wide, "/v1/command", {"session": leg.session, "commands": [command]})
        assert answer.body["replies"][0]["error"]["number"] == FORBIDDEN
        assert await heard(server, leg) == ["room:2"]


async def test_a_poll_whose_body_comes_behind_the_revocation_reads_nothing(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two tokens of one party: the session last showed the other one, so no pass over what is open finds this one."""
    shown, revoked = server.token("alice", WIDE), server.token("alice", WIDE, lifetime_s=800)
    body_of, waits = Exchange.body, asyncio.Event()

    async def body(self: Exchange, most: int) -> bytes:
        waits.set()
        return await body_of(self, most)

    monkeypatch.setattr(Exchange, "body", body)

    async def poll(
        token: str, command: dict[str, Any], meanwhile: Callable[[], Awaitable[None]] | None = None
    ) -> tuple[int, dict[str, Any]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        try:
            raw = json.dumps(command).encode()
            head = (
                f"POST /v1/stream HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nAccept: application/json\r\n"
                f"Content-Type: application/json\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n"
                f"Content-Length: {len(raw)}\r\n\r\n"
            )
            waits.clear()
            writer.write(head.encode())
            if meanwhile is not None:
                await meanwhile()
            writer.write(raw)
            answer = await reader.read()
        finally:
            writer.transport.abort()
        top, _, content = answer.partition(b"\r\n\r\n")
        return int(top.split(b" ")[1]), json.loads(content)

    def again(sealed: str, wait_s: float = 0.0) -> dict[str, Any]:
        return {
            "method": "poll",
            "session": session,
            "attempt": 1,
            "sealed": sealed,
            "positions": [{"channel": "room:1", "position": {"offset": 0}}],
            "wait_s": wait_s,
        }

    async def revoke() -> None:
        await waits.wait()
        identity = json.loads(urlsafe_b64decode(revoked.split(".")[1] + "=="))["jti"]
        await server.engine.revoke(issuer=ISSUER, jti=identity)
        await server.engine.publish("room:1", "secret")

    async with asyncio.timeout(20):
        _, opened = await poll(shown, {"method": "attach", **attach_of(1, "room:1")})
        session = opened["pushes"][0]["attached"]["session"]
        sealed = opened["pushes"][1]["subscribed"]["sealed"]
        _, moved = await poll(revoked, again(sealed))
        own = moved["pushes"][0]["subscribed"]["sealed"]
        await poll(shown, again(sealed))
        status, answer = await poll(revoked, again(own, 5.0), revoke)
    assert (status, answer["name"]) == (403, "forbidden_or_revoked")
    assert "secret" not in json.dumps(answer)
