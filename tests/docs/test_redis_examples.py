"""docs/examples/redis/: every file is given to real servers as it stands, but for addresses, paths and passwords."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError

from hybrid.broker.base import Append, Appended
from hybrid.broker.redis.address import parse_address
from hybrid.broker.redis.broker import RedisBroker
from hybrid.errors import BrokerError
from hybrid.limits import Limits
from hybrid.model import START, Position
from tests.contract.test_redis import documented_users
from tests.support.listeners import RecordingListener
from tests.support.processes import Process, free_port
from tests.support.redis_servers import SERVICE, RedisServer, cluster, redis_program, sentinels

EXAMPLES: Final = Path(__file__).parents[2] / "docs" / "examples" / "redis"
PASSWORDS: Final = {f"PASSWORD-OF-{who}": f"{who.lower()}-s3cret" for who in ("HYBRID", "REPLICA", "ADMIN")} | {
    "PASSWORD-OF-SENTINELS": "sentinels-s3cret",  # before the next one, which is the beginning of it
    "PASSWORD-OF-SENTINEL": "sentinel-s3cret",
}


def filled_in(name: str, **places: str) -> str:
    """An example with these texts replaced, each of which must be there, and with all passwords."""
    text = (EXAMPLES / name).read_text()
    for old, new in places.items():
        assert old in text, f"{name} does not hold {old!r} any more"
        text = text.replace(old, new)
    for old, new in PASSWORDS.items():
        text = text.replace(old, new)
    return text


class Server:
    """A Redis, or with `watches` a Sentinel, that runs with the examples' files."""

    def __init__(self, folder: Path, name: str, *, follows: int = 0, watches: int = 0) -> None:
        self.port = free_port()
        self.is_sentinel = watches > 0
        folder = folder / name
        folder.mkdir()
        configuration = folder / f"{name}.conf"
        if watches:
            places = {"port 26379": f"bind 127.0.0.1\nport {self.port}", "dir /var/lib/redis-sentinel": f"dir {folder}"}
            text = filled_in("sentinel.conf", **places, **{"10.0.0.11 6379": f"127.0.0.1 {watches}"})
        else:
            (folder / "users.acl").write_text(filled_in("users.acl"))
            text = filled_in("redis.conf", **{"/etc/redis/users.acl": str(folder / "users.acl")})
            text = f"bind 127.0.0.1\nport {self.port}\ndir {folder}\nrepl-diskless-sync-delay 0\n{text}"
            text += f"replicaof 127.0.0.1 {follows}\n" if follows else ""
        configuration.write_text(text)
        flags = ["--sentinel"] if watches else []
        self.process = Process(name, [redis_program(), str(configuration), *flags], folder)

    async def start(self) -> None:
        self.process.launch()
        await self.process.until(self._answers)

    async def command(self, *words: str | int) -> Any:
        login = {"username": "admin", "password": PASSWORDS["PASSWORD-OF-ADMIN"]}
        if self.is_sentinel:
            login = {"password": PASSWORDS["PASSWORD-OF-SENTINELS"]}
        client = Redis(host="127.0.0.1", port=self.port, retry=None, protocol=2, socket_timeout=5.0, **login)
        try:
            client.response_callbacks.clear()
            return await client.execute_command(*words)
        finally:
            await client.aclose()

    async def info(self, section: str) -> dict[str, str]:
        text = (await self.command("INFO", section)).decode()
        return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)

    async def _answers(self) -> bool:
        try:
            return bool(await self.command("PING") in (b"PONG", True))
        except (RedisError, OSError):
            return False


@asynccontextmanager
async def running(servers: Sequence[Server]) -> AsyncIterator[None]:
    try:
        for server in servers:
            await server.start()
        yield
    finally:
        for server in servers:
            print(server.process.report())
            server.process.kill()  # a primary that is asked to end waits up to 10 s for its replicas


@asynccontextmanager
async def opened(url: str, listener: RecordingListener | None = None) -> AsyncIterator[RedisBroker]:
    for placeholder, password in PASSWORDS.items():
        url = url.replace(placeholder, password)
    broker = RedisBroker(parse_address(url), "hybrid", Limits())
    try:
        await broker.open(listener or RecordingListener())
        yield broker
    finally:
        await broker.close()


async def until(condition: Callable[[], Awaitable[bool]], max_s: float = 30.0) -> None:
    async with asyncio.timeout(max_s):
        while not await condition():  # noqa: ASYNC110 -- nothing tells of it
            await asyncio.sleep(0.02)


