"""The server API over all transports and brokers: what one node is asked holds at all of them.

In the way of two nodes it is asked at the last one, and clients are at both.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from time import time
from typing import Any

import pytest

from hybrid.auth.development import FULL_SCOPE
from hybrid.auth.grants import MANAGING_SCOPES
from hybrid.engine import stats
from hybrid.engine.engine import Engine
from hybrid.engine.farewells import KEPT_S
from hybrid.engine.survey import Survey, survey
from hybrid.engine.transport_counts import TRANSPORTS
from hybrid.errors import HybridError
from hybrid.limits import Limits
from hybrid.model import Position
from hybrid.protocol.orders import LookSession
from tests.support.bytewise import EVENTS, JSON, Answer, call, event_stream
from tests.support.raw import Door, RawLeg, RawPolls, attach_of, post
from tests.support.server import AUDIENCE, ISSUER, RunningServer
from tests.support.tokens import sign
from tests.support.world import LIMITS, Clock, Pipe, Reader, World, settings, until, world

CHANNEL = "chat:lobby"
NEWS = "chat:news"
ALL = " ".join(MANAGING_SCOPES)
DISCONNECTED, DISMISSED, UNSUBSCRIBED = 4413, 4514, 3417
EMPTY = dict.fromkeys(TRANSPORTS, 0)


class StoodClock(Clock):
    """Stands still but for what a test adds."""

    def monotonic_s(self) -> float:
        return 1_000.0 + self.ahead_s


def last(here: World) -> RunningServer:
    return [here.server, *here.others][-1]


def nodes(here: World) -> int:
    return 1 + len(here.others)


def door(server: RunningServer, who: str = "alice") -> Door:
    """For a leg of somebody with a client of his own."""
    now_s = int(time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": who, "client_id": f"c-{who}", "jti": f"t-{who}"}
    [key] = server.issuer._signing.active.keys
    token = sign({**claims, "iat": now_s - 20, "exp": now_s + 600, "scope": FULL_SCOPE}, key)
    return Door(("127.0.0.1", server.port), f"127.0.0.1:{server.port}", token)


async def ask(
    server: RunningServer,
    method: str,
    path: str,
    body: Any = None,
    *,
    scope: str = ALL,
    headers: Mapping[str, str] = {},
) -> Answer:
    shown = {**server.bearer("backend", scope=scope), **JSON, **headers}
    return await call(server, method, path, shown, b"" if body is None else json.dumps(body).encode())


async def done(server: RunningServer, path: str, body: Any, **options: Any) -> Any:
    answer = await ask(server, "POST", path, body, **options)
    assert answer.status == 200, answer
    return answer.json()


async def seen(server: RunningServer, path: str, **options: Any) -> Any:
    answer = await ask(server, "GET", path, **options)
    assert answer.status == 200, answer
    return answer.json()


async def told_to_go(leg: RawLeg) -> dict[str, Any]:
    return dict((await leg.next("disconnect"))["disconnect"])


# -- broadcast


async def test_a_broadcast_reaches_the_readers_of_each_channel_once(pipe: Pipe, handoff: bool) -> None:
    async with world(handoff) as here:
        readers = [await here.read(await here.client(pipe), f"chat:{number}") for number in range(3)]
        body = {"channels": [f"chat:{number}" for number in range(3)], "data": {"x": 1}, "type": "news"}
        for is_repeat in (False, True):
            headers = {"Idempotency-Key": "once"}
            scope = "hybrid:publish:chat:*"
            answer = await done(last(here), "/v1/broadcast", body, scope=scope, headers=headers)
            assert [item["channel"] for item in answer["results"]] == body["channels"]
            assert [item["position"]["offset"] for item in answer["results"]] == [1, 1, 1]
            assert all(item.get("repeated", False) is is_repeat for item in answer["results"])
        for reader in readers:
            await reader.until(1)
            assert (reader.data, reader.publications[0].type) == ([{"x": 1}], "news")


@pytest.mark.one_node("each channel is answered for where it lands")
async def test_a_broadcast_answers_for_each_channel(handoff: bool) -> None:
    async with world(handoff) as here:
        body = {"channels": ["chat:a", "other:b", "chat:*"], "data": 1}
        answer = await done(here.server, "/v1/broadcast", body, scope="hybrid:publish:chat:*")
        assert answer["results"][0]["position"]["offset"] == 1
        assert [item["error"]["number"] for item in answer["results"][1:]] == [3403, 3400]
        results = await here.server.engine.manage.broadcast(["chat:a", "chat:c"], b"\x00\x01", key="k")
        assert [getattr(result, "position", Position(0)).offset for result in results] == [2, 1]


# -- subscribing others


class Accepting:
    """A client of hybrid's own that takes what the server asks it to subscribe to."""

    def __init__(self, here: World) -> None:
        self.here = here
        self.readers: dict[str, Reader] = {}
        self.tasks: list[asyncio.Task[None]] = []

    def invited(self, channel: str, position: Position) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(self._read(channel, position)))

    async def _read(self, channel: str, position: Position) -> None:
        self.readers[channel] = await self.here.read(self.client, channel, position)

    async def connect(self, pipe: Pipe, subject: str = "alice") -> None:
        self.client = await self.here.client(pipe, subject, is_connected=False)
        self.client._session._on_subscribe = self.invited
        await self.client.connected()


