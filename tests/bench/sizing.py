"""`make bench-sizing`: what a Redis and a node have to be sized for; docs/scaling.md calculates with these figures.

Real redis-servers, asked by the real broker from this process. CPU time is that of a server's process and counts only
beside other figures of the same run; bytes of memory are the server's own count and hardly change from run to run.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import resource
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from hybrid.auth.development import FULL_SCOPE, DevelopmentIssuer
from hybrid.auth.jwt import IssuerConfig, JwtVerifier
from hybrid.auth.tickets import Ticket
from hybrid.broker.base import Append, Appended
from hybrid.broker.redis.address import parse_address
from hybrid.broker.redis.broker import RedisBroker
from hybrid.broker.redis.tickets import RedisTicketStore
from hybrid.clock import SystemClock
from hybrid.limits import Limits
from hybrid.model import Position, PresenceEntry, Principal, Publication
from tests.bench.nodes import cpu_s
from tests.support.http_issuer import http_issuer
from tests.support.nodes import AUDIENCE, nodes
from tests.support.redis_servers import RedisServer, cluster, redis_server

DATA: Final = b'"' + b"x" * 126 + b'"'
"""128 bytes of JSON."""
IN_FLIGHT: Final = 64
LEASE_S: Final = 3_600.0
CHANNELS: Final = 64
HISTORY: Final = 100


@dataclass(frozen=True)
class Plan:
    keys: int
    seconds: float
    sockets: int
    tokens: int


FULL = Plan(keys=20_000, seconds=3.0, sockets=4_000, tokens=2_000)
QUICK = Plan(keys=2_000, seconds=0.5, sockets=500, tokens=200)

Say = Callable[[str], None]


class Counter:
    """Implements `BrokerListener`: counts, so that a bench can wait for what is still on its way."""

    def __init__(self) -> None:
        self.count = 0

    def published(self, publication: Publication) -> None:
        self.count += 1

    def presence_changed(self, channel: str, entry: PresenceEntry, has_joined: bool) -> None:
        pass

    def purged(self, channel: str, position: Position, former: str) -> None:
        pass

    def gap(self, channels: Sequence[str] | None) -> None:
        raise RuntimeError("a connection broke while something was measured")


@asynccontextmanager
async def opened(url: str, listener: Counter | None = None) -> AsyncIterator[RedisBroker]:
    broker = RedisBroker(parse_address(url), "hybrid", Limits())
    try:
        await broker.open(listener or Counter())
        yield broker
    finally:
        await broker.close()


def one(channel: str, *, history: int = 0, key: str | None = None) -> Append:
    return Append(channel=channel, data=DATA, key=key, history_size=history, history_ttl_s=LEASE_S)


def name(number: int) -> str:
    return f"chat:room-{number:06d}"


# -- memory of Redis


async def used(server: RedisServer) -> int:
    """Bytes, without what connections have for a moment."""
    told = await server.info("memory")
    connections = int(told["mem_clients_normal"]) + int(told["mem_clients_slaves"])
    return int(told["used_memory"]) - connections


async def growth(server: RedisServer, count: int, work: Callable[[int], Awaitable[Any]]) -> float:
    """Bytes for each of `count`, made by `work(number)`, some at a time."""
    before = await used(server)
    for first in range(0, count, 256):
        await asyncio.gather(*map(work, range(first, min(first + 256, count))))
    return (await used(server) - before) / count


async def memory(plan: Plan, say: Say) -> None:
    async def told(
        what: str,
        count: int,
        work: Callable[[RedisBroker, int], Awaitable[Any]],
        *,
        each: int = 1,
        options: Sequence[str] = (),
    ) -> None:
        async with redis_server(options=options) as server, opened(server.url) as broker:
            await append(broker, [one("warm", history=1, key="warm")])
            found = await growth(server, count, lambda number: work(broker, number))
            say(f"Redis memory, {what}: {found / each:,.0f} bytes")

    few = plan.keys // HISTORY
    await told("a channel's head, without history", plan.keys, lambda broker, n: append(broker, [one(name(n))]))
    for options in ((), ("stream-node-max-bytes 1024",)):
        with_what = "".join(f", with {option}" for option in options)
        await told(
            f"a channel with one publication kept{with_what}",
            plan.keys,
            lambda broker, n: append(broker, [one(name(n), history=1)]),
            options=options,
        )
        await told(
            f"each of {HISTORY} publications of a channel, its head included{with_what}",
            few,
            lambda broker, n: append(broker, [one(name(n), history=HISTORY)] * HISTORY),
            each=HISTORY,
            options=options,
        )
    await told("an idempotency key", plan.keys, lambda broker, n: append(broker, [one("a", key=f"sub\0key-{n:08d}")]))
    await told("a presence lease, of a subject each", plan.keys, lambda broker, n: join(broker, "a", n))
    await told("a presence lease, alone on its channel", plan.keys, lambda broker, n: join(broker, name(n), n))
    await told("a ticket", plan.keys, put)


async def append(broker: RedisBroker, appends: Sequence[Append]) -> None:
    for result in await broker.append(appends):
        if not isinstance(result, Appended):
            raise RuntimeError(f"a publish failed: {result}")


async def join(broker: RedisBroker, channel: str, number: int) -> None:
    session = f"abcdefghijkl.{number:022d}"
    await broker.join(channel, PresenceEntry(f"user-{number:08d}", "app"), session, LEASE_S)


async def put(broker: RedisBroker, number: int) -> None:
    store = RedisTicketStore(broker.servers, broker.keys, b"k" * 32)
    principal = Principal(issuer="https://id.example.com", subject=f"user-{number:08d}", client="app")
    ticket = Ticket(principal=principal, purpose="channels", origin="https://app.example.com", channels=("chat:lobby",))
    await store.put(number.to_bytes(32, "big"), ticket, LEASE_S)


# -- work of Redis


@dataclass(frozen=True)
class Work:
    """What a while of the same call cost: CPU of each server, and bytes in and out of all, for each call."""

    per_s: float
    cpu_us: tuple[float, ...]
    in_bytes: float
    out_bytes: float

    def __str__(self) -> str:
        shares = " + ".join(f"{share:.1f}" for share in self.cpu_us)
        total = f"{sum(self.cpu_us):.1f} us" + (f" ({shares})" if len(self.cpu_us) > 1 else "")
        return f"{self.per_s:,.0f}/s; CPU of Redis {total}; {self.in_bytes:.0f} bytes in, {self.out_bytes:.0f} out"


async def traffic(servers: Sequence[RedisServer]) -> list[int]:
    told = [await server.info("stats") for server in servers]
    return [sum(int(stats[f"total_net_{way}_bytes"]) for stats in told) for way in ("input", "output")]


async def worked(
    servers: Sequence[RedisServer], seconds: float, call: Callable[[int], Awaitable[Any]], in_flight: int = IN_FLIGHT
) -> Work:
    """Calls, each with a number of its own, so many in flight, for a while."""
    numbers = iter(range(1_000_000_000))

    async def keep_calling(end_s: float) -> int:
        count = 0
        while time.perf_counter() < end_s:
            await call(next(numbers))
            count += 1
        return count

    async def phase(length_s: float) -> int:
        end_s = time.perf_counter() + length_s
        return sum(await asyncio.gather(*(keep_calling(end_s) for _ in range(in_flight))))

    await phase(0.3)
    bytes_before = await traffic(servers)
    cpu_before = [cpu_s(server.process.pid) for server in servers]
    start_s = time.perf_counter()
    count = await phase(seconds)
    took_s = time.perf_counter() - start_s
    cpu = [cpu_s(server.process.pid) - before for server, before in zip(servers, cpu_before, strict=True)]
    moved = [after - before for after, before in zip(await traffic(servers), bytes_before, strict=True)]
    return Work(count / took_s, tuple(used_s / count * 1e6 for used_s in cpu), moved[0] / count, moved[1] / count)


def publishing(broker: RedisBroker, *, history: int, has_keys: bool) -> Callable[[int], Awaitable[None]]:
    async def publish(number: int) -> None:
        key = f"sub\0key-{number:08d}" if has_keys else None
        await append(broker, [one(name(number % CHANNELS), history=history, key=key)])

    return publish


async def work(plan: Plan, say: Say) -> None:
    async with redis_server() as server, opened(server.url) as broker:

        async def told(what: str, call: Callable[[int], Awaitable[Any]]) -> None:
            say(f"{what}: {await worked([server], plan.seconds, call)}")

        await told("a publish, history off, without keys", publishing(broker, history=0, has_keys=False))
        await told("a publish, history on, without keys", publishing(broker, history=HISTORY, has_keys=False))
        await told("a publish, history on, with keys", publishing(broker, history=HISTORY, has_keys=True))
        for number in range(plan.keys):
            await join(broker, "a", number)
        await told(
            f"a presence lease renewed, {plan.keys:,} on the channel", lambda n: join(broker, "a", n % plan.keys)
        )
        await told("a head compared", lambda n: broker.heads([name(n % CHANNELS)]))
    for listeners in (0, 1, 4, 16):
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(redis_server())
            broker = await stack.enter_async_context(opened(server.url))
            for _ in range(listeners):
                listening = await stack.enter_async_context(opened(server.url))
                await asyncio.gather(*(listening.subscribe(name(number)) for number in range(CHANNELS)))
            publish = publishing(broker, history=HISTORY, has_keys=False)
            for in_flight in (1, IN_FLIGHT):
                found = await worked([server], plan.seconds, publish, in_flight)
                say(f"a publish, {in_flight} in flight, heard by {listeners} nodes: {found}")


async def replication(plan: Plan, say: Say) -> None:
    """What a primary sends to each of its replicas, and by how much its file of writes grows."""
    async with redis_server() as server:
        async with redis_server(name="replica", options=(f"replicaof 127.0.0.1 {server.port}",)) as replica:

            async def follows() -> bool:
                return (await replica.info("replication"))["master_link_status"] == "up"

            await replica.process.until(follows, "a replica")
            async with opened(server.url) as broker:
                publish = publishing(broker, history=HISTORY, has_keys=True)
                before = int((await server.info("replication"))["master_repl_offset"])
                await asyncio.gather(*map(publish, range(plan.keys)))
                grown = int((await server.info("replication"))["master_repl_offset"]) - before
                say(f"a publish, history on, with keys, to each replica: {grown / plan.keys:.0f} bytes")


async def shards(plan: Plan, say: Say) -> None:
    """The same load on one server and on a Cluster of three, one after the other, on the same machine."""
    for kind in ("one server", "a Cluster of three"):
        async with AsyncExitStack() as stack:
            if kind == "one server":
                server = await stack.enter_async_context(redis_server())
                servers, url = [server], server.url
            else:
                made = await stack.enter_async_context(cluster())
                servers = made.servers
                url = f"redis+cluster://{','.join(f'{host}:{port}' for host, port in made.addresses)}"
            broker = await stack.enter_async_context(opened(url))
            found = await worked(servers, plan.seconds, publishing(broker, history=HISTORY, has_keys=True))
            say(f"a publish to one of {CHANNELS} channels of {kind}: {found}")


# -- a node


async def node(plan: Plan, say: Say) -> None:
    with http_issuer(AUDIENCE) as issuer:
        async with redis_server() as server, nodes(1, broker=server.url, issuer=issuer) as group:
            rss = psutil.Process(group[0].process.pid).memory_info().rss
            say(f"a node without clients: {rss / 1e6:.0f} MB resident")
    if sys.platform == "linux":
        say(f"the kernel's own for an idle connection: {kernel_bytes(plan.sockets):,.0f} bytes")
    clock = SystemClock()
    made = DevelopmentIssuer("http://issuer.bench.test", AUDIENCE, clock)
    verifier = JwtVerifier([IssuerConfig(issuer=made.issuer, keys=made.keys)], AUDIENCE, clock, Limits())
    tokens = [made.mint(f"user-{number}", FULL_SCOPE) for number in range(plan.tokens)]
    start_s = time.process_time()
    for token in tokens:
        await verifier.verify(token)
    say(f"a token (ES256) verified for the first time: {(time.process_time() - start_s) / len(tokens) * 1e6:.0f} us")
    await verifier.close()


def kernel_bytes(count: int) -> float:
    """Slab memory of the machine for each TCP socket of an accepted, idle connection; half of both ends' growth."""

    def slab() -> int:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        return sum(int(lines[name].split()[0]) * 1024 for name in ("SReclaimable", "SUnreclaim"))

    with socket.create_server(("127.0.0.1", 0), backlog=1_024) as listener:
        before, held = slab(), []
        for _ in range(count):
            held.append(socket.create_connection(listener.getsockname()))
            held.append(listener.accept()[0])
        grown = slab() - before
        for end in held:
            end.close()
    return grown / len(held)


async def measure(plan: Plan, say: Say) -> None:
    await memory(plan, say)
    await work(plan, say)
    await replication(plan, say)
    await shards(plan, say)
    await node(plan, say)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.sizing", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer of everything; for a first look")
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 < soft < 16_384:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16_384) if hard > 0 else 16_384, hard))
    print(f"{os.uname().sysname} {os.uname().machine}, {os.cpu_count()} cores, Python {sys.version.split()[0]}")
    # The servers' logs, which the fixtures print, are of interest only when something fails.
    shown, logs = sys.stdout, io.StringIO()
    try:
        with redirect_stdout(logs):
            asyncio.run(measure(QUICK if options.quick else FULL, lambda line: print(line, file=shown, flush=True)))
    except BaseException:
        sys.stderr.write(logs.getvalue())
        raise


if __name__ == "__main__":
    sys.exit(main())