async def publish(broker: RedisBroker, channel: str = "a", **options: Any) -> Appended | BrokerError:
    append = Append(channel=channel, data=b"1", **{"history_size": 100, "history_ttl_s": 60.0, **options})
    try:
        [result] = await broker.append([append])
    except BrokerError as error:
        return error
    return result


async def publishes(broker: RedisBroker, channel: str = "a") -> bool:
    return isinstance(await publish(broker, channel), Appended)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    redis_program()  # skips where there is none
    return tmp_path


def test_the_file_of_users_is_the_access_list_of_the_documentation() -> None:
    users = (EXAMPLES / "users.acl").read_text().splitlines()
    assert users[:2] == [line.replace("PASSWORD", "PASSWORD-OF-HYBRID") for line in documented_users()]


async def test_a_primary_and_its_replica_run_with_the_files(folder: Path) -> None:
    primary = Server(folder, "primary")
    replica = Server(folder, "replica", follows=primary.port)
    async with running([primary]), opened(f"redis://hybrid:PASSWORD-OF-HYBRID@127.0.0.1:{primary.port}") as broker:
        health = await broker.health()
        assert health.is_good, health
        refused = await publish(broker)
        assert isinstance(refused, BrokerError), "min-replicas-to-write: what it took would be nowhere else"
        assert refused.row.name == "broker_unavailable"
        assert refused.retry_after_s
        async with running([replica]):
            await until(lambda: publishes(broker))
            assert isinstance(await publish(broker, is_durable=True), Appended)
            page = await broker.read("a", START, limit=9, max_bytes=999)
            assert [publication.offset for publication in page.publications] == [1, 2], "a refused one left nothing"
            told = await primary.info("memory")
            assert (told["maxmemory_policy"], told["maxmemory"]) == ("noeviction", str(2 << 30))
            assert (await primary.info("persistence"))["aof_enabled"] == "1"


async def test_each_user_may_do_its_own_and_no_more(folder: Path) -> None:
    server = Server(folder, "primary")
    async with running([server]):
        for user, password, refused in (
            ("hybrid", PASSWORDS["PASSWORD-OF-HYBRID"], ("FLUSHALL",)),
            ("replica", PASSWORDS["PASSWORD-OF-REPLICA"], ("GET", "hybrid:d:{a}:h")),
            ("sentinel", PASSWORDS["PASSWORD-OF-SENTINEL"], ("GET", "hybrid:d:{a}:h")),
        ):
            client = Redis(host="127.0.0.1", port=server.port, username=user, password=password, retry=None)
            async with client:
                assert await client.ping()
                with pytest.raises(NoPermissionError):
                    await client.execute_command(*refused)


@pytest.mark.slow
async def test_sentinels_replace_a_primary_that_dies_and_publishing_goes_on(folder: Path) -> None:
    servers = [Server(folder, "redis-0")]
    servers += [Server(folder, f"redis-{number}", follows=servers[0].port) for number in (1, 2)]
    watchers = [Server(folder, f"sentinel-{number}", watches=servers[0].port) for number in range(3)]
    hosts = ",".join(f"127.0.0.1:{watcher.port}" for watcher in watchers)
    url = f"redis+sentinel://hybrid:PASSWORD-OF-HYBRID@{hosts}/live?sentinel_password=PASSWORD-OF-SENTINELS"
    example = (EXAMPLES / "sentinel.conf").read_text()
    shape = url.replace(hosts, "s1:26379,s2:26379,s3:26379")
    assert shape in example, "the URL that the file shows is of the form that is used here"

    async def is_settled() -> bool:
        for watcher in watchers:
            told = (await watcher.info("sentinel")).get("master0", "")
            if not told.endswith("slaves=2,sentinels=3"):
                return False
        return True

    async def has_both_replicas() -> bool:
        return (await servers[0].info("replication"))["connected_slaves"] == "2"

    listener = RecordingListener()
    async with running([*servers, *watchers]):
        await until(has_both_replicas)
        await until(is_settled)
        async with opened(url, listener) as broker:
            await broker.subscribe("a")
            before = await publish(broker, is_durable=True)
            assert isinstance(before, Appended)
            servers[0].process.kill()
            killed_s = time.monotonic()
            await until(lambda: publishes(broker))
            away_s = time.monotonic() - killed_s
            print(f"publishing stood still for {away_s:.1f} s")
            # 5 s until the Sentinels agree; a machine that is busy may take longer for what comes then.
            assert 4 < away_s < 25
            page = await broker.read("a", before.position, limit=9, max_bytes=999)
            assert page.publications, "what a replica had is still there, and the log goes on behind it"
            await listener.until(lambda: bool(listener.gaps))


