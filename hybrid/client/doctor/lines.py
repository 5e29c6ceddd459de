"""The two transports on which a server speaks by itself, opened and read with nothing in between: no retries, no pings.

A line is told apart from a leg of the client (`hybrid.client.leg`) by what it is for: a leg is to survive what a
network does, a line is to show it.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, ClassVar, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from hybrid.cancelling import ended
from hybrid.client.doctor.words import duration, passed, said_by, visible
from hybrid.client.ending import Ending, of_close, of_http
from hybrid.client.endpoint import HTTP_ERRORS, Endpoint, read_bounded
from hybrid.client.leg import COMMAND_PATH, STREAM_PATH
from hybrid.errors import ProtocolError
from hybrid.protocol.codec import JSON
from hybrid.protocol.eventstream import EventStreamParser
from hybrid.protocol.pushes import Attached, Push

UNAUTHORIZED: Final = 3401
_EVENT_MAX_BYTES: Final = 1_048_576


class Broken(Exception):
    """The network's doing, as sentences; `flaw` for machines."""

    def __init__(self, flaw: str, *facts: str) -> None:
        super().__init__(facts[0])
        self.flaw = flaw
        self.facts = facts


class Told(Exception):
    """The server's own word: nothing on the way is to blame."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.detail)
        self.ending = ending


class Line:
    """One connection. Frames its use with `open` and `close`. Times are those of the running loop, in seconds."""

    transport: ClassVar[str]

    def __init__(
        self, endpoint: Endpoint, token: str | None, patience_s: float, heartbeat_s: float | None = None
    ) -> None:
        """`heartbeat_s`: what the server is asked for; None leaves it to it."""
        self.endpoint = endpoint
        self.attached: Attached | None = None
        self.facts: list[str] = []
        """What its head told of the way."""
        self.head_s = 0.0
        """How long it took until it was open."""
        self._token = token
        self._patience_s = patience_s
        self._heartbeat_s = heartbeat_s
        self._nonce = secrets.token_hex(8)
        self._clock = asyncio.get_running_loop().time

    async def open(self) -> None:
        """Return when the nonce has come back. Raises Broken, Told."""
        raise NotImplementedError

    async def read(self) -> list[Push]:
        """What comes next, for as long as it takes. Cancel-safe. Raises Broken, Told."""
        raise NotImplementedError

    async def ask(self, number: int) -> None:
        """Ask for a heartbeat, which will bring this number, from 1 on. Raises Broken, Told."""
        raise NotImplementedError

    async def answer(self) -> None:
        """A heartbeat was heard: say that we live, where the server wants to know."""

    async def close(self) -> None:
        """Let go of it."""
        raise NotImplementedError

    async def _greet(self) -> None:
        """Read until the nonce has come back."""
        while self.attached is None:
            for push in await self.read():
                if push.attached is not None and push.attached.nonce == self._nonce:
                    self.attached = push.attached
                elif self.attached is None:
                    raise Broken("changed", "what came back is not ours")

    def _headers(self, more: dict[str, str]) -> dict[str, str]:
        more = {**more, "Content-Type": "application/json", "Cache-Control": "no-store"}
        return more if self._token is None else {**more, "Authorization": f"Bearer {self._token}"}


def attach(nonce: str, heartbeat_s: float | None = None) -> bytes:
    """The attach of a new session without channels."""
    client = {"name": "hybrid doctor"}
    told = {"method": "attach", "attempt": 1, "nonce": nonce, "confirm": True, "client": client, "subscriptions": []}
    return json.dumps(told if heartbeat_s is None else {**told, "heartbeat_s": heartbeat_s}).encode()


def pushes_in(text: str | bytes, told_s: float) -> list[Push]:
    """The pushes in a frame or an event, which came `told_s` after the beginning. Raises Broken, Told."""
    raw = text.encode() if isinstance(text, str) else text
    try:
        pushes = [JSON.decode_push(line) for line in raw.split(b"\n") if line.strip()]
    except ProtocolError:
        raise Broken("changed", f"what came after {duration(told_s)} is not ours: it is changed on the way") from None
    return unless_told(pushes)


def unless_told(pushes: list[Push]) -> list[Push]:
    """The pushes. Raises Told where one of them is a goodbye."""
    for push in pushes:
        if push.disconnect is not None:
            raise Told(of_close(push.disconnect.code, push.disconnect.reason))
    return pushes


class WebSocketLine(Line):
    """Frames both ways, without the library's pings."""

    transport: ClassVar[str] = "websocket"

    _socket: ClientConnection | None = None
    _opened_s = 0.0

    async def open(self) -> None:
        """See `Line.open`."""
        began_s = self._clock()
        self._socket = await self._connect()
        self._opened_s = self._clock()
        self.head_s = self._opened_s - began_s
        if self._socket.subprotocol != "hybrid.v1":
            raise Broken("changed", "the subprotocol was lost on the way")
        try:
            async with asyncio.timeout(self._patience_s):
                if self._token is not None:
                    await self._send({"method": "auth", "token": self._token})
                await self._socket.send(attach(self._nonce, self._heartbeat_s).decode())
                await self._greet()
        except TimeoutError:
            told = f"opened after {duration(self.head_s)}, then nothing came back: frames are swallowed"
            raise Broken("mute", told) from None
        except ConnectionClosed as closed:
            raise self._closed(closed) from None

    async def read(self) -> list[Push]:
        """See `Line.read`."""
        assert self._socket is not None
        try:
            frame = await self._socket.recv()
        except ConnectionClosed as closed:
            raise self._closed(closed) from None
        return pushes_in(frame, self._clock() - self._opened_s)

    async def ask(self, number: int) -> None:
        """See `Line.ask`."""
        await self._send({"method": "heartbeat", "echo": number})

    async def answer(self) -> None:
        """See `Line.answer`."""
        await self._send({"method": "heartbeat"})

    async def close(self) -> None:
        """See `Line.close`."""
        if self._socket is not None:
            self._socket.transport.abort()

    async def _send(self, command: dict[str, Any]) -> None:
        assert self._socket is not None
        try:
            await self._socket.send(json.dumps(command))
        except ConnectionClosed as closed:
            raise self._closed(closed) from None

    def _closed(self, closed: ConnectionClosed) -> Broken | Told:
        how = "cut"
        if closed.rcvd is not None:
            ending = of_close(closed.rcvd.code, closed.rcvd.reason)
            if ending.is_network:
                how = visible(ending.detail)
            elif closed.rcvd.code >= 1012:
                return Told(ending)
        return Broken("cut", f"opened after {duration(self.head_s)}, then {how}")

    async def _connect(self) -> ClientConnection:
        endpoint = self.endpoint
        try:
            return await connect(
                endpoint.websocket_url(STREAM_PATH),
                subprotocols=[Subprotocol("hybrid.v1")],
                compression=None,
                proxy=None,
                ping_interval=None,
                open_timeout=self._patience_s,
                close_timeout=1.0,
                **endpoint.dialling(),
            )
        except InvalidStatus as error:
            headers = {name.lower(): value for name, value in error.response.headers.raw_items()}
            raise _not_upgraded(error.response.status_code, headers, bytes(error.response.body or b"")) from None
        except TimeoutError:
            told = f"the handshake was not answered within {self._patience_s:g} s"
            raise Broken("unanswered", told) from None
        except (OSError, WebSocketException, ValueError) as error:
            raise Broken("refused", f"the handshake failed: {said_by(error)}") from None


