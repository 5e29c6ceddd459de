"""Apps on a Redis: what one publishes another one reads inside of its process; and the workers of one command."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from hybrid import Client, Hybrid, Message
from hybrid.errors import BrokerError, UnrecoverablePosition
from tests.embed.apps import embedded
from tests.embed.test_running import BIN, answers, site, token
from tests.support.redis_servers import RedisServer, redis_server

SECRET = "the secret that the nodes of a test share"


@pytest_asyncio.fixture
async def redis() -> AsyncIterator[RedisServer]:
    async with redis_server() as server:
        yield server


def node(redis: RedisServer) -> tuple[Any, Hybrid]:
    return embedded(broker=redis.url, secret=SECRET)


async def published(hybrid: Hybrid, data: int) -> None:
    """Publish, however long Redis is away: as one does, again and again with a key."""
    while True:
        try:
            await hybrid.publish("chat:a", data, key="k")
        except BrokerError:
            await asyncio.sleep(0.05)
        else:
            return


async def test_a_channel_is_read_where_it_is_not_published(redis: RedisServer) -> None:
    (app, here), (other, there) = node(redis), node(redis)
    async with asyncio.timeout(30), app.test_app(), other.test_app():
        async with there.channel("chat:a").subscribe() as reading:
            await here.publish_many([Message("chat:a", number) for number in range(5)])
            assert [(await anext(reading)).data for _ in range(5)] == list(range(5))
            await redis.restart()  # without what it held: a loss, which is told
            publishing = asyncio.create_task(published(here, 5))
            with pytest.raises(UnrecoverablePosition):
                await anext(reading)
            await publishing
            await here.publish("chat:a", 6)
            while (await anext(reading)).data != 6:
                pass
        async with here.test_client("alice", transport="sse") as alice:
            await alice.subscribe("chat:a")
            while not (present := await there.presence("chat:a")):  # it is written behind the answer
                pass
            assert [entry.subject for entry in present] == ["alice"]
            assert [item.data for item in await there.history("chat:a")] == [5, 6]


@pytest.mark.slow
async def test_the_workers_of_an_app(redis: RedisServer, tmp_path: Path) -> None:
    command = [str(BIN / "hybrid"), "serve", "--app", "site_of_ours:app", "--workers", "2"]
    process, port = site(tmp_path, command, HYBRID_BROKER=redis.url, HYBRID_SECRET=SECRET)
    url = f"http://127.0.0.1:{port}"
    process.launch()
    try:
        await process.until(lambda: answers(url))
        async with asyncio.timeout(60):
            clients = [Client(url, lambda: token(url), transport) for transport in ("websocket", "sse") * 2]
            async with clients[0], clients[1], clients[2], clients[3], httpx2.AsyncClient() as http:
                lobbies = [await client.subscribe("chat:lobby") for client in clients]
                for count in range(3):
                    if count == 1:
                        process.signal(signal.SIGHUP)
                    assert (await http.get(url)).text == "mine"
                    for lobby in lobbies:
                        assert (await anext(lobby)).offset == count + 1
        assert await process.end() == 0, process.report()
        assert "Traceback" not in process.output(), process.report(200)
    finally:
        process.kill()
