"""Why a client does not use a better transport: counted once, when its leg is confirmed, and written into the log."""

from __future__ import annotations

import logging
from collections import Counter

import pytest

from tests.support.raw import Ended, RawPolls, attach_of, post
from tests.support.world import World, world

CHANNEL = "chat:lobby"
WHY = [{"transport": "websocket", "reason": "mute"}, {"transport": "sse", "reason": "too blue"}]


def counted(here: World) -> tuple[Counter[str], Counter[tuple[str, str, str]]]:
    """Over all nodes."""
    legs: Counter[str] = Counter()
    tried: Counter[tuple[str, str, str]] = Counter()
    for server in (here.server, *here.others):
        legs += server.engine.transport_counts.legs
        tried += server.engine.transport_counts.tried
    return legs, tried


async def test_a_confirmed_leg_is_counted_with_its_reasons(
    transport: str, handoff: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    reasons = {(transport, "websocket", "mute"): 1, (transport, "sse", "other"): 1}
    async with world(handoff) as here:
        leg = await here.raw(transport, attach_of(1, CHANNEL, tried=WHY))
        await leg.next("subscribed")
        assert counted(here) == ({transport: 1}, reasons)
        for number in range(4):  # polls go to any node, and are no legs of their own there
            await here.publish(CHANNEL, number)
            await leg.next("publication")
        assert counted(here) == ({transport: 1}, reasons)
    told = [record.getMessage() for record in caplog.records if "legs since the start" in record.getMessage()]
    assert told == [f"legs since the start: {transport} 1 (sse other 1, websocket mute 1)"]
    assert "too blue" not in caplog.text


@pytest.mark.one_node("a candidate is confirmed at its node")
async def test_a_candidate_is_counted_when_it_is_confirmed(transport: str, handoff: bool) -> None:
    async with world(handoff) as here:
        lost = await here.raw(transport, attach_of(1, CHANNEL, confirm=False, tried=WHY))
        await lost.next("attached")
        leg = await here.raw(transport, attach_of(2, CHANNEL, confirm=False, tried=WHY[:1]))
        await leg.next("attached")
        assert counted(here) == ({}, {})
        for _ in range(2):
            if isinstance(leg, RawPolls):
                leg.take_answer(await post(leg.door, "/v1/stream", leg.poll(confirm=True, wait_s=0)))
            elif transport == "websocket":
                leg.send(method="confirm", attempt=2)  # type: ignore[attr-defined]
            else:
                await leg.command(method="confirm", attempt=2)
            if not counted(here)[0]:
                await leg.next("subscribed")
        assert counted(here) == ({transport: 1}, {(transport, "websocket", "mute"): 1})


async def test_more_than_there_are_is_refused(transport: str, handoff: bool) -> None:
    async with world(handoff) as here:
        with pytest.raises(Ended) as caught:
            await (await here.raw(transport, attach_of(1, CHANNEL, tried=[*WHY, *WHY]))).next("attached")
        assert caught.value.code == (4500 if transport == "websocket" else 3400)
        assert counted(here) == ({}, {})
