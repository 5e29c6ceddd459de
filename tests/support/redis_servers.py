"""Real Redis servers on free ports of the loopback: one alone, three Sentinels over a primary, a Cluster of three.

Each lives in a folder of its own under the system's temporary one, which goes away with it. The context managers are
asynchronous and print the end of each server's output when they are left, which pytest shows with a failure. Commands
go over a connection of their own that is closed behind them, so that a fixture of the session's loop serves tests that
run in other loops.

Debian's redis-server is used (apt install redis-server). `REDIS_SERVER` or `VALKEY_SERVER` name another program:

    VALKEY_SERVER=/usr/bin/valkey-server make contract faults
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.support.certificates import Certificate, make_certificate
from tests.support.processes import START_MAX_S, Process, free_port, program

ADMIN: Final = "admin"
"""The user of this module's own commands where there is a file of users."""
_ADMIN_PASSWORD: Final = "the-password-of-the-tests-themselves"
_COMMAND_MAX_S: Final = 10.0
_SLOTS: Final = 16_384
SERVICE: Final = "hybrid-test"
"""The name under which the Sentinels know the primary."""


def redis_program() -> str:
    """The path of the server; skips where there is none."""
    variable = "VALKEY_SERVER" if os.environ.get("VALKEY_SERVER") else "REDIS_SERVER"
    return program("redis-server", variable)


class RedisServer:
    """One server on one port. Without `keeps_data` a crash loses everything, as does every restart.

    `password` is that of the default user; `acl` are lines of a file of users (`user hybrid on >secret ~hybrid:* ...`),
    where the default user is switched off unless a line says otherwise.
    """

    def __init__(
        self,
        *,
        folder: Path | None = None,
        port: int | None = None,
        name: str = "redis",
        password: str | None = None,
        acl: Sequence[str] = (),
        tls: bool = False,
        keeps_data: bool = False,
        max_memory: str = "0",
        policy: str = "noeviction",
        options: Sequence[str] = (),
        flags: Sequence[str] = (),
    ) -> None:
        path = redis_program()  # first: where it skips, nothing is left behind
        self._owns_folder = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="hybrid-redis-"))
        self.folder.mkdir(exist_ok=True)
        self.port = port or free_port()
        self.password = password
        self.has_users = bool(acl)
        self.certificate: Certificate | None = make_certificate(self.folder / "tls") if tls else None
        lines = [
            "bind 127.0.0.1",
            f"dir {self.folder}",
            "daemonize no",
            'save ""',
            f"appendonly {'yes' if keeps_data else 'no'}",
            "appendfsync always",  # what was answered is there after kill -9
            f"maxmemory {max_memory}",
            f"maxmemory-policy {policy}",
            "repl-diskless-sync-delay 0",  # a replica is fed at once instead of after 5 s
            *options,
        ]
        if self.certificate is None:
            lines.append(f"port {self.port}")
        else:
            files = f"tls-cert-file {self.certificate.certificate}", f"tls-key-file {self.certificate.key}"
            lines += ["port 0", f"tls-port {self.port}", *files, f"tls-ca-cert-file {self.certificate.certificate}"]
            lines += ["tls-auth-clients no", "tls-replication yes"]
        if password is not None:
            lines += [f'requirepass "{password}"', f'masterauth "{password}"']
        if acl:
            users = self.folder / "users.acl"
            first = ["user default off", f"user {ADMIN} on >{_ADMIN_PASSWORD} ~* &* +@all"]
            users.write_text("\n".join([*first, *acl]) + "\n")
            lines.append(f"aclfile {users}")
        configuration = self.folder / f"{name}.conf"
        configuration.write_text("\n".join(lines) + "\n")
        self.process = Process(name, [path, str(configuration), *flags], self.folder)

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        print(self.process.report())
        await self.close()

    # -- where it is

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    @property
    def scheme(self) -> str:
        return "redis" if self.certificate is None else "rediss"

    @property
    def url(self) -> str:
        """For the default user; with TLS, whoever connects has to trust `certificate` besides."""
        return self.url_for(None, self.password)

    def url_for(self, user: str | None, password: str | None, *, port: int | None = None) -> str:
        """For one user, and through a relay's port instead of its own."""
        login = "" if password is None else f"{quote(user or '', safe='')}:{quote(password, safe='')}@"
        return f"{self.scheme}://{login}127.0.0.1:{port or self.port}/0"

    # -- its life

    async def start(self) -> None:
        """Start it on its port, with what its folder holds. Returns when it answers and has loaded its data."""
        self.process.launch()
        await self.process.until(self._answers)

    async def stop(self) -> None:
        """SIGTERM, as an administrator would."""
        await self.process.end()

    async def restart(self, *, empty: bool = False) -> None:
        """End it, if it still runs, and start it on the same port: with its data, if it keeps any, or empty."""
        await self.stop()
        if empty:
            self.forget()
        await self.start()

    def forget(self) -> None:
        """Remove what a server that does not run would load."""
        assert not self.process.is_running
        shutil.rmtree(self.folder / "appendonlydir", ignore_errors=True)
        for name in ("dump.rdb", "appendonly.aof", "nodes.conf"):
            (self.folder / name).unlink(missing_ok=True)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()

    def freeze(self) -> None:
        """SIGSTOP."""
        self.process.freeze()

    def thaw(self) -> None:
        """SIGCONT."""
        self.process.thaw()

    async def close(self) -> None:
        """End it for good; its folder goes too."""
        await self.process.end()
        if self._owns_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    # -- asking it

    async def command(self, *words: str | bytes | int | float) -> Any:
        """One command as the administrator; answers are bytes as Redis gives them. Raises RedisError."""
        login: dict[str, Any] = {"password": self.password}
        if self.has_users:
            login = {"username": ADMIN, "password": _ADMIN_PASSWORD}
        if self.certificate is not None:
            login |= {"ssl": True, "ssl_ca_certs": self.certificate.certificate}
        client = Redis(
            host="127.0.0.1",
            port=self.port,
            socket_timeout=_COMMAND_MAX_S,
            socket_connect_timeout=_COMMAND_MAX_S,
            retry=None,
            protocol=2,  # answers are the same lists and bytes whatever the versions
            **login,
        )
        try:
            # They make other types of answers, which depend on redis-py's version.
            client.response_callbacks.clear()
            return await client.execute_command(*words)
        finally:
            await client.aclose()

    async def info(self, section: str) -> dict[str, str]:
        """One section of INFO."""
        return _fields(await self.command("INFO", section))

    async def _answers(self) -> bool:
        try:
            return bool(await self.command("PING") in (b"PONG", True))
        except (RedisError, OSError):
            return False


