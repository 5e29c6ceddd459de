"""A server that goes away says so to everybody who reads, ends in time, and its clients find the next one."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.support.raw import Ended, RawLeg, attach_of
from tests.support.wire import TRANSPORTS
from tests.support.world import LIMITS, PIPES, Pipe, World, settings, until, world

CHANNEL = "chat:lobby"
EACH = 100
DRAINING = 1012


@pytest.mark.memory("its log ends with the process")
async def test_clients_come_back_by_themselves(pipe: Pipe, handoff: bool) -> None:
    chosen = settings(handoff)
    async with world(chosen) as here:
        clients = [await here.client(pipe, subject) for subject in ("alice", "bob")]
        readers = [await here.read(client, CHANNEL) for client in clients]
        for number in range(3):
            await here.publish(CHANNEL, number)
        for reader in readers:
            await reader.until(3)
        await here.restart(chosen)
        for reader in readers:
            await reader.until(lambda reader=reader: bool(reader.resets))
        await here.publish(CHANNEL, 3)
        for reader in readers:
            await reader.until(4)
            assert reader.data == [0, 1, 2, 3]
        for client in clients:
            told = [event.number for event in client.log if event.what == "ended"]
            assert told[0] == DRAINING, "they were told before they were cut"


@pytest.mark.memory("its log ends with the process")
async def test_a_client_of_every_kind_survives_three_restarts(handoff: bool) -> None:
    chosen = settings(handoff)
    async with world(chosen, limit_s=40) as here:
        clients = [await here.client(pipe) for pipe in PIPES]
        readers = [await here.read(client, CHANNEL) for client in clients]
        for life in range(3):
            await here.publish(CHANNEL, life)
            for reader in readers:
                await reader.until(life + 1)
            await here.restart(chosen)
            for reader in readers:
                await reader.until(lambda reader=reader, life=life: len(reader.resets) == life + 1)
        for reader in readers:
            assert reader.data == [0, 1, 2]
            reader.check_between_resets(1)


async def test_whoever_comes_while_it_drains_is_sent_on(transport: str, handoff: bool) -> None:
    """A client that does not read keeps the server waiting; attaches meanwhile hear `draining` and a delay."""
    limits = replace(LIMITS, shutdown_grace_s=4.0, close_timeout_s=3.0)
    async with world(settings(handoff, limits=limits)) as here:
        stuck = await here.raw("websocket", attach_of(1, CHANNEL), buffer_bytes=1)
        await stuck.next("subscribed")
        keep = await here.raw("websocket", attach_of(1, CHANNEL))
        await keep.next("subscribed")
        ending = asyncio.create_task(here.server.shut_down())
        assert (await keep.next("disconnect"))["disconnect"]["code"] == DRAINING
        with pytest.raises(Ended) as refused:
            await _attach_and_listen(here, transport)
        assert refused.value.code == DRAINING
        await ending


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("is_handoff", [True, False], ids=["hand-off", "asgi"])
def test_three_hundred_open_streams_end_within_the_grace(loop: str, is_handoff: bool) -> None:
    """100 of each kind; every tenth of the open ones reads nothing at all. Everybody who reads is told."""
    factory = None
    if loop == "uvloop":
        factory = pytest.importorskip("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_end_three_hundred(is_handoff))


async def _end_three_hundred(is_handoff: bool) -> None:
    grace_s = 6.0
    limits = replace(LIMITS, shutdown_grace_s=grace_s, close_timeout_s=2.0)
    async with world(settings(is_handoff, limits=limits), limit_s=60) as here:
        doors = [here.door(subject=f"user{number}") for number in range(4)]
        legs: dict[str, list[RawLeg]] = {}
        for transport in TRANSPORTS:
            legs[transport] = []
            for number in range(EACH):
                leg = await here.raw(transport, attach_of(1, CHANNEL), doors[number % len(doors)])
                await leg.next("subscribed")
                legs[transport].append(leg)
        reading = [leg for of_kind in legs.values() for number, leg in enumerate(of_kind) if number % 10]
        unread = 2 * EACH // 10
        listening = [asyncio.create_task(leg.next("disconnect")) for leg in reading]
        await until(lambda: here.server.engine.hub.stats().polls_waiting == EACH - EACH // 10)
        assert len(here.server.engine.open) == 2 * EACH + EACH - EACH // 10
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        await here.server.shut_down()
        took_s = loop.time() - began_s
        told = await asyncio.gather(*listening)
        assert {push["disconnect"]["code"] for push in told} == {DRAINING}
        assert all(push["disconnect"].get("reconnect", True) for push in told)
        assert all(0 <= push["disconnect"].get("delay_ms", 0) <= LIMITS.reconnect_delay_max_ms for push in told)
        assert len(told) == 3 * EACH - unread - EACH // 10
        assert took_s < grace_s + 1.0
        assert len(here.server.engine.open) == 0


async def _attach_and_listen(here: World, transport: str) -> None:
    late = await here.raw(transport, attach_of(1, CHANNEL))
    told = (await late.next("disconnect"))["disconnect"]
    assert (told["code"], told.get("reconnect", True)) == (DRAINING, True)
    await late.next("publication")
