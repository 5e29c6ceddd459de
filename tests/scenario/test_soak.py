"""Twenty clients over all transports, and everything that can happen to them, at random: nothing is lost.

A failure prints its seed; `TEST_SOAK_SEED` repeats it, `TEST_SOAK_S` sets how long it runs.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter

import pytest

from hybrid.client import Client
from tests.support.wire import TRANSPORTS
from tests.support.world import PIPES, Pipe, Reader, World, settings, world

CLIENTS = 20
CHANNELS = [f"room:{number}" for number in range(5)]


@pytest.mark.parametrize("is_handoff", [True, False], ids=["hand-off", "asgi"])
async def test_a_short_soak(is_handoff: bool) -> None:
    await _soak(is_handoff, float(os.environ.get("TEST_SOAK_S", "8")))


@pytest.mark.slow
@pytest.mark.parametrize("is_handoff", [True, False], ids=["hand-off", "asgi"])
async def test_a_long_soak(is_handoff: bool) -> None:
    await _soak(is_handoff, float(os.environ.get("TEST_SOAK_S", "90")))


class Soaker:
    """One client, with the channels it reads now and every reading that is over."""

    def __init__(self, here: World, client: Client, transport: str, dice: random.Random) -> None:
        self.here = here
        self.client = client
        self.transport = transport
        self.dice = dice
        self.reading: dict[str, Reader] = {}
        self.firsts: dict[Reader, int] = {}
        self.counts: Counter[str] = Counter()

    async def act(self, counter: dict[str, int]) -> None:
        """One thing at random."""
        name = self.dice.choices(
            ("publish", "burst", "cut", "cut one side", "move", "subscribe", "unsubscribe", "wait"),
            (30, 4, 6, 2, 8, 10, 8, 20),
        )[0]
        self.counts[name] += 1
        channel = self.dice.choice(CHANNELS)
        if name == "publish":
            await self.client.publish(channel, _next(counter, channel))
        elif name == "burst":
            await asyncio.gather(*(self.client.publish(channel, _next(counter, channel)) for _ in range(20)))
        elif name.startswith("cut"):
            wire = self.here.cabling[self.dice.choice(TRANSPORTS)]
            if wire.connections:
                connection = self.dice.choice(wire.connections)
                connection.cut(rst=self.dice.random() < 0.5, server=name == "cut" or self.dice.random() < 0.5)
        elif name == "move":
            try:
                await self.client.move_to(self.dice.choice(TRANSPORTS))
            except ConnectionError:
                self.counts["moved in vain"] += 1
        elif name == "subscribe" and channel not in self.reading:
            self.reading[channel] = await self.here.read(self.client, channel)
        elif name == "unsubscribe" and channel in self.reading:
            reader = self.reading.pop(channel)
            await reader.subscription.unsubscribe()
            await reader.task
            _check(reader)
        else:
            await asyncio.sleep(self.dice.random() * 0.05)


def _next(counter: dict[str, int], channel: str) -> int:
    counter[channel] += 1
    return counter[channel]


def _check(reader: Reader) -> None:
    assert reader.error is None
    if reader.publications:
        reader.check(reader.publications[0].offset)


async def _soak(is_handoff: bool, seconds: float) -> None:
    seed = int(os.environ.get("TEST_SOAK_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
    print(f"TEST_SOAK_SEED={seed}")
    dice = random.Random(seed)
    chosen = settings(is_handoff, room={"history_size": 20_000, "presence": True, "join_leave": True})
    async with world(chosen, limit_s=seconds * 2 + 60) as here:
        soakers = []
        for number in range(CLIENTS):
            pipe: Pipe = PIPES[number % len(PIPES)]
            client = await here.client(pipe, f"user{number % 7}")
            soakers.append(Soaker(here, client, pipe.transport, random.Random(dice.random())))
        for wire in here.cabling.all():
            wire.up_delay_s, wire.down_delay_s = dice.uniform(0, 0.02), dice.uniform(0, 0.02)
        counter = dict.fromkeys(CHANNELS, 0)
        loop = asyncio.get_running_loop()
        end_s = loop.time() + seconds

        async def live(soaker: Soaker) -> None:
            while loop.time() < end_s:
                await soaker.act(counter)

        await asyncio.gather(*map(live, soakers))
        heads = {channel: await here.publish(channel, "the last") for channel in CHANNELS}
        for soaker in soakers:
            for channel, reader in soaker.reading.items():
                await reader.until_offset(heads[channel].offset)
                _check(reader)
                assert reader.publications[-1].position == heads[channel]
        assert {channel: head.offset - 1 for channel, head in heads.items()} == counter, "each publish counts once"
        assert sum(soaker.client.stats.resets for soaker in soakers) == 0
        happened: Counter[str] = sum((soaker.counts for soaker in soakers), Counter())
        assert happened["publish"] > 20
        print(dict(happened), counter)
