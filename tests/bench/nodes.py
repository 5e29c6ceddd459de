"""`make bench-nodes`: what several nodes on one Redis cost, and what each publish costs, beside the broker in memory.

Real `hybrid serve` processes, a real redis-server, real sockets; the load runs in this process. Figures of one run are
to be compared with each other only: all of it shares the machine. Exit status 1 when something did not arrive.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx2
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from hybrid.auth.development import FULL_SCOPE, DevelopmentIssuer
from tests.bench.unlimited import UNLIMITED
from tests.support.http_issuer import http_issuer
from tests.support.nodes import AUDIENCE, Node, Nodes, nodes
from tests.support.redis_servers import RedisServer, redis_server

DATA: Final = "x" * 128
CHANNEL: Final = "kept:bench"
IN_FLIGHT: Final = 64
NAMESPACES: Final = {
    "kept": {"history_size": 100, "history_ttl_s": 300.0},
    "unkept": {"history_size": 0},
}


@dataclass(frozen=True)
class Plan:
    deliveries: int
    commands: int
    seconds: float
    revoked: int


FULL = Plan(deliveries=3_000, commands=1_000, seconds=4.0, revoked=1_000)
QUICK = Plan(deliveries=500, commands=200, seconds=1.0, revoked=200)
_OPENED_AT_ONCE: Final = 50
_REVOKED: Final = 4503


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has used, to the nanosecond (clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


def quantiles(values: list[float]) -> str:
    """p50 and p99, of seconds, in milliseconds."""
    ordered = sorted(values)
    p50, p99 = (ordered[min(len(ordered) - 1, int(len(ordered) * part))] * 1000 for part in (0.5, 0.99))
    return f"p50 {p50:.2f} ms, p99 {p99:.2f} ms"


def p50_ms(values: list[float]) -> float:
    return sorted(values)[len(values) // 2] * 1000


def attach(*channels: str) -> str:
    subscriptions = [{"channel": channel} for channel in channels]
    return json.dumps({"method": "attach", "attempt": 1, "confirm": True, "subscriptions": subscriptions})


@asynccontextmanager
async def session(node: Node, token: str, *channels: str) -> AsyncIterator[ClientConnection]:
    """A WebSocket session that has been told `subscribed`."""
    async with connect(
        f"ws://127.0.0.1:{node.port}/v1/stream",
        subprotocols=[Subprotocol("hybrid.v1")],
        additional_headers={"Authorization": f"Bearer {token}"},
        compression=None,
        proxy=None,
        max_size=None,
    ) as socket:
        await socket.send(attach(*channels))
        while "subscribed" not in json.loads(await socket.recv()):
            pass
        yield socket


async def latencies(group: Nodes, issuer: DevelopmentIssuer, plan: Plan) -> dict[str, list[float]]:
    """From just before a publish is sent to its receipt, at the publisher's node and at the other one."""
    found: dict[str, list[float]] = {"within a node": [], "across two nodes": []}
    token = issuer.mint("bench", FULL_SCOPE)
    async with (
        session(group[0], token) as publisher,
        session(group[0], token, CHANNEL) as near,
        session(group[1], token, CHANNEL) as far,
    ):
        for number in range(plan.deliveries):
            sent_s = time.perf_counter()
            await publisher.send(
                json.dumps(
                    {"id": number + 1, "method": "publish", "channel": CHANNEL, "data": DATA, "key": f"l{number}"}
                )
            )
            arrivals = await asyncio.gather(_publication(near), _publication(far))
            for kind, arrived_s in zip(found, arrivals, strict=True):
                found[kind].append(arrived_s - sent_s)
            await publisher.recv()
            await asyncio.sleep(0.001)
    return found


async def _publication(socket: ClientConnection) -> float:
    while b"publication" not in (await socket.recv(decode=False)):
        pass
    return time.perf_counter()


async def carried(group: Nodes, issuer: DevelopmentIssuer, plan: Plan) -> dict[str, list[float]]:
    """The same commands of one event stream, posted to its own node and to the other one in turn."""
    found: dict[str, list[float]] = {"at its own node": [], "at the other node": []}
    headers = {"Authorization": f"Bearer {issuer.mint('bench', FULL_SCOPE)}"}
    async with httpx2.AsyncClient(trust_env=False, timeout=20.0, headers=headers) as http:
        url = f"http://127.0.0.1:{group[0].port}/v1/stream"
        accept = {"Accept": "text/event-stream", "Content-Type": "application/json"}
        async with http.stream("POST", url, content=attach(CHANNEL), headers=accept) as stream:
            lines = stream.aiter_lines()
            while not (line := await anext(lines)).startswith("data:"):
                pass
            session_id = json.loads(line.removeprefix("data:"))["attached"]["session"]
            numbers = itertools.count(1)
            for turn in range(plan.commands):
                for kind, node in zip(found, group, strict=True):
                    method = "subscribe" if turn % 2 == 0 else "unsubscribe"
                    command = {"id": 1, "n": next(numbers), "method": method, "channel": f"kept:{kind[:6]}"}
                    body = json.dumps({"session": session_id, "commands": [command]})
                    sent_s = time.perf_counter()
                    answer = await http.post(f"http://127.0.0.1:{node.port}/v1/command", content=body)
                    found[kind].append(time.perf_counter() - sent_s)
                    [reply] = answer.json()["replies"]
                    if "error" in reply:
                        raise RuntimeError(f"a command failed: {reply}")
    return found


