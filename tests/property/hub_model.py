"""A hub under random traffic, and what its readers must see: the naive model beside the real thing.

Fan-outs yield at every write, segments and turns are tiny, so that joins, leaves, pauses, resumes, publishes, errors
and reports of gaps fall into the middle of everything. What each link was written is compared with the one thing that
may ever be: offsets that rise by exactly one from where the reader started, up to the head in the end.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from random import Random
from typing import Any, TypeAlias

from hybrid.engine.encodings import PLAIN_EVENT, PLAIN_JSON, SESSION_JSON, Encoding
from hybrid.engine.hub import Hub
from hybrid.engine.ring import UNVERIFIED_TAG
from hybrid.limits import Limits
from hybrid.model import START, Position
from hybrid.protocol.cursor import parse_composite
from hybrid.protocol.states import SubscriptionState
from tests.support.faulty_broker import FaultyBroker
from tests.support.links import FakeLink, Reader, items, joined
from tests.support.virtual_time import clock, run, settle

Operation: TypeAlias = tuple[str, int, int]

KINDS = (
    "publish",
    "publish",
    "publish",
    "join",
    "join",
    "leave",
    "pause",
    "resume",
    "close",
    "error",
    "trap",
    "turns",
    "turns",
    "time",
    "gap",
    "poll",
)
FAULTY_KINDS = (*KINDS, "gap", "drop", "away", "away", "lose_end", "lose_log", "fail_over", "purge", "tick")
CHANNELS = ("a", "b", "c")
SHAPES: tuple[tuple[Encoding | None, tuple[str, ...]], ...] = (
    (SESSION_JSON, ("a",)),
    (SESSION_JSON, ("a", "b", "c")),
    (PLAIN_JSON, ("b",)),
    (PLAIN_EVENT, ("a",)),
    (None, ("a", "b")),  # bundles
    (None, ("b", "c")),
    (None, ("a", "b")),
    (SESSION_JSON, ("c", "a")),
)
LIMITS = Limits(
    fan_out_slice=1, flush_interval_s=0.002, flush_max_bytes=400, catch_up_turn_bytes=300, ring_max_bytes=3_000
)


class Broken(AssertionError):
    """A reader saw what it must not see."""


def operations(seed: int, count: int = 120, kinds: Sequence[str] = KINDS) -> list[Operation]:
    """Random traffic, always the same for a seed."""
    random = Random(seed)
    return [(random.choice(kinds), random.randrange(1_000), random.randrange(1_000)) for _ in range(count)]


def follows(world: World, position: Position, before: Position) -> bool:
    """True when the publication at `position` came right after `before`, in the life of the log that it was made in."""
    if before.tag == UNVERIFIED_TAG:  # a reader who began with the oldest publication kept
        return (before.epoch, before.offset + 1) == (position.epoch, position.offset)
    return world.broker.parents[position] == before


class Watched:
    """A reader, where each of its channels started, and a check of all it was written."""

    def __init__(self, world: World, reader: Reader, encoding: Encoding | None, channels: Sequence[str]) -> None:
        self.world = world
        self.reader = reader
        self.encoding = encoding
        self.channels = list(channels)
        self.seen: dict[str, Position] = {}
        self.is_over = False
        self._checked = 0
        self._resets = 0

    async def start(self, positions: dict[str, Position], history: int) -> None:
        for name in self.channels:
            started = await self.reader.feed.add(name, positions.get(name), history)
            self.world.started(name, positions.get(name), started.position, started.was_recovered)
            self.seen[name] = started.position
        self.reader.feed.start(self.channels)

    def check(self) -> None:
        """Look at what was written since the last check."""
        payloads = self.reader.link.payloads
        for payload in payloads[self._checked :]:
            if payload.startswith(b"reset "):
                name, position = self.reader.resets[self._resets]
                self._resets += 1
                self.seen[name] = position
                continue
            name, position, others = self._parse(payload)
            if not follows(self.world, position, self.seen[name]):
                raise Broken(f"{name}: {position} after {self.seen[name]}")
            self.seen[name] = position
            if others is not None and others != self.seen:
                raise Broken(f"the id says {others}, the reader has {self.seen}")
        self._checked = len(payloads)
        for name in self.reader.feed.channels():
            told = self.reader.feed.position(name)
            if told is None or told.offset != self.seen[name].offset or told.epoch != self.seen[name].epoch:
                raise Broken(f"{name}: {told} is not what was written, {self.seen[name]}")

    def leave(self, name: str) -> None:
        self.check()
        position = self.reader.feed.remove(name)
        if position is None or position.offset != self.seen[name].offset:
            raise Broken(f"{name}: left with a position that was not the last one written")
        self.channels.remove(name)
        del self.seen[name]

    def _parse(self, payload: bytes) -> tuple[str, Position, dict[str, Position] | None]:
        if self.encoding is None:
            match = re.match(rb'id: (.*)\ndata: \{"channel":"(.*)","data":.*\}\n\n\Z', payload)
            assert match is not None
            name, positions = match[2].decode(), parse_composite(match[1].decode())
            return name, positions[name], positions
        if self.encoding is PLAIN_EVENT:
            match = re.match(rb"id: (\w+)-(\d+)-(\w+)\n", payload)
            assert match is not None
            return self.channels[0], Position(int(match[2]), match[1].decode(), match[3].decode()), None
        body: dict[str, Any] = json.loads(payload)
        body = body.get("publication", body)
        return body["channel"], Position(body["offset"], body["epoch"], body["tag"]), None


class Poller:
    """A reader by polls: each continues where the answer before ended."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.positions = {"a": START, "b": START}

    async def poll(self, wait_s: float) -> None:
        collected = await self.world.hub.collect(self.positions, encoding=PLAIN_JSON, wait_s=wait_s, max_bytes=300)
        for name, position in collected.resets.items():
            self.world.reset(name)
            self.positions[name] = position
        for payload in collected.payloads:
            body = json.loads(payload)
            name, position = body["channel"], Position(body["offset"], body["epoch"], body["tag"])
            if not follows(self.world, position, self.positions[name]):
                raise Broken(f"a poll of {name} got {position} after {self.positions[name]}")
            self.positions[name] = position
        for name, position in collected.positions.items():
            if position != self.positions[name]:
                raise Broken("a poll's positions are not those of its publications")


