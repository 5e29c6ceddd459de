"""Everything at random and at the same time: nodes die and stop, Redis dies and stops, connections break.

A failure prints its seed; `TEST_CHAOS_SEED` repeats the choices (not what the machine makes of them), `TEST_CHAOS_S`
sets how long it goes on.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from hybrid.auth.development import DevelopmentIssuer
from tests.faults.stage import Stage, stage
from tests.support.redis_servers import RedisServer, redis_server
from tests.support.relay import Relay


class Chaos:
    """What can happen. Each thing ends by itself; two at once never concern the same process."""

    def __init__(self, here: Stage, redis: RedisServer, relay: Relay, dice: random.Random) -> None:
        self.counts: Counter[str] = Counter()
        self._here = here
        self._redis = redis
        self._relay = relay
        self._dice = dice
        self._nodes = [asyncio.Lock() for _ in here.nodes]
        self._broker = asyncio.Lock()
        self._things: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (4, self.a_node_dies),
            (3, self.a_node_is_restarted),
            (2, self.a_node_stops),
            (2, self.redis_dies),
            (2, self.redis_stops),
            (4, self.redis_closes_connections),
            (4, self.the_wire_breaks),
            (2, self.the_wire_is_slow),
        ]

    async def go_on(self, seconds: float) -> None:
        """Let things happen, three at a time."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + seconds

        async def one_after_the_other() -> None:
            while loop.time() < end_s:
                [thing] = self._dice.choices([f for _, f in self._things], [weight for weight, _ in self._things])
                self.counts[thing.__name__] += 1
                await thing()
                await asyncio.sleep(self._dice.uniform(0.0, 1.0))

        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(one_after_the_other())

    async def a_node_dies(self) -> None:
        number = self._dice.randrange(len(self._nodes))
        async with self._nodes[number]:
            self._here.nodes[number].kill()
            await asyncio.sleep(self._dice.uniform(0.0, 2.0))
            await self._here.nodes[number].start(path="/healthz")

    async def a_node_is_restarted(self) -> None:
        number = self._dice.randrange(len(self._nodes))
        async with self._nodes[number]:
            await self._here.nodes[number].stop()
            await self._here.nodes[number].start(path="/healthz")

    async def a_node_stops(self) -> None:
        number = self._dice.randrange(len(self._nodes))
        async with self._nodes[number]:
            self._here.nodes[number].freeze()
            await asyncio.sleep(self._dice.uniform(0.5, 8.0))
            self._here.nodes[number].thaw()

    async def redis_dies(self) -> None:
        async with self._broker:
            self._redis.kill()
            await asyncio.sleep(self._dice.uniform(0.0, 2.0))
            await self._redis.start()

    async def redis_stops(self) -> None:
        async with self._broker:
            self._redis.freeze()
            await asyncio.sleep(self._dice.uniform(0.5, 5.0))
            self._redis.thaw()

    async def redis_closes_connections(self) -> None:
        async with self._broker:
            kind = self._dice.choice(("normal", "pubsub"))
            await self._redis.command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")

    async def the_wire_breaks(self) -> None:
        self._relay.cut()

    async def the_wire_is_slow(self) -> None:
        self._relay.delay(self._dice.uniform(0.0, 0.2), self._dice.uniform(0.0, 0.2))
        await asyncio.sleep(self._dice.uniform(0.5, 3.0))
        self._relay.delay(0.0, 0.0)


@pytest.mark.faults
async def test_everything_at_random(issuer: DevelopmentIssuer) -> None:
    seed = int(os.environ.get("TEST_CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
    seconds = float(os.environ.get("TEST_CHAOS_S", "30"))
    print(f"TEST_CHAOS_SEED={seed}")
    async with redis_server(keeps_data=True) as redis, Relay(redis.port) as relay:
        broker = redis.url_for(None, None, port=relay.port)
        async with stage(f"all of it at random for {seconds:g} s", broker=broker, issuer=issuer) as here:
            chaos = Chaos(here, redis, relay, random.Random(seed))
            await chaos.go_on(seconds)
            relay.mend()
            here.fault_ended()
            await here.healed(60.0)
            print(dict(chaos.counts))
            verdict = await here.judged()
            assert verdict.resets == 0, "Redis has kept all, so nobody had to be told of a loss"
            assert sum(chaos.counts.values()) > seconds / 4
