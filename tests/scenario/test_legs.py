"""Several legs of one session: who wins, what the loser hears, and that nobody loses a publication by it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.support.raw import RawLeg, RawPolls, attach_of, post
from tests.support.wire import TRANSPORTS
from tests.support.world import LIMITS, Pipe, World, settings, until, world

CHANNEL = "chat:lobby"
REPLACED = 4509
ONE_WAY_S = 0.3
"""A round trip of 600 ms, as over a satellite."""


@pytest.mark.one_node("it looks into the node")
async def test_of_two_racing_attaches_the_higher_attempt_wins(transport: str, handoff: bool) -> None:
    async with world(handoff) as here:
        first = await here.raw(transport, attach_of(1, CHANNEL))
        await first.next("subscribed")
        last = await here.publish(CHANNEL, 0)
        assert await first.publications(1) == [1]
        wire = here.cabling[transport]
        wire.up_delay_s = wire.down_delay_s = ONE_WAY_S
        door = here.door(transport)
        named = {"channel": CHANNEL, "position": _wire(last)}
        low, high = await asyncio.gather(
            here.raw(transport, attach_of(2, named, session=first.session), door),
            here.raw(transport, attach_of(3, named, session=first.session), door),
        )
        publishing = asyncio.create_task(_publish(here, 1, 11))
        truth = (await high.next("subscribed"))["subscribed"]["channels"]
        assert [item.get("recovered", True) for item in truth] == [True]
        assert (await low.next("disconnect"))["disconnect"]["code"] == REPLACED
        await publishing
        assert await high.publications(10) == list(range(2, 12))
        assert len(here.server.engine.registry) == 1


async def test_an_attach_that_is_late_does_not_replace_a_newer_one(transport: str, handoff: bool) -> None:
    """The network delivers attempt 2 after attempt 3 has become current: it ends, and nobody else does."""
    async with world(handoff) as here:
        first = await here.raw(transport, attach_of(1, CHANNEL))
        await first.next("subscribed")
        winner = await here.raw(transport, attach_of(3, CHANNEL, session=first.session))
        await winner.next("subscribed")
        late = await here.raw(transport, attach_of(2, CHANNEL, session=first.session))
        assert (await late.next("disconnect"))["disconnect"]["code"] == REPLACED
        assert not any("publication" in push for push in late.seen)
        await _publish(here, 0, 5)
        assert await winner.publications(5) == [1, 2, 3, 4, 5]
        assert (await first.next("disconnect"))["disconnect"]["code"] == REPLACED


async def test_the_race_of_transports_at_600_ms_loses_nothing(handoff: bool) -> None:
    """A second leg is opened before the first could answer; one wins, the other one goes, all arrives once."""
    async with world(handoff) as here:
        for wire in here.cabling.all():
            wire.up_delay_s = wire.down_delay_s = ONE_WAY_S
        client = await here.client(TRANSPORTS)
        assert len({event.transport for event in client.log if event.what == "opening"}) >= 2
        reader = await here.read(client, CHANNEL)
        await _publish(here, 0, 10)
        wire = here.cabling[client.transport or ""]
        wire.cut()
        await _publish(here, 10, 30)
        await reader.until(30)
        reader.check()
        assert client.stats.gaps == 0


@pytest.mark.one_node("it looks into the node")
async def test_a_leg_that_is_lost_unconfirmed_leaves_no_session(transport: str, handoff: bool) -> None:
    """A client that races its transports leaves a session behind for every one that did not win.

    A stream among them was noticed to have ended, but its session, new and without a leg, had no deadline other than
    its token's end, and none at all when it was anonymous: fifty thousand of them shut the door for everybody.
    """
    limits = replace(LIMITS, candidate_timeout_s=0.3)
    async with world(settings(handoff, limits=limits)) as here:
        candidate = await here.raw(transport, attach_of(1, CHANNEL, confirm=False))
        await candidate.next("attached")
        assert len(here.server.engine.registry) == 1
        candidate.close()
        await until(lambda: len(here.server.engine.registry) == 0)


async def test_a_candidate_carries_nothing_until_it_is_confirmed(transport: str, handoff: bool) -> None:
    async with world(handoff) as here:
        current = await here.raw(transport, attach_of(1, CHANNEL))
        await current.next("subscribed")
        candidate = await here.raw(transport, attach_of(2, CHANNEL, confirm=False, session=current.session))
        assert (await candidate.next("attached"))["attached"]["nonce"] == "n2"
        await _publish(here, 0, 3)
        assert await current.publications(3) == [1, 2, 3]
        last = next(push for push in reversed(current.seen) if "publication" in push)["publication"]
        position = {key: last[key] for key in ("offset", "epoch", "tag")}
        await _confirm(candidate, {"channel": CHANNEL, "position": position})
        await candidate.next("subscribed")
        assert (await current.next("disconnect"))["disconnect"]["code"] == REPLACED
        await _publish(here, 3, 6)
        assert await candidate.publications(3) == [4, 5, 6]
        assert next(push for push in candidate.seen if "publication" in push)["publication"]["offset"] == 4


@pytest.mark.one_node("it looks into the node")
async def test_a_cloned_tab_starts_a_session_of_its_own(pipe: Pipe, handoff: bool, transport: str) -> None:
    """Somebody else continues this session, as a duplicated tab does: both end up with everything."""
    async with world(handoff) as here:
        client = await here.client(pipe)
        reader = await here.read(client, CHANNEL)
        last = await here.publish(CHANNEL, 0)
        await reader.until(1)
        (runner,) = here.server.engine.registry.runners()
        named = {"channel": CHANNEL, "position": _wire(last)}
        clone = await here.raw(transport, attach_of(1_000, named, session=runner.session.id))
        assert (await clone.next("attached"))["attached"]["is_resumed"]
        await clone.next("subscribed")
        await _publish(here, 1, 20)
        await reader.until(20)
        assert await clone.publications(19) == list(range(2, 21))
        reader.check()
        assert REPLACED in [event.number for event in client.log if event.what == "ended"]
        (rest,) = [event for event in client.log if event.what == "waiting"]
        assert float(rest.detail.removesuffix(" s")) <= 1.0
        assert len(here.server.engine.registry) == 2
        await _publish(here, 20, 25)
        await reader.until(25)
        assert await clone.publications(5) == list(range(21, 26))
        assert sum(event.what == "waiting" for event in client.log) == 1, "they do not fight over it"


async def test_a_lost_poll_answer_costs_nothing(handoff: bool) -> None:
    async with world(handoff) as here:
        client = await here.client(Pipe("longpoll"))
        reader = await here.read(client, CHANNEL)
        await here.publish(CHANNEL, 0)
        await reader.until(1)
        for round_ in range(3):
            loss = here.cabling["longpoll"].lose_answer("/v1/stream")
            await here.publish(CHANNEL, 1 + 2 * round_)
            await here.publish(CHANNEL, 2 + 2 * round_)
            await loss.has_happened.wait()
            await reader.until(3 + 2 * round_)
        reader.check()
        assert client.stats.dropped == 0


async def test_the_answer_of_an_attach_can_be_lost(pipe: Pipe, handoff: bool) -> None:
    async with world(handoff) as here:
        loss = here.cabling[pipe.transport].lose_answer("/v1/stream")
        client = await here.client(pipe)
        assert loss.has_happened.is_set()
        reader = await here.read(client, CHANNEL)
        await _publish(here, 0, 5)
        await reader.until(5)
        reader.check()


async def test_of_two_polls_at_once_the_older_ends_empty(handoff: bool) -> None:
    async with world(handoff) as here:
        leg = await here.raw("longpoll", attach_of(1, CHANNEL))
        assert isinstance(leg, RawPolls)
        await leg.next("subscribed")
        hub = here.server.engine.hub
        older = asyncio.create_task(post(leg.door, "/v1/stream", leg.poll()))
        await until(lambda: hub.stats().polls_waiting == 1)
        newer = asyncio.create_task(post(leg.door, "/v1/stream", leg.poll()))
        answer = await older
        assert (answer.status, answer.body) == (200, {"pushes": []})
        await here.publish(CHANNEL, "only for the newer one")
        (push,) = (await newer).body["pushes"]
        assert push["publication"]["offset"] == 1


@pytest.mark.one_node("it looks into the node")
async def test_a_poll_that_its_client_gave_up_leaves_nothing_behind(handoff: bool) -> None:
    async with world(handoff) as here:
        client = await here.client(Pipe("longpoll"))
        reader = await here.read(client, CHANNEL)
        await here.publish(CHANNEL, 0)
        await reader.until(1)
        await until(lambda: here.server.engine.hub.stats().polls_waiting == 1)
        here.cabling["longpoll"].is_refusing = True
        here.cabling["longpoll"].cut()
        await until(lambda: len(here.server.engine.open) == 0)
        assert here.server.engine.hub.stats().polls_waiting == 0


@pytest.mark.parametrize("last_seen", [0, 3, 5])
async def test_a_poll_answers_from_the_positions_it_brings(handoff: bool, last_seen: int) -> None:
    """Whatever an earlier answer held: what the poll does not claim to have is sent again."""
    async with world(handoff) as here:
        leg = await here.raw("longpoll", attach_of(1, CHANNEL))
        assert isinstance(leg, RawPolls)
        await leg.next("subscribed")
        for number in range(5):
            await here.publish(CHANNEL, number)
        before = dict(leg.positions)
        pushes = [await leg.next("publication") for _ in range(5)]
        at = [{"offset": 0}, *({key: p["publication"][key] for key in ("offset", "epoch", "tag")} for p in pushes)]
        leg.positions = {CHANNEL: at[last_seen]} if last_seen else before
        await here.publish(CHANNEL, 5)
        assert await leg.publications(6 - last_seen) == list(range(last_seen + 1, 7))


async def _publish(here: World, start: int, stop: int) -> None:
    for number in range(start, stop):
        await here.publish(CHANNEL, number)


async def _confirm(leg: RawLeg, named: dict[str, object]) -> None:
    if isinstance(leg, RawPolls):
        leg.positions = {CHANNEL: named["position"]}  # type: ignore[dict-item]
        answer = await post(leg.door, "/v1/stream", leg.poll(confirm=True))
        leg.take_answer(answer)
        return
    command = {"method": "confirm", "attempt": 2, "subscriptions": [named]}
    if hasattr(leg, "send"):
        leg.send(**command)
    else:
        assert "error" not in await leg.command(**command)


def _wire(position: object) -> dict[str, object]:
    return {key: getattr(position, key) for key in ("offset", "epoch", "tag")}
