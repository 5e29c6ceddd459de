"""What the benches of requests share: servers of one or two versions, and clients with one question in flight each.

A question is bytes, and so is what is looked for in an answer, so that one thread on one core can keep a server on
another one busy. Two versions (`--beside TREE`, another checkout) take turns within one run: only their ratio means
something on a machine that others use.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import select
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

from hybrid.auth.development import FULL_SCOPE, DevelopmentIssuer
from tests.bench.nodes import cpu_s
from tests.support.http_issuer import http_issuer
from tests.support.nodes import AUDIENCE, ROOT, nodes
from tests.support.redis_servers import RedisServer, redis_server

STALLED_S: Final = 10.0
BARE: Final = "Hypercorn alone"
NAMESPACES: Final = {
    "kept": {"history_size": 100, "history_ttl_s": 300.0},
    "unkept": {"history_size": 0},
}
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CLOSE: Final = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_HOST: Final = AUDIENCE.removeprefix("http://")


class Failed(Exception):
    """A server did not do what was asked of it."""


class Talk(Protocol):
    """What one connection says and hears."""

    def opening(self) -> list[tuple[bytes, bytes]]:
        """What is sent first, each with what its answer holds."""

    def question(self) -> bytes:
        """The next question."""

    def answered(self, heard: bytes) -> int:
        """How much of the work the answer stands for; 0 while it is not whole. Raises Failed."""

    def is_over(self, heard: bytes) -> bool:
        """Whether the server ends the connection behind this answer."""


class HttpTalk:
    """Requests, one after another."""

    def __init__(self, question: Callable[[bytes], bytes], worth: int = 1, must_hold: bytes = b"") -> None:
        """`question` makes a request of the body that was answered last; an answer is worth so much work."""
        self._question = question
        self._worth = worth
        self._must_hold = must_hold
        self._body = b""

    def opening(self) -> list[tuple[bytes, bytes]]:
        return []

    def question(self) -> bytes:
        return self._question(self._body)

    def answered(self, heard: bytes) -> int:
        end = heard.find(b"\r\n\r\n")
        if end < 0:
            return 0
        length = _LENGTH.search(heard)
        if length is None or not heard.startswith(b"HTTP/1.1 200"):
            raise Failed(f"a request was refused: {heard[:400]!r}")
        if len(heard) < end + 4 + int(length.group(1)):
            return 0
        self._body = heard[end + 4 :]
        if self._must_hold not in self._body or b'"error"' in self._body:
            raise Failed(f"not the answer that was expected: {heard[-400:]!r}")
        return self._worth

    def is_over(self, heard: bytes) -> bool:
        return _CLOSE.search(heard, 0, heard.find(b"\r\n\r\n") + 2) is not None


class SocketTalk:
    """A WebSocket session that publishes, so many commands at once."""

    def __init__(self, token: str, question: Callable[[], bytes], worth: int) -> None:
        self._token = token
        self._question = question
        self._worth = worth

    def opening(self) -> list[tuple[bytes, bytes]]:
        head = (
            f"GET /v1/stream HTTP/1.1\r\nHost: {_HOST}\r\nAuthorization: Bearer {self._token}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: hybrid.v1\r\n\r\n"
        )
        attach = b'{"method":"attach","attempt":1,"confirm":true,"subscriptions":[]}'
        return [(head.encode(), b"\r\n\r\n"), (frame(attach), b'"subscribed"')]

    def question(self) -> bytes:
        return self._question()

    def answered(self, heard: bytes) -> int:
        if b'"error"' in heard:
            raise Failed(f"a publish failed: {heard[:400]!r}")
        return self._worth if heard.count(b'"reply"') == self._worth and heard.endswith(b"}}") else 0

    def is_over(self, heard: bytes) -> bool:
        return False


def frame(payload: bytes) -> bytes:
    """A client's text frame; masked with zeros, which every server has to undo all the same."""
    if len(payload) < 126:
        return bytes((0x81, 0x80 | len(payload))) + bytes(4) + payload
    if len(payload) < 65_536:
        return b"\x81\xfe" + len(payload).to_bytes(2, "big") + bytes(4) + payload
    return b"\x81\xff" + len(payload).to_bytes(8, "big") + bytes(4) + payload


def request(method: str, target: str, token: str, body: bytes = b"", accept: str = "application/json") -> bytes:
    """A whole HTTP/1.1 request."""
    head = f"{method} {target} HTTP/1.1\r\nHost: {_HOST}\r\nAuthorization: Bearer {token}\r\nAccept: {accept}\r\n"
    if method == "POST":
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