async def test_the_server_subscribes_and_the_client_keeps_it(pipe: Pipe, handoff: bool) -> None:
    async with world(handoff) as here:
        alice = Accepting(here)
        await alice.connect(pipe)
        await here.client(pipe, "bob")
        await here.publish(NEWS, 1)
        answer = await done(last(here), "/v1/subscribe", {"channel": NEWS, "subject": "alice"})
        assert answer == {"sessions": 1, "already": 0, "refused": 0, "nodes": nodes(here)}
        await here.publish(NEWS, 2)
        await until(lambda: NEWS in alice.readers)
        reader = alice.readers[NEWS]
        await reader.until(1)
        assert reader.offsets == [2], "from where the channel was when it was asked for"
        here.cabling[pipe.transport].cut()
        await here.publish(NEWS, 3)
        await reader.until(2)
        reader.check(2)


async def test_a_channel_that_the_token_does_not_permit_is_not_given(transport: str, handoff: bool) -> None:
    async with world(handoff) as here:
        token = here.server.token("alice", "hybrid:subscribe:chat:lobby")
        leg = await here.raw(transport, attach_of(1, CHANNEL), replace(door(here.server), token=token))
        await leg.next("subscribed")
        manage = last(here).engine.manage
        answer = await manage.subscribe(NEWS, subject="alice")
        assert (answer.sessions, answer.refused) == (0, 1)
        answer = await manage.subscribe(CHANNEL, subject="alice")
        assert (answer.sessions, answer.already) == (0, 1)
        answer = await manage.subscribe(CHANNEL, subject="nobody")
        assert (answer.sessions, answer.already, answer.refused) == (0, 0, 0)


async def test_the_server_unsubscribes(pipe: Pipe, handoff: bool) -> None:
    async with world(handoff) as here:
        client = await here.client(pipe)
        ended, kept = await here.read(client, NEWS), await here.read(client, CHANNEL)
        await here.publish(NEWS, 1)
        await here.publish(CHANNEL, 1)
        await asyncio.gather(ended.until(1), kept.until(1))
        answer = await done(last(here), "/v1/unsubscribe", {"channel": NEWS, "subject": "alice"})
        assert answer["sessions"] >= 1, "a polled session may be known to both nodes"
        assert answer["nodes"] == nodes(here)
        await ended.until(lambda: ended.error is not None)
        assert ended.error is not None
        assert ended.error.row.number == UNSUBSCRIBED
        await here.publish(NEWS, 2)
        await here.publish(CHANNEL, 2)
        await kept.until(2)
        assert (ended.offsets, kept.offsets) == ([1], [1, 2])
        again = await here.read(client, NEWS)
        await here.publish(NEWS, 3)
        await again.until(1)
        assert again.offsets == [3], "the right to it is as before"


# -- sending away


