"""A whole little world for a scenario: a server, a faulty wire in front of it, clients, and readers that check.

async with world(handoff=handoff) as here:
    client = await here.client(pipe, "alice")
    reader = await here.read(client, "chat:lobby")
    await here.publish("chat:lobby", 1)
    await reader.until(1)
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import httpx2

from hybrid.auth.development import FULL_SCOPE
from hybrid.client import Timing
from hybrid.client.client import Client
from hybrid.client.subscription import Subscription
from hybrid.client.values import ReceivedPublication
from hybrid.clock import SystemClock
from hybrid.errors import HybridError
from hybrid.limits import Limits
from hybrid.model import Position
from hybrid.settings import Namespace, Settings
from tests.support.raw import RAW_LEGS, Door, RawLeg
from tests.support.server import Chosen, RunningServer, new_issuer, running_server, settings_for
from tests.support.wire import Cabling

TIMING: Final = Timing(backoff_base_s=0.02, backoff_max_s=0.2, connect_timeout_s=8.0)
"""As the client's own, but back soon: a test need not wait for politeness."""
# Between tests nothing runs, and the event loop seems late.
LIMITS: Final = Limits(reconnect_delay_max_ms=50, shutdown_grace_s=5.0, lag_max_s=60.0)


class Pipe(NamedTuple):
    """How a client is carried."""

    transport: str
    encoding: str = "json"

    def __str__(self) -> str:
        return self.transport if self.encoding == "json" else f"{self.transport}-{self.encoding}"


PIPES: Final = (Pipe("websocket"), Pipe("websocket", "msgpack"), Pipe("sse"), Pipe("longpoll"))


class Clock:
    """The machine's clock, plus what a test has added to it. Implements `hybrid.clock.Clock`."""

    def __init__(self) -> None:
        self._real = SystemClock()
        self.ahead_s = 0.0

    def monotonic_s(self) -> float:
        return self._real.monotonic_s() + self.ahead_s

    def wall_s(self) -> float:
        return self._real.wall_s() + self.ahead_s

    def advance(self, seconds: float) -> None:
        self.ahead_s += seconds


class Reader:
    """Reads a subscription in a task of its own, and keeps what the application would see, in order."""

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self.items: list[ReceivedPublication | Position] = []
        self.error: HybridError | None = None
        self.presence: list[tuple[str, str]] = []
        self._changed = asyncio.Event()
        subscription.on_reset = self._reset
        subscription.on_presence = lambda what, entry: self._noted(self.presence, (what, entry.subject))
        self.task = asyncio.get_running_loop().create_task(self._run())

    @property
    def publications(self) -> list[ReceivedPublication]:
        return [item for item in self.items if isinstance(item, ReceivedPublication)]

    @property
    def resets(self) -> list[Position]:
        return [item for item in self.items if isinstance(item, Position)]

    @property
    def offsets(self) -> list[int]:
        return [publication.offset for publication in self.publications]

    @property
    def data(self) -> list[Any]:
        return [publication.data for publication in self.publications]

    async def until(self, condition: int | Callable[[], bool]) -> None:
        """Wait until that many publications were read, or something became true of what was."""
        is_true = (lambda: len(self.publications) >= condition) if isinstance(condition, int) else condition
        while not is_true():
            self._changed.clear()
            await self._changed.wait()

    async def until_offset(self, offset: int) -> None:
        """Wait until the publication of this offset was read, or one behind it."""
        await self.until(lambda: bool(self.publications) and self.publications[-1].offset >= offset)

    def check(self, first: int = 1) -> None:
        """Every offset from `first` on is there once and in order, in one epoch, and nothing was reset."""
        assert self.resets == []
        self.check_between_resets(first)

    def check_between_resets(self, first: int) -> None:
        """Offsets rise by exactly one; after a reset, on from the position that it told."""
        position = Position(first - 1)
        for item in self.items:
            if isinstance(item, Position):
                position = item
                continue
            assert item.offset == position.offset + 1, [i.offset for i in self.items]
            assert position.offset == 0 or not position.epoch or item.position.epoch == position.epoch
            position = item.position

    async def _run(self) -> None:
        try:
            async for publication in self.subscription:
                self._noted(self.items, publication)
        except HybridError as error:
            self.error = error
        self._changed.set()

    def _reset(self, position: Position) -> None:
        self._noted(self.items, position)

    def _noted(self, where: list[Any], what: Any) -> None:
        where.append(what)
        self._changed.set()


