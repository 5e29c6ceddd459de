"""A session that changes its transport while publications run: none lost, none twice, none out of order."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise
from typing import Any

import pytest

from hybrid.client import Client
from tests.support.world import Pipe, World, world

CHANNEL = "chat:lobby"
TOUR = ("websocket", "sse", "longpoll", "websocket", "longpoll", "sse", "websocket")
"""Every ordered pair of transports once."""
PUBLICATIONS = 300


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.one_node("it looks into the node")
async def test_moves_between_all_pairs_while_publications_run(handoff: bool, encoding: str, seed: int) -> None:
    assert len(set(pairwise(TOUR))) == 6
    dice = random.Random(seed)
    async with world(handoff) as here:
        for wire in here.cabling.all():  # so that legs overlap, each with its own delay
            wire.up_delay_s, wire.down_delay_s = dice.uniform(0, 0.02), dice.uniform(0, 0.02)
        client = await here.client(Pipe(TOUR[0], encoding))
        reader = await here.read(client, CHANNEL)
        has_moved = asyncio.Event()
        publishing = asyncio.create_task(_publish(here, client, has_moved, dice))
        for source, target in pairwise(TOUR):
            assert client.transport == source
            count = len(reader.publications)
            await reader.until(count + 5)
            await client.move_to(target)
            assert client.transport == target
            await reader.until(len(reader.publications) + 5)
        has_moved.set()
        published = await publishing
        assert published >= PUBLICATIONS
        await reader.until(published)
        reader.check()
        assert sorted(reader.data) == list(range(published))
        assert client.stats.moves == len(TOUR) - 1
        assert client.stats.gaps == client.stats.resets == 0
        assert len(here.server.engine.registry) == 1, "one session all the way"


async def test_many_channels_move_together(handoff: bool) -> None:
    channels = [f"room:{number}" for number in range(20)]
    async with world(handoff) as here:
        client = await here.client(Pipe(TOUR[0]))
        readers = [await here.read(client, channel) for channel in channels]
        for step, target in enumerate(TOUR[1:], 1):
            moving = asyncio.create_task(client.move_to(target))
            for channel in channels[step::2]:
                await here.publish(channel, step)
            await moving
        for channel in channels:
            await here.publish(channel, "last")
        for reader in readers:
            await reader.until(lambda reader=reader: "last" in reader.data)
            reader.check()
        assert client.stats.gaps == 0


async def test_subscribing_and_leaving_while_it_moves(handoff: bool) -> None:
    """Commands that change the session are under way while the leg changes under them."""
    async with world(handoff) as here:
        client = await here.client(Pipe(TOUR[0]))
        kept = await here.read(client, CHANNEL)
        for step, target in enumerate(TOUR[1:], 1):
            channel = f"room:{step}"
            moving = asyncio.create_task(client.move_to(target))
            await asyncio.sleep(0)
            reader = await here.read(client, channel)
            await here.publish(channel, "here")
            await here.publish(CHANNEL, step)
            await reader.until(1)
            await reader.subscription.unsubscribe()
            await moving
            await kept.until(step)
        kept.check()


@pytest.mark.parametrize("target", ["websocket", "sse", "longpoll"])
async def test_a_move_that_cannot_be_made_changes_nothing(handoff: bool, target: str) -> None:
    source = "sse" if target == "websocket" else "websocket"
    async with world(handoff) as here:
        client = await here.client(Pipe(source))
        reader = await here.read(client, CHANNEL)
        here.cabling[target].is_refusing = True
        with pytest.raises(ConnectionError):
            await client.move_to(target)
        for number in range(5):
            await here.publish(CHANNEL, number)
        await reader.until(5)
        reader.check()
        assert client.transport == source
        assert client.stats.attaches == 1


async def test_the_old_leg_is_cut_in_the_middle_of_a_move(handoff: bool) -> None:
    async with world(handoff) as here:
        client = await here.client(Pipe("websocket"))
        reader = await here.read(client, CHANNEL)
        for round_ in range(5):
            target = "sse" if client.transport == "websocket" else "websocket"
            moving = asyncio.create_task(_moved(client, target))
            for _ in range(5 * round_):
                await asyncio.sleep(0)
            for wire in here.cabling.all():
                if wire is not here.cabling[target]:
                    wire.cut()
            await here.publish(CHANNEL, round_)
            await moving
            await reader.until(round_ + 1)
            await client.connected()
        reader.check()


async def _moved(client: Client, target: str) -> Any:
    try:
        await client.move_to(target)
    except ConnectionError as error:
        return error


async def _publish(here: World, client: Client, has_moved: asyncio.Event, dice: random.Random) -> int:
    """At mixed rates, from the server and from the client itself, until enough are out and the moves are over."""
    number = 0
    while number < PUBLICATIONS or not has_moved.is_set():
        for _ in range(dice.choice((1, 1, 1, 12))):
            if dice.random() < 0.1:
                await client.publish(CHANNEL, number)
            else:
                await here.publish(CHANNEL, number)
            number += 1
        await asyncio.sleep(dice.choice((0, 0, 0.001, 0.01)))
    return number
