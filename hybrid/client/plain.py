"""Plain channels (`docs/protocol.md`, part A): one channel read over one transport, continued by cursor after a cut.

No session, no commands: what `curl` and `EventSource` do, with the patience of a client. The first connection must
succeed; after that every cut is survived, and only the server's own refusal ends the reading.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from urllib.parse import urlencode

import msgspec
from websockets.exceptions import ConnectionClosed

from hybrid.client.backoff import Backoff
from hybrid.client.credentials import Credentials, TokenFailed
from hybrid.client.ending import Ending, network, of_http
from hybrid.client.endpoint import HTTP_ERRORS, Endpoint, read_bounded
from hybrid.client.websocket import ending_of, open_websocket
from hybrid.errors import ProtocolError
from hybrid.model import Position
from hybrid.protocol.channels import parse_channel, percent_encode
from hybrid.protocol.codec import DECODING_ERRORS
from hybrid.protocol.commands import WirePosition
from hybrid.protocol.cursor import format_cursor, from_wire
from hybrid.protocol.eventstream import EventStreamParser
from hybrid.protocol.pushes import WirePublication

POLL_WAIT_S: Final = 25.0
_ANSWER_MARGIN_S: Final = 10.0
_SILENCE_MAX_S: Final = 60.0  # three of the longest usual heartbeat intervals
_RESET_EVENT: Final = "hybrid.reset"
_EVENT_MAX_BYTES: Final = 1_048_576


@dataclass(frozen=True, slots=True)
class PlainPublication:
    """One publication: `data` is its JSON value; bytes stay `{"base64": "..."}`. `cursor` continues after it."""

    cursor: str
    data: Any
    type: str | None = None


@dataclass(frozen=True, slots=True)
class PlainReset:
    """Some publications before this cursor cannot be had any more."""

    cursor: str


PlainItem: TypeAlias = PlainPublication | PlainReset


class Unreachable(ConnectionError):
    """There was no hybrid server at the first try; the text says what was met instead."""


class _Poll(msgspec.Struct, frozen=True):
    cursor: str
    recovered: bool
    publications: list[WirePublication]


class _Frame(msgspec.Struct, frozen=True):
    channel: str
    offset: int = 0
    epoch: str = ""
    tag: str = ""
    data: Any = None
    type: str | None = None
    reset: WirePosition | None = None


_decode_poll: Final = msgspec.json.Decoder(_Poll).decode
_decode_frame: Final = msgspec.json.Decoder(_Frame).decode


class _Ended(Exception):
    """A connection is over."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.detail)
        self.ending = ending


