"""Clients of a real server in this process: sockets that ask for a channel and then are let lie."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from tests.bench.shapes.wire import READY, opening
from tests.costs.party import CHANNEL
from tests.support.server import RunningServer

CARRIED: Final = ("websocket", "sse", "plain sse")
"""The ways that a whole server is asked for here; `party.KINDS` has more."""
GUESTS_MAX: Final = 60
PATIENCE_S: Final = 10.0
MARK: Final = b"@"
"""In every publication, and nowhere else."""


class Guests:
    """Those that have come so far."""

    def __init__(self, server: RunningServer, kind: str) -> None:
        self._server = server
        self._tasks = len(asyncio.all_tasks())
        self._kind = kind
        # Made beforehand: the issuer is in this process, and what it keeps of each is no cost of a client.
        self._tokens = [server.token(f"user-{number}") for number in range(GUESTS_MAX)]
        self._stack = ExitStack()
        self.sockets: list[socket.socket] = []

    async def come(self, count: int) -> None:
        """So many more, each with a token and a subject of its own, until they are subscribed."""
        for _ in range(count):
            self.sockets.append(await self._one(self._tokens[len(self.sockets)]))

    async def settled(self) -> None:
        """Wait until no task is left of their coming: Hypercorn's of a connection end after it was handed off."""
        end_s = time.monotonic() + PATIENCE_S
        while len(asyncio.all_tasks()) > self._tasks:
            assert time.monotonic() < end_s, f"tasks of {len(self.sockets)} clients stay: {asyncio.all_tasks()}"
            await asyncio.sleep(0.002)

    async def _one(self, token: str) -> socket.socket:
        loop = asyncio.get_running_loop()
        made = self._stack.enter_context(socket.socket())
        made.setblocking(False)
        await loop.sock_connect(made, ("127.0.0.1", self._server.port))
        host = f"127.0.0.1:{self._server.port}"
        first, second = opening(self._kind, host, token, [{"channel": CHANNEL}])
        await loop.sock_sendall(made, first)
        seen = b""
        while b"\r\n\r\n" not in seen:
            seen += await loop.sock_recv(made, 65_536)
        await loop.sock_sendall(made, second)
        while READY[self._kind] not in seen:
            seen += await loop.sock_recv(made, 65_536)
        return made

    async def received(self, publications: int) -> int:
        """Wait until each has got so many publications since it was asked last; the bytes that all have got."""
        loop = asyncio.get_running_loop()
        size = 0
        for made in self.sockets:
            count = 0
            while count < publications:
                data = await loop.sock_recv(made, 65_536)
                assert data, "a connection was closed"
                count += data.count(MARK)
                size += len(data)
        return size

    def close(self) -> None:
        self._stack.close()


@contextmanager
def guests(server: RunningServer, kind: str) -> Iterator[Guests]:
    made = Guests(server, kind)
    try:
        yield made
    finally:
        made.close()


async def publish(server: RunningServer, count: int = 1) -> None:
    """As the embedding application does; 128 bytes each."""
    for _ in range(count):
        await server.engine.publish(CHANNEL, MARK.decode() + "x" * 125)
