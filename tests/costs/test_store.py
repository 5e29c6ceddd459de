"""What a publication and a reader cost the store: commands, round trips, and nothing at all where a node knows."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from hybrid.broker.base import Append, Appended
from hybrid.broker.redis.address import parse_address
from hybrid.broker.redis.broker import RedisBroker
from hybrid.limits import Limits
from hybrid.web import launcher
from tests.costs.counting import counted
from tests.costs.guests import CARRIED, guests
from tests.costs.party import CHANNEL, DATA, join
from tests.support.hubs import staged
from tests.support.listeners import RecordingListener
from tests.support.redis_servers import RedisServer, redis_server
from tests.support.server import Backend, Chosen, running_server, settings_for
from tests.support.virtual_time import in_virtual_time

A_PUBLICATION: Final = {
    "without a history": {"evalsha": 1, "time": 1, "hmget": 1, "del": 1, "hset": 1, "pexpire": 1, "publish": 1},
    "with a history": {"evalsha": 1, "time": 1, "hmget": 1, "hset": 1, "pexpire": 2, "publish": 1, "xadd": 1},
    "with a key": {"evalsha": 1, "time": 1, "hmget": 2, "hset": 2, "pexpire": 3, "publish": 1, "xadd": 1},
}
"""What Redis carries out for one publication: one script, and what that does."""
COUNT: Final = 10
_OF_THE_TEST: Final = {"info", "config", "hello", "client", "ping", "select", "auth", "command"}
_OF_READERS: Final = {"subscribe", "hmget", "xrange", "xrevrange", "zadd"}


@asynccontextmanager
async def opened(server: RedisServer) -> AsyncIterator[RedisBroker]:
    """A broker that follows the channel."""
    broker = RedisBroker(parse_address(server.url), f"t{secrets.token_hex(4)}", Limits())
    try:
        await broker.open(RecordingListener())
        await broker.subscribe(CHANNEL)
        yield broker
    finally:
        await broker.close()


async def carried_out(server: RedisServer) -> dict[str, int]:
    """How often each command was, also inside of scripts, since the counts were set back."""
    found = {}
    for name, told in (await server.info("commandstats")).items():
        fields: dict[str, Any] = dict(part.split("=", 1) for part in told.split(","))
        found[name.removeprefix("cmdstat_").partition("|")[0]] = int(fields["calls"])
    return {name: count for name, count in found.items() if name not in _OF_THE_TEST}


@pytest.mark.parametrize("kind", A_PUBLICATION)
async def test_a_publication_is_one_script(kind: str) -> None:
    async with redis_server() as server, opened(server) as broker:
        history_size = 0 if kind == "without a history" else 100
        appends = [
            Append(
                channel=CHANNEL,
                data=DATA,
                history_size=history_size,
                history_ttl_s=60.0,
                key=f"k{number}" if kind == "with a key" else None,
            )
            for number in range(2 + COUNT)
        ]
        await broker.append(appends[:2])  # the log begins, and the script is loaded
        await server.command("CONFIG", "RESETSTAT")
        for append in appends[2:]:
            await broker.append([append])
        assert await carried_out(server) == {name: count * COUNT for name, count in A_PUBLICATION[kind].items()}


async def test_what_waits_together_leaves_in_one_write() -> None:
    async with redis_server() as server, opened(server) as broker:
        append = Append(channel=CHANNEL, data=DATA, history_size=100, history_ttl_s=60.0)
        await broker.append([append])
        with counted() as calls:
            results = await broker.append([append] * 64)
        assert all(isinstance(result, Appended) for result in results)
        assert calls.of("Line.send") == 1, "one call of the script for one channel"
        assert calls.of("AbstractConnection.send_packed_command") == 1
        assert calls.c["socket.send"] + calls.c["socket.sendmsg"] == 1


@in_virtual_time
async def test_who_joins_a_channel_that_is_followed_asks_the_broker_nothing() -> None:
    async with staged() as stage:
        await join(stage, 1)
        assert stage.broker.calls == [f"subscribe {CHANNEL}", "heads 1"], "the first one has it followed"
        stage.publish(10, CHANNEL)
        position = stage.channel(CHANNEL).ring.position_at(5)
        for kind in ("websocket", "plain-sse"):
            await join(stage, 5, kind)
            await join(stage, 5, kind, position=position)
        assert stage.broker.calls[2:] == []


@pytest.mark.parametrize("kind", CARRIED)
def test_an_attach_to_a_channel_that_is_followed_asks_redis_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher.run(lambda: _attached(kind, monkeypatch), "uvloop")


async def _attached(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with redis_server() as server:
        monkeypatch.setattr(Chosen, "backend", Backend(server.url))
        async with running_server(settings_for()) as node:
            with guests(node, kind) as listening:
                await server.command("CONFIG", "RESETSTAT")
                await listening.come(1)
                first = await carried_out(server)
                await server.command("CONFIG", "RESETSTAT")
                with counted() as calls:
                    await listening.come(COUNT)
                more = await carried_out(server)
        # What a node does every few seconds is scripts of its own, and may fall in between.
        assert {"subscribe": 1, "hmget": 1}.items() <= first.items()
        assert _OF_READERS & more.keys() == set()
        assert [name for name in calls.ours if name.startswith("broker.redis.broker.")] == []