class PlainReader:
    """Reads one channel; iterate over `items`. `cursor` is where it stands, None before the server has said so."""

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: Credentials,
        channel: str,
        transport: str,
        *,
        after: str | None = None,
        history: int = 0,
        backoff: Backoff | None = None,
    ) -> None:
        self.cursor = after
        self._path = f"/v1/channels/{percent_encode(parse_channel(channel))}"
        self._endpoint = endpoint
        self._credentials = credentials
        self._history = history
        self._backoff = backoff or Backoff()
        self._has_connected = False
        self._read: Callable[[], AsyncGenerator[PlainItem, None]] = {
            "websocket": self._read_websocket,
            "sse": self._read_sse,
            "longpoll": self._read_polls,
        }[transport]

    async def items(self) -> AsyncGenerator[PlainItem, None]:
        """Publications and resets, in order, each once, without end.

        Raises Unreachable when the first connection fails, HybridError when the server refuses, and whatever
        `get_token` raises. Cancel-safe between items.
        """
        credential_failures = 0
        while True:
            try:
                async with aclosing(self._read()) as read:
                    async for item in read:
                        self.cursor = item.cursor
                        credential_failures = 0
                        self._backoff.reset()
                        yield item
                ending = network("the stream has ended")
            except _Ended as ended:
                ending = ended.ending
            except TokenFailed as failed:
                if not self._has_connected and failed.__cause__ is not None:
                    raise failed.__cause__ from None
                ending = network(failed)
            if ending.is_about_credentials and credential_failures == 0:
                credential_failures += 1
                self._credentials.invalidate()
                continue
            if ending.is_about_credentials or not ending.comes_back:
                raise ending.as_error()
            if not self._has_connected:
                if ending.is_network:
                    raise Unreachable(ending.detail)
                raise ending.as_error()
            wanted_s = self._backoff.next_delay_s()
            await asyncio.sleep(wanted_s if ending.delay_s is None else ending.delay_s)

    def _target(self, **more: object) -> str:
        query = {name: str(value) for name, value in more.items()}
        if self.cursor is not None:
            query["after"] = self.cursor
        elif self._history:
            query["history"] = str(self._history)
        return f"{self._path}?{urlencode(query)}" if query else self._path

    async def _read_polls(self) -> AsyncGenerator[PlainItem, None]:
        while True:
            async with aclosing(self._poll()) as items:
                async for item in items:
                    yield item

    async def _poll(self) -> AsyncGenerator[PlainItem, None]:
        headers = {**await self._credentials.headers(), "Accept": "application/json"}
        try:
            async with asyncio.timeout(POLL_WAIT_S + _ANSWER_MARGIN_S):
                answer = await self._endpoint.request("GET", self._target(wait=f"{POLL_WAIT_S:g}"), "longpoll", headers)
        except TimeoutError:
            raise _Ended(network("the poll was not answered in time")) from None
        if isinstance(answer, Ending):
            raise _Ended(answer)
        try:
            poll = _decode_poll(answer)
        except DECODING_ERRORS:
            raise _Ended(network("the answer is not that of a hybrid server")) from None
        self._has_connected = True
        if not poll.recovered:
            yield PlainReset(poll.cursor)
        for item in poll.publications:
            cursor = format_cursor(Position(item.offset, item.epoch, item.tag))
            yield PlainPublication(cursor, item.data, item.type)
        self.cursor = poll.cursor

    async def _read_sse(self) -> AsyncGenerator[PlainItem, None]:
        headers = {**await self._credentials.headers(), "Accept": "text/event-stream", "Cache-Control": "no-store"}
        parser = EventStreamParser(_EVENT_MAX_BYTES)
        try:
            async with self._endpoint.stream("GET", self._target(), "sse", headers) as response:
                if response.status_code != 200:
                    body = await read_bounded(response)
                    raise _Ended(of_http(response.status_code, response.headers, body))
                if not response.headers.get("content-type", "").startswith("text/event-stream"):
                    raise _Ended(network("the answer is no event stream"))
                chunks = response.aiter_bytes()
                while True:
                    # The bound is on waiting for the network, never on what the reader does with an item.
                    async with asyncio.timeout(_SILENCE_MAX_S):
                        chunk = await anext(chunks, b"")
                    if not chunk:
                        return
                    self._has_connected = True
                    for event in parser.feed(chunk):
                        if event.event == _RESET_EVENT:
                            yield PlainReset(event.id)
                        else:
                            type_ = None if event.event == "message" else event.event
                            yield PlainPublication(event.id, msgspec.json.decode(event.data), type_)
                    self.cursor = parser.last_event_id or self.cursor
        except TimeoutError:
            raise _Ended(network("nothing was heard for too long")) from None
        except HTTP_ERRORS as error:
            raise _Ended(network(error)) from None
        except (ProtocolError, *DECODING_ERRORS) as error:
            raise _Ended(network(f"the server sent what cannot be read: {error}")) from None

    async def _read_websocket(self) -> AsyncGenerator[PlainItem, None]:
        if self.cursor is None:
            # The stream does not say where it starts; without a cursor a cut before the first frame would lose some.
            async with aclosing(self._poll()) as items:
                async for item in items:
                    yield item
        headers = await self._credentials.headers()
        socket = await open_websocket(self._endpoint, self._target(), headers, ping_interval_s=_SILENCE_MAX_S / 3)
        if isinstance(socket, Ending):
            raise _Ended(socket)
        self._has_connected = True
        try:
            while True:
                try:
                    raw = await socket.recv(decode=False)
                except ConnectionClosed as closed:
                    raise _Ended(ending_of(closed)) from None
                yield read_frame(raw)
        finally:
            socket.transport.abort()


def read_frame(raw: bytes) -> PlainItem:
    """What a frame of a plain WebSocket holds. Raises `_Ended` for what cannot be read."""
    try:
        frame = _decode_frame(raw)
        if frame.reset is not None:
            return PlainReset(format_cursor(from_wire(frame.reset)))
    except (ProtocolError, *DECODING_ERRORS) as error:
        raise _Ended(network(f"the server sent what cannot be read: {error}")) from None
    return PlainPublication(format_cursor(Position(frame.offset, frame.epoch, frame.tag)), frame.data, frame.type)