class World:
    """The hub, its readers, and how one operation after another is done to them. Nothing is ever lost in it."""

    history_size = 100_000

    def __init__(self) -> None:
        self.broker = FaultyBroker(self.history_size)
        self.hub = Hub(self.broker, LIMITS, clock())
        self.readers: list[Watched] = []
        self.poller = Poller(self)
        self._starting: list[asyncio.Task[None]] = []
        self._polling: asyncio.Task[None] | None = None

    def started(self, name: str, asked: Position | None, got: Position, was_recovered: bool) -> None:
        """A reader was told where it goes on."""
        if asked is not None and (not was_recovered or got != asked):
            raise Broken(f"{name}: {asked} is in the log and was not recovered")

    def reset(self, name: str) -> None:
        """A reader was told of a reset."""
        raise Broken(f"{name}: reset without a reason")

    async def run(self, operations: Sequence[Operation]) -> None:
        await self.hub.open()
        try:
            for kind, first, second in operations:
                getattr(self, kind)(first, second)
                if kind == "turns":
                    for _ in range(first % 4):
                        await asyncio.sleep(0)
                elif kind == "time":
                    await asyncio.sleep(first % 3 * 0.001)
                self.check()
            await self.finish()
        finally:
            for reader in self.readers:
                reader.reader.feed.close()
            await self.hub.close()

    def check(self) -> None:
        for watched in self.readers:
            watched.check()
            for name, _ in watched.reader.resets:
                self.reset(name)

    async def finish(self) -> None:
        """Nothing new comes, all links are drained: now everybody must have everything, and be LIVE."""
        for watched in self.readers:
            watched.reader.link.on_write = None
        for _ in range(400):
            for watched in self.readers:
                watched.reader.link.drain()
            await asyncio.sleep(0.003)
            self.check()
        await asyncio.gather(*self._starting)
        if self._polling is not None:
            await self._polling
        for _ in range(400):
            await self.poller.poll(0)
        for name, position in self.poller.positions.items():
            if position != self.broker.head(name):
                raise Broken(f"{name}: polls end at {position}, the log at {self.broker.head(name)}")
        for watched in self.readers:
            for subscription in watched.reader.feed._subscriptions:
                if watched.is_over:
                    continue
                name = subscription.channel.name
                if watched.reader.feed.position(name) != self.broker.head(name):
                    raise Broken(f"{name}: ends at {watched.seen[name]}, the log at {self.broker.head(name)}")
                if subscription.state is not SubscriptionState.LIVE:
                    raise Broken("a reader who has everything is not LIVE")

    # -- operations

    def publish(self, first: int, second: int) -> None:
        for _ in range(1 + second % 5):
            self.broker.publish(CHANNELS[first % len(CHANNELS)])

    def join(self, first: int, second: int) -> None:
        if len(self.readers) >= 24:
            return
        encoding, channels = SHAPES[first % len(SHAPES)]
        link = FakeLink((joined, items)[second % 2], high_water_bytes=500, is_fast=second % 3 == 0)
        bundle = channels if encoding is None else None
        reader = Reader(self.hub, encoding or SESSION_JSON, link=link, bundle=bundle)
        watched = Watched(self, reader, encoding, channels)
        positions: dict[str, Position] = {}
        if second % 4 > 1:  # it comes from somewhere: any position of the log
            positions = {name: self._some_position(name, second) for name in channels}
        history = second % 7 if second % 4 == 1 else 0
        self._starting.append(asyncio.get_running_loop().create_task(self._start(watched, positions, history)))

    def _some_position(self, name: str, number: int) -> Position:
        position = self.broker.head(name)
        for _ in range(number % (position.offset + 1)):
            position = self.broker.parents[position]
        return position

    async def _start(self, watched: Watched, positions: dict[str, Position], history: int) -> None:
        await watched.start(positions, history)
        self.readers.append(watched)

    def _pick(self, number: int) -> Watched | None:
        open_readers = [watched for watched in self.readers if not watched.is_over]
        return open_readers[number % len(open_readers)] if open_readers else None

    def leave(self, first: int, second: int) -> None:
        watched = self._pick(first)
        if watched is not None and len(watched.channels) > 1:
            watched.leave(watched.channels[second % len(watched.channels)])

    def pause(self, first: int, _: int) -> None:
        watched = self._pick(first)
        if watched is not None:
            watched.reader.link.pause()

    def resume(self, first: int, _: int) -> None:
        watched = self._pick(first)
        if watched is not None:
            watched.reader.link.drain()

    def close(self, first: int, _: int) -> None:
        watched = self._pick(first)
        if watched is not None:
            self._close(watched)

    def _close(self, watched: Watched) -> None:
        watched.check()
        watched.is_over = True
        watched.reader.link.close(1000)

    def error(self, first: int, second: int) -> None:
        watched = self._pick(first)
        if watched is not None and second % 4 == 0:
            watched.check()
            watched.is_over = True
            watched.reader.link.error = OSError("a link that breaks its promise")

    def trap(self, first: int, second: int) -> None:
        """When this link is written to next, something happens to it or to another one, from inside."""
        watched, other = self._pick(first), self._pick(second)
        if watched is None or other is None:
            return
        link = watched.reader.link
        action = (other.reader.link.pause, other.reader.link.drain, link.pause, link.drain, lambda: self._close(other))

        def sprung() -> None:
            link.on_write = None
            action[second % len(action)]()

        link.on_write = sprung

    def turns(self, first: int, second: int) -> None: ...

    def time(self, first: int, second: int) -> None: ...

    def gap(self, first: int, _: int) -> None:
        self.hub.gap(None if first % 2 else [CHANNELS[first % len(CHANNELS)]])

    def poll(self, first: int, _: int) -> None:
        if self._polling is None or self._polling.done():
            if self._polling is not None:
                self._polling.result()
            self._polling = asyncio.get_running_loop().create_task(self.poller.poll(first % 3 * 0.002))


