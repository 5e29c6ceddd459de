"""The Python client: channels over whichever transport works, and over another one when it stops working.

    async with Client("https://live.example.com", get_token) as client:
        subscription = await client.subscribe("chat:lobby")
        await client.publish("chat:lobby", {"text": "hello"})
        async for publication in subscription:
            print(publication.cursor, publication.data)

Promise: a subscription yields offsets that rise by exactly one, whatever carried them, for as long as the client comes
back within the history kept; otherwise `on_reset` is called. Nothing here is safe to use from another thread.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Literal

import msgspec

from hybrid.client.credentials import Credentials, TokenFailed, TokenSource
from hybrid.client.endpoint import Dial, Endpoint
from hybrid.client.in_process import AsgiApp, InProcess
from hybrid.client.legs import LEGS
from hybrid.client.session import Session
from hybrid.client.subscription import Subscription
from hybrid.client.timing import Timing
from hybrid.client.values import ClientState, HistoryPage, Hooks, LegEvent, Stats, received
from hybrid.errors import ProtocolError
from hybrid.model import Position, PresenceEntry
from hybrid.protocol.channels import parse_channel, parse_type
from hybrid.protocol.commands import Call, History, Presence, Publish
from hybrid.protocol.cursor import from_wire, to_wire
from hybrid.protocol.data import bytes_to_json, check_json
from hybrid.protocol.pushes import AttachedLimits

BUFFER_MAX: Final = 1_000
"""Publications that one subscription holds for a slow reader; see `Subscription` for what happens past it."""
CALLS_MAX: Final = 128
"""Publishes and questions in flight of one client; more wait their turn."""
_GOODBYE_TIMEOUT_S: Final = 2.0
_DATA_MAX_BYTES: Final = 1_048_576  # of any server; what this one takes it says itself


class Client:
    """See the module's text. `get_token` gives an access token, or None to be anonymous, and may be a coroutine.

    `transport` is one name or several, the best first: websocket, sse, longpoll. `encoding` "msgpack" concerns the
    WebSocket. `dial` sends the bytes elsewhere than the URL says (see `endpoint`); `app` is an ASGI application in this
    process that is asked instead, without sockets. `on_subscribe(channel, position)` is called when the server asks for
    a subscription to a channel after a position; to have it, `subscribe`. Raises SettingsError for a URL or a transport
    that does not exist.

    Told in the loop, and what they raise is logged: `on_state(state, reason)`; `on_leg(event)`, every line of `log`;
    `on_error(error)`, Unreachable after each round in which all transports failed, HybridError when it is over.
    """

    def __init__(
        self,
        url: str,
        get_token: TokenSource | None = None,
        transport: str | tuple[str, ...] = tuple(LEGS),
        *,
        encoding: Literal["json", "msgpack"] = "json",
        dial: Dial | None = None,
        tls: ssl.SSLContext | None = None,
        timing: Timing | None = None,
        buffer_max: int = BUFFER_MAX,
        on_subscribe: Callable[[str, Position], object] | None = None,
        app: AsgiApp | None = None,
        on_state: Callable[[ClientState, str], None] | None = None,
        on_leg: Callable[[LegEvent], None] | None = None,
        on_error: Callable[[Exception], None] | None = None,
    ) -> None:
        self._on_subscribe = on_subscribe
        self._timing = timing or Timing()
        self._transports = check_transports(transport)
        self._endpoint = Endpoint(
            url,
            dial=dial,
            tls=tls,
            connect_timeout_s=self._timing.connect_timeout_s,
            in_process=None if app is None else InProcess(app),
        )
        self._credentials = Credentials(get_token)
        self._encoding = encoding
        self._buffer_max = buffer_max
        self._hooks = Hooks(on_state, on_leg, on_error)
        self._calls = asyncio.Semaphore(CALLS_MAX)
        self._group = asyncio.TaskGroup()
        self._tasks: list[asyncio.Task[None]] = []
        self._live: Session | None = None

    async def __aenter__(self) -> Client:
        """Start to connect; `connected` waits for it, and so do all calls that need it."""
        await self._endpoint.open()
        await self._group.__aenter__()
        self._live = Session(
            self._endpoint,
            self._credentials,
            self._transports,
            encoding=self._encoding,
            timing=self._timing,
            buffer_max=self._buffer_max,
            hooks=self._hooks,
            group=self._group,
            on_subscribe=self._on_subscribe,
        )
        self._hooks.state("connecting", "")
        self._tasks = [self._group.create_task(self._live.legs.run()), self._group.create_task(self._live.legs.probe())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Say goodbye and end everything; readers of subscriptions come to their end."""
        session = self._session
        try:
            for task in self._tasks:
                task.cancel()
            with suppress(TimeoutError):
                async with asyncio.timeout(_GOODBYE_TIMEOUT_S):
                    await session.legs.goodbye()
        finally:
            session.close()
            try:
                # The group would wrap the body's own error into an ExceptionGroup if it were told of it.
                await self._group.__aexit__(None, None, None)
            finally:
                await self._endpoint.close()

    @property
    def _session(self) -> Session:
        if self._live is None:
            raise RuntimeError("use the client within `async with`")
        return self._live

    # -- channels

    async def subscribe(self, channel: str, position: Position | None = None, history: int = 0) -> Subscription:
        """Subscribe: after `position`, or to the last `history` publications and on, or from now.

        Returns when the server has answered, also across reconnects. Raises HybridError: ChannelError `forbidden` where
        the channel may not be read (or does not exist), `already_subscribed` for a second one. Cancel-safe.
        """
        if not 0 <= history <= 1000:
            raise ProtocolError("bad_request", f"history lies between 0 and 1000, not {history}.")
        return await self._session.subscribe(parse_channel(channel), position, history)

    async def publish(self, channel: str, data: Any, key: str | None = None, type: str | None = None) -> Position:
        """Publish a JSON value or bytes; returns where it stands in the log.

        It is repeated on another leg until it is answered, and takes effect once: `key` names it (one is made where
        none is given). Raises HybridError; `outcome_unknown` when no answer came for as long as the server knows the
        key. Cancelling it leaves the outcome unknown.
        """
        raw, is_binary = encode_data(data)
        command = Publish(
            channel=parse_channel(channel),
            data=msgspec.Raw(raw),
            key=key if key is not None else secrets.token_hex(16),
            type=parse_type(type) if type is not None else None,
            binary=is_binary,
        )
        async with self._calls:
            reply = await self._session.call(command)
        if reply.position is None:
            raise ProtocolError("protocol_error", "The answer to a publish holds no position.")
        return from_wire(reply.position)

    async def history(
        self, channel: str, after: Position | None = None, limit: int = 100, reverse: bool = False
    ) -> HistoryPage:
        """Publications that are kept: after a position, or the first `limit`, or (reverse) the newest first. A list,
        with the position of the newest one there is as its `head`.

        Raises HybridError: `not_offered`, `unrecoverable`, `forbidden`. Cancel-safe.
        """
        command = History(
            channel=parse_channel(channel),
            after=None if after is None else to_wire(after),
            limit=limit,
            reverse=reverse,
        )
        async with self._calls:
            reply = await self._session.call(command)
        head = Position(0) if reply.head is None else from_wire(reply.head)
        return HistoryPage([received(publication) for publication in reply.publications or ()], head)

    async def presence(self, channel: str) -> list[PresenceEntry]:
        """Who is on the channel now. Raises HybridError `not_offered`, `forbidden`. Cancel-safe."""
        async with self._calls:
            reply = await self._session.call(Presence(channel=parse_channel(channel)))
        return [PresenceEntry(entry.subject, entry.client) for entry in reply.entries or ()]

    async def call(self, name: str, data: Any = None, key: str | None = None) -> Any:
        """What the server's handler `name` returns for a JSON value.

        It is repeated on another leg until it is answered, and carried out at most once: `key` names it (one is made
        where none is given). Raises HybridError: `not_found` for a handler that does not exist, whatever the handler
        refuses with, `call_failed` when it fails, `outcome_unknown` when no answer came for as long as the server knows
        the key. Cancelling it leaves the outcome unknown.
        """
        raw, is_binary = encode_data(data)
        if is_binary:
            raise ProtocolError("bad_request", "A call takes a JSON value, not bytes.")
        command = Call(name=name, data=msgspec.Raw(raw), key=key if key is not None else secrets.token_hex(16))
        async with self._calls:
            reply = await self._session.call(command)
        return None if reply.result is msgspec.UNSET else reply.result

    # -- the connection

    async def connected(self) -> None:
        """Return when a leg is current. Raises HybridError when the server said stay away. Cancel-safe."""
        await self._session.legs.connected()

    async def refresh(self) -> None:
        """Ask `get_token` for a new token and show it to the server without reconnecting. Raises HybridError, and what
        `get_token` raises.

        It happens by itself when the server says that the token is about to end.
        """
        try:
            await self._session.refresh()
        except TokenFailed as failed:
            raise failed.__cause__ or failed from None

    async def move_to(self, transport: str) -> None:
        """Carry on over another transport without losing, repeating or reordering anything; the client stays there.

        Raises ConnectionError when it does not work; the former transport then goes on. Cancel-safe.
        """
        await self._session.legs.move_to(check_transports(transport)[0])

    def wake(self) -> None:
        """Say that the network has changed, or that the machine has slept: a client that waits comes back now, and one
        that is connected asks whether its leg still lives, with two seconds' patience.
        """
        self._session.legs.wake()

    def cut(self) -> None:
        """Drop the open transport without a word, as a cut cable would; the client comes back by itself."""
        self._session.legs.cut()

    @property
    def state(self) -> ClientState:
        """disconnected before the block and when it is over, connecting, or connected."""
        return "disconnected" if self._live is None else self._live.legs.state

    @property
    def session(self) -> str | None:
        """The session's id; None before the first attach."""
        return self._session.id or None

    @property
    def limits(self) -> AttachedLimits | None:
        """What the server told at the last attach, such as `data_max_bytes`; None before the first one."""
        return self._session.limits

    @property
    def transport(self) -> str | None:
        """What carries the session now; None while nothing does."""
        current = self._session.legs.current
        return current.transport if current is not None else None

    @property
    def log(self) -> deque[LegEvent]:
        """What happened to its legs, the last 1000 events."""
        return self._session.legs.log

    @property
    def stats(self) -> Stats:
        """Counters."""
        return self._session.stats


def check_transports(transport: str | tuple[str, ...]) -> tuple[str, ...]:
    """The transports named, in order. Raises ProtocolError for one that does not exist."""
    names = (transport,) if isinstance(transport, str) else tuple(transport)
    for name in names or ("",):
        if name not in LEGS:
            raise ProtocolError("bad_request", f"{name!r} is no transport; there are {', '.join(LEGS)}.")
    return names


def encode_data(data: Any) -> tuple[bytes, bool]:
    """What is to be published as checked JSON, and whether it stands for bytes. Raises ProtocolError."""
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes_to_json(bytes(data), _DATA_MAX_BYTES), True
    try:
        raw = msgspec.json.encode(data)
    except (TypeError, ValueError, RecursionError) as error:
        raise ProtocolError("bad_request", f"The data cannot be written as JSON: {error}.") from None
    return check_json(raw, _DATA_MAX_BYTES), False