class Clients:
    """Connections of one kind to one server, in one thread."""

    def __init__(self, port: int, talks: Sequence[Talk]) -> None:
        self._port = port
        self._epoll = select.epoll()
        self._sockets: dict[int, tuple[socket.socket, Talk]] = {}
        self._heard: dict[int, bytearray] = {}
        self._idle: list[int] = []
        for talk in talks:
            self._idle.append(self._open(talk))

    def close(self) -> None:
        for connection, _ in self._sockets.values():
            connection.close()
        self._epoll.close()

    def _open(self, talk: Talk) -> int:
        connection = socket.create_connection(("127.0.0.1", self._port), timeout=STALLED_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for opening, answer in talk.opening():
            connection.sendall(opening)
            heard = b""
            while answer not in heard:
                piece = connection.recv(65_536)
                if not piece:
                    raise Failed(f"a connection was closed: {heard!r}")
                heard += piece
        descriptor = connection.fileno()
        self._sockets[descriptor] = (connection, talk)
        self._epoll.register(descriptor, select.EPOLLIN)
        return descriptor

    def ask(self) -> None:
        """Ask on every idle connection."""
        while self._idle:
            self._ask(self._idle.pop())

    def _ask(self, descriptor: int) -> None:
        connection, talk = self._sockets[descriptor]
        self._heard[descriptor] = bytearray()
        connection.sendall(talk.question())

    def run(self, seconds: float) -> int:
        """Ask and ask again for so long, and take the last answers; how much work was done."""
        end_s = time.monotonic() + seconds
        self.ask()
        done = 0
        while self._heard:
            done += self.hear(asks_again=time.monotonic() < end_s)
        return done

    def hear_all(self) -> int:
        """Take the answers to all that was asked."""
        done = 0
        while self._heard:
            done += self.hear(asks_again=False)
        return done

    def hear(self, *, asks_again: bool) -> int:
        """Take what has come. Raises Failed when nothing comes any more."""
        done = 0
        ready = self._epoll.poll(STALLED_S)
        if not ready:
            raise Failed(f"{len(self._heard)} questions are not answered")
        for descriptor, _ in ready:
            connection, talk = self._sockets[descriptor]
            piece = connection.recv(1 << 20)
            heard = self._heard.get(descriptor)
            if not piece or heard is None:
                if heard is not None:
                    raise Failed(f"a connection was closed instead of an answer; so far {bytes(heard)!r}")
                self._hang_up(descriptor)  # idle for too long
                self._idle.append(self._open(talk))
                continue
            heard += piece
            whole = bytes(heard)
            worth = talk.answered(whole)
            if not worth:
                continue
            done += worth
            del self._heard[descriptor]
            if talk.is_over(whole):
                self._hang_up(descriptor)
                descriptor = self._open(talk)
            if asks_again:
                self._ask(descriptor)
            else:
                self._idle.append(descriptor)
        return done

    def _hang_up(self, descriptor: int) -> None:
        connection, _ = self._sockets.pop(descriptor)
        if descriptor in self._idle:
            self._idle.remove(descriptor)
        self._epoll.unregister(descriptor)
        connection.close()


@contextmanager
def clients(port: int, talks: Sequence[Talk]) -> Iterator[Clients]:
    """Connections, closed at the end."""
    made = Clients(port, talks)
    try:
        yield made
    finally:
        made.close()


# -- servers and figures


@dataclass
class Served:
    """A server that runs now. `redis` is what it stands on, if it does."""

    name: str
    port: int
    pid: int
    issuer: DevelopmentIssuer
    redis: RedisServer | None = None

    def token(self, subject: str = "bench") -> str:
        return self.issuer.mint(subject, FULL_SCOPE)

    def spent_s(self) -> dict[str, float]:
        """Seconds of CPU so far."""
        spent = {"node": cpu_s(self.pid)}
        if self.redis is not None:
            spent["Redis"] = cpu_s(self.redis.process.pid)
        return spent


@dataclass
class Figures:
    """What the rounds of one measurement gave for one server: work per second of its CPU, and of Redis', and time."""

    per_cpu_s: list[float] = field(default_factory=list)
    redis_us: list[float] = field(default_factory=list)
    per_s: list[float] = field(default_factory=list)

    def add(self, work: int, before: dict[str, float], after: dict[str, float], took_s: float) -> None:
        spent = {name: after[name] - before[name] for name in after}
        self.per_cpu_s.append(work / spent["node"])
        self.per_s.append(work / took_s)
        if "Redis" in spent:
            self.redis_us.append(spent["Redis"] / work * 1e6)

    def __str__(self) -> str:
        middle = statistics.median(self.per_cpu_s)
        told = f"{middle:,.0f}/CPU-s ({min(self.per_cpu_s):,.0f}-{max(self.per_cpu_s):,.0f}), {1e6 / middle:.1f} us"
        told += f"; {statistics.median(self.per_s):,.0f}/s"
        return told + (f"; Redis {statistics.median(self.redis_us):.1f} us" if self.redis_us else "")


Work: TypeAlias = Callable[[Served], AbstractContextManager[Callable[[float], int]]]
"""Opens its clients, and gives what works for so many seconds and says how much."""


def compare(name: str, servers: Sequence[Served], work: Work, rounds: int, seconds: float) -> None:
    """Let each server have its turn in every round, and print what came of it."""
    figures = {served.name: Figures() for served in servers}
    for number in range(rounds + 1):
        for served in servers:
            with work(served) as do:
                do(min(0.3, seconds))
                before, began_s = served.spent_s(), time.monotonic()
                done = do(seconds)
                after, ended_s = served.spent_s(), time.monotonic()
            if number:  # the first round warms up
                figures[served.name].add(done, before, after, ended_s - began_s)
    for told in figures:
        print(f"{name}, {told}: {figures[told]}", flush=True)
    if len(figures) == 2:
        old, new = (statistics.median(found.per_cpu_s) for found in figures.values())
        print(f"{name}: {new / old:.2f}x", flush=True)


def options(description: str | None) -> argparse.ArgumentParser:
    """The options of every such bench."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each turn")
    parser.add_argument("--beside", type=Path, metavar="TREE", help="another checkout, measured in turn with this one")
    parser.add_argument("--only", default="", help="measurements whose names hold this")
    return parser


@asynccontextmanager
async def serving(chosen: argparse.Namespace, *, on_redis: bool = False) -> AsyncIterator[list[Served]]:
    """The servers to compare, on one core, with a Redis of its own behind each; this process is kept off it."""
    trees = {"this": ROOT} if chosen.beside is None else {"other": chosen.beside.resolve(), "this": ROOT}
    settings: dict[str, Any] = {"namespaces": NAMESPACES, "log_level": "warning", "limits": {"admissions_per_s": 1e6}}
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    with http_issuer(AUDIENCE) as issuer:
        async with AsyncExitStack() as stack:
            served = []
            for name, tree in trees.items():
                redis = await stack.enter_async_context(redis_server(name=f"redis-{name}")) if on_redis else None
                broker = "memory:" if redis is None else redis.url
                group = await stack.enter_async_context(
                    nodes(1, broker=broker, issuer=issuer, settings=settings, tree=tree)
                )
                served.append(Served(name, group[0].port, group[0].process.pid, issuer, redis))
            if not on_redis:
                served.append(Served(BARE, *stack.enter_context(bare()), issuer))
            for server in served:
                if len(cores) > 1:
                    os.sched_setaffinity(server.pid, cores[:1])
            if len(cores) > 1:
                os.sched_setaffinity(0, cores[1:])
            yield served


@contextmanager
def bare() -> Iterator[tuple[int, int]]:
    """Port and process of a server that is nothing but Hypercorn."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.bare"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline()), process.pid
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


@contextmanager
def bare_posts(served: Served) -> Iterator[Callable[[float], int]]:
    """What every figure of one run can be compared with: a POST that does nothing."""
    question = request("POST", "/", served.token(), b"{}")
    with clients(served.port, [HttpTalk(lambda _: question) for _ in range(32)]) as made:
        yield made.run


async def run(chosen: argparse.Namespace, servers: Sequence[Served], works: Mapping[str, Work]) -> None:
    """Measure all that was chosen, in a thread: the balancer's and the issuer's loops go on."""
    alone = [served for served in servers if served.name == BARE]
    servers = [served for served in servers if served.name != BARE]
    if alone:
        await asyncio.to_thread(compare, "a POST that does nothing", alone, bare_posts, chosen.rounds, chosen.seconds)
    for name, work in works.items():
        if chosen.only in name:
            await asyncio.to_thread(compare, name, servers, work, chosen.rounds, chosen.seconds)
