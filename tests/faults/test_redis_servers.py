"""The real servers that the faults are done to do what their fixtures say."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError, RedisError

from tests.support.redis_servers import RedisServer, cluster, redis_server, sentinels


async def test_a_server_loses_everything_in_a_crash() -> None:
    async with redis_server() as server:
        await server.command("SET", "key", "value")
        server.kill()
        with pytest.raises(RedisError):
            await server.command("PING")
        await server.restart()
        assert await server.command("GET", "key") is None
        assert (await server.command("CONFIG", "GET", "maxmemory-policy"))[1] == b"noeviction"


async def test_an_append_only_server_keeps_what_it_answered_through_a_crash_until_it_is_emptied() -> None:
    async with redis_server(keeps_data=True) as server:
        await server.command("SET", "key", "value")
        server.kill()
        await server.restart()
        assert await server.command("GET", "key") == b"value"
        await server.restart(empty=True)
        assert await server.command("GET", "key") is None


async def test_a_frozen_server_accepts_and_answers_nothing() -> None:
    async with redis_server() as server:
        server.freeze()
        asking = asyncio.create_task(server.command("PING"))
        done, _ = await asyncio.wait([asking], timeout=0.3)
        assert not done
        server.thaw()
        assert await asking in (b"PONG", True)


async def test_passwords_users_and_tls() -> None:
    async with redis_server(password="p w") as server:
        async with Redis.from_url(server.url) as client:
            assert await client.ping()
        with pytest.raises(RedisError):
            async with Redis.from_url(server.url_for(None, "wrong")) as client:
                await client.ping()
    users = ["user hybrid on >secret resetkeys ~hybrid:* &hybrid:* +@all"]
    async with redis_server(acl=users, tls=True) as server:
        assert server.url.startswith("rediss://")
        assert server.certificate is not None
        url = server.url_for("hybrid", "secret")
        async with Redis.from_url(url, ssl_ca_certs=server.certificate.certificate) as client:
            assert await client.set("hybrid:a", 1)
            with pytest.raises(RedisError, match="no permissions"):
                await client.set("other:a", 1)
        with pytest.raises(RedisError):
            async with Redis.from_url(url) as client:  # nothing vouches for its certificate
                await client.ping()


async def test_the_memory_limit_refuses_writes() -> None:
    async with redis_server(max_memory="3mb") as server:

        async def fill() -> None:
            for number in range(100):
                await server.command("SET", f"key{number}", b"x" * 100_000)

        with pytest.raises(OutOfMemoryError):
            await fill()
        await server.command("FLUSHALL")
        await server.command("SET", "key", "value")


async def test_the_end_leaves_neither_process_nor_folder_nor_listener() -> None:
    async with redis_server() as server:
        pid, folder, port = server.process.pid, server.folder, server.port
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not folder.exists()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


async def test_a_server_that_cannot_start_says_why() -> None:
    server = RedisServer(options=["no-such-option yes"])
    try:
        with pytest.raises(RuntimeError, match="no-such-option"):
            await server.start()
    finally:
        await server.close()


@pytest.mark.faults
async def test_sentinels_promote_the_replica_which_lacks_what_was_written_last() -> None:
    async with sentinels(password="pw") as group:
        first = await group.primary()
        await first.command("SET", "key", "kept")
        assert await first.command("WAIT", 1, 5_000) == 1
        await group.cut_replication()
        await first.command("SET", "key", "lost")
        assert await group.crash_primary() is first
        second = await group.until_primary_is_not(first)
        assert await second.command("GET", "key") == b"kept"
        await first.start()
        await group.until_settled()
        assert (await first.info("replication"))["role"] == "slave"
        assert await group.force_failover() is first


@pytest.mark.faults
async def test_a_cluster_serves_all_slots_and_hands_one_over() -> None:
    async with cluster() as group:
        slot = await group.slot_of("{channel}:log")
        owner = await group.owner_of(slot)
        await owner.command("SET", "{channel}:log", "value")
        other = next(server for server in group.servers if server is not owner)
        await group.move_slot(slot, other)
        assert await group.owner_of(slot) is other
        assert await other.command("GET", "{channel}:log") == b"value"
        await group.until_ok()
