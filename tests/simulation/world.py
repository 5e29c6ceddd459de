"""One run: a world from a seed, so many publications under bad weather, and then whether all promises were kept."""

from __future__ import annotations

import asyncio
import random as global_random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from random import Random
from typing import Any

import msgspec

from hybrid.broker.memory_nodes import MemoryNodes
from hybrid.limits import Limits
from hybrid.model import START
from tests.simulation.client import Client
from tests.simulation.node import Node, Shared
from tests.simulation.store import Store
from tests.simulation.weather import GENTLE, HARSH, PURGING, Event
from tests.support.checker import Checker, Reset, Verdict
from tests.support.virtual_time import VirtualTimeLoop

_CALM_MAX_S = 300.0
"""In which everybody has to be where the log ends, once nothing goes wrong any more."""


@dataclass(frozen=True)
class Plan:
    """`publications` in all. `is_harsh`: the store loses what it has taken, and keeps little.

    `purges`: channels are emptied; in harsh weather they are anyhow.
    """

    publications: int = 500
    is_harsh: bool = False
    purges: bool = False
    pace_s: float = 0.02
    weather_s: float = 0.3


@dataclass
class Outcome:
    """What a run came to. `problems` is empty where all promises were kept."""

    seed: int
    verdict: Verdict
    problems: list[str]
    seconds: float
    connects: Counter[str]
    moves: int
    events: dict[str, int]


@dataclass
class World:
    """See the module's text."""

    seed: int
    plan: Plan
    random: Random = field(init=False)
    problems: list[str] = field(default_factory=list)
    events: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.channels = [f"channel-{number}" for number in range(self.random.randint(1, 4))]
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_calm = False

    async def run(self) -> Outcome:
        """Live through it. Raises only for faults of the simulation itself."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        loop.set_exception_handler(self._failed)
        began_s = loop.time()
        self.checker = Checker()
        self.store = Store(self.random)
        limits = Limits(
            flush_interval_s=0.002,
            catch_up_turn_bytes=1_000,
            recovery_page_max_bytes=2_000,
            ring_max_bytes=20_000,
            stream_age_max_s=60.0,
        )
        shared = Shared(
            self.store,
            self.random,
            loop,
            limits,
            history_size=self.random.choice([0, 20, 10_000]) if self.plan.is_harsh else 1_000_000,
            nodes=MemoryNodes(loop),
        )
        self.nodes = [Node(shared) for _ in range(self.random.randint(1, 4))]
        for node in self.nodes:
            await node.start()
        self.clients = [self._client(number) for number in range(self.random.randint(2, 8))]
        for client in self.clients:
            self.spawn(client.live())
        self.spawn(self._weather())
        await self._publish()
        self._is_calm = True
        await self._calm()
        self._judge()
        verdict = self.checker.verdict()
        if verdict.broken:
            self.problems += [f"broken: {verdict.broken}", *verdict.findings]
        missing = [a.id for a in verdict.missing if (a.channel, a.position) not in self.store.lost]
        if missing:
            self.problems.append(f"answered and not in the log: {missing}")
        if not self.plan.is_harsh:
            self.problems += self._needless_resets()
        await self._end()
        return Outcome(
            self.seed,
            verdict,
            self.problems,
            loop.time() - began_s,
            sum((client.connects for client in self.clients), Counter()),
            sum(client.moves for client in self.clients),
            self.events,
        )

    # -- for the weather

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do it beside everything else."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def later(self, delay_s: float, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Do it after a while."""

        async def wait() -> None:
            await asyncio.sleep(delay_s)
            await work()

        self.spawn(wait())

    # -- its parts

    def _client(self, number: int) -> Client:
        chosen = self.random.sample(self.channels, self.random.randint(1, len(self.channels)))
        return Client(f"client-{number}", chosen, self.nodes, self.checker, self.random)

    async def _weather(self) -> None:
        events: tuple[Event, ...] = HARSH if self.plan.is_harsh else PURGING if self.plan.purges else GENTLE
        while not self._is_calm:
            await asyncio.sleep(self.random.expovariate(1 / self.plan.weather_s))
            event = self.random.choice(events)
            self.events[event.__name__] = self.events.get(event.__name__, 0) + 1
            await event(self)

    async def _publish(self) -> None:
        publishing: list[Awaitable[None]] = []
        loop = asyncio.get_running_loop()
        for number in range(self.plan.publications):
            if self.random.random() < 0.8:  # else together with the one before
                await asyncio.sleep(self.random.expovariate(1 / self.plan.pace_s))
            channel, client = self.random.choice(self.channels), self.random.choice(self.clients)
            data = {"id": f"p{number}", "pad": "x" * self.random.choice([0, 10, 300])}
            self.checker.asked(data["id"], channel, data, loop.time())
            publishing.append(loop.create_task(client.publish(channel, data["id"], data)))
        done, waiting = await asyncio.wait(map(asyncio.ensure_future, publishing), timeout=_CALM_MAX_S)
        for task in done:
            await task
        if waiting:
            self.problems.append(f"{len(waiting)} publishes were never answered")

    async def _calm(self) -> None:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + _CALM_MAX_S
        while self._behind() and loop.time() < until_s:  # noqa: ASYNC110 -- time is made by hand
            await asyncio.sleep(0.5)
        self.problems += [f"never came to the end: {name}" for name in self._behind()]

    def _behind(self) -> list[str]:
        found = [
            f"{seat.reader} at {channel} {seat.position} of {self.store.log(channel).head}"
            for client in self.clients
            for channel, seat in client.seats.items()
            if (seat.position or START) != self.store.log(channel).head
        ]
        return found + [f"{client.name} has no connection" for client in self.clients if client.current is None]

    def _judge(self) -> None:
        for channel in self.channels:
            whole = self.store.log(channel).whole
            self.checker.read_log(
                channel, [(publication.position, msgspec.json.decode(publication.data)) for publication in whole]
            )

    def _needless_resets(self) -> list[str]:
        """Where nothing is lost, a reset takes a reader into an epoch that a purge has begun, and into each once.

        But in an epoch that has been purged meanwhile, whoever is behind may be told so before his node knows of it.
        """
        found = []
        for (reader, channel), stream in self.checker.streams.items():
            begun = {position.epoch for position in self.store.purges.get(channel, ())}
            living = self.store.log(channel).head.epoch
            epoch = stream.start.epoch
            for item in stream.items:
                is_news = item.position.epoch != epoch and item.position.epoch in begun
                if isinstance(item, Reset) and item.position.epoch == living and not is_news:
                    found.append(f"{reader} on {channel} was reset to {item.position} in vain, from {epoch!r}")
                epoch = item.position.epoch
        return found

    async def _end(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for client in self.clients:
            if client.current is not None:
                client.current.end()
        for node in self.nodes:
            if node.is_up:
                await node.kill()

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.problems.append(f"{type(error).__name__}: {error}")

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.problems.append(f"{context['message']}: {type(error).__name__}: {error}")


def simulate(seed: int, plan: Plan) -> Outcome:
    """Run the world of a seed. The same seed and plan give the same outcome."""
    state = global_random.getstate()
    global_random.seed(seed)
    try:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            return runner.run(World(seed, plan).run())
    finally:
        global_random.setstate(state)