@pytest.mark.parametrize("kind", ["subject", "client", "session"])
async def test_who_is_sent_away_comes_back_when_told(transport: str, handoff: bool, kind: str) -> None:
    async with world(handoff) as here:
        leg = await here.raw(transport, attach_of(1, CHANNEL), door(here.server))
        bystander = await here.raw(transport, attach_of(1, CHANNEL), door(here.server, "bob"))
        for one in (leg, bystander):
            await one.next("subscribed")
        target = {"subject": "alice", "client": "c-alice", "session": leg.session}[kind]
        reading = asyncio.create_task(told_to_go(leg))
        if transport == "longpoll":
            await until(lambda: here.server.engine.hub.stats().polls_waiting == 1)
        answer = await done(last(here), "/v1/disconnect", {kind: target, "reason": "maintenance", "delay_s": 7})
        assert answer == {"sessions": 1, "streams": 0, "nodes": nodes(here)}
        told = await reading
        assert (told["code"], told["reason"]) == (DISCONNECTED, "maintenance")
        assert 7_000 <= told["delay_ms"] <= 7_000 + LIMITS.reconnect_delay_max_ms
        assert "reconnect" not in told
        await here.publish(CHANNEL, 1)
        assert await bystander.publications(1) == [1]


async def test_who_is_dismissed_stays_away(pipe: Pipe, handoff: bool) -> None:
    async with world(handoff) as here:
        client = await here.client(pipe)
        reader = await here.read(client, CHANNEL)
        await here.publish(CHANNEL, 0)
        await reader.until(1)
        body = {"subject": "alice", "reconnect": False, "reason": "banned"}
        assert (await done(last(here), "/v1/disconnect", body))["sessions"] >= 1
        await reader.until(lambda: reader.error is not None)
        assert reader.error is not None
        assert (reader.error.row.number, str(reader.error)) == (DISMISSED, "banned")
        attaches = client.stats.attaches
        await here.publish(CHANNEL, 1)
        assert client.stats.attaches == attaches
        another = await here.read(await here.client(pipe), CHANNEL)
        await here.publish(CHANNEL, 2)
        await another.until(1)
        assert another.offsets == [3], "whoever comes by his own will is welcome"


async def test_hybrids_own_client_comes_back_without_a_hole(pipe: Pipe, handoff: bool) -> None:
    async with world(handoff) as here:
        client = await here.client(pipe)
        reader = await here.read(client, CHANNEL)
        for number in range(4):
            await here.publish(CHANNEL, number)
            await reader.until(number + 1)
            if number < 3:
                await last(here).engine.manage.disconnect(subject="alice")
        reader.check()
        assert client.stats.attaches > 1


async def test_a_client_between_two_polls_is_told_by_the_next(handoff: bool) -> None:
    clock = Clock()
    async with world(handoff, clock=clock) as here:
        leg = await here.raw("longpoll", attach_of(1, CHANNEL), door(here.server))
        await leg.next("subscribed")
        assert isinstance(leg, RawPolls)
        answer = await last(here).engine.manage.disconnect(session=leg.session, reconnect=False)
        assert answer.sessions == 1
        for _ in range(2):  # the answer may be lost
            [push] = (await post(leg.door, "/v1/stream", leg.poll())).body["pushes"]
            assert push["disconnect"] == {"code": DISMISSED, "reason": "dismissed", "reconnect": False}
        other = door(here.server, "bob")
        pushes = (await post(other, "/v1/stream", leg.poll(wait_s=0))).body["pushes"]
        assert "attached" in pushes[0], "what another one was told is nobody's to know"
        clock.advance(KEPT_S + 1)
        pushes = (await post(leg.door, "/v1/stream", leg.poll(wait_s=0))).body["pushes"]
        assert not any("disconnect" in push for push in pushes)


async def test_plain_streams_and_polls_are_sent_away(handoff: bool) -> None:
    async with world(handoff) as here:
        shown = here.server.bearer("alice")
        path = "/v1/channels/chat:lobby"
        cursor = (await call(here.server, "GET", path, shown)).json()["cursor"]
        polling = asyncio.create_task(call(here.server, "GET", f"{path}?after={cursor}&wait=20", shown))
        async with event_stream(here.server, path, {**shown, **EVENTS}) as stream:
            await until(lambda: len(here.server.engine.open) == 2)
            answer = await done(
                last(here), "/v1/disconnect", {"subject": "alice", "reason": "over", "reconnect": False}
            )
            assert (answer["sessions"], answer["streams"]) == (0, 2)
            text = (await stream.connection.ended()).decode()
            assert f": {DISMISSED} dismissed: over" in text
            assert "retry:" not in text.split(str(DISMISSED))[1]
        refused = await polling
        assert (refused.status, refused.json()["number"], refused.json()["detail"]) == (403, DISMISSED, "over")
        await until(lambda: len(here.server.engine.open) == 0)


