"""Connections that break while publishing goes on: nothing is lost, repeated or out of order."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest

from tests.support.wire import TRANSPORTS
from tests.support.world import LIMITS, Pipe, World, settings, world

CHANNEL = "chat:lobby"


@pytest.mark.parametrize("rst", [True, False], ids=["rst", "fin"])
async def test_a_cut_while_publishing_loses_nothing(pipe: Pipe, handoff: bool, rst: bool) -> None:
    async with world(handoff) as here:
        client = await here.client(pipe)
        reader = await here.read(client, CHANNEL)
        wire = here.cabling[pipe.transport]
        await _publish(here, 0, 10)
        await reader.until(5)
        assert wire.cut(rst=rst) >= 1
        await _publish(here, 10, 40)
        await reader.until(40)
        reader.check()
        assert reader.data == list(range(40))
        assert client.stats.resets == 0
        assert client.stats.attaches >= 2 or pipe.transport == "longpoll"


async def test_what_was_published_while_away_is_there(pipe: Pipe, handoff: bool) -> None:
    async with world(handoff) as here:
        client = await here.client(pipe)
        reader = await here.read(client, CHANNEL)
        wire = here.cabling[pipe.transport]
        await here.publish(CHANNEL, 0)
        await reader.until(1)
        wire.is_refusing = True
        wire.cut()
        await _publish(here, 1, 60)
        wire.is_refusing = False
        await reader.until(60)
        reader.check()
        assert reader.data == list(range(60))


@pytest.mark.parametrize("seed", [1, 2])
async def test_twenty_cuts_in_a_row_lose_nothing(pipe: Pipe, handoff: bool, seed: int) -> None:
    """Each cut comes after a random number of publications, so some meet an attach that is still under way."""
    dice = random.Random(seed)
    async with world(handoff) as here:
        client = await here.client(pipe)
        reader = await here.read(client, CHANNEL)
        wire = here.cabling[pipe.transport]
        published = 0
        for _ in range(20):
            count = dice.randint(1, 4)
            await _publish(here, published, published + count)
            published += count
            for _ in range(dice.randint(0, 30)):
                await asyncio.sleep(0)
            wire.cut(rst=dice.random() < 0.5)
            if dice.random() < 0.3:
                await client.connected()
        await reader.until(published)
        reader.check()
        assert reader.data == list(range(published))
        assert client.stats.resets == 0


async def test_a_client_that_stops_hearing_comes_back_by_itself(handoff: bool, pipe: Pipe) -> None:
    """The cable is cut on the server's side only: the client learns of it from silence alone."""
    limits = replace(LIMITS, heartbeat_interval_s=0.4, poll_wait_max_s=0.4)
    async with world(settings(handoff, limits=limits)) as here:
        client = await here.client(pipe)
        reader = await here.read(client, CHANNEL)
        await here.publish(CHANNEL, 0)
        await reader.until(1)
        wire = here.cabling[pipe.transport]
        if pipe.transport == "longpoll":
            # A poll's answer is waited for ten seconds longer than the poll: that patience is not tested here.
            wire.cut()
        for connection in wire.on("/v1/stream"):
            connection.cut(client=False)
        await here.publish(CHANNEL, 1)
        await reader.until(2)
        reader.check()


@pytest.mark.one_node("it looks into the node")
async def test_a_dead_half_on_the_server_is_no_harm(handoff: bool, pipe: Pipe) -> None:
    """The client loses its connection, the server does not hear of it and keeps the old leg beside the new one."""
    async with world(handoff) as here:
        client = await here.client(pipe)
        reader = await here.read(client, CHANNEL)
        await here.publish(CHANNEL, 0)
        await reader.until(1)
        for connection in here.cabling[pipe.transport].on("/v1/stream"):
            connection.cut(server=False)
        await _publish(here, 1, 20)
        await reader.until(20)
        reader.check()
        assert len(here.server.engine.registry) == 1, "it is the same session"


@pytest.mark.parametrize("after", [1, 90, 700, 2_500])
async def test_bytes_that_stop_anywhere_are_made_up_for(handoff: bool, pipe: Pipe, after: int) -> None:
    """Everything behind the next `after` bytes vanishes, in the middle of a frame or wherever; then the cut comes."""
    async with world(handoff) as here:
        client = await here.client(pipe)
        reader = await here.read(client, CHANNEL)
        await here.publish(CHANNEL, 0)
        await reader.until(1)
        wire = here.cabling[pipe.transport]
        for connection in await wire.until_connected("/v1/stream"):
            connection.down.swallow(after)
        await _publish(here, 1, 30)
        wire.cut()
        await reader.until(30)
        reader.check()
        assert reader.data == list(range(30))


async def test_many_channels_come_back_together(handoff: bool, pipe: Pipe) -> None:
    channels = [f"room:{number}" for number in range(30)]
    async with world(handoff) as here:
        client = await here.client(pipe)
        readers = await asyncio.gather(*(here.read(client, channel) for channel in channels))
        for number, channel in enumerate(channels):
            for count in range(number % 4):
                await here.publish(channel, count)
        here.cabling[pipe.transport].cut()
        for number, channel in enumerate(channels):
            for count in range(number % 4, 5):
                await here.publish(channel, count)
        for reader in readers:
            await reader.until(5)
            reader.check()
            assert reader.data == list(range(5))


async def test_the_next_transport_takes_over_when_one_is_blocked(handoff: bool) -> None:
    """First WebSocket and then event streams stop working: the session goes on over what is left."""
    async with world(handoff) as here:
        client = await here.client(TRANSPORTS)
        reader = await here.read(client, CHANNEL)
        for place, transport in enumerate(TRANSPORTS):
            await _publish(here, place * 5, place * 5 + 5)
            await reader.until(place * 5 + 5)
            assert client.transport == transport
            here.cabling[transport].is_refusing = place < 2
            here.cabling[transport].cut()
        await _publish(here, 15, 20)
        await reader.until(20)
        reader.check()
        assert client.transport == "longpoll"


async def _publish(here: World, start: int, stop: int) -> None:
    for number in range(start, stop):
        await here.publish(CHANNEL, number)
