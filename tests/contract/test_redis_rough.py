"""What a broker on Redis must not do when it is treated badly: wait for ever, forget, or say what is not so."""

from __future__ import annotations

import asyncio
import gc

import pytest

from hybrid.broker.base import Appended
from hybrid.broker.redis import servers
from hybrid.broker.redis.broker import RedisBroker
from hybrid.broker.redis.servers import Servers
from hybrid.errors import BrokerError
from tests.contract.test_redis import appended, one, opened, until
from tests.support.listeners import RecordingListener
from tests.support.redis_servers import SERVICE, RedisServer, Sentinels, redis_server
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


async def test_a_connection_that_broke_and_has_nothing_to_listen_to_is_not_waited_for(
    listener: RecordingListener,
) -> None:
    """A node that said so would get no clients, and so nothing to listen to, for ever."""
    async with redis_server() as server:
        async with opened(server.url, listener) as broker:
            await broker.subscribe("a")
            server.kill()
            await until(lambda: not broker.topics.is_connected)
            await broker.unsubscribe("a")
            await server.restart(empty=True)
            async with asyncio.timeout(10):
                while not (await broker.health()).is_good:
                    pass


@pytest.mark.parametrize("count", [1, 700])
async def test_what_was_refused_after_a_break_is_asked_for_again(listener: RecordingListener, count: int) -> None:
    """Nobody waits for it, so nobody would ask: 700 are two commands, each refused as a whole."""
    names = [f"c{number}" for number in range(count)]
    async with redis_server() as server:
        await server.command("ACL", "SETUSER", "u", "on", ">p", "+@all", "~*", "&*")
        async with opened(server.url_for("u", "p"), listener) as broker:
            await asyncio.gather(*map(broker.subscribe, names))
            await server.command("ACL", "SETUSER", "u", "resetchannels", "&none")  # ends the connection, too
            await until(lambda: not broker.topics.is_connected)
            while not await server.command("ACL", "LOG", 1):
                pass
            await server.command("ACL", "SETUSER", "u", "allchannels")
            await until(lambda: broker.topics.is_connected)
            assert sorted(name for gap in listener.gaps for name in gap or ()) == sorted(names)
            await broker.append([one(name) for name in names])
            await listener.until(lambda: len(listener.publications) == count)


async def test_the_primary_is_found_behind_a_sentinel_that_says_nothing(three_sentinels: Sentinels) -> None:
    """The host of the first one died: that is what the others are for."""
    (host, port), *_ = three_sentinels.addresses
    async with Relay(port) as relay:
        relay.freeze()
        async with opened(f"redis+sentinel://127.0.0.1:{relay.port},{host}:{port}/{SERVICE}") as broker:
            assert isinstance((await broker.append([one()]))[0], Appended)


async def test_whichever_connection_finds_that_the_primary_moved_takes_all_along(
    listener: RecordingListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The former one, cut off from its Sentinels, still answers those who are connected: nobody may stay there."""
    async with redis_server() as former, redis_server() as present:
        named = former

        async def ask_sentinels(self: Servers) -> tuple[str, int]:
            return named.address

        monkeypatch.setattr(Servers, "_ask_sentinels", ask_sentinels)
        monkeypatch.setattr(servers, "_LOOK_S", 0.1)
        async with opened("redis+sentinel://127.0.0.1:1/x", listener) as broker:
            await broker.subscribe("a")
            await appended(broker)
            await listener.until(lambda: len(listener.publications) == 1)
            named = present
            await broker.heads(["a"])  # over a connection of its own, that is made only now
            await until(lambda: bool(listener.gaps))
            await appended(broker)
            await listener.until(lambda: len(listener.publications) == 2)
            assert await present.command("HGET", broker.keys.of("a").head, "o") == b"1"


async def _durable_at(
    offset: int, server: RedisServer, broker: RedisBroker
) -> asyncio.Task[list[Appended | BrokerError]]:
    """A durable append that was made, of which the broker knows, and for which no replica can be found."""
    asked = asyncio.create_task(broker.append([one(is_durable=True)]))
    async with asyncio.timeout(5):
        while await server.command("HGET", broker.keys.of("a").head, "o") != b"%d" % offset:
            pass
        # Or the answer is on its way yet, and lost with the server.
        while not broker._appends._replicas._turns:  # noqa: ASYNC110 - nobody is told that it asks for a replica
            await asyncio.sleep(0.001)
    return asked


async def test_what_was_appended_is_unconfirmed_and_not_without_effect_when_the_server_goes() -> None:
    async with redis_server() as server:
        async with opened(server.url) as broker:
            asked = await _durable_at(1, server, broker)
            server.kill()
            [result] = await asked
            assert isinstance(result, BrokerError)
            assert result.row.name == "unconfirmed"


async def test_another_primary_cannot_confirm_what_it_never_had(
    one_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The primary dies between append and confirmation; the next one has a replica, and neither has the entry."""
    async with redis_server() as former:
        named = former

        async def ask_sentinels(self: Servers) -> tuple[str, int]:
            return named.address

        monkeypatch.setattr(Servers, "_ask_sentinels", ask_sentinels)
        async with opened("redis+sentinel://127.0.0.1:1/x") as broker:
            asked = await _durable_at(1, former, broker)
            named = one_redis
            former.kill()
            [result] = await asked
            assert isinstance(result, BrokerError)
            assert result.row.name == "unconfirmed"
            assert (await appended(broker, one(is_durable=True))).position.offset == 1


async def test_without_a_replica_nobody_waits_for_the_others() -> None:
    """A second each, one behind the other, would be 16 s; whoever comes meanwhile shares the next look."""
    async with redis_server() as server:
        async with opened(server.url) as broker:
            async with asyncio.timeout(6):
                durable = one(is_durable=True)
                asked = (broker.append([durable]), broker.append([durable] * 8), *map(broker.append, [[durable]] * 7))
                results = [result for answer in await asyncio.gather(*asked) for result in answer]
            assert {result.row.name for result in results if isinstance(result, BrokerError)} == {"unconfirmed"}
            assert len(results) == 16


async def test_a_failure_of_many_is_not_logged_once_for_each(caplog: pytest.LogCaptureFixture) -> None:
    async with redis_server() as server:
        async with opened(server.url) as broker:
            server.kill()
            with pytest.raises(BrokerError):
                await broker.heads([f"c{number}" for number in range(100)])
    gc.collect()
    assert "never retrieved" not in caplog.text


async def test_who_comes_after_the_end_opens_nothing(one_redis: RedisServer) -> None:
    async with opened(one_redis.url) as broker:
        await broker.close()
        with pytest.raises(BrokerError):
            await broker.servers.run(broker.keys.layout, "PING", purpose="presence")
