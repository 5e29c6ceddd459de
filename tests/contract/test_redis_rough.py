"""What a broker on Redis must not do when it is treated badly: wait for ever, forget, or say what is not so."""

from __future__ import annotations

import asyncio

import pytest

from tests.contract.test_redis import opened
from tests.support.redis_servers import RedisServer
from tests.support.relay import Relay


@pytest.mark.parametrize("turns", range(9))
async def test_closing_while_connections_break_does_not_wait_for_ever(one_redis: RedisServer, turns: int) -> None:
    """Whatever the turn of the loop is in which both happen: all is shut down together when a host is."""
    async with Relay(one_redis.port) as relay:
        async with opened(f"redis://127.0.0.1:{relay.port}") as broker:
            await broker.subscribe("a")
            relay.cut()
            for _ in range(turns):
                await asyncio.sleep(0)
            async with asyncio.timeout(5):
                await broker.close()
