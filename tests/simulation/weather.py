"""What goes wrong, one thing after another, and what clients decide meanwhile. Drawn from the seed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from hybrid.errors import BrokerError

if TYPE_CHECKING:
    from tests.simulation.world import World

Event = Callable[["World"], Awaitable[None]]


async def move(world: World) -> None:
    """A client goes on over another transport, make before break."""
    world.spawn(world.random.choice(world.clients).move())


async def change_channels(world: World) -> None:
    """A client leaves a channel, or comes to one."""
    world.spawn(world.random.choice(world.clients).change_channels(world.random.choice(world.channels)))


async def cut(world: World) -> None:
    """A wire breaks, and both ends know."""
    _cut(world, is_noticed=True)


async def cut_unseen(world: World) -> None:
    """A wire breaks, and the node goes on writing into it."""
    _cut(world, is_noticed=False)


def _cut(world: World, *, is_noticed: bool) -> None:
    client = world.random.choice(world.clients)
    if client.current is not None and client.current.wire is not None:
        client.current.wire.cut(is_noticed=is_noticed)


async def slow(world: World) -> None:
    """A client reads next to nothing for a while, and then everything."""
    client = world.random.choice(world.clients)
    wire = client.current.wire if client.current is not None else None
    if wire is not None:
        wire.bytes_per_s = world.random.choice([0.0, 2_000.0, 20_000.0])
        asyncio.get_running_loop().call_later(world.random.uniform(0.1, 5.0), wire.read_on)


async def kill(world: World) -> None:
    """A node dies, and another begins in its place."""
    node = world.random.choice(world.nodes)
    if node.is_up and sum(other.is_up for other in world.nodes) > 1:
        await node.kill()
        world.later(world.random.uniform(0.1, 3.0), node.start)


async def drain(world: World) -> None:
    """A node sends everybody away and ends: a rolling restart."""
    node = world.random.choice(world.nodes)
    if node.is_up and sum(other.is_up for other in world.nodes) > 1:

        async def again() -> None:
            await node.drain()
            await node.start()

        world.spawn(again())


async def lose_store(world: World) -> None:
    """A node's connection to the store breaks."""
    connection = world.random.choice(world.nodes).connection
    if not connection.is_away:
        connection.goes()
        asyncio.get_running_loop().call_later(world.random.uniform(0.05, 4.0), connection.reconnected)


async def go_deaf(world: World) -> None:
    """What is announced to a node is lost for a while, and nobody notices."""
    connection = world.random.choice(world.nodes).connection
    connection.is_deaf = True
    asyncio.get_running_loop().call_later(world.random.uniform(0.05, 2.0), connection.hears)


async def fail_over(world: World) -> None:
    """A replica without the last entries takes over."""
    world.store.lose_end(world.random.choice(world.channels), world.random.randint(1, 5))


async def purge(world: World) -> None:
    """Somebody empties a channel, at some node, which may not get an answer."""
    node, channel = world.random.choice(world.nodes), world.random.choice(world.channels)

    async def ask() -> None:
        with suppress(BrokerError):
            await node.connection.purge(channel)

    world.spawn(ask())


async def lose_log(world: World) -> None:
    """A channel's log is gone."""
    world.store.lose_log(world.random.choice(world.channels))


GENTLE: tuple[Event, ...] = (
    *(move,) * 4,
    *(change_channels,) * 3,
    *(cut,) * 3,
    *(cut_unseen,) * 2,
    *(slow,) * 4,
    kill,
    drain,
    lose_store,
    go_deaf,
)
"""Nothing of these loses what was appended."""
PURGING: tuple[Event, ...] = (*GENTLE, *(purge,) * 3)
"""Nothing of these loses what nobody wanted to lose."""
HARSH: tuple[Event, ...] = (*GENTLE, *(fail_over,) * 2, lose_log, purge)
