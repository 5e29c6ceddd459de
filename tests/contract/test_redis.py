"""What is Redis' own: who may connect, what is refused at the start, and how the broker takes a server's bad days."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

from hybrid.auth.revocation import Revocation
from hybrid.auth.tickets import Ticket
from hybrid.broker.base import Append, Appended, Present
from hybrid.broker.redis import line, topics
from hybrid.broker.redis.address import parse_address
from hybrid.broker.redis.broker import RedisBroker
from hybrid.broker.redis.line import Unreachable
from hybrid.broker.redis.nodes import RedisNodes
from hybrid.broker.redis.revocations import RedisRevocationStore
from hybrid.broker.redis.servers import check_version
from hybrid.broker.redis.tickets import RedisTicketStore
from hybrid.errors import BrokerError, SettingsError
from hybrid.limits import Limits
from hybrid.model import START, PresenceEntry, Principal
from tests.support.listeners import RecordingListener
from tests.support.redis_servers import Cluster, RedisServer, redis_server
from tests.support.relay import Relay

DOCUMENT = Path(__file__).parents[2] / "docs" / "redis.md"
ALICE = PresenceEntry("alice")
TICKET = Ticket(principal=Principal(issuer="i", subject="s"), purpose="session", origin=None)


def one(channel: str = "a", data: bytes = b"1", **options: Any) -> Append:
    return Append(channel=channel, data=data, **{"history_size": 100, "history_ttl_s": 60.0, **options})


@asynccontextmanager
async def opened(url: str, listener: RecordingListener | None = None, prefix: str = "") -> AsyncIterator[RedisBroker]:
    broker = RedisBroker(parse_address(url), prefix or f"t{secrets.token_hex(4)}", Limits())
    try:
        await broker.open(listener or RecordingListener())
        yield broker
    finally:
        await broker.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not condition():  # noqa: ASYNC110 -- nothing tells of it
            await asyncio.sleep(0.01)


async def appended(broker: RedisBroker, append: Append | None = None) -> Appended:
    """Publish, however long the server is away."""
    async with asyncio.timeout(15):
        while True:
            try:
                [result] = await broker.append([append or one()])
            except BrokerError:
                result = None
            if isinstance(result, Appended):
                return result
            await asyncio.sleep(0.05)


# -- who may connect


def documented_users() -> list[str]:
    """The access list of docs/redis.md, with its password and prefix filled in."""
    text = DOCUMENT.read_text()
    block = text.split("```acl\n", 1)[1].split("```", 1)[0]
    lines = " ".join(block.replace("\\\n", " ").split("\n")).split("user ")
    return [f"user {' '.join(line.split())}" for line in lines if line.strip()]


async def test_the_documented_access_list_permits_all_that_is_done_and_no_more(listener: RecordingListener) -> None:
    default, *users = [user.replace("PASSWORD", "s3cret") for user in documented_users()]
    assert default == "user default off", "which the fixture says as well"
    async with redis_server(acl=users) as server:
        async with opened(server.url_for("hybrid", "s3cret"), listener, "hybrid") as broker:
            await broker.subscribe("a")
            assert isinstance((await broker.append([one(key="k"), one()]))[0], Appended)
            await listener.until(lambda: len(listener.publications) == 2)
            assert (await broker.read("a", START, limit=9, max_bytes=999)).publications == listener.publications
            assert len((await broker.history("a", limit=9, max_bytes=999, is_reverse=True)).publications) == 2
            assert await broker.join("a", ALICE, "s", 30)
            assert await broker.entries("a", 9) == [ALICE]
            assert await broker.count("a") == Present(1, 1)
            await broker.expire()
            assert await broker.leave("a", ALICE, "s")
            nodes, heard = RedisNodes(broker), list[bytes]()
            await nodes.listen("n", heard.append)
            assert (await nodes.keep("n", 0, 15, b"n")).generation
            assert await nodes.tell("n", b"hello")
            assert (await nodes.begin(b"c", b"d", "n", 60)).is_ours
            tickets = RedisTicketStore(broker.servers, broker.keys, b"k" * 32)
            await tickets.put(
                b"h" * 32, Ticket(principal=Principal(issuer="i", subject="s"), purpose="x", origin=None), 9
            )
            assert await tickets.take(b"h" * 32)
            revoked, looks = RedisRevocationStore(broker, b"k" * 32, Limits()), list[bool]()
            await revoked.listen(lambda: looks.append(True), lambda: None)
            made = await revoked.append("jti", "i", "t")
            lost = Revocation("sid", "i", "s", made.at_s - 9)
            await revoked.restore([lost])
            assert (await revoked.read(b"", 9)).revocations == [made, lost]
            await listener.until(lambda: len(looks) == 2)
            health = await broker.health()
            assert health.is_good, health
            assert (await broker.purge("a")).offset == 1
            await broker.unsubscribe("a")
            # Durable ones wait for a replica, which is permitted, and there is none.
            [unconfirmed] = await broker.append([one(is_durable=True)])
            assert isinstance(unconfirmed, BrokerError)
            assert unconfirmed.row.name == "unconfirmed"
        async with opened(server.url_for("hybrid", "s3cret"), prefix="other") as broker:
            [refused] = await broker.append([one()])
            assert isinstance(refused, BrokerError), "keys of another prefix are out of reach"


async def test_a_wrong_password_is_no_crash(listener: RecordingListener) -> None:
    async with redis_server(password="right") as server:
        async with opened(server.url_for(None, "wrong"), listener) as broker:
            with pytest.raises(BrokerError):
                await broker.heads(["a"])
            assert not (await broker.health()).is_good


async def test_tls_with_a_certificate_of_ones_own(listener: RecordingListener) -> None:
    async with redis_server(tls=True) as server:
        assert server.certificate is not None
        async with opened(f"{server.url}?ca={server.certificate.certificate}", listener) as broker:
            await broker.subscribe("a")
            assert isinstance((await broker.append([one()]))[0], Appended)
            await listener.until(lambda: len(listener.publications) == 1)
        async with opened(server.url) as broker:  # who signed it is not known
            with pytest.raises(BrokerError):
                await broker.heads(["a"])


# -- what is refused at the start


async def test_keys_of_a_newer_layout_are_refused(one_redis: RedisServer) -> None:
    await one_redis.command("SET", "newer:c:layout", 2)
    broker = RedisBroker(parse_address(one_redis.url), "newer", Limits())
    with pytest.raises(SettingsError, match=r"layout 2.*newer version"):
        await broker.open(RecordingListener())
    with pytest.raises(BrokerError):
        await broker.append([one()])
    assert not (await broker.health()).is_good
    await broker.close()


async def test_a_server_that_comes_late_is_checked_when_it_comes() -> None:
    async with redis_server() as server:
        await server.stop()
        async with opened(server.url, prefix="late") as broker:
            assert not (await broker.health()).is_good
            await server.start()
            await server.command("SET", "late:c:layout", 2)
            await until(lambda: broker._refusal is not None)
            with pytest.raises(BrokerError, match="layout"):
                await broker.append([one()])


@pytest.mark.parametrize(
    ("info", "is_old"),
    [
        (b"redis_version:6.2.14\r\n", True),
        (b"redis_version:7.0.0\r\n", False),
        (b"redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.1\r\n", False),
        (b"redis_version:10.1\r\n", False),
        (b"", True),
    ],
)
def test_servers_that_are_too_old_are_told(info: bytes, is_old: bool) -> None:
    if is_old:
        with pytest.raises(BrokerError, match=r"needs Redis 7\.0"):
            check_version(info)
    else:
        check_version(info)


# -- whether it can be relied upon


async def test_a_server_that_may_evict_logs_is_not_good(one_redis: RedisServer) -> None:
    async with redis_server(max_memory="50mb", policy="allkeys-lru") as server:
        async with opened(server.url) as broker:
            health = await broker.health()
            assert not health.is_good
            assert "noeviction" in health.detail
    async with opened(one_redis.url) as broker:
        assert (await broker.health()).is_good


async def test_a_full_server_refuses_publishes_and_takes_them_again(listener: RecordingListener) -> None:
    async with redis_server(max_memory="6mb") as server:
        async with opened(server.url, listener) as broker:
            big = one("big", b'"' + b"x" * 60_000 + b'"', history_size=1_000)
            refused = None
            for _ in range(200):
                [result] = await broker.append([big])
                if isinstance(result, BrokerError):
                    refused = result
                    break
            assert refused is not None
            assert refused.row.name == "broker_unavailable"
            assert refused.retry_after_s
            assert (await broker.heads(["big"]))[0].offset > 0
            await server.command("FLUSHALL")
            assert isinstance((await broker.append([big]))[0], Appended)


# -- what is carried


async def test_what_is_published_is_never_looked_into(one_redis: RedisServer, listener: RecordingListener) -> None:
    """It was checked at publish; neither Redis nor the broker parses it again, so that anything would come through."""
    noise = bytes(range(256)) * 3
    async with opened(one_redis.url, listener) as broker:
        await broker.subscribe("a")
        assert isinstance((await broker.append([one(data=noise, type="t", is_binary=True)]))[0], Appended)
        await listener.until(lambda: bool(listener.publications))
        page = await broker.read("a", START, limit=9, max_bytes=9_999)
        assert page.publications == listener.publications
        assert (listener.publications[0].data, listener.publications[0].type) == (noise, "t")
        assert listener.publications[0].is_binary


async def test_publishes_that_wait_together_are_one_call(one_redis: RedisServer) -> None:
    async def calls() -> int:
        stats = await one_redis.info("commandstats")
        return int(stats["cmdstat_evalsha"].removeprefix("calls=").partition(",")[0])

    async with opened(one_redis.url) as broker:
        await appended(broker)
        for has_keys in (False, True):
            before = await calls()
            keys = [f"k{number}" if has_keys else None for number in range(128)]
            await asyncio.gather(*(broker.append([one(key=key)]) for key in keys[:64]))
            await broker.append([one(key=key) for key in keys[64:]])
            assert await calls() == before + 2
        before = await calls()
        await broker.append([one(), one("b"), one(key="x"), one("b"), one()])
        assert await calls() == before + 4, "b's are together; a key travels with keys only"
        before = await calls()
        await broker.append([one(data=b"1" * 65_000)] * 8)
        assert await calls() == before + 2, "four of these are all that one call may hold"


async def test_a_call_that_fails_half_way_says_what_it_has_done(
    one_redis: RedisServer, listener: RecordingListener, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(one_redis.url, listener) as broker:
        await broker.subscribe("a")
        foreign = broker.keys.of("a").idempotency(blake2b(b"foreign", digest_size=16).hexdigest().encode())
        await one_redis.command("SET", foreign, "is not ours")
        with caplog.at_level(logging.CRITICAL):
            results = await broker.append([one(key=key) for key in ("k1", "k2", "foreign", "k3")])
            [alone, _] = await broker.append([one(key="foreign"), one(key="k4")])
        names = [result.row.name if isinstance(result, BrokerError) else result.position.offset for result in results]
        assert names == [1, 2, "broker_unavailable", "broker_unavailable"]
        assert isinstance(alone, BrokerError)
        [again] = await broker.append([one(key="k3")])
        assert isinstance(again, Appended)
        assert again.position.offset == 3
        await listener.until(lambda: len(listener.publications) == 3)
        assert (await broker.read("a", START, limit=9, max_bytes=999)).publications == listener.publications


# -- bad days


async def test_scripts_that_were_flushed_are_loaded_again(one_redis: RedisServer, listener: RecordingListener) -> None:
    async with opened(one_redis.url, listener) as broker:
        await broker.append([one()])
        await one_redis.command("SCRIPT", "FLUSH")
        results = await broker.append([one(data=b"%d" % number) for number in range(5)])
        assert [result.position.offset for result in results if isinstance(result, Appended)] == [2, 3, 4, 5, 6]


async def test_a_broken_connection_is_told_as_a_gap_once_all_is_heard_again(
    one_redis: RedisServer, listener: RecordingListener
) -> None:
    async with opened(one_redis.url, listener) as broker:
        names = [f"c{number}" for number in range(1_200)]
        await asyncio.gather(*map(broker.subscribe, names))
        assert listener.gaps == []
        await one_redis.command("CLIENT", "KILL", "TYPE", "pubsub")
        await listener.until(lambda: bool(listener.gaps))
        assert sorted(name for gap in listener.gaps for name in gap or ()) == sorted(names)
        await broker.append([one(name) for name in names])
        await listener.until(lambda: len(listener.publications) == len(names))
        assert (await broker.health()).is_good


async def test_commands_go_on_after_their_connections_were_killed(one_redis: RedisServer) -> None:
    async with opened(one_redis.url) as broker:
        await broker.append([one()])
        await one_redis.command("CLIENT", "KILL", "TYPE", "normal")
        assert (await appended(broker)).position.offset == 2


async def test_a_server_that_was_restarted_empty_begins_new_logs(listener: RecordingListener) -> None:
    async with redis_server() as server:
        async with opened(server.url, listener) as broker:
            await broker.subscribe("a")
            before = await appended(broker)
            await listener.until(lambda: len(listener.publications) == 1)  # a dead server announces nothing more
            server.kill()
            await until(lambda: not broker.topics.is_connected)
            [refused] = await broker.append([one()])
            assert isinstance(refused, Unreachable)
            assert refused.retry_after_s
            await server.restart(empty=True)
            await until(lambda: broker.topics.is_connected)  # or what is published now is found by comparing heads
            after = await appended(broker)
            assert after.position.epoch != before.position.epoch
            await listener.until(lambda: len(listener.publications) == 2)
            assert listener.gaps == [["a"]]


async def test_a_frozen_server_is_noticed_and_thaws(
    listener: RecordingListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (line, topics):
        monkeypatch.setattr(module, "TIMEOUT_S", 0.3)
        monkeypatch.setattr(module, "_PING_S", 0.3)
        monkeypatch.setattr(module, "_LOOK_S", 0.05)
    async with redis_server() as server:
        async with opened(server.url, listener) as broker:
            await broker.subscribe("a")
            await appended(broker)
            server.freeze()
            [result] = await broker.append([one()])
            assert isinstance(result, BrokerError)
            assert result.row.name == "outcome_unknown"
            await until(lambda: not broker.topics.is_connected)
            server.thaw()
            await appended(broker)
            await listener.until(lambda: bool(listener.gaps))


async def test_an_answer_that_is_lost_is_asked_for_again_with_its_key_only(listener: RecordingListener) -> None:
    """Without a key nobody can tell whether it was appended: it is never sent twice."""
    async with redis_server() as server, Relay(server.port) as relay:
        async with opened(f"redis://127.0.0.1:{relay.port}/0", listener) as broker:
            await appended(broker)
            for connection in relay.connections:
                connection.down.hold()
            asked = asyncio.gather(broker.append([one(data=b"2", key="k")]), broker.append([one(data=b"3")]))
            await _until_offset(server, broker, 3)
            relay.cut()
            [[keyed], [unkeyed]] = await asked
            assert isinstance(keyed, Appended)
            assert keyed.was_repeated
            assert isinstance(unkeyed, BrokerError)
            assert unkeyed.row.name == "outcome_unknown"
            page = await broker.read("a", START, limit=9, max_bytes=999)
            assert sorted(publication.data for publication in page.publications) == [b"1", b"2", b"3"]


async def _until_offset(server: RedisServer, broker: RedisBroker, offset: int) -> None:
    async with asyncio.timeout(10):
        while await server.command("HGET", broker.keys.of("a").head, "o") != b"%d" % offset:
            pass


async def test_what_waits_for_a_server_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "UNSENT_MAX", 10)
    async with redis_server() as server:
        async with opened(server.url) as broker:
            results = await broker.append([one(data=b"%d" % number) for number in range(30)])
            assert [isinstance(result, Appended) for result in results] == [True] * 10 + [False] * 20
            assert isinstance((await broker.append([one()]))[0], Appended)


async def test_a_slot_that_moves_takes_its_channel_along(one_cluster: Cluster, listener: RecordingListener) -> None:
    hosts = ",".join(f"{host}:{port}" for host, port in one_cluster.addresses)
    async with opened(f"redis+cluster://{hosts}", listener, "moving") as broker:
        name = "travels"
        slot = await one_cluster.slot_of(f"{{{name}}}")
        await broker.subscribe(name)
        publishing = asyncio.create_task(_publish(broker, name, 200))
        here = await one_cluster.owner_of(slot)
        there = next(server for server in one_cluster.servers if server is not here)
        await one_cluster.move_slot(slot, there)
        offsets = await publishing
        assert offsets == list(range(1, 201))
        await until(lambda: bool(listener.gaps) or listener.of(name)[-1].offset == 200)
        await until(lambda: broker.topics.is_connected)
        page = await broker.read(name, START, limit=999, max_bytes=99_999)
        assert [publication.offset for publication in page.publications] == list(range(1, 201))
        await appended(broker, one(name, history_size=1_000))
        await listener.until(lambda: listener.of(name)[-1].offset == 201)
        await one_cluster.move_slot(slot, here)


async def _publish(broker: RedisBroker, channel: str, count: int) -> list[int]:
    return [
        (await appended(broker, one(channel, b"%d" % number, history_size=1_000, key=f"k{number}"))).position.offset
        for number in range(count)
    ]


async def test_revocations_that_somebody_else_wrote_are_ignored(one_redis: RedisServer) -> None:
    """Whoever can write to Redis, but does not know the secret, cannot end anybody's sessions."""
    async with opened(one_redis.url) as broker:
        ours = RedisRevocationStore(broker, b"k" * 32, Limits())
        forged = RedisRevocationStore(broker, b"x" * 32, Limits())
        await forged.append("subject", "i", "alice")
        made = await ours.append("subject", "i", "bob")
        await forged.append("subject", "i", "carol")
        page = await ours.read(b"", 9)
        assert page.revocations == [made]
        assert (await ours.read(page.cursor, 9)).is_continued, "what is ignored is read past all the same"


