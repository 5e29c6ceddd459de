"""What was revoked ends everywhere, comes in nowhere, and whoever signs in again is welcome.

In the way of two nodes it is revoked at one and ends at the other.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from time import time
from typing import Any

import pytest

from hybrid.auth.development import FULL_SCOPE
from hybrid.broker.memory_revocations import MemoryRevocationStore
from hybrid.errors import BrokerError
from hybrid.limits import Limits
from tests.support.bytewise import JSON, Answer, Connection, call, connected, event_stream, request, text, websocket
from tests.support.nodes import ask
from tests.support.raw import RAW_LEGS, Door, Ended, RawLeg, RawPolls, attach_of, post
from tests.support.redis_servers import RedisServer
from tests.support.relay import Relay
from tests.support.server import AUDIENCE, ISSUER, Backend, Chosen, RunningServer, running_server
from tests.support.tokens import sign
from tests.support.world import LIMITS, Pipe, World, settings, until, world

CHANNEL = "chat:lobby"
REVOKED = 4503
REFUSED = 4501
KINDS = {"jti": "t-alice", "sid": "s-alice", "subject": "alice", "client": "c-alice"}
"""What is revoked of each kind so that it concerns `token(server, "alice")`, and nobody else's."""


def token(server: RunningServer, who: str = "alice", *, scope: str = FULL_SCOPE, **changes: Any) -> str:
    """One whose names all tell whose it is, issued a while ago; `changes` are to its claims."""
    claims: dict[str, Any] = {
        **{"iss": ISSUER, "aud": AUDIENCE, "sub": who, "client_id": f"c-{who}", "jti": f"t-{who}", "sid": f"s-{who}"},
        **{"iat": int(time()) - 20, "exp": int(time()) + 600, "scope": scope},
        **changes,
    }
    [key] = server.issuer._signing.active.keys
    return sign(claims, key)


def door(server: RunningServer, shown: str = "") -> Door:
    return Door(("127.0.0.1", server.port), f"127.0.0.1:{server.port}", shown or token(server))


