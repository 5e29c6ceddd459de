"""Two nodes on one Redis: whatever lands on the wrong one is carried to the right one, or answered where it landed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from hybrid.broker.redis.nodes import RedisNodes
from tests.support.raw import Answer, Door, RawEventStream, RawLeg, RawPolls, attach_of, post
from tests.support.redis_servers import RedisServer
from tests.support.server import Backend, Chosen, RunningServer
from tests.support.world import LIMITS, World, settings, until, world

CHANNEL = "chat:lobby"
DRAINING = 1012
REPLACED = 4509
SESSION_UNKNOWN = 3404
OUTCOME_UNKNOWN = 3414
LIMIT_EXCEEDED = 3429


@pytest.fixture
async def here(one_redis: RedisServer) -> AsyncIterator[World]:
    Chosen.backend = Backend(one_redis.url, 2)
    try:
        limits = replace(LIMITS, carried_timeout_s=0.5)
        async with world(settings(True, limits=limits, default={"presence": True, "join_leave": True})) as made:
            yield made
    finally:
        Chosen.backend = Backend()


def door(server: RunningServer, subject: str = "alice") -> Door:
    return Door(("127.0.0.1", server.port), f"127.0.0.1:{server.port}", server.token(subject))


async def commanded(leg: RawLeg, at: RunningServer, *commands: dict[str, object], subject: str = "alice") -> Answer:
    """Commands for a leg's session, posted to a node of one's choice."""
    body = {"session": leg.session, "commands": list(commands)}
    return await post(door(at, subject), "/v1/command", body)


async def one(leg: RawLeg, at: RunningServer, **command: object) -> dict[str, object]:
    answer = await commanded(leg, at, {"id": 5, **command})
    assert answer.status == 200, answer
    [reply] = answer.body["replies"]
    assert reply["id"] == 5
    return dict(reply)


async def streamed(here: World, *channels: str, confirm: bool = True, **more: object) -> RawLeg:
    """An event stream at the first node."""
    return await here.raw("sse", attach_of(1, *channels, confirm=confirm, **more), door(here.server))


async def test_commands_are_carried_to_the_stream(here: World) -> None:
    [other] = here.others
    leg = await streamed(here, CHANNEL)
    await leg.next("subscribed")
    subscribed = await one(leg, other, method="subscribe", channel="chat:more", n=1)
    assert subscribed["position"] == {"offset": 0}
    await here.publish("chat:more", 1)
    await other.engine.publish(CHANNEL, 2)
    assert await leg.publications(2) == [1, 1]
    assert await one(leg, other, method="subscribe", channel="chat:more", n=1) == subscribed, "the kept reply"
    assert "error" not in await one(leg, other, method="unsubscribe", channel="chat:more", n=2)
    refreshed = await one(leg, other, method="refresh", n=3)
    assert refreshed["token_expires_in_s"] > 800  # type: ignore[operator]
    assert (await commanded(leg, other, {"method": "heartbeat", "last_seq": 1})).body == {"replies": []}


async def test_a_token_never_goes_through_redis(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    [other] = here.others
    leg = await streamed(here, CHANNEL)
    await leg.next("subscribed")
    told: list[bytes] = []
    tell = other.engine.router._store.tell

    async def noting(node: str, message: bytes) -> bool:
        told.append(message)
        return await tell(node, message)

    monkeypatch.setattr(other.engine.router._store, "tell", noting)
    assert "error" not in await one(leg, other, method="refresh", n=1, token=leg.door.token)
    assert told
    assert not any(leg.door.token.encode() in message for message in told)


async def test_a_candidate_is_confirmed_through_another_node(here: World) -> None:
    [other] = here.others
    leg = await streamed(here, CHANNEL, confirm=False)
    await leg.next("attached")
    assert "error" not in await one(leg, other, method="confirm", attempt=1)
    await leg.next("subscribed")
    assert "error" not in await one(leg, other, method="confirm", attempt=1), "its answer may have been lost"


async def test_the_owner_looks_again_at_who_asks(here: World) -> None:
    [other] = here.others
    leg = await streamed(here, CHANNEL)
    await leg.next("subscribed")
    answer = await commanded(leg, other, {"id": 1, "method": "unsubscribe", "channel": CHANNEL, "n": 1}, subject="bob")
    assert answer.body["replies"][0]["error"]["number"] == SESSION_UNKNOWN
    await here.publish(CHANNEL, 1)
    assert await leg.publications(1) == [1]


@pytest.mark.parametrize("session", ["", "nonsense", "gone.nonsense", ".", "a.b.c"])
async def test_a_session_of_no_node_is_unknown(here: World, session: str) -> None:
    leg = RawEventStream(door(here.server))
    leg.session = session
    reply = await one(leg, here.server, method="unsubscribe", channel=CHANNEL, n=1)
    assert reply["error"]["number"] == SESSION_UNKNOWN  # type: ignore[index]


async def test_nothing_is_told_to_what_no_node_is_called(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a client writes before the dot becomes part of a name in the broker, and chooses a slot of a Cluster."""
    told: list[str] = []

    async def tell(self: RedisNodes, node: str, message: bytes) -> bool:
        told.append(node)
        return False

    monkeypatch.setattr(RedisNodes, "tell", tell)
    leg = RawEventStream(door(here.server))
    for node in ("a}{b", "A" * 11, "A" * 13, "AAAAAA}{AAAA", "A" * 11 + "\n", "AAAAAAAAAAAA"):
        leg.session = f"{node}.x"
        reply = await one(leg, here.server, method="unsubscribe", channel=CHANNEL, n=1)
        assert reply["error"]["number"] == SESSION_UNKNOWN  # type: ignore[index]
    assert told == ["AAAAAAAAAAAA"]