# -- purging


async def test_readers_are_told_of_a_purge_and_go_on_behind_it(pipe: Pipe, handoff: bool) -> None:
    async with world(handoff) as here:
        live = await here.read(await here.client(pipe), CHANNEL)
        for number in range(3):
            await here.publish(CHANNEL, number)
        await live.until(3)
        before = live.publications[-1].position
        answer = await done(last(here), "/v1/purge", {"channel": CHANNEL})
        assert (answer["channel"], answer["position"]["offset"]) == (CHANNEL, 1)
        assert (await here.get("/v1/history/chat%3Alobby"))["publications"] == []
        await here.publish(CHANNEL, "after")
        await live.until(4)
        assert (live.data[-1], live.offsets) == ("after", [1, 2, 3, 2])
        assert [position.offset for position in live.resets] == [1]
        live.check_between_resets(1)
        late = await here.read(await here.client(pipe, "bob"), CHANNEL, before)
        await late.until(lambda: bool(late.resets))
        assert late.resets[0].epoch == live.publications[-1].position.epoch


# -- looking


async def test_channels_in_use_are_counted_over_all_nodes(pipe: Pipe, handoff: bool) -> None:
    async with world(settings(handoff, chat={"history_size": 100, "presence": True})) as here:
        for number in range(4):
            client = await here.client(pipe, f"user{number % 2}")
            for name in ["chat:all", f"chat:{number}"]:
                await here.read(client, name)
        await here.publish("chat:all", 1)
        await until(lambda: all(client.stats.received for client in here.clients))
        manage = last(here).engine.manage

        async def counted() -> dict[str, int]:
            answer = await manage.channels()
            assert (answer.nodes, answer.unanswered, answer.next) == (nodes(here), [], None)
            return {item.channel: item.subscribers for item in answer.channels}

        expected = {"chat:0": 1, "chat:1": 1, "chat:2": 1, "chat:3": 1, "chat:all": 4}
        while await counted() != expected:  # noqa: ASYNC110 -- polls come and go, and nothing tells of it
            await asyncio.sleep(0.01)
        pages: list[list[str]] = []
        after: str | None = ""
        while after is not None:
            answer = await seen(last(here), f"/v1/info/channels?limit=2&after={after}")
            pages.append([item["channel"] for item in answer["channels"]])
            after = answer.get("next")
        assert [name for page in pages for name in page] == sorted(expected)
        assert all(len(page) <= 2 for page in pages)
        answer = await seen(last(here), "/v1/info/channels?prefix=chat:a")
        assert [item["channel"] for item in answer["channels"]] == ["chat:all"]
        answer = await seen(last(here), "/v1/info/channels", scope="hybrid:channels:chat:1 hybrid:channels:x*")
        assert [item["channel"] for item in answer["channels"]] == ["chat:1"]
        one = await seen(last(here), "/v1/info/channels/chat%3Aall")
        assert one["position"]["offset"] == 1
        assert one["present"] == {"principals": 2, "sessions": 4}
        assert await here.get("/v1/presence/chat%3Aall?count") == {"principals": 2, "sessions": 4}