def _not_upgraded(status: int, headers: Mapping[str, str], body: bytes) -> Broken | Told:
    ending = of_http(status, headers, body)
    by = ", ".join(passed(headers)) or "by something on the way that does not say its name"
    if ending.number == UNAUTHORIZED:
        # A handshake is taken, and asked for its token in a frame: this came in as a plain GET.
        return Broken("upgrade_stripped", f"`Upgrade` is taken out on the way ({by})")
    if not ending.is_network:
        return Told(ending)
    return Broken("refused", f"the handshake was answered with HTTP {status} instead of 101 ({by})")


class EventStreamLine(Line):
    """An event stream down; heartbeats are asked for by POST."""

    transport: ClassVar[str] = "sse"

    _exchange: AbstractAsyncContextManager[Any] | None = None
    _chunks: AsyncIterator[bytes] | None = None
    _began_s = 0.0

    def __init__(
        self, endpoint: Endpoint, token: str | None, patience_s: float, heartbeat_s: float | None = None
    ) -> None:
        super().__init__(endpoint, token, patience_s, heartbeat_s)
        self._parser = EventStreamParser(_EVENT_MAX_BYTES)
        # A generator that is cancelled cannot go on: whoever waits for a chunk gives up waiting, not the chunk.
        self._next: asyncio.Task[bytes] | None = None

    async def open(self) -> None:
        """See `Line.open`."""
        self._began_s = self._clock()
        headers = self._headers({"Accept": "text/event-stream"})
        exchange = self.endpoint.stream(
            "POST", STREAM_PATH, "sse", headers, content=attach(self._nonce, self._heartbeat_s)
        )
        try:
            async with asyncio.timeout(self._patience_s):
                answer = await exchange.__aenter__()
                self._exchange = exchange
                self.head_s = self._clock() - self._began_s
                if answer.status_code != 200:
                    raise answered_by(answer, await read_bounded(answer))
                self.facts = passed(answer.headers)
                self._chunks = answer.aiter_bytes()
                await self._greet()
        except TimeoutError:
            if self._exchange is None:
                told = f"no answer within {self._patience_s:g} s: held back until it would be whole"
            else:
                told = f"the head came after {duration(self.head_s)} and nothing behind it: the body is held back"
            raise Broken("held", told, *self.facts) from None
        except HTTP_ERRORS as error:
            raise Broken("refused", f"the stream failed: {said_by(error)}") from None

    async def read(self) -> list[Push]:
        """See `Line.read`."""
        if self._next is None:
            self._next = asyncio.create_task(self._chunk())
        chunk = await asyncio.shield(self._next)
        self._next = None
        told_s = self._clock() - self._began_s
        if not chunk:
            raise Broken("cut", f"the stream ended after {duration(told_s)}")
        try:
            events = self._parser.feed(chunk)
        except ProtocolError:
            raise Broken("changed", "what came back is not ours: the stream is changed on the way") from None
        return [push for event in events for push in pushes_in(event.data, told_s)]

    async def ask(self, number: int) -> None:
        """See `Line.ask`."""
        assert self.attached is not None
        command = {"session": self.attached.session, "commands": [{"method": "heartbeat", "echo": number}]}
        headers = self._headers({"Accept": "application/json"})
        body = json.dumps(command).encode()
        try:
            async with asyncio.timeout(self._patience_s):
                async with self.endpoint.stream("POST", COMMAND_PATH, "sse", headers, content=body) as answer:
                    raw = await read_bounded(answer)
        except TimeoutError:
            raise Broken("posts", f"a POST beside it is not answered within {self._patience_s:g} s") from None
        except HTTP_ERRORS as error:
            raise Broken("posts", f"a POST beside it fails: {said_by(error)}") from None
        if answer.status_code != 200:
            refusal = answered_by(answer, raw)
            if isinstance(refusal, Told):
                raise refusal
            raise Broken("posts", f"a POST beside it is {refusal.facts[0]}", *refusal.facts[1:])

    async def close(self) -> None:
        """See `Line.close`."""
        if self._next is not None:
            await ended(self._next)
        if self._exchange is not None:
            with suppress(*HTTP_ERRORS):
                await self._exchange.__aexit__(None, None, None)

    async def _chunk(self) -> bytes:
        assert self._chunks is not None
        try:
            return await anext(self._chunks, b"")
        except HTTP_ERRORS:
            return b""  # cut off in the middle, which is an end as well


def answered_by(answer: Any, body: bytes) -> Broken | Told:
    """Who has answered instead of what was hoped for."""
    ending = of_http(answer.status_code, answer.headers, body)
    if not ending.is_network:
        return Told(ending)
    return Broken("refused", f"answered with HTTP {answer.status_code}, not by the server", *passed(answer.headers))