async def test_the_sessions_of_a_node_that_is_gone_are_unknown_at_once(here: World) -> None:
    [other] = here.others
    leg = await streamed(here, CHANNEL)
    await leg.next("subscribed")
    await here.server.shut_down()
    reply = await one(leg, other, method="unsubscribe", channel=CHANNEL, n=1)
    assert reply["error"]["number"] == SESSION_UNKNOWN  # type: ignore[index]


async def test_a_node_that_does_not_answer_leaves_the_outcome_unknown(here: World) -> None:
    [other] = here.others
    leg = await streamed(here, CHANNEL)
    await leg.next("subscribed")
    here.server.engine.broker._heard_by.clear()  # type: ignore[attr-defined]  -- it listens and does not hear
    reply = await one(leg, other, method="subscribe", channel="chat:more", n=1)
    assert reply["error"]["number"] == OUTCOME_UNKNOWN  # type: ignore[index]


async def test_commands_under_way_are_bounded(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    [other] = here.others
    leg = await streamed(here, CHANNEL)
    await leg.next("subscribed")
    monkeypatch.setattr(other.engine.router, "_limits", replace(LIMITS, carried_max=2, carried_timeout_s=0.5))
    here.server.engine.broker._heard_by.clear()  # type: ignore[attr-defined]
    command = {"method": "unsubscribe", "channel": CHANNEL}
    replies = await asyncio.gather(*(one(leg, other, n=number, **command) for number in range(1, 5)))
    numbers = sorted(reply["error"]["number"] for reply in replies)  # type: ignore[index]
    assert numbers == [OUTCOME_UNKNOWN, OUTCOME_UNKNOWN, LIMIT_EXCEEDED, LIMIT_EXCEEDED]


async def test_what_is_not_sealed_is_not_carried_out(here: World, one_redis: RedisServer) -> None:
    """Whoever can write to Redis cannot speak for a node."""
    leg = await streamed(here, CHANNEL)
    await leg.next("subscribed")
    broker = here.server.engine.broker
    topic = broker.keys.node(here.server.engine.router.node)  # type: ignore[attr-defined]
    assert await one_redis.command("PUBLISH", topic, b"x" * 32 + b"forged") == 1
    await here.publish(CHANNEL, 1)
    assert await leg.publications(1) == [1]


async def test_whoever_goes_on_at_another_node_ends_the_leg_at_the_first(here: World) -> None:
    [other] = here.others
    leg = await streamed(here, CHANNEL)
    await leg.next("subscribed")
    moved = await here.raw("sse", attach_of(2, CHANNEL, session=leg.session), door(other))
    await moved.next("subscribed")
    assert moved.session != leg.session
    assert (await leg.next("disconnect"))["disconnect"]["code"] == REPLACED
    await until(lambda: len(here.server.engine.registry) == 0)


async def test_a_late_attach_at_another_node_does_not_end_a_newer_leg(here: World) -> None:
    [other] = here.others
    leg = await here.raw("sse", attach_of(5, CHANNEL), door(here.server))
    await leg.next("subscribed")
    late = await here.raw("sse", attach_of(2, CHANNEL, session=leg.session), door(other))
    await late.next("subscribed")
    await one(late, here.server, method="unsubscribe", channel=CHANNEL, n=1)  # behind `moved` on the same way
    await here.publish(CHANNEL, 1)
    assert await leg.publications(1) == [1]


async def test_polls_that_land_in_turn_each_wait_and_none_begins_anew(here: World) -> None:
    servers = [here.server, *here.others]
    polls = RawPolls(door(here.server))
    await polls.open(attach_of(1, CHANNEL))
    await polls.next("subscribed")
    session = polls.session
    for number in range(1, 9):
        polls.door = replace(door(servers[number % 2]), token=polls.door.token)
        publishing = asyncio.create_task(_publish_when_polled(servers[number % 2], number))
        assert await polls.publications(1) == [number]
        await publishing
    assert polls.session == session
    assert [name for push in polls.seen for name in push] == ["attached", "subscribed"] + ["publication"] * 8


async def _publish_when_polled(server: RunningServer, number: int) -> None:
    """Only when the poll waits, so that it is shown not to have been answered before."""
    await until(lambda: server.engine.hub.stats().polls_waiting == 1)
    await server.engine.publish(CHANNEL, number)


async def test_a_poll_with_a_seal_of_somebody_else_is_not_adopted(here: World) -> None:
    [other] = here.others
    polls = RawPolls(door(here.server))
    await polls.open(attach_of(1, CHANNEL))
    await polls.next("subscribed")
    stolen = RawPolls(door(other, "bob"))
    stolen.session, stolen.sealed, stolen.attempt = polls.session, polls.sealed, 1
    stolen.positions = dict(polls.positions)
    attached = await stolen.next("attached")
    assert attached["attached"]["session"] != polls.session


async def test_presence_moves_along_without_a_leave(here: World) -> None:
    """The other node is told before the first one lets go, so nobody sees somebody leave who is there."""
    [other] = here.others
    watcher = await here.raw("websocket", attach_of(1, CHANNEL), door(other, "watcher"))
    await watcher.next("subscribed")
    leg = await streamed(here, CHANNEL)
    await leg.next("subscribed")
    while (await watcher.next("join"))["join"]["subject"] != "alice":
        pass
    moved = await here.raw("sse", attach_of(2, CHANNEL, session=leg.session), door(other))
    await moved.next("subscribed")
    assert (await leg.next("disconnect"))["disconnect"]["code"] == REPLACED
    await here.publish(CHANNEL, 1)
    await watcher.next("publication")
    assert not any("leave" in push for push in watcher.seen)


async def test_draining_hands_presence_over(here: World) -> None:
    [other] = here.others
    watcher = await here.raw("websocket", attach_of(1, CHANNEL), door(other, "watcher"))
    await watcher.next("subscribed")
    leg = await streamed(here, CHANNEL)
    await leg.next("subscribed")
    going = asyncio.create_task(here.server.shut_down())
    assert (await leg.next("disconnect"))["disconnect"]["code"] == DRAINING
    leg.close()
    back = await here.raw("sse", attach_of(2, CHANNEL, session=leg.session), door(other))
    await back.next("subscribed")
    await going
    await other.engine.publish(CHANNEL, 1)
    await watcher.next("publication")
    assert not any("leave" in push for push in watcher.seen)
    subjects = [entry["subject"] for entry in (await watcher.command(method="presence", channel=CHANNEL))["entries"]]
    assert sorted(subjects) == ["alice", "watcher"]


async def test_a_list_of_nodes_that_does_not_answer_does_not_hold_a_drain_up(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    leg = await streamed(here, CHANNEL)
    await leg.next("subscribed")

    async def keep(self: RedisNodes, *arguments: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(RedisNodes, "keep", keep)
    draining = asyncio.create_task(here.server.engine.drain(2.0))
    try:
        async with asyncio.timeout(3):
            assert (await leg.next("disconnect"))["disconnect"]["code"] == DRAINING
            await draining
    finally:
        monkeypatch.undo()
        draining.cancel()
        await asyncio.wait([draining])


async def test_a_call_runs_once_on_whichever_nodes_it_is_sent_to(here: World) -> None:
    servers = [here.server, *here.others]
    ran: list[int] = []
    go_on = asyncio.Event()

    def handler(place: int):  # type: ignore[no-untyped-def]
        async def add(call: object) -> dict[str, int]:
            ran.append(place)
            await go_on.wait()
            return {"ran_at": place}

        return add

    for place, server in enumerate(servers):
        server.engine.calls.register("add", handler(place))
    leg = await streamed(here)
    call = {"id": 5, "method": "call", "name": "add", "data": {"a": 1}, "key": "k"}
    asked = [asyncio.create_task(commanded(leg, server, call)) for server in (*servers, *servers)]
    await until(lambda: bool(ran))
    go_on.set()
    results = [answer.body["replies"][0]["result"] for answer in await asyncio.gather(*asked)]
    assert len(ran) == 1
    assert results == [{"ran_at": ran[0]}] * 4
    changed = await commanded(leg, servers[1 - ran[0]], {**call, "data": {"a": 2}})
    assert changed.body["replies"][0]["error"]["name"] == "key_conflict"


async def test_nodes_know_one_another(here: World) -> None:
    [other] = here.others
    await here.server.engine.nodes.tell()
    [known] = here.server.engine.nodes.others
    assert known.id == other.engine.router.node
    assert known.room > 0
    assert not known.is_draining
