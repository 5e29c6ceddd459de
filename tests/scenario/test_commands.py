"""Commands whose answers get lost, or that come out of order: each takes effect once, or its sender is told."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.raw import Ended, RawEventStream, attach_of, post
from tests.support.world import Clock, Pipe, World, settings, until, world

CHANNEL = "chat:lobby"
COMMAND = "/v1/command"


async def test_a_publish_whose_answer_is_lost_takes_effect_once(pipe: Pipe, handoff: bool) -> None:
    async with world(handoff) as here:
        client = await here.client(pipe)
        reader = await here.read(client, CHANNEL)
        for number in range(3):
            path = "" if pipe.transport == "websocket" else COMMAND
            loss = here.cabling[pipe.transport].lose_answer(path)
            position = await client.publish(CHANNEL, number)
            assert loss.has_happened.is_set()
            assert position.offset == number + 1
        await reader.until(3)
        reader.check()
        kept = (await here.get("/v1/history/chat%3Alobby"))["publications"]
        assert [publication["data"] for publication in kept] == [0, 1, 2]


async def test_many_publishes_in_flight_survive_cuts_once_each(pipe: Pipe, handoff: bool) -> None:
    async with world(handoff) as here:
        client = await here.client(pipe)
        reader = await here.read(client, CHANNEL)
        publishing = [asyncio.create_task(client.publish(CHANNEL, number)) for number in range(60)]
        for count in (5, 20, 40):
            await reader.until(count)
            here.cabling[pipe.transport].cut()
        positions = await asyncio.gather(*publishing)
        await reader.until(60)
        reader.check()
        assert sorted(reader.data) == list(range(60))
        assert {p.data: p.position for p in reader.publications} == dict(enumerate(positions))


async def test_a_key_makes_a_repeat_by_http_safe(handoff: bool) -> None:
    async with world(handoff) as here:
        first = await here.publish_by_http(CHANNEL, "once", key="k1")
        again = await here.publish_by_http(CHANNEL, "once", key="k1")
        assert again == {**first, "repeated": True}
        assert (await here.publish_by_http(CHANNEL, "twice", key="k2"))["offset"] == 2


async def test_a_subscribe_whose_answer_is_lost_is_carried_out_once(pipe: Pipe, handoff: bool) -> None:
    async with world(handoff) as here:
        client = await here.client(pipe)
        for number in range(3):
            path = "" if pipe.transport == "websocket" else COMMAND
            loss = here.cabling[pipe.transport].lose_answer(path)
            reader = await here.read(client, f"room:{number}")
            assert loss.has_happened.is_set()
            await here.publish(f"room:{number}", number)
            await reader.until(1)
            assert reader.data == [number]


async def test_an_unsubscribe_whose_answer_is_lost_is_carried_out_once(pipe: Pipe, handoff: bool) -> None:
    async with world(handoff) as here:
        client = await here.client(pipe)
        kept = await here.read(client, CHANNEL)
        left = await here.read(client, "room:1")
        path = "" if pipe.transport == "websocket" else COMMAND
        loss = here.cabling[pipe.transport].lose_answer(path)
        await left.subscription.unsubscribe()
        assert loss.has_happened.is_set()
        await here.publish("room:1", "unseen")
        await here.publish(CHANNEL, "seen")
        await kept.until(1)
        assert left.data == []
        again = await here.read(client, "room:1")
        await here.publish("room:1", "seen")
        await again.until(1)
        assert again.data == ["seen"]


async def test_a_numbered_command_is_answered_again_from_what_was_kept(handoff: bool) -> None:
    async with world(handoff) as here:
        leg = await _stream(here)
        join = {"id": 1, "method": "subscribe", "channel": "room:1", "n": 1}
        door = here.door("sse")
        loss = here.cabling["sse"].lose_answer(COMMAND)
        with pytest.raises(Ended):
            await post(door, COMMAND, leg.post_of(join))
        assert loss.has_happened.is_set()
        await here.publish("room:1", 1)
        repeated = (await post(door, COMMAND, leg.post_of({**join, "id": 2}))).body["replies"]
        assert [(reply["id"], reply["n"], "error" in reply) for reply in repeated] == [(2, 1, False)]
        assert repeated[0]["position"] == {"offset": 0}, "the answer of then, not one of now"
        assert await leg.publications(1) == [1]
        leave = {"id": 3, "method": "unsubscribe", "channel": "room:1", "n": 2}
        for _ in range(2):
            (reply,) = (await post(door, COMMAND, leg.post_of(leave))).body["replies"]
            assert "error" not in reply


@pytest.mark.one_node("it looks into the node")
async def test_a_command_ahead_of_its_turn_waits_for_it(handoff: bool) -> None:
    """Two POSTs overtake each other: the later number is carried out behind the earlier one."""
    async with world(handoff) as here:
        leg = await _stream(here)
        leave = {"id": 2, "method": "unsubscribe", "channel": "room:1", "n": 2}
        early = asyncio.create_task(post(leg.door, COMMAND, leg.post_of(leave)))
        (runner,) = here.server.engine.registry.runners()
        await until(lambda: runner.session.next_deadline_s() < here.server.engine.clock.monotonic_s() + 2.5)
        assert not early.done()
        join = {"id": 1, "method": "subscribe", "channel": "room:1", "n": 1}
        (joined,) = (await post(leg.door, COMMAND, leg.post_of(join))).body["replies"]
        (left,) = (await early).body["replies"]
        assert "error" not in joined
        assert "error" not in left


@pytest.mark.one_node("it looks into the node")
async def test_a_hole_that_is_never_filled_is_told(handoff: bool) -> None:
    clock = Clock()
    async with world(settings(handoff), clock=clock) as here:
        leg = await _stream(here)
        third = {"id": 3, "method": "subscribe", "channel": "room:3", "n": 3}
        waiting = asyncio.create_task(post(leg.door, COMMAND, leg.post_of(third)))
        (runner,) = here.server.engine.registry.runners()
        await until(lambda: runner.session.next_deadline_s() < clock.monotonic_s() + 2.5)
        clock.advance(here.server.engine.limits.command_hole_s)
        (reply,) = (await waiting).body["replies"]
        assert (reply["id"], reply["error"]["name"]) == (3, "out_of_order")
        for number in (1, 2, 3):
            command = {"id": number, "method": "subscribe", "channel": f"room:{number}", "n": number}
            (reply,) = (await post(leg.door, COMMAND, leg.post_of(command))).body["replies"]
            assert "error" not in reply, "what was refused may come again, in order"


async def test_numbers_go_on_across_the_legs_of_a_session(handoff: bool) -> None:
    async with world(handoff) as here:
        leg = await _stream(here)
        join = {"id": 1, "method": "subscribe", "channel": "room:1", "n": 1}
        assert "error" not in (await post(leg.door, COMMAND, leg.post_of(join))).body["replies"][0]
        second = await here.raw("websocket", attach_of(2, CHANNEL, "room:1", session=leg.session))
        await second.next("subscribed")
        reply = await second.command(method="subscribe", channel="room:1", n=1)
        assert "error" not in reply, "the reply that was kept"
        reply = await second.command(method="unsubscribe", channel="room:1", n=2)
        assert "error" not in reply
        reply = await second.command(method="unsubscribe", channel="room:1", n=3)
        assert reply["error"]["name"] == "not_subscribed"


async def _stream(here: World) -> RawEventStream:
    leg = await here.raw("sse", attach_of(1, CHANNEL))
    assert isinstance(leg, RawEventStream)
    await leg.next("subscribed")
    return leg
