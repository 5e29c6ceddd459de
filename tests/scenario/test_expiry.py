"""Tokens that end: a warning, a refresh without a reconnect, a grace, an end, and the way back.

Time is the test's own: the server's clock is moved, tokens live as long as they do.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from hybrid.auth.development import FULL_SCOPE
from hybrid.errors import HybridError
from tests.support.raw import Door, Ended, RawLeg, RawPolls, attach_of, post
from tests.support.world import LIMITS, Clock, Pipe, World, settings, until, world

CHANNEL = "chat:lobby"
EXPIRED = 4401
FORBIDDEN = 3403
LIFE_S = 70.0
"""Short, so that the clock need not jump past what a session without polls is kept for."""
NARROW = "hybrid:subscribe:chat:* hybrid:publish:*"
LONG_HEARTBEAT = replace(LIMITS, heartbeat_interval_s=3_000.0)
"""The clock jumps; a silence of so many seconds must not end a leg by itself."""


class Tokens:
    """A token source: short-lived first, then long-lived; counts how often it was asked."""

    def __init__(self, here: World) -> None:
        self.asked = 0
        self._here = here

    def __call__(self) -> str:
        self.asked += 1
        return self._here.server.token(lifetime_s=LIFE_S if self.asked == 1 else 20 * LIFE_S)


@pytest.mark.one_node("it looks into the node")
async def test_a_token_is_refreshed_without_a_reconnect(pipe: Pipe, handoff: bool) -> None:
    clock = Clock()
    async with world(settings(handoff, limits=LONG_HEARTBEAT), clock=clock) as here:
        tokens = Tokens(here)
        client = await here.client(pipe, get_token=tokens)
        reader = await here.read(client, CHANNEL)
        await here.publish(CHANNEL, 0)
        await reader.until(1)
        clock.advance(LIFE_S - 30)
        (runner,) = here.server.engine.registry.runners()
        await until(lambda: (runner.session.expires_in_s(clock.monotonic_s()) or 0) > LIFE_S)
        clock.advance(60)
        await client.publish(CHANNEL, 1)
        await reader.until(2)
        reader.check()
        assert tokens.asked == 2
        assert client.stats.attaches == 1
        assert here.server.engine.registry.runners() == [runner]


async def test_without_a_refresh_there_is_a_grace_and_then_an_end(transport: str, handoff: bool) -> None:
    """In the grace reading goes on and publishing is refused; then the leg ends with 4401."""
    clock = Clock()
    async with world(settings(handoff, limits=LONG_HEARTBEAT), clock=clock) as here:
        door = replace(here.door(), token=here.server.token(lifetime_s=LIFE_S))
        leg = await here.raw(transport, attach_of(1, CHANNEL), door)
        await leg.next("subscribed")
        clock.advance(LIFE_S - 30)
        assert 0 < (await leg.next("expiring"))["expiring"]["in_s"] <= 60
        clock.advance(31)
        if transport != "longpoll":
            await here.publish(CHANNEL, "still read")
            assert await leg.publications(1) == [1]
        reply = await leg.command(method="publish", channel=CHANNEL, data=1)
        assert reply["error"]["number"] == EXPIRED
        clock.advance(LIMITS.expiry_grace_s)
        try:
            code = (await leg.next("disconnect"))["disconnect"]["code"]
        except Ended as ended:  # a poll that comes when all is over already
            code = ended.code
        assert code == EXPIRED
        assert sum("attached" in push for push in leg.seen) == 1, "no new session for a token that is over"
        assert sum("expiring" in push for push in leg.seen) == 1


async def test_polls_that_show_the_same_token_are_warned_once(handoff: bool) -> None:
    """Every poll brings its token along, and each used to restart the warning.

    The shorter the life that was left, the later it came (half of the rest, then half of that), and once it had come
    the next poll's was new again: a client that polled often was told over and over, each time with another number.
    """
    clock = Clock()
    async with world(settings(handoff, limits=LONG_HEARTBEAT), clock=clock) as here:
        door = replace(here.door(), token=here.server.token(lifetime_s=LIFE_S))
        leg = await here.raw("longpoll", attach_of(1, CHANNEL), door)
        await leg.next("subscribed")
        for second in range(int(LIFE_S) - 1):
            clock.advance(1)
            here.server.engine.wheel.advance(clock.monotonic_s())
            await here.publish(CHANNEL, second)
            await leg.next("publication")
        warnings = [push for push in leg.seen if "expiring" in push]
        assert [push["seq"] for push in warnings] == [1]
        assert warnings[0]["expiring"]["in_s"] > LIFE_S / 3


async def test_a_client_whose_token_has_ended_comes_back_with_a_new_one(pipe: Pipe, handoff: bool) -> None:
    """The refresh in time fails; after the grace the leg ends, and the next attach shows a new token."""
    clock = Clock()
    async with world(settings(handoff, limits=LONG_HEARTBEAT), clock=clock) as here:
        is_away = False
        asked = 0

        def get_token() -> str:
            nonlocal asked
            asked += 1
            if is_away:
                raise OSError("the issuer cannot be reached")
            return here.server.token(lifetime_s=LIFE_S if asked == 1 else 20 * LIFE_S)

        client = await here.client(pipe, get_token=get_token)
        reader = await here.read(client, CHANNEL)
        await here.publish(CHANNEL, 0)
        await reader.until(1)
        is_away = True
        clock.advance(LIFE_S - 30)
        await until(lambda: asked >= 2)
        clock.advance(30 + LIMITS.expiry_grace_s + 1)
        in_vain = asked
        is_away = False
        await until(lambda: asked > in_vain)
        await here.publish(CHANNEL, 1)
        await reader.until(2)
        reader.check()
        await client.publish(CHANNEL, 2)
        await reader.until(3)


async def test_a_scope_that_is_lost_at_a_refresh_ends_its_channels(pipe: Pipe, handoff: bool) -> None:
    async with world(handoff) as here:
        scopes = [FULL_SCOPE]
        client = await here.client(pipe, get_token=lambda: here.server.token(scope=scopes[-1]))
        kept = await here.read(client, CHANNEL)
        lost = await here.read(client, "secret:plans")
        scopes.append(NARROW)
        await client.refresh()
        await lost.until(lambda: lost.error is not None)
        assert isinstance(lost.error, HybridError)
        assert lost.error.row.number == FORBIDDEN
        await here.publish("secret:plans", "unseen")
        await here.publish(CHANNEL, "seen")
        await kept.until(1)
        assert kept.data == ["seen"]
        assert lost.data == []


@pytest.mark.parametrize("one_way", ["websocket", "sse"])
@pytest.mark.one_node("it looks into the node")
async def test_an_unsubscribed_that_is_lost_comes_again_once(handoff: bool, one_way: str) -> None:
    """The leg breaks before the push got through: it comes behind the next `subscribed`, until acknowledged."""
    async with world(handoff) as here:
        wide, narrow = here.door(one_way), replace(here.door(one_way), token=here.server.token(scope=NARROW))
        leg = await here.raw(one_way, attach_of(1, CHANNEL, "secret:plans"), wide)
        await leg.next("subscribed")
        (cable,) = here.cabling[one_way].on("/v1/stream")
        cable.down.swallow()
        await _refresh(leg, narrow)
        (runner,) = here.server.engine.registry.runners()
        await until(lambda: runner.session.backlog is not None)
        cable.cut()
        await _comes_again_once(here, one_way, narrow, leg.session, "unsubscribed")


@pytest.mark.one_node("it looks into the node")
async def test_an_expiring_that_is_lost_comes_again_once(handoff: bool, transport: str) -> None:
    clock = Clock()
    async with world(settings(handoff, limits=LONG_HEARTBEAT), clock=clock) as here:
        door = replace(here.door(transport), token=here.server.token(lifetime_s=LIFE_S))
        leg = await here.raw(transport, attach_of(1, CHANNEL, "secret:plans"), door)
        await leg.next("subscribed")
        wire = here.cabling[transport]
        if isinstance(leg, RawPolls):
            loss = wire.lose_answer("/v1/stream")
            polling = asyncio.create_task(post(door, "/v1/stream", leg.poll()))
            await until(lambda: here.server.engine.hub.stats().polls_waiting == 1)
            clock.advance(LIFE_S - 30)
            await loss.has_happened.wait()
            await asyncio.gather(polling, return_exceptions=True)
            for _ in range(2):  # asked twice without an acknowledgement: told twice, the same push
                (push,) = (await post(door, "/v1/stream", leg.poll())).body["pushes"]
                assert ("expiring" in push, push["seq"]) == (True, 1)
            answer = await post(door, "/v1/stream", leg.poll(last_seq=1, wait_s=0))
            assert answer.body == {"pushes": []}
        else:
            (cable,) = wire.on("/v1/stream")
            cable.down.swallow()
            clock.advance(LIFE_S - 30)
            (runner,) = here.server.engine.registry.runners()
            await until(lambda: runner.session.backlog is not None)
            cable.cut()
        await _comes_again_once(here, transport, door, leg.session, "expiring", is_told=not isinstance(leg, RawPolls))


async def _comes_again_once(
    here: World, transport: str, door: Door, session: str, name: str, *, is_told: bool = True
) -> None:
    """`name` is told behind the next `subscribed`, and no more on the leg behind that, which acknowledges it."""
    second = await here.raw(transport, attach_of(2, CHANNEL, session=session), door)
    await second.next("subscribed")
    if is_told:
        assert (await second.next(name))["seq"] == 1
        await here.publish(CHANNEL, 0)
        await second.next("publication")
        assert sum(name in push for push in second.seen) == 1
    third = await here.raw(transport, attach_of(3, CHANNEL, session=session, last_seq=1), door)
    await third.next("subscribed")
    await here.publish(CHANNEL, 1)
    await third.next("publication")
    assert not any(name in push for push in third.seen)


async def _refresh(leg: RawLeg, door: Door) -> None:
    """Show another token, without waiting for an answer that cannot come."""
    command = {"id": 1, "method": "refresh", "n": 1}
    if hasattr(leg, "send"):
        leg.send(**command, token=door.token)
    else:
        answer = await post(door, "/v1/command", {"session": leg.session, "commands": [command]})
        assert "error" not in answer.body["replies"][0]
