"""An application's backend on the loopback, as a test wants it: a real HTTP server that keeps connections.

It checks the signature of whatever comes, holds it against the published schemas, and can go away and come back at the
same port.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from hybrid.hooks.signature import is_signed, read_secret
from tests.support.specified import validator

SECRET = "whsec_" + b64encode(b"the secret of a receiver in tests").decode()
OTHER_SECRET = "whsec_" + b64encode(b"another secret, by and by its heir").decode()


class Request:
    """One POST as it came."""

    def __init__(self, headers: dict[str, str], body: bytes, connection: int) -> None:
        self.headers = headers
        self.body = body
        self.connection = connection
        self.json: Any = json.loads(body)

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


class Raw(bytes):
    """A whole answer as it stands on the wire; the connection is closed behind it."""


Answer = Callable[[Request], Any]
"""Gives JSON, or Raw, or an awaitable of either; None is a 204."""


class Receiver:
    """See the module's text. `asked` are the questions in their order, `told` the events."""

    def __init__(self) -> None:
        self.port = 0
        self.requests: list[Request] = []
        self.connections = 0
        self.now_s: Callable[[], float] = time.time
        self.answer: Answer = lambda request: {"allow": True}
        self.take: Answer = lambda request: None
        self.arrived = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._running: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hybrid"

    @property
    def asked(self) -> list[Any]:
        return [request.json for request in self.requests if "ask" in request.json]

    @property
    def batches(self) -> list[Any]:
        return [request.json for request in self.requests if "events" in request.json]

    @property
    def told(self) -> list[Any]:
        return [event for batch in self.batches for event in batch["events"]]

    def of(self, what: str) -> list[Any]:
        """The questions of one kind."""
        return [item for item in self.asked if item["ask"] == what]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when something is true of what has come."""
        async with self.arrived:
            await self.arrived.wait_for(condition)

    async def start(self) -> None:
        """Listen; at the former port, if there was one."""

        def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._serve(reader, writer))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

        self._server = await asyncio.start_server(accepted, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Be away: connections end, and none is accepted."""
        if self._server is not None:
            self._server.close()
            self._server = None
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        try:
            while await self._exchange(reader, writer, number):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        headers = {name.lower(): value for name, value in re.findall(r"(?m)^([\w-]+): (.*?)\r$", head)}
        body = await reader.readexactly(int(headers["content-length"]))
        assert head.startswith("POST /hybrid "), head
        assert is_signed(headers, body, [read_secret(SECRET)], self.now_s()), headers
        request = Request(headers, body, number)
        validator("hook-question" if "ask" in request.json else "hook-events").validate(request.json)
        async with self.arrived:
            self.requests.append(request)
            self.arrived.notify_all()
        answered = (self.answer if "ask" in request.json else self.take)(request)
        if isinstance(answered, Awaitable):
            answered = await answered
        if isinstance(answered, Raw):
            writer.write(answered)
            await writer.drain()
            return False
        writer.write(good(answered))
        await writer.drain()
        return True


def good(value: Any) -> bytes:
    """A kept answer with JSON, or none."""
    if value is None:
        return b"HTTP/1.1 204 No Content\r\n\r\n"
    body = json.dumps(value).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def status(code: int, *headers: str, body: bytes = b"{}", media_type: str = "application/json") -> Raw:
    """A whole answer with another status, or another type."""
    lines = [f"HTTP/1.1 {code} X", f"content-length: {len(body)}", f"content-type: {media_type}", *headers]
    return Raw("\r\n".join([*lines, "connection: close", "", ""]).encode() + body)


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    """One that listens until the end."""
    here = Receiver()
    await here.start()
    try:
        yield here
    finally:
        await here.stop()