async def test_sessions_are_listed_and_looked_at(transport: str, handoff: bool) -> None:
    async with world(handoff) as here:
        servers = [here.server, *here.others]
        legs = [
            await here.raw(transport, attach_of(1, CHANNEL, f"chat:{number}"), door(server, f"user{number}"))
            for number, server in enumerate(servers * 2)
        ]
        for leg in legs:
            await leg.next("subscribed")
        manage = last(here).engine.manage
        everybody = await seen(last(here), "/v1/info/sessions")
        assert [item["session"] for item in everybody["sessions"]] == sorted(leg.session for leg in legs)
        assert everybody["nodes"] == nodes(here)
        assert {item["node"] for item in everybody["sessions"]} == {server.engine.router.node for server in servers}
        [alone] = (await seen(last(here), "/v1/info/sessions?subject=user1"))["sessions"]
        assert (alone["subject"], alone["transport"], alone["channel_count"]) == ("user1", transport, 2)
        assert (await manage.sessions(transport="sse" if transport != "sse" else "websocket")).sessions == []
        assert len((await manage.sessions(channel="chat:0")).sessions) == 1
        assert (await manage.sessions(issuer="https://other.example")).sessions == []
        ids, after = [], ""
        while after is not None:
            page = await manage.sessions(limit=1, after=after)
            ids += [info.session for info in page.sessions]
            after = page.next  # type: ignore[assignment]
        assert ids == sorted(leg.session for leg in legs)
        one = await seen(here.server, f"/v1/info/sessions/{legs[-1].session}")
        assert one["channels"] == [CHANNEL, f"chat:{len(legs) - 1}"]
        assert abs(one["since_s"] - here.server.engine.clock.wall_s()) < 20
        assert transport == "longpoll" or one["address"] == "127.0.0.1"
        for unknown in ("nobody", f"{here.server.engine.router.node}.nobody"):
            answer = await ask(here.server, "GET", f"/v1/info/sessions/{unknown}")
            assert (answer.status, answer.name) == (404, "session_unknown")


async def test_the_nodes(handoff: bool) -> None:
    async with world(handoff) as here:
        answer = await seen(last(here), "/v1/info/nodes")
        ids = [item["node"] for item in answer["nodes"]]
        assert ids[0] == last(here).engine.router.node
        assert sorted(ids) == sorted(server.engine.router.node for server in (here.server, *here.others))
        assert all(item["version"] and item["uptime_s"] >= 0 and "draining" not in item for item in answer["nodes"])


async def test_what_the_nodes_count(transport: str, handoff: bool) -> None:
    async with world(handoff) as here:
        servers = [here.server, *here.others]
        legs = [
            await here.raw(transport, attach_of(1, CHANNEL), door(server, f"user{number}"))
            for number, server in enumerate(servers)
        ]
        for leg in legs:
            await leg.next("subscribed")
        await here.publish(CHANNEL, 0)
        for leg in legs:
            await leg.next("publication")
        counted = (await seen(last(here), "/v1/info/stats"))["nodes"]
        assert [item["node"] for item in counted][:1] == [last(here).engine.router.node]
        assert {item["node"] for item in counted} == {server.engine.router.node for server in servers}
        assert all(item["sessions"][transport] == 1 and sum(item["sessions"].values()) == 1 for item in counted)
        assert all(item["connections"] == {**EMPTY, transport: 1} for item in counted)
        assert [item["subscriptions"] for item in counted] == [1] * len(servers)
        if transport != "longpoll":  # whose one publication is in the answer of a poll
            assert [item["deliveries"] for item in counted] == [1] * len(servers)
        assert sum(item["published"] for item in counted) == 1
        assert all(item["channels"] == 1 and item["cpu_s"] > 0 and 0 <= item["lag_s"] < 60 for item in counted)