class Guests:
    """The clients that were opened, and their readers; all end with the stack."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.clients: list[Client] = []
        self._stack = stack

    async def opened(self, client: Client, is_connected: bool = True) -> Client:
        """Open a client, and wait until it is connected if that is asked for."""
        await self._stack.enter_async_context(client)
        self.clients.append(client)
        if is_connected:
            await client.connected()
        return client

    async def read(self, client: Client, channel: str, position: Position | None = None, history: int = 0) -> Reader:
        """Subscribe and read."""
        reader = Reader(await client.subscribe(channel, position, history))
        self._stack.push_async_callback(_ended, reader.task)
        return reader


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class World(Guests):
    """See the module's text. What it opens ends with it."""

    def __init__(
        self, server: RunningServer, cabling: Cabling, stack: AsyncExitStack, http: httpx2.AsyncClient
    ) -> None:
        super().__init__(stack)
        self.server = server
        self.others: list[RunningServer] = []
        self.cabling = cabling
        self._http = http

    # -- clients

    async def client(
        self,
        pipe: Pipe | tuple[str, ...],
        subject: str = "alice",
        *,
        scope: str = FULL_SCOPE,
        get_token: Callable[[], str] | None = None,
        timing: Timing = TIMING,
        buffer_max: int = 1_000,
        is_connected: bool = True,
    ) -> Client:
        """hybrid's own client, through the wire; `pipe` may also be the names of several transports."""
        client = Client(
            self.server.url,
            get_token or (lambda: self.server.token(subject, scope)),
            pipe.transport if isinstance(pipe, Pipe) else pipe,
            encoding=pipe.encoding if isinstance(pipe, Pipe) else "json",  # type: ignore[arg-type]
            dial=self.cabling.dial,
            timing=timing,
            buffer_max=buffer_max,
        )
        return await self.opened(client, is_connected)

    def door(self, transport: str = "", subject: str = "alice", scope: str = FULL_SCOPE) -> Door:
        """For legs spoken by hand: through the wire of a transport, or straight to the server."""
        address = self.cabling.dial(transport) if transport else ("127.0.0.1", self.server.port)
        return Door(address, f"127.0.0.1:{self.server.port}", self.server.token(subject, scope))

    async def raw(
        self, transport: str, attach: dict[str, Any], door: Door | None = None, *, buffer_bytes: int | None = None
    ) -> RawLeg:
        """A leg spoken by hand, attached; straight to the server unless `door` says otherwise."""
        leg = RAW_LEGS[transport](door or self.door())
        self._stack.callback(leg.close)
        return await leg.open(attach, buffer_bytes=buffer_bytes)

    def close_later(self, close: Callable[[], object]) -> None:
        """Call it at the end of the world."""
        self._stack.callback(close)

    # -- publishing

    async def publish(self, channel: str, data: Any, key: str | None = None) -> Position:
        """Publish as the embedding application does, and let others have a turn."""
        appended = await self.server.engine.publish(channel, data, key=key)
        await asyncio.sleep(0)
        return appended.position

    async def publish_by_http(self, channel: str, data: Any, key: str | None = None) -> dict[str, Any]:
        """Publish as a backend does; returns the answer's JSON."""
        headers = {**self.server.bearer("backend"), "Content-Type": "application/json"}
        if key is not None:
            headers["Idempotency-Key"] = key
        url = f"{self.server.url}/v1/channels/{quote(channel, safe='')}"
        answer = await self._http.post(url, content=json.dumps(data), headers=headers)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def get(self, path: str) -> Any:
        """The JSON of a GET."""
        answer = await self._http.get(self.server.url + path, headers=self.server.bearer("backend"))
        assert answer.status_code == 200, answer.text
        return answer.json()

    # -- the server

    async def restart(self, settings: Settings) -> None:
        """Another server, with an empty memory, on the same port; the former one is shut down if it still runs."""
        port, issuer = self.server.port, self.server.issuer
        if not self.server.stopped.done():
            await self.server.shut_down()
        self.server = await self._stack.enter_async_context(running_server(settings, issuer=issuer, port=port))

    def tell(self) -> str:
        """What happened to every client, for the report of a failure."""
        lines = []
        for number, client in enumerate(self.clients):
            lines.append(f"client {number}: {client.stats}")
            lines += [
                f"  {e.at_s:.3f} {e.what} {e.transport} attempt={e.attempt} number={e.number} {e.detail}"
                for e in client.log
            ]
        return "\n".join(lines)


async def until(condition: Callable[[], bool]) -> None:
    """Let everybody else go on until something is true that nobody announces; the world's time limit ends it."""
    while not condition():  # noqa: ASYNC110 -- nothing tells of it
        await asyncio.sleep(0.002)


def settings(handoff: bool, *, limits: Limits = LIMITS, **namespaces: dict[str, Any]) -> Settings:
    """Settings of a scenario's server; each namespace's options by its name."""
    made = {name: Namespace(name, **options) for name, options in namespaces.items()}
    made.setdefault("default", Namespace("default", history_size=1_000))
    return settings_for(handoff=handoff, limits=limits, namespaces=made)


@asynccontextmanager
async def world(
    handoff: bool | Settings = True, *, limit_s: float = 20.0, clock: Clock | None = None
) -> AsyncIterator[World]:
    """A running world; a scenario that hangs in it fails after `limit_s`, and any failure tells the clients' logs."""
    chosen = settings(handoff) if isinstance(handoff, bool) else handoff
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_server(chosen, issuer=new_issuer(), clock=clock))
        cabling = await stack.enter_async_context(Cabling(server.port))
        http = await stack.enter_async_context(httpx2.AsyncClient(trust_env=False, timeout=20.0))
        here = World(server, cabling, stack, http)
        for _ in range(Chosen.backend.nodes - 1):
            other = await stack.enter_async_context(running_server(chosen, issuer=server.issuer, clock=clock))
            here.others.append(other)
            for wire in cabling.all():
                wire.other_ports.append(other.port)
        try:
            async with asyncio.timeout(limit_s):
                yield here
        except BaseException:
            print(here.tell())
            raise
