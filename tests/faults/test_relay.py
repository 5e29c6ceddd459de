"""The relay between nodes and Redis breaks in the ways that it says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.support.redis_servers import RedisServer, redis_server
from tests.support.relay import Relay


@pytest.fixture
async def server() -> AsyncIterator[RedisServer]:
    async with redis_server() as made:
        yield made


@pytest.fixture
async def relay(server: RedisServer) -> AsyncIterator[Relay]:
    async with Relay(server.port) as made:
        yield made


@pytest.fixture
async def client(server: RedisServer, relay: Relay) -> AsyncIterator[Redis]:
    async with Redis.from_url(server.url_for(None, None, port=relay.port), retry=None) as made:
        yield made


async def test_it_passes_everything(client: Redis) -> None:
    value = bytes(range(256)) * 4_000
    await client.set("key", value)
    assert await client.get("key") == value


async def test_severed_it_resets_until_it_is_mended(client: Redis, relay: Relay) -> None:
    await client.ping()
    assert relay.sever() == 1
    with pytest.raises(RedisError):
        await client.ping()
    with pytest.raises(RedisError):
        await client.ping()
    relay.mend()
    assert await client.ping()


async def test_a_delay_holds_for_open_connections_both_ways(client: Redis, relay: Relay) -> None:
    await client.ping()
    relay.delay(0.15, 0.15)
    began_s = time.monotonic()
    await client.ping()
    assert time.monotonic() - began_s >= 0.3
    relay.mend()
    await client.ping()  # whatever was still delayed is out
    began_s = time.monotonic()
    await client.ping()
    assert time.monotonic() - began_s < 0.3


async def test_frozen_it_accepts_and_passes_nothing_and_thawed_everything(client: Redis, relay: Relay) -> None:
    await client.ping()
    relay.freeze()
    on_old = asyncio.create_task(client.set("a", "1"))
    _, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    done, _ = await asyncio.wait([on_old], timeout=0.2)
    assert not done
    assert len(relay.connections) == 2
    relay.thaw()
    await on_old
    assert await client.get("a") == b"1"
    writer.close()
    await writer.wait_closed()


async def test_a_limit_makes_bytes_take_their_time(client: Redis, relay: Relay) -> None:
    await client.ping()
    relay.limit(100_000)
    began_s = time.monotonic()
    await client.set("key", b"x" * 40_000)
    assert time.monotonic() - began_s >= 0.4
    relay.mend()
    await client.ping()
