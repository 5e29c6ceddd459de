"""`nginx -s reload` with streams open: they live on for a while, and what is cut then loses nothing."""

from __future__ import annotations

import asyncio

import psutil
import pytest

from tests.support.nginx import Change
from tests.support.proxied import Site, proxied
from tests.support.world import PIPES, Pipe, Reader

CHANNEL = "chat:lobby"
QUICK_END = Change("worker_shutdown_timeout 10m;", "worker_shutdown_timeout 300ms;")


async def readers_of_all_kinds(site: Site) -> list[Reader]:
    return [await site.read(await site.client(pipe), CHANNEL) for pipe in PIPES]


async def publish_and_read(site: Site, readers: list[Reader], first: int, last: int) -> None:
    for number in range(first, last + 1):
        await site.publish(CHANNEL, number)
    for reader in readers:
        await reader.until_offset(last)


async def test_streams_live_on_through_a_reload() -> None:
    """The old workers keep them; nobody reconnects, and new clients come to the new workers."""
    async with proxied() as site:
        readers = await readers_of_all_kinds(site)
        await publish_and_read(site, readers, 1, 10)
        former = await site.nginx.reload()
        await publish_and_read(site, readers, 11, 20)
        assert former & site.nginx.workers()  # they still serve
        newcomer = await site.read(await site.client(Pipe("websocket"), "bob"), CHANNEL)
        await publish_and_read(site, [*readers, newcomer], 21, 30)
        for reader, client in zip(readers, site.clients, strict=False):
            reader.check()
            if client.transport != "longpoll":  # each poll is a request of its own anyway
                assert client.stats.attaches == 1
        newcomer.check(first=21)


@pytest.mark.parametrize("count", [1, 3])
async def test_what_is_cut_at_the_end_loses_nothing(count: int) -> None:
    """When the old workers' time is over, clients come back to the new ones, and everything is there once, in order."""
    async with proxied(None, QUICK_END) as site:
        readers = await readers_of_all_kinds(site)
        written = 0
        for _ in range(count):
            former = await site.nginx.reload()
            while any(map(psutil.pid_exists, former)):
                written += 1
                await site.publish(CHANNEL, written)
                await asyncio.sleep(0.01)
            # All have come back before the next one: who is away during a reload is not cut by it.
            await publish_and_read(site, readers, written + 1, written + 5)
            written += 5
        for reader in readers:
            reader.check()
        assert site.clients[0].stats.attaches >= 1 + count  # the WebSocket was cut, and came back


async def test_a_broken_file_changes_nothing() -> None:
    """A reload with a mistake in the file leaves the running workers as they are."""
    async with proxied() as site:
        reader = await site.read(await site.client(Pipe("sse")), CHANNEL)
        workers = site.nginx.workers()
        site.nginx.configuration.write_text("http { nonsense; }")
        site.nginx.process.signal(1)

        async def is_told() -> bool:
            return "nonsense" in site.nginx.log("error")

        await site.nginx.process.until(is_told, "told of the mistake")
        await publish_and_read(site, [reader], 1, 5)
        assert site.nginx.workers() == workers
        await site.client(Pipe("websocket"), "bob")