def bearer(shown: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {shown}"}


async def over(leg: RawLeg) -> int:
    """The number that the leg ends with, as the last push tells it."""
    try:
        return int((await leg.next("disconnect"))["disconnect"]["code"])
    except Ended as ended:
        return ended.code


async def revoke(server: RunningServer, shown: str = "", **wanted: Any) -> Answer:
    shown = shown or token(server, "admin", scope="hybrid:revoke")
    return await call(server, "POST", "/v1/revoke", {**bearer(shown), **JSON}, json.dumps(wanted).encode())


# -- over all transports


@pytest.mark.parametrize("kind", KINDS)
async def test_a_session_ends_and_does_not_come_back(transport: str, handoff: bool, kind: str) -> None:
    async with world(handoff) as here:
        last = [here.server, *here.others][-1]
        leg = await here.raw(transport, attach_of(1, CHANNEL), door(here.server))
        bystander = await here.raw(transport, attach_of(1, CHANNEL), door(here.server, token(here.server, "bob")))
        for one in (leg, bystander):
            await one.next("subscribed")
        ended = asyncio.create_task(over(leg))
        if transport == "longpoll":
            await until(lambda: here.server.engine.hub.stats().polls_waiting == 1)
        answer = await revoke(last, **{kind: KINDS[kind]})
        assert answer.status == 200, answer
        assert answer.json()[kind] == KINDS[kind]
        assert answer.json()["issuer"] == ISSUER
        assert answer.json()["ended_here"] == (1 if last is here.server else 0)
        assert await ended == REVOKED
        for server in (here.server, *here.others):
            with pytest.raises(Ended) as refused:
                await here.raw(transport, attach_of(2, CHANNEL, session=leg.session), door(server))
            # A refused handshake shows its answer to nobody but the client; see below for what it says.
            assert refused.value.code == (0 if transport == "websocket" else REFUSED)
        await here.publish(CHANNEL, 1)
        assert await bystander.publications(1) == [1]


@pytest.mark.parametrize(("kind", "is_good"), [("jti", False), ("sid", False), ("subject", True), ("client", True)])
async def test_a_token_that_is_issued_afterwards(transport: str, handoff: bool, kind: str, is_good: bool) -> None:
    async with world(handoff) as here:
        assert (await revoke(here.server, **{kind: KINDS[kind]})).status == 200
        newer = door(here.server, token(here.server, iat=int(time()) + 2))
        try:
            leg = await here.raw(transport, attach_of(1, CHANNEL), newer)
            await leg.next("subscribed")
        except Ended:
            assert not is_good
        else:
            assert is_good


async def test_hybrids_own_client_stays_away(pipe: Pipe, handoff: bool) -> None:
    async with world(handoff) as here:
        client = await here.client(pipe, get_token=lambda: token(here.server))
        reader = await here.read(client, CHANNEL)
        await here.publish(CHANNEL, 0)
        await reader.until(1)
        await [here.server, *here.others][-1].engine.revoke(issuer=ISSUER, subject="alice")
        await reader.until(lambda: reader.error is not None)
        assert reader.error is not None
        assert reader.error.row.number in (REVOKED, REFUSED)  # a poll may come after, and is refused at the door
        assert not reader.error.row.comes_back
        attaches = client.stats.attaches
        await here.publish(CHANNEL, 1)
        assert client.stats.attaches == attaches
        reader.check()


async def test_a_refresh_with_a_revoked_token_is_refused_and_one_away_from_it_saves_the_session(
    transport: str, handoff: bool
) -> None:
    """The session is that of the token shown last: revoking the former one concerns it no more."""
    async with world(handoff) as here:
        last = [here.server, *here.others][-1]
        leg = await here.raw(transport, attach_of(1, CHANNEL), door(here.server))
        await leg.next("subscribed")
        fresh = token(here.server, jti="t-2")
        await last.engine.revoke(issuer=ISSUER, jti="t-never-shown")
        if transport == "websocket":
            refused = token(here.server, jti="t-never-shown")
            await until(lambda: len(here.server.engine.revocations) == 1)
            reply = await leg.command(method="refresh", n=1, token=refused)
            assert reply["error"]["number"] == REFUSED
            reply = await leg.command(method="refresh", n=2, token=fresh)
        elif transport == "sse":
            leg.door = replace(leg.door, token=fresh)
            reply = await leg.command(method="refresh", n=1)
        else:
            leg.door = replace(leg.door, token=fresh)
            assert isinstance(leg, RawPolls)
            leg.take_answer(await post(leg.door, "/v1/stream", leg.poll(wait_s=0)))
            reply = {}
        assert "error" not in reply
        await last.engine.revoke(issuer=ISSUER, jti="t-alice")
        await until(lambda: len(here.server.engine.revocations) == 2)
        await here.publish(CHANNEL, 1)
        assert await leg.publications(1) == [1]


# -- the door


async def test_what_the_door_says_of_a_revoked_token(handoff: bool) -> None:
    """RFC 6750, section 3.1: invalid_token is also for what was revoked."""
    async with world(handoff) as here:
        shown = token(here.server)
        path = "/v1/channels/chat:lobby"
        assert (await call(here.server, "GET", path, bearer(shown))).status == 200, "it is remembered as good now"
        await here.server.engine.revoke(issuer=ISSUER, jti="t-alice")
        for method, target, body in (
            ("GET", path, b""),
            ("GET", "/v1/history/chat:lobby", b""),
            ("GET", "/v1/presence/chat:lobby", b""),
            ("POST", path, b"1"),
            ("POST", "/v1/publish", b'{"publications": []}'),
            ("POST", "/v1/ticket", b'{"purpose": "channels", "channels": ["chat:lobby"]}'),
            ("POST", "/v1/command", b'{"commands": []}'),
            ("POST", "/v1/stream", json.dumps({"method": "attach", **attach_of(1, CHANNEL)}).encode()),
            ("POST", "/v1/revoke", b'{"subject": "bob"}'),
        ):
            answer = await call(here.server, method, target, {**bearer(shown), **JSON}, body)
            assert (answer.status, answer.json()["number"]) == (401, REFUSED), target
            assert 'error="invalid_token"' in answer.headers["www-authenticate"]


async def test_a_first_frame_with_a_revoked_token(handoff: bool) -> None:
    async with world(handoff) as here:
        shown = token(here.server)
        await here.server.engine.revoke(issuer=ISSUER, sid="s-alice")
        async with websocket(here.server, "/v1/stream") as socket:
            socket.send(text({"method": "auth", "token": shown}))
            assert (await socket.close_code())[0] == REFUSED


async def test_tickets_are_refused(handoff: bool) -> None:
    async with world(handoff) as here:
        last = [here.server, *here.others][-1]
        shown = {**bearer(token(here.server)), **JSON}
        attach = {"method": "attach", **attach_of(1, CHANNEL)}
        texts = []
        for wanted in ({"purpose": "channels", "channels": [CHANNEL]}, {"purpose": "session", "attach": attach}):
            answer = await call(here.server, "POST", "/v1/ticket", shown, json.dumps(wanted).encode())
            texts.append(answer.json()["ticket"])
        await here.server.engine.revoke(issuer=ISSUER, client="c-alice")
        await until(lambda: len(last.engine.revocations) == 1)
        for target in (f"/v1/channels/chat:lobby?ticket={texts[0]}", f"/v1/stream?ticket={texts[1]}"):
            answer = await call(last, "GET", target, {"Accept": "text/event-stream"})
            assert (answer.status, answer.json()["number"]) == (401, REFUSED)


# -- between the door and the room: what was let in before, and waits for its body meanwhile


@asynccontextmanager
async def waiting_for_its_body(
    server: RunningServer, target: str, body: bytes, shown: str = "", **headers: str
) -> AsyncIterator[Connection]:
    """A POST whose token was checked and whose body follows when the token has been revoked, which ends the block."""
    async with connected(server) as connection:
        sent = {**bearer(shown or token(server)), **JSON, **headers, "Content-Length": str(len(body))}
        is_in = asyncio.Event()
        verify = server.engine.verifier.verify

        async def noting(*asked: Any) -> Any:
            try:
                return await verify(*asked)
            finally:
                is_in.set()

        server.engine.verifier.verify = noting  # type: ignore[method-assign]
        connection.send(request("POST", target, sent))
        async with asyncio.timeout(10):
            await is_in.wait()
        await asyncio.sleep(0)
        await server.engine.revoke(issuer=ISSUER, sid="s-alice")
        connection.send(body)
        yield connection


@pytest.mark.one_node("it looks into the node")
async def test_an_attach_whose_body_came_late(handoff: bool) -> None:
    """The pass that ends sessions has gone by, and this one did not exist yet."""
    body = json.dumps({"method": "attach", **attach_of(1, CHANNEL)}).encode()
    for accept in ("text/event-stream", "application/json"):
        async with world(handoff) as here:
            async with waiting_for_its_body(here.server, "/v1/stream", body, Accept=accept) as connection:
                answer = await connection.answer()
                assert (answer.status, answer.json()["number"]) == (403, REVOKED)
            assert len(here.server.engine.registry) == 0


@pytest.mark.one_node("it looks into the node")
async def test_commands_whose_body_came_late(handoff: bool) -> None:
    async with world(handoff) as here:
        called = []
        here.server.engine.calls.register("f", lambda call: called.append(call))  # type: ignore[arg-type,func-returns-value]
        commands = [
            {"id": 1, "method": "call", "name": "f"},
            {"id": 2, "method": "publish", "channel": CHANNEL, "data": 1},
        ]
        body = json.dumps({"session": "", "commands": commands}).encode()
        async with waiting_for_its_body(here.server, "/v1/command", body) as connection:
            answer = await connection.answer()
            assert [reply["error"]["number"] for reply in answer.json()["replies"]] == [REVOKED, REVOKED]
        assert called == []


async def test_a_poll_that_its_node_has_not_seen(two: World) -> None:
    """Its seal is good, so the node would go on with the session; here the verifier's word is that of a moment ago."""
    [other] = two.others
    leg = await two.raw("longpoll", attach_of(1, CHANNEL), door(two.server))
    await leg.next("subscribed")
    assert isinstance(leg, RawPolls)
    body = json.dumps(leg.poll()).encode()
    async with waiting_for_its_body(other, "/v1/stream", body, leg.door.token, Accept="application/json") as connection:
        answer = await connection.answer()
        assert (answer.status, answer.json()["number"]) == (403, REVOKED)
    assert len(other.engine.registry) == 0


# -- who may revoke


async def test_who_may_revoke(handoff: bool) -> None:
    async with world(handoff) as here:
        answer = await call(here.server, "POST", "/v1/revoke", JSON, b'{"subject": "bob"}')
        assert (answer.status, answer.json()["name"]) == (401, "unauthorized")
        answer = await revoke(here.server, token(here.server), subject="bob")
        assert (answer.status, answer.json()["name"]) == (403, "forbidden")
        assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
        assert 'scope="hybrid:revoke"' in answer.headers["www-authenticate"]
        answer = await revoke(here.server, subject="bob", issuer="https://other.example")
        assert (answer.status, answer.json()["name"]) == (403, "forbidden")
        assert len(here.server.engine.revocations) == 0
        assert (await revoke(here.server, subject="bob", issuer=ISSUER)).status == 200
        await here.server.engine.revoke(issuer="https://other.example", subject="alice")
        assert (await call(here.server, "GET", "/v1/channels/chat:lobby", bearer(token(here.server)))).status == 200


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{}", 400, "exactly one"),
        (b'{"subject": "a", "jti": "b"}', 400, "exactly one"),
        (b'{"subject": ""}', 400, "subject"),
        (b'{"subject": null}', 400, "exactly one"),
        (b'{"subject": 1}', 400, "subject"),
        (b'{"sub": "a"}', 400, "sub"),
        (b'{"subject": "%s"}' % (b"x" * 256), 400, "too long"),
        (b'{"subject": "a\\u0000"}', 400, "too long or not text"),
        (b'["subject"]', 400, "object"),
        (b"nothing", 400, "JSON"),
        (b'{"subject": "%s"}' % (b"x" * 5_000), 413, ""),
    ],
)
@pytest.mark.one_node("an answer that no node asks another one about")
async def test_what_cannot_be_revoked_is_told(handoff: bool, body: bytes, status: int, words: str) -> None:
    async with world(handoff) as here:
        shown = token(here.server, "admin", scope="hybrid:revoke")
        answer = await call(here.server, "POST", "/v1/revoke", {**bearer(shown), **JSON}, body)
        assert answer.status == status, answer
        assert words in answer.json()["detail"]
        assert len(here.server.engine.revocations) == 0


