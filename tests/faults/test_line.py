"""A line to Redis that breaks is there again before anybody is refused, unless it breaks at once again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from redis.asyncio.connection import Connection

from hybrid.broker.redis.address import parse_address
from hybrid.broker.redis.line import Line, Unanswered, Unreachable
from hybrid.broker.redis.servers import Servers
from tests.support.redis_servers import RedisServer, redis_server
from tests.support.relay import Relay


@pytest.fixture
async def redis() -> AsyncIterator[RedisServer]:
    async with redis_server() as made:
        yield made


@pytest.fixture
async def relay(redis: RedisServer) -> AsyncIterator[Relay]:
    async with Relay(redis.port) as made:
        yield made


@pytest.fixture
async def line(redis: RedisServer, relay: Relay) -> AsyncIterator[Line]:
    servers = Servers(parse_address(redis.url_for(None, None, port=relay.port)))
    made = servers.line(b"key")
    yield made
    await servers.close()


async def until_lost(line: Line) -> None:
    """Wait until the line has noticed."""
    async with asyncio.timeout(5):
        while line.is_connected:  # noqa: ASYNC110 -- it tells nobody
            await asyncio.sleep(0.001)


async def test_a_command_right_behind_a_break_waits_for_the_next_connection(line: Line, relay: Relay) -> None:
    """Redis closed an idle connection, and every publish of the next tenth of a second was refused with 503."""
    await line.send("PING")
    await asyncio.sleep(0.15)  # a connection that has lived
    for _ in range(3):
        assert relay.cut() == 1
        await until_lost(line)
        assert await line.send("PING") == b"PONG"
        await asyncio.sleep(0.15)


async def test_a_server_that_cannot_be_reached_refuses_at_once(line: Line, relay: Relay) -> None:
    await line.send("PING")
    await asyncio.sleep(0.15)
    relay.sever()
    await until_lost(line)
    with pytest.raises(Unreachable):
        await line.send("PING")
    async with asyncio.timeout(0.05):
        with pytest.raises(Unreachable):
            await line.send("PING")


async def test_one_that_breaks_at_once_again_is_not_opened_in_a_loop(line: Line, relay: Relay) -> None:
    await line.send("PING")
    await asyncio.sleep(0.15)
    began_s = time.monotonic()
    opened = relay.opened
    for _ in range(5):
        relay.cut()
        await until_lost(line)
        while not line.is_connected:
            await asyncio.gather(line.send("PING"), return_exceptions=True)
            await asyncio.sleep(0.001)
    assert relay.opened - opened == 5
    assert time.monotonic() - began_s >= 0.4, "the first at once, the others after a pause"


async def test_a_connection_that_uvloop_has_closed_is_no_fault_of_ours(
    line: Line, relay: Relay, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """uvloop raises RuntimeError for a write to a connection that was just lost: it was logged with its traceback."""
    await line.send("PING")

    async def closed(self: object, command: object, check_health: bool = True) -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")

    with monkeypatch.context() as patched:
        patched.setattr(Connection, "send_packed_command", closed)
        with pytest.raises(Unanswered):
            await line.send("PING")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    async with asyncio.timeout(5):
        while not line.is_connected:
            await asyncio.gather(line.send("PING"), return_exceptions=True)
            await asyncio.sleep(0.001)
