"""Several publishers at once, and every subscriber sees one order: offsets that rise by exactly one."""

from __future__ import annotations

import asyncio

from tests.support.world import PIPES, Pipe, World, world

EACH = 12
CHANNEL = "chat:lobby"


async def test_concurrent_publishers_make_one_order(pipe: Pipe, handoff: bool) -> None:
    async with world(handoff) as here:
        clients = [await here.client(pipe, subject) for subject in ("alice", "bob", "carol")]
        readers = [await here.read(client, CHANNEL) for client in clients]

        async def publish_from(number: int) -> None:
            for count in range(EACH):
                await clients[number].publish(CHANNEL, [number, count])

        await asyncio.gather(
            *(publish_from(number) for number in range(len(clients))),
            *(_publish_by_http(here, 10 + number) for number in range(2)),
        )
        for reader in readers:
            await reader.until(5 * EACH)
            reader.check()
        assert readers[0].data == readers[1].data == readers[2].data
        for number in (0, 1, 2, 10, 11):
            own = [count for publisher, count in readers[0].data if publisher == number]
            assert own == list(range(EACH)), "one publisher's own order is kept"
        assert all(client.stats.gaps == 0 for client in clients)


async def test_every_transport_sees_the_same_order_at_the_same_time(handoff: bool) -> None:
    async with world(handoff) as here:
        readers = [await here.read(await here.client(pipe), CHANNEL) for pipe in PIPES]
        await asyncio.gather(*(_publish_by_http(here, number) for number in range(4)))
        for reader in readers:
            await reader.until(4 * EACH)
            reader.check()
            assert [p.cursor for p in reader.publications] == [p.cursor for p in readers[0].publications]


async def test_answers_tell_the_positions_that_subscribers_see(pipe: Pipe, handoff: bool) -> None:
    async with world(handoff) as here:
        client = await here.client(pipe)
        reader = await here.read(client, CHANNEL)
        told = await asyncio.gather(*(client.publish(CHANNEL, number) for number in range(2 * EACH)))
        await reader.until(2 * EACH)
        reader.check()
        seen = {publication.data: publication.position for publication in reader.publications}
        assert seen == dict(enumerate(told))


async def _publish_by_http(here: World, number: int) -> None:
    for count in range(EACH):
        await here.publish_by_http(CHANNEL, [number, count])