async def test_a_flood_of_revocations_crosses_the_bound(handoff: bool) -> None:
    async with world(settings(handoff, limits=replace(LIMITS, revocations_max=20))) as here:
        servers = [here.server, *here.others]
        answers = await asyncio.gather(
            *(revoke(servers[number % len(servers)], jti=f"t{number}") for number in range(30))
        )
        assert sorted(answer.status for answer in answers) == [200] * 20 + [429] * 10
        refused = next(answer for answer in answers if answer.status == 429)
        assert refused.json()["name"] == "limit_exceeded"
        assert "revocations_max" in refused.json()["detail"]
        await until(lambda: all(len(server.engine.revocations) == 20 for server in servers))
        assert (await revoke(here.server, jti=next(iter(here.server.engine.revocations.all())).value)).status == 200


# -- in all that is open


@pytest.fixture
async def two(one_redis: RedisServer) -> AsyncIterator[World]:
    Chosen.backend = Backend(one_redis.url, 2)
    try:
        async with world(settings(True, default={"presence": True, "join_leave": True, "history_size": 100})) as made:
            yield made
    finally:
        Chosen.backend = Backend()


async def test_all_of_a_subject_at_another_node(two: World) -> None:
    """Sessions on three transports, a candidate beside and one alone, one detached, plain ones, one not attached."""
    [other] = two.others
    watcher = await two.raw("websocket", attach_of(1, CHANNEL), door(other, token(other, "bob")))
    await watcher.next("subscribed")
    legs = {name: await two.raw(name, attach_of(1, CHANNEL), door(other)) for name in ("websocket", "sse", "longpoll")}
    for leg in legs.values():
        await leg.next("subscribed")
    beside = await two.raw("sse", attach_of(2, CHANNEL, session=legs["websocket"].session, confirm=False), door(other))
    alone = await two.raw("websocket", attach_of(1, CHANNEL, confirm=False), door(other))
    for leg in (beside, alone):
        await leg.next("attached")
    detached = await two.raw("sse", attach_of(1, CHANNEL), door(other))
    await detached.next("subscribed")
    detached.close()
    engine = other.engine
    shown = bearer(token(other))
    async with (
        event_stream(other, "/v1/channels/chat:lobby", shown) as plain_stream,
        websocket(other, "/v1/channels/chat:lobby", shown) as plain_socket,
        websocket(other, "/v1/stream", shown) as unattached,
    ):
        cursor = (await call(other, "GET", "/v1/channels/chat:lobby", shown)).json()["cursor"]
        target = f"/v1/channels/chat:lobby?after={cursor}&wait=20"
        plain_poll = asyncio.create_task(call(other, "GET", target, shown))
        waiting = asyncio.create_task(over(legs["longpoll"]))
        await until(lambda: engine.hub.stats().polls_waiting == 2)
        assert len(engine.registry) == 6
        assert (await revoke(two.server, subject="alice")).json()["ended_here"] == 0
        for leg in (legs["websocket"], legs["sse"], beside, alone):
            assert await over(leg) == REVOKED
        assert await waiting == REVOKED
        answer = await plain_poll
        assert (answer.status, answer.json()["number"]) == (403, REVOKED)
        assert any(block[0].startswith(f": {REVOKED} forbidden_or_revoked") for block in await plain_stream.rest())
        assert (await plain_socket.close_code())[0] == REVOKED
        assert (await unattached.close_code())[0] == REVOKED
    await until(lambda: len(engine.registry) == 1)
    await until(lambda: len(engine.open) == 1)
    # Who was there by a stream and by polls leaves at once, and not when a lease ends.
    while True:
        push = await watcher.next("leave")
        if push["leave"]["subject"] == "alice":
            break
    await two.publish(CHANNEL, 1)
    assert await watcher.publications(1) == [1]