class FaultyWorld(World):
    """Announcements, the log's end, the log and the broker itself get lost: readers are told, and go on."""

    history_size = 12

    def started(self, name: str, asked: Position | None, got: Position, was_recovered: bool) -> None:
        if asked is not None and was_recovered and got != asked:
            raise Broken(f"{name}: {asked} was changed to {got} without a word")

    def reset(self, name: str) -> None:
        pass

    async def finish(self) -> None:
        self.broker.is_away = False
        self.broker.lost_announcements = 0
        self.hub.gap(None)
        await asyncio.sleep(10)  # longer than any pause before the broker is asked again
        await super().finish()

    def drop(self, first: int, _: int) -> None:
        """The next announcements are lost; on a lucky day that is noticed."""
        self.broker.lost_announcements = first % 3

    def away(self, first: int, _: int) -> None:
        self.broker.is_away = first % 3 == 0
        if not self.broker.is_away:
            self.hub.gap(None)

    def lose_end(self, first: int, second: int) -> None:
        self.broker.lose_end(CHANNELS[first % len(CHANNELS)], second % 4)

    def fail_over(self, first: int, second: int) -> None:
        """The log's end is lost, others publish before we listen again, and go on before we have read anything."""
        name = CHANNELS[first % len(CHANNELS)]
        self.broker.lose_end(name, 1 + second % 2)
        self.broker.lost_announcements = 1 + second % 3
        for _ in range(self.broker.lost_announcements):
            self.broker.publish(name)
        self.hub.gap(None)
        for _ in range(first % 4):
            self.broker.publish(name)

    def lose_log(self, first: int, second: int) -> None:
        if second % 3 == 0:
            self.broker.lose_log(CHANNELS[first % len(CHANNELS)])

    def purge(self, first: int, second: int) -> None:
        """Heard of or not, and perhaps with something published right behind it."""
        name = CHANNELS[first % len(CHANNELS)]
        self.broker.lost_announcements = int(second % 4 == 0)
        self.broker.empty(name)
        for _ in range(second % 3):
            self.broker.publish(name)

    def tick(self, first: int, _: int) -> None:
        """Time for what waits for a broker."""
        clock().now_s += first % 3 * 0.3


def check(operations: Sequence[Operation], world: type[World] = World) -> None:
    """Do the operations to a new world. Raises Broken where a reader saw what it must not see."""

    async def main() -> None:
        await world().run(operations)
        await settle()

    run(main())