@pytest.mark.one_node("each node looks for itself")
async def test_a_look_counts_for_a_second(handoff: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    async def counted(engine: Engine) -> Survey:
        nonlocal looks
        looks += 1
        return await survey(engine)

    monkeypatch.setattr(stats, "survey", counted)
    clock = StoodClock()
    async with world(handoff, clock=clock) as here:
        manage = here.server.engine.manage
        await asyncio.gather(*(manage.stats() for _ in range(5)))
        assert looks == 1
        clock.ahead_s += stats.KEPT_S
        await manage.stats()
        assert looks == 2


async def test_draining_a_node(pipe: Pipe, handoff: bool) -> None:
    async with world(handoff) as here:
        reader = await here.read(await here.client(pipe), CHANNEL)
        await here.publish(CHANNEL, 0)
        await reader.until(1)
        node = here.server.engine.router.node
        answer = await ask(last(here), "POST", "/v1/drain", {"node": node})
        if not here.others:
            assert (answer.status, answer.name) == (400, "bad_request")
            assert not here.server.engine.leaving.has_begun
            return
        assert answer.status == 200, answer
        assert here.server.engine.leaving.has_begun
        for number in range(1, 4):
            await here.publish(CHANNEL, number)
            await reader.until(number + 1)
        reader.check()
        await until(lambda: len(here.server.engine.open) == 0)
        told = (await seen(last(here), "/v1/info/nodes"))["nodes"]
        assert {item["node"]: item.get("draining", False) for item in told} == {
            node: True,
            last(here).engine.router.node: False,
        }
        answer = await ask(last(here), "POST", "/v1/drain", {"node": last(here).engine.router.node})
        assert (answer.status, answer.name) == (400, "bad_request"), "the last one that takes clients"


# -- nodes that do not answer


async def test_a_node_that_does_not_answer_in_time_is_named(handoff: bool) -> None:
    async with world(settings(handoff, limits=replace(LIMITS, managed_timeout_s=0.2))) as here:
        if not here.others:
            return
        silent = here.others[0].engine
        silent.router.orders.heard = lambda sender, message: None  # type: ignore[union-attr,method-assign]
        answer = await here.server.engine.manage.disconnect(subject="alice")
        assert (answer.nodes, answer.unanswered) == (1, [silent.router.node])
        with pytest.raises(HybridError, match="did not answer"):
            await here.server.engine.manage.session("nobody")
        with pytest.raises(HybridError, match="did not answer"):
            await here.server.engine.manage.drain(silent.router.node)
        with pytest.raises(HybridError, match="no such node"):
            await here.server.engine.manage.drain("nobody")


async def test_an_order_that_fails_at_another_node_is_no_answer(handoff: bool) -> None:
    async with world(handoff) as here:
        if not here.others:
            return

        async def fails(order: Any) -> None:
            raise RuntimeError("broken")

        here.others[0].engine.router.orders.carry_out = fails  # type: ignore[union-attr]
        answer = await here.server.engine.manage.channels()
        assert answer.unanswered == [here.others[0].engine.router.node]
        with pytest.raises(HybridError):
            await here.server.engine.router.orders.give(  # type: ignore[union-attr]
                here.others[0].engine.router.node, LookSession("x"), int
            )


# -- again


async def test_a_repeat_with_its_key_does_nothing_more(handoff: bool) -> None:
    async with world(handoff) as here:
        servers = [here.server, last(here)]
        for number, (path, body) in enumerate(
            (
                ("/v1/purge", {"channel": CHANNEL}),
                ("/v1/disconnect", {"subject": "alice"}),
                ("/v1/subscribe", {"channel": CHANNEL, "subject": "alice"}),
                ("/v1/unsubscribe", {"channel": CHANNEL, "subject": "alice"}),
            )
        ):
            key = {"Idempotency-Key": f"k{number}"}
            await here.publish(CHANNEL, number)
            first = await done(servers[0], path, body, headers=key)
            after = await here.publish(CHANNEL, number)
            again = await done(servers[1], path, body, headers=key)
            assert again == {**first, "repeated": True}
            assert (await here.publish(CHANNEL, number)).epoch == after.epoch
            answer = await ask(servers[1], "POST", path, {**body, "channel": "chat:x"} if "channel" in body else
                               {"subject": "bob"}, headers=key)  # fmt: skip
            assert (answer.status, answer.name) == (409, "key_conflict")


@pytest.mark.one_node("bounds are the same everywhere")
async def test_the_bounds_of_a_broadcast(handoff: bool) -> None:
    bounded: Limits = replace(LIMITS, broadcast_channels_max=3, broadcast_max_bytes=30)
    async with world(settings(handoff, limits=bounded)) as here:
        scope = "hybrid:publish:*"
        for channels, data, status, words in (
            (["a", "b", "c"], "x" * 8, 200, ""),
            (["a", "b", "c"], "x" * 9, 413, "broadcast_max_bytes"),
            (["a", "b", "c", "d"], "x", 413, "at most 3 channels"),
            (["a", "a"], "x", 400, "once"),
        ):
            body = {"channels": channels, "data": data}
            answer = await ask(here.server, "POST", "/v1/broadcast", body, scope=scope)
            assert answer.status == status, answer
            assert words in answer.body.decode()