async def test_a_break_of_what_is_heard_is_told_to_who_listens_for_revocations(one_redis: RedisServer) -> None:
    async with opened(one_redis.url) as broker:
        store, looks = RedisRevocationStore(broker, b"k" * 32, Limits()), list[bool]()
        await store.listen(lambda: None, lambda: looks.append(True))
        assert looks == [], "nothing has broken yet"
        await one_redis.command("CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: bool(looks))


async def test_tickets_that_somebody_else_wrote_are_not_accepted(one_redis: RedisServer) -> None:
    async with opened(one_redis.url) as broker:
        ours = RedisTicketStore(broker.servers, broker.keys, b"k" * 32)
        forged = RedisTicketStore(broker.servers, broker.keys, b"x" * 32)
        await forged.put(b"h" * 32, TICKET, 9)
        assert await ours.look(b"h" * 32, 1) is None


async def test_an_append_that_cannot_be_written_is_nobody_elses_affair(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Keys are checked before they come here; should one slip through, what leaves in the same turn must not hang."""
    async with redis_server() as redis, opened(redis.url) as broker, asyncio.timeout(10):
        answers = await asyncio.gather(
            broker.append([one("a", key="\ud800")]), broker.append([one("b")]), broker.append([one("c", key="k")])
        )
    [[refused], [second], [third]] = answers
    assert isinstance(refused, BrokerError)
    assert isinstance(second, Appended)
    assert isinstance(third, Appended)
    assert "could not be written" in caplog.text