def _fields(text: bytes) -> dict[str, str]:
    pairs = (line.partition(":") for line in text.decode().splitlines() if ":" in line)
    return {name: value for name, _, value in pairs}


@asynccontextmanager
async def redis_server(**options: Any) -> AsyncIterator[RedisServer]:
    """One server alone; the options are `RedisServer`'s. Nothing is evicted and nothing is kept unless it is asked."""
    async with RedisServer(**options) as server:
        yield server


# -- Sentinel

_HASTE: Final = ("info-period", 200, "publish-period", 200, "ask-period", 200)


class Sentinels:
    """A primary with its replicas, and three Sentinels that agree by two about who the primary is."""

    def __init__(self, servers: list[RedisServer], sentinels: list[RedisServer]) -> None:
        self.servers = servers
        self.sentinels = sentinels
        self.password = servers[0].password

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Of the Sentinels."""
        return [sentinel.address for sentinel in self.sentinels]

    @property
    def all(self) -> list[RedisServer]:
        return [*self.servers, *self.sentinels]

    async def primary(self) -> RedisServer:
        """Who the primary is, as the first Sentinel that answers says."""
        for sentinel in self.sentinels:
            if sentinel.process.is_running and not sentinel.process.is_frozen:
                _, port = await sentinel.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
                return next(server for server in self.servers if server.port == int(port))
        raise RuntimeError("no Sentinel runs")

    async def replicas(self) -> list[RedisServer]:
        """The servers that run and are not the primary."""
        primary = await self.primary()
        return [server for server in self.servers if server is not primary and server.process.is_running]

    async def until_settled(self, max_s: float = START_MAX_S) -> None:
        """Wait until every Sentinel knows the others and every server that runs follows one primary that answers."""
        await self.sentinels[0].process.until(self._is_settled, "settled", max_s)

    async def _is_settled(self) -> bool:
        running = [server for server in self.servers if server.process.is_running]
        try:
            primary = await self.primary()
            if (await primary.info("replication"))["role"] != "master":
                return False
            for server in running:
                told = await server.info("replication")
                follows = told.get("master_port") == str(primary.port) and told.get("master_link_status") == "up"
                if server is not primary and not follows:
                    return False
            for sentinel in self.sentinels:
                told = await sentinel.info("sentinel")
                expected = f"address=127.0.0.1:{primary.port},slaves={len(self.servers) - 1},sentinels=3"
                if not any("status=ok" in line and line.endswith(expected) for line in told.values()):
                    return False
        except (RedisError, OSError):
            return False
        return True

    async def until_primary_is_not(self, former: RedisServer, max_s: float = 30.0) -> RedisServer:
        """Wait until the Sentinels agree on another one that takes writes; returns it."""

        async def has_changed() -> bool:
            try:
                for sentinel in self.sentinels:
                    address = await sentinel.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
                    if int(address[1]) == former.port:
                        return False
                return (await (await self.primary()).info("replication"))["role"] == "master"
            except (RedisError, OSError):
                return False

        await self.sentinels[0].process.until(has_changed, "of one mind about another primary", max_s)
        return await self.primary()

    async def force_failover(self) -> RedisServer:
        """Have a replica promoted in good order; returns the new primary."""
        former = await self.primary()

        async def is_accepted() -> bool:
            try:
                return bool(await self.sentinels[0].command("SENTINEL", "FAILOVER", SERVICE))
            except RedisError:  # no replica has been heard of lately enough
                return False

        await self.sentinels[0].process.until(is_accepted, "willing to fail over")
        return await self.until_primary_is_not(former)

    async def cut_replication(self) -> None:
        """From now on no replica gets what is written: they are stopped, and the primary's links to them closed, so
        that nothing waits for them in a socket's buffer. Not for longer than half a second before `crash_primary`:
        the Sentinels take a replica that does not answer for dead."""
        primary = await self.primary()
        for replica in await self.replicas():
            replica.freeze()
        await primary.command("CLIENT", "KILL", "TYPE", "replica")

    async def crash_primary(self) -> RedisServer:
        """kill -9 of the primary; replicas that were stopped go on, without what they have not got. Returns the
        server that was killed; `until_primary_is_not` waits for the next."""
        primary = await self.primary()
        primary.kill()
        for replica in self.servers:
            if replica.process.is_frozen:
                replica.thaw()
        return primary


@asynccontextmanager
async def sentinels(
    *, replicas: int = 1, down_after_ms: int = 1_000, failover_timeout_ms: int = 3_000, **options: Any
) -> AsyncIterator[Sentinels]:
    """A primary, its replicas and three Sentinels, settled. The options are `RedisServer`'s, for primary and replicas;
    a password is not asked by the Sentinels themselves."""
    redis_program()
    folder = Path(tempfile.mkdtemp(prefix="hybrid-sentinel-"))
    servers = [RedisServer(folder=folder / "redis-0", name="redis-0", **options)]
    for number in range(1, replicas + 1):
        follows = f"replicaof 127.0.0.1 {servers[0].port}"
        servers.append(
            RedisServer(
                folder=folder / f"redis-{number}",
                name=f"redis-{number}",
                **{**options, "options": (*options.get("options", ()), follows)},
            )
        )
    watchers = [
        _sentinel(folder / f"sentinel-{number}", number, servers[0], down_after_ms, failover_timeout_ms)
        for number in range(3)
    ]
    made = Sentinels(servers, watchers)
    try:
        for server in made.all:
            await server.start()
        for watcher in watchers:
            # They look and talk every 10, 2 and 1 s otherwise, and take that long to see a server that came back.
            await watcher.command("SENTINEL", "DEBUG", *_HASTE)
        await made.until_settled()
        yield made
    finally:
        await _close_all(made.all, folder)


def _sentinel(
    folder: Path, number: int, primary: RedisServer, down_after_ms: int, failover_timeout_ms: int
) -> RedisServer:
    """A server in Sentinel's mode; it rewrites its own file of settings, which therefore holds its lines only."""
    made = RedisServer(folder=folder, name=f"sentinel-{number}", flags=("--sentinel",))
    lines = [
        "bind 127.0.0.1",
        f"port {made.port}",
        f"dir {folder}",
        f"sentinel monitor {SERVICE} 127.0.0.1 {primary.port} 2",
        f"sentinel down-after-milliseconds {SERVICE} {down_after_ms}",
        f"sentinel failover-timeout {SERVICE} {failover_timeout_ms}",
        f"sentinel parallel-syncs {SERVICE} 1",
    ]
    if primary.password is not None:
        lines.append(f'sentinel auth-pass {SERVICE} "{primary.password}"')
    (folder / f"sentinel-{number}.conf").write_text("\n".join(lines) + "\n")
    return made