async def revoked(group: Nodes, issuer: DevelopmentIssuer, plan: Plan) -> tuple[float, list[float]]:
    """A subject's sessions are at one node, and it is revoked at the other one: when that had answered, and when each

    session had seen its end; in seconds since just before it was asked.
    """
    token = issuer.mint("mallory", FULL_SCOPE)
    async with AsyncExitStack() as stack:
        sockets: list[ClientConnection] = []
        while len(sockets) < plan.revoked:
            count = min(_OPENED_AT_ONCE, plan.revoked - len(sockets))
            opening = (stack.enter_async_context(session(group[1], token, CHANNEL)) for _ in range(count))
            sockets += await asyncio.gather(*opening)
        ends = [asyncio.create_task(_ended(socket)) for socket in sockets]
        headers = {"Authorization": f"Bearer {issuer.mint('admin', 'hybrid:revoke')}"}
        async with httpx2.AsyncClient(trust_env=False, timeout=20.0, headers=headers) as http:
            await http.post(f"http://127.0.0.1:{group[0].port}/v1/revoke", json={"jti": "to connect, and to warm up"})
            asked_s = time.perf_counter()
            answer = await http.post(f"http://127.0.0.1:{group[0].port}/v1/revoke", json={"subject": "mallory"})
            answered_s = time.perf_counter()
            answer.raise_for_status()
        async with asyncio.timeout(30):
            return answered_s - asked_s, [at_s - asked_s for at_s in await asyncio.gather(*ends)]


async def _ended(socket: ClientConnection) -> float:
    try:
        while True:
            await socket.recv(decode=False)
    except ConnectionClosed as closed:
        if closed.rcvd is None or closed.rcvd.code != _REVOKED:
            raise RuntimeError(f"a session ended otherwise: {closed}") from None
        return time.perf_counter()


async def rate(
    node: Node, redis: RedisServer | None, issuer: DevelopmentIssuer, channel: str, plan: Plan, *, has_keys: bool
) -> str:
    """Publishes a second over one WebSocket, 64 in flight, and the CPU time of each."""
    async with session(node, issuer.mint("bench", FULL_SCOPE)) as socket:
        keys = itertools.count()

        def batch() -> str:
            return "\n".join(
                json.dumps(
                    {"id": 1 + n, "method": "publish", "channel": channel, "data": DATA}
                    | ({"key": f"r{next(keys)}"} if has_keys else {})
                )
                for n in range(IN_FLIGHT)
            )

        async def publish(seconds: float) -> int:
            end_s, count, waiting = time.perf_counter() + seconds, 0, 0
            while time.perf_counter() < end_s or waiting:
                while waiting <= IN_FLIGHT and time.perf_counter() < end_s:
                    await socket.send(batch())
                    waiting += IN_FLIGHT
                frame = await socket.recv(decode=False)
                answered = frame.count(b'"reply"')
                if b'"error"' in frame:
                    raise RuntimeError(f"a publish failed: {frame[:300]!r}")
                waiting -= answered
                count += answered
            return count

        await publish(0.5)
        pids = {"node": node.process.pid, **({"Redis": redis.process.pid} if redis is not None else {})}
        before = {name: cpu_s(pid) for name, pid in pids.items()}
        start_s = time.perf_counter()
        count = await publish(plan.seconds)
        took_s = time.perf_counter() - start_s
        cpu = ", ".join(f"{name} {(cpu_s(pid) - before[name]) / count * 1e6:.0f} us" for name, pid in pids.items())
        return f"{count / took_s:,.0f}/s; CPU per publish: {cpu}"


async def measure(plan: Plan, say: Callable[[str], None]) -> None:
    settings: dict[str, Any] = {"namespaces": NAMESPACES, "log_level": "warning", "limits": UNLIMITED}
    with http_issuer(AUDIENCE) as issuer:
        async with redis_server() as redis:
            async with nodes(2, broker=redis.url, issuer=issuer, settings=settings) as group:
                for kind, values in (await latencies(group, issuer, plan)).items():
                    say(f"publish to receipt, {kind}: {quantiles(values)} ({len(values)})")
                found = await carried(group, issuer, plan)
                for kind, values in found.items():
                    say(f"a command of an event stream, posted {kind}: {quantiles(values)} ({len(values)})")
                own, other = (p50_ms(values) for values in found.values())
                say(f"what carrying adds, p50: {other - own:.2f} ms")
                answered_s, ended_s = await revoked(group, issuer, plan)
                say(
                    f"revoked at one node, {plan.revoked:,} sessions ended at the other: the first after "
                    f"{min(ended_s) * 1000:.0f} ms, the last after {max(ended_s) * 1000:.0f} ms; "
                    f"answered after {answered_s * 1000:.0f} ms"
                )
                for channel, has_keys in (("unkept:r", False), ("kept:r", False), ("kept:r", True)):
                    told = await rate(group[0], redis, issuer, channel, plan, has_keys=has_keys)
                    say(f"publishing into Redis, {_kind(channel, has_keys)}: {told}")
        async with nodes(1, broker="memory:", issuer=issuer, settings=settings) as group:
            for channel, has_keys in (("unkept:r", False), ("kept:r", False), ("kept:r", True)):
                told = await rate(group[0], None, issuer, channel, plan, has_keys=has_keys)
                say(f"publishing into memory, {_kind(channel, has_keys)}: {told}")


def _kind(channel: str, has_keys: bool) -> str:
    return f"history {'on' if channel.startswith('kept') else 'off'}, {'with' if has_keys else 'without'} keys"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer of everything; for a first look")
    options = parser.parse_args()
    asyncio.run(measure(QUICK if options.quick else FULL, lambda line: print(line, flush=True)))


if __name__ == "__main__":
    sys.exit(main())