@pytest.mark.slow
@pytest.mark.parametrize("way", ["SIGTERM", "SENTINEL FAILOVER"])
async def test_the_orderly_ways_to_replace_a_primary_that_is_being_written_to(way: str) -> None:
    """What docs/scaling.md says of maintenance. A primary that is told to end first lets its replicas catch up."""
    async with sentinels(replicas=2, down_after_ms=5_000, failover_timeout_ms=30_000) as made:
        hosts = ",".join(f"{host}:{port}" for host, port in made.addresses)
        async with opened(f"redis+sentinel://{hosts}/{SERVICE}") as broker:
            answered: list[tuple[float, Appended]] = []
            is_over = asyncio.Event()

            async def keep_publishing() -> None:
                number = 0
                while not is_over.is_set():
                    number += 1
                    result = await publish(broker, key=f"k{number}", history_size=1_000_000, history_ttl_s=600.0)
                    if isinstance(result, Appended):
                        answered.append((time.monotonic(), result))
                    else:
                        await asyncio.sleep(0.02)

            publishing = asyncio.create_task(keep_publishing())
            await until(lambda: has(len(answered) > 500))
            former = await made.primary()
            if way == "SIGTERM":
                await former.stop()
            else:
                assert await made.sentinels[0].command("SENTINEL", "FAILOVER", SERVICE)
            await made.until_primary_is_not(former)
            # The former one closed its connections, or was closed: what is answered now, the new one has answered.
            await until(lambda: is_served_by_another(broker, former))
            count = len(answered)
            await until(lambda: has(len(answered) > count + 500))
            is_over.set()
            await publishing
            kept = await everything(broker, "a")
            lost = sum(kept.get(result.position.offset) != result.position.tag for _, result in answered)
            pause_s = max(after - before for (before, _), (after, _) in pairwise(answered))
            print(f"{way}: {lost} of {len(answered)} answered publications are lost, the pause was {pause_s:.1f} s")
            if way == "SIGTERM":
                assert lost == 0


async def has(value: bool) -> bool:
    return value


async def is_served_by_another(broker: RedisBroker, former: RedisServer) -> bool:
    return broker.servers._primary not in (None, former.address)


async def everything(broker: RedisBroker, channel: str) -> dict[int, str]:
    """The tag at each offset."""
    found: dict[int, str] = {}
    position = START
    while True:
        page = await broker.read(channel, position, limit=10_000, max_bytes=1 << 24)
        found |= {publication.offset: publication.tag for publication in page.publications}
        if not page.publications or page.publications[-1].offset == page.head.offset:
            return found
        last = page.publications[-1]
        position = Position(last.offset, last.epoch, last.tag)


@pytest.mark.slow
@pytest.mark.parametrize("is_as_documented", [True, False], ids=["cluster.conf", "the default"])
async def test_a_cluster_that_loses_a_third_of_its_slots_goes_on_with_the_others(is_as_documented: bool) -> None:
    lines = [line for line in (EXAMPLES / "cluster.conf").read_text().splitlines() if line and line[0] != "#"]
    own = ("cluster-enabled", "cluster-config-file", "cluster-node-timeout")  # the fixture's, which is in more haste
    options = [line for line in lines if not line.startswith(own)]
    assert options == ["cluster-require-full-coverage no"]
    async with cluster(options=options if is_as_documented else ()) as made:
        hosts = ",".join(f"{host}:{port}" for host, port in made.addresses)
        async with opened(f"redis+cluster://{hosts}") as broker:
            channels = {server.port: await _channel_of(made, server) for server in made.servers}
            for channel in channels.values():
                assert await publishes(broker, channel)
            lost, *kept = made.servers
            lost.kill()

            async def is_noticed() -> bool:
                return b"fail" in b"".join(
                    line
                    for line in (await kept[0].command("CLUSTER", "NODES")).splitlines()
                    if b"%d" % lost.port in line
                ).replace(b"fail?", b"")

            await until(is_noticed)
            results = [await publishes(broker, channels[server.port]) for server in kept]
            assert results == [is_as_documented] * 2
            assert not await publishes(broker, channels[lost.port])


async def _channel_of(made: Any, server: Any) -> str:
    for number in range(1_000):
        channel = f"chat-{number}"
        if await made.owner_of(await made.slot_of(f"{{{channel}}}")) is server:
            return channel
    raise AssertionError("no channel was found")