# -- Cluster


class Cluster:
    """Primaries only, with the slots in equal shares."""

    def __init__(self, servers: list[RedisServer]) -> None:
        self.servers = servers

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [server.address for server in self.servers]

    async def slot_of(self, key: str) -> int:
        """The slot of a key, by its hash tag."""
        return int(await self.servers[0].command("CLUSTER", "KEYSLOT", key))

    async def owner_of(self, slot: int) -> RedisServer:
        """Who serves a slot now."""
        for first, last, (_, port, *_), *_ in await self.servers[0].command("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(server for server in self.servers if server.port == port)
        raise RuntimeError(f"nobody serves slot {slot}")

    async def move_slot(self, slot: int, to: RedisServer) -> None:
        """Hand a slot over with its keys, as `redis-cli --cluster reshard` does; clients may use it meanwhile."""
        source = await self.owner_of(slot)
        if source is to:
            return
        source_id, to_id = [(await server.command("CLUSTER", "MYID")).decode() for server in (source, to)]
        await to.command("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
        await source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", to_id)
        while keys := await source.command("CLUSTER", "GETKEYSINSLOT", slot, 100):
            await source.command("MIGRATE", "127.0.0.1", to.port, "", 0, 5_000, "KEYS", *keys)
        for server in (to, source, *(other for other in self.servers if other not in (to, source))):
            await server.command("CLUSTER", "SETSLOT", slot, "NODE", to_id)

    @asynccontextmanager
    async def replica_of(self, primary: RedisServer) -> AsyncIterator[RedisServer]:
        """One more server, that follows a primary and serves no slots."""
        bus_port = free_port()
        shared = ("cluster-enabled yes", "cluster-config-file nodes.conf", f"cluster-port {bus_port}")
        async with redis_server(name="replica", options=shared) as replica:
            await primary.command("CLUSTER", "MEET", "127.0.0.1", replica.port, bus_port)
            primary_id = (await primary.command("CLUSTER", "MYID")).decode()

            async def follows() -> bool:
                try:
                    await replica.command("CLUSTER", "REPLICATE", primary_id)
                except RedisError:
                    return False  # it does not know the primary yet
                return (await primary.info("replication"))["connected_slaves"] == "1"

            await replica.process.until(follows, "a replica")
            yield replica

    async def until_ok(self, max_s: float = START_MAX_S) -> None:
        """Wait until every server that runs sees all slots served by all."""
        await self.servers[0].process.until(self._is_ok, "part of a whole cluster", max_s)

    async def _is_ok(self) -> bool:
        for server in self.servers:
            if not server.process.is_running:
                continue
            try:
                told = _fields(await server.command("CLUSTER", "INFO"))
            except (RedisError, OSError):
                return False
            known = told["cluster_known_nodes"] == str(len(self.servers))
            if not known or told["cluster_state"] != "ok" or told["cluster_slots_ok"] != str(_SLOTS):
                return False
        return True


@asynccontextmanager
async def cluster(*, primaries: int = 3, node_timeout_ms: int = 2_000, **options: Any) -> AsyncIterator[Cluster]:
    """A Redis Cluster whose state is ok. The options are `RedisServer`'s, without TLS or a password."""
    redis_program()
    folder = Path(tempfile.mkdtemp(prefix="hybrid-cluster-"))
    servers = []
    bus_ports = [free_port() for _ in range(primaries)]
    for number, bus_port in enumerate(bus_ports):
        shared = (
            "cluster-enabled yes",
            "cluster-config-file nodes.conf",
            f"cluster-node-timeout {node_timeout_ms}",
            f"cluster-port {bus_port}",
        )
        servers.append(
            RedisServer(
                folder=folder / f"redis-{number}",
                name=f"redis-{number}",
                **{**options, "options": (*options.get("options", ()), *shared)},
            )
        )
    made = Cluster(servers)
    try:
        for number, server in enumerate(servers):
            await server.start()
            await server.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            first, last = number * _SLOTS // primaries, (number + 1) * _SLOTS // primaries - 1
            await server.command("CLUSTER", "ADDSLOTSRANGE", first, last)
        for server, bus_port in zip(servers[1:], bus_ports[1:], strict=True):
            await servers[0].command("CLUSTER", "MEET", "127.0.0.1", server.port, bus_port)
        await made.until_ok()
        yield made
    finally:
        await _close_all(servers, folder)


async def _close_all(servers: list[RedisServer], folder: Path) -> None:
    for server in servers:
        print(server.process.report())
    with suppress(asyncio.CancelledError):
        await asyncio.gather(*(server.close() for server in servers))
    shutil.rmtree(folder, ignore_errors=True)