async def test_a_command_that_is_carried_by_a_revoked_principal_is_refused_by_the_owner(
    two: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node that carries it has not heard yet."""
    [other] = two.others
    leg = await two.raw("sse", attach_of(1, CHANNEL), door(other, token(other, jti="t-2")))
    await leg.next("subscribed")
    monkeypatch.setattr(two.server.engine.revocations, "match", lambda principal: None)
    await other.engine.revoke(issuer=ISSUER, jti="t-alice")
    command = {"id": 5, "n": 1, "method": "subscribe", "channel": "chat:more"}
    answer = await post(door(two.server), "/v1/command", {"session": leg.session, "commands": [command]})
    assert answer.body["replies"][0]["error"]["number"] == REVOKED
    await two.publish(CHANNEL, 1)
    assert await leg.publications(1) == [1], "its own token is good"


# -- when Redis is in trouble


@asynccontextmanager
async def two_nodes_and_relay(
    redis: RedisServer, limits: Limits
) -> AsyncIterator[tuple[RunningServer, RunningServer, Relay]]:
    """Two nodes on one Redis, the second one through a relay."""
    Chosen.backend = Backend(redis.url)
    try:
        chosen = settings(True, limits=limits)
    finally:
        Chosen.backend = Backend()
    async with Relay(redis.port) as relay, running_server(chosen) as here:
        far = replace(chosen, broker=f"redis://127.0.0.1:{relay.port}/0")
        async with running_server(far, issuer=here.issuer) as there, asyncio.timeout(30):
            yield here, there, relay


async def swallow_what_is_heard(redis: RedisServer, relay: Relay) -> None:
    """Let what Redis says on the relay's connections that listen come to nothing, while all else goes on."""
    listed = await redis.command("CLIENT", "LIST", "TYPE", "pubsub")
    listening = {int(found) for found in re.findall(rb" addr=127\.0\.0\.1:(\d+)", listed)}
    swallowed = 0
    for connection in relay.connections:
        assert connection.server.transport is not None
        if connection.server.transport.get_extra_info("sockname")[1] in listening:
            connection.down.swallow()
            swallowed += 1
    assert swallowed == 1


async def opened(server: RunningServer) -> RawLeg:
    leg = RAW_LEGS["sse"](door(server))
    await leg.open(attach_of(1, CHANNEL))
    await leg.next("subscribed")
    return leg


async def test_a_node_that_does_not_hear_of_it_looks(one_redis: RedisServer) -> None:
    """Its connection that listens is open, and nothing comes through it any more."""
    limits = replace(LIMITS, revocation_look_s=0.4)
    async with two_nodes_and_relay(one_redis, limits) as (here, there, relay):
        leg = await opened(there)
        await swallow_what_is_heard(one_redis, relay)
        await here.engine.revoke(issuer=ISSUER, subject="alice")
        async with asyncio.timeout(4):  # before the connection itself is found to be dead
            assert await over(leg) == REVOKED
        assert there.engine.broker.topics.is_connected  # type: ignore[attr-defined]
        leg.close()


async def test_a_node_whose_connections_are_cut_looks_when_it_listens_again(one_redis: RedisServer) -> None:
    limits = replace(LIMITS, revocation_look_s=3_000.0)  # so that it is not the timer that does it
    async with two_nodes_and_relay(one_redis, limits) as (here, there, relay):
        leg = await opened(there)
        relay.sever()
        await here.engine.revoke(issuer=ISSUER, subject="alice")
        assert len(there.engine.revocations) == 0
        relay.mend()
        assert await over(leg) == REVOKED
        leg.close()


async def test_a_node_that_is_started_again_still_refuses(one_redis: RedisServer) -> None:
    Chosen.backend = Backend(one_redis.url)
    try:
        chosen = settings(True)
    finally:
        Chosen.backend = Backend()
    async with world(chosen) as here:
        await here.server.engine.revoke(issuer=ISSUER, subject="alice")
        await here.restart(chosen)
        answer = await call(here.server, "GET", "/v1/channels/chat:lobby", bearer(token(here.server)))
        assert (answer.status, answer.json()["number"]) == (401, REFUSED)


async def test_what_redis_has_lost_is_still_refused_and_brought_back(one_redis: RedisServer) -> None:
    """Also by a node that starts afterwards and has never heard of it."""
    limits = replace(LIMITS, revocation_look_s=0.4)
    async with two_nodes_and_relay(one_redis, limits) as (here, there, _):
        await here.engine.revoke(issuer=ISSUER, subject="alice")
        await until(lambda: len(there.engine.revocations) == 1)
        key = here.engine.revoking._store._keys[0]  # type: ignore[attr-defined]
        assert await one_redis.command("DEL", key) == 1
        while await one_redis.command("EXISTS", key) == 0:
            pass
        await there.engine.revoke(issuer=ISSUER, subject="carol")
        for server in (here, there):
            answer = await call(server, "GET", "/v1/channels/chat:lobby", bearer(token(server)))
            assert (answer.status, answer.json()["number"]) == (401, REFUSED)


@pytest.mark.memory("the store of the memory is made to fail")
@pytest.mark.one_node("it looks into the node")
async def test_until_it_is_known_what_was_revoked_no_token_is_accepted(
    handoff: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = MemoryRevocationStore.read

    async def away(*_: Any) -> Any:
        raise BrokerError

    monkeypatch.setattr(MemoryRevocationStore, "is_shared", True)
    monkeypatch.setattr(MemoryRevocationStore, "read", away)
    async with world(handoff) as here:
        answer = await call(here.server, "GET", "/v1/channels/chat:lobby", bearer(token(here.server)))
        assert (answer.status, answer.json()["name"]) == (503, "keys_unavailable")
        assert 1 <= int(answer.headers["retry-after"]) <= 5
        assert await ask(here.server.port, "/readyz") == 503
        monkeypatch.setattr(MemoryRevocationStore, "read", read)
        await until(lambda: here.server.engine.revocations.is_known)
        answer = await call(here.server, "GET", "/v1/channels/chat:lobby", bearer(token(here.server)))
        assert answer.status == 200
        assert await ask(here.server.port, "/readyz") == 200
