"""A heartbeat that asks for one: whether a leg still carries anything is known within a round trip."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.raw import RawLeg, RawWebSocket, attach_of, post
from tests.support.tokens import tampered
from tests.support.world import LIMITS, settings, world

CHANNEL = "chat:lobby"
SILENT = replace(LIMITS, heartbeat_interval_s=3_000.0)
"""No heartbeat comes by itself."""
STREAMS = ["websocket", "sse"]


async def ask(leg: RawLeg, **fields: object) -> None:
    """Ask for a heartbeat of a leg; by POST where it cannot ask itself."""
    if isinstance(leg, RawWebSocket):
        leg.send(method="heartbeat", echo=7, **fields)
        return
    command = {"method": "heartbeat", "echo": 7, **fields}
    answer = await post(leg.door, "/v1/command", {"session": leg.session, "commands": [command]})
    assert (answer.status, answer.body) == (200, {"replies": []})


@pytest.mark.parametrize("transport", STREAMS)
async def test_a_heartbeat_is_answered_on_the_current_leg(transport: str, handoff: bool) -> None:
    """Of two nodes, the POST of an event stream may land on the one that has never heard of it: it is carried."""
    async with world(settings(handoff, limits=SILENT)) as here:
        leg = await here.raw(transport, attach_of(1, CHANNEL))
        assert (await leg.next("attached"))["attached"]["limits"]["echo_interval_s"] == SILENT.echo_interval_s
        await leg.next("subscribed")
        for _ in range(3):  # connections go to the nodes in turn
            await ask(leg)
            heartbeat = (await leg.next("heartbeat"))["heartbeat"]
            assert heartbeat["at_ms"] > 0
            assert heartbeat["echo"] == 7
        await here.publish(CHANNEL, 1)
        assert await leg.publications(1) == [1]


@pytest.mark.parametrize("transport", STREAMS)
async def test_a_heartbeat_is_answered_on_a_candidate(transport: str, handoff: bool) -> None:
    async with world(settings(handoff, limits=SILENT)) as here:
        leg = await here.raw(transport, attach_of(7, CHANNEL, confirm=False))
        await leg.next("attached")
        for _ in range(2):
            await ask(leg, **({} if transport == "websocket" else {"attempt": 7}))
            await leg.next("heartbeat")
        assert [next(iter(push)) for push in leg.seen] == ["attached", "heartbeat", "heartbeat"]


@pytest.mark.one_node("both legs are of one session")
async def test_an_attempt_names_the_leg_that_answers(handoff: bool) -> None:
    async with world(settings(handoff, limits=SILENT)) as here:
        current = await here.raw("sse", attach_of(1, CHANNEL))
        await current.next("subscribed")
        candidate = await here.raw("sse", attach_of(2, CHANNEL, confirm=False, session=current.session))
        await candidate.next("attached")
        for attempt in (3, 2):  # nobody's, then the candidate's
            await ask(candidate, attempt=attempt)
        await candidate.next("heartbeat")
        await here.publish(CHANNEL, 1)
        await current.next("publication")
        await ask(candidate, attempt=1)
        await current.next("heartbeat")
        await ask(candidate)
        await current.next("heartbeat")
        await here.publish(CHANNEL, 2)
        await current.next("publication")
        names = [next(iter(push)) for push in current.seen]
        assert names == ["attached", "subscribed", "publication", "heartbeat", "heartbeat", "publication"]
        assert [next(iter(push)) for push in candidate.seen] == ["attached", "heartbeat"]


async def test_a_session_that_is_unknown_is_said_to_be(handoff: bool) -> None:
    async with world(settings(handoff, limits=SILENT)) as here:
        leg = await here.raw("sse", attach_of(1, CHANNEL))
        await leg.next("subscribed")
        body = {"session": tampered(leg.session), "commands": [{"method": "heartbeat", "echo": 7}]}
        answer = await post(leg.door, "/v1/command", body)
        assert answer.body["replies"][0]["error"]["name"] == "session_unknown"


async def test_a_posted_heartbeat_acknowledges_what_was_seen(handoff: bool) -> None:
    """At whichever node: what it has acknowledged does not come again on the next leg."""
    async with world(settings(handoff, limits=SILENT)) as here:
        leg = await here.raw("sse", attach_of(1, CHANNEL))
        await leg.next("subscribed")
        nodes = [server.engine.registry for server in (here.server, *here.others)]
        (runner,) = [runner for registry in nodes for runner in registry.runners()]
        for seq in (1, 2):
            runner.session.push_unsubscribed(CHANNEL, 0)
            runner.carry_out()
            assert (await leg.next("unsubscribed"))["seq"] == seq
            await ask(leg, last_seq=seq)
            await leg.next("heartbeat")
            assert runner.session.backlog is not None
            assert list(runner.session.backlog.unacknowledged()) == []


async def test_a_polled_leg_has_nothing_to_answer_on(handoff: bool) -> None:
    async with world(settings(handoff, limits=SILENT)) as here:
        leg = await here.raw("longpoll", attach_of(1, CHANNEL))
        await leg.next("subscribed")
        await ask(leg)
        await here.publish(CHANNEL, 1)
        assert await leg.publications(1) == [1]


async def test_a_leg_is_told_which_heartbeats_it_has(transport: str, handoff: bool) -> None:
    """What it asked for, within bounds; polls have none, and what they ask for changes nothing."""
    limits = replace(LIMITS, heartbeat_interval_min_s=0.3)
    async with world(settings(handoff, limits=limits)) as here:
        told = []
        for attempt, asked in enumerate(({}, {"heartbeat_s": 0.4}, {"heartbeat_s": 0.01}, {"heartbeat_s": 3_600}), 1):
            leg = await here.raw(transport, attach_of(attempt, CHANNEL, **asked))
            told.append((await leg.next("attached"))["attached"]["heartbeat_interval_s"])
            if asked == {"heartbeat_s": 0.4} and transport != "longpoll":
                await leg.next("heartbeat")
                if isinstance(leg, RawWebSocket):
                    leg.send(method="heartbeat")  # who says nothing for two and a half of them is ended
                await leg.next("heartbeat")
        assert told == ([20.0] * 4 if transport == "longpoll" else [20.0, 0.4, 0.3, 20.0])
