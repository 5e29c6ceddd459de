"""A client that knows nothing of hybrid, of any library or of any animal: bytes on sockets, and when they came."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.proxy.zoo.animals.base import Route
from tests.proxy.zoo.honest import frame, read_frame

_MASK = b"mask"


@dataclass(frozen=True, slots=True)
class Head:
    """Of an answer. Names of `headers` are in small letters."""

    version: str
    status: int
    headers: dict[str, str]


class Conversation:
    """One connection through an animal."""

    def __init__(self, route: Route, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        parts = urlsplit(route.url)
        self._host = parts.netloc
        # A proxy is told the whole URL, unless it was asked for a tunnel.
        self._prefix = route.url if route.proxy and parts.scheme == "http" else ""

    async def ask(self, method: str, path: str, *more: str) -> Head:
        """Send a request without a body, and read the head of what comes back."""
        lines = [f"{method} {self._prefix}{path} HTTP/1.1", f"Host: {self._host}", *more]
        if method == "POST":
            lines.append("Content-Length: 0")
        self.writer.write("\r\n".join([*lines, "", ""]).encode())
        return await self._head()

    async def upgrade(self, path: str) -> Head:
        """Ask for a WebSocket."""
        return await self.ask(
            "GET",
            path,
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        )

    async def say(self, text: bytes) -> None:
        """Send a frame."""
        self.writer.write(frame(text, mask=_MASK))
        await self.writer.drain()

    async def hear(self) -> bytes:
        """The next frame's text. Raises OSError or IncompleteReadError at the end."""
        return await read_frame(self.reader)

    async def body(self, head: Head) -> bytes:
        """The body behind the head, as long as it says, or all that comes until the close."""
        length = head.headers.get("content-length")
        return await (self.reader.read() if length is None else self.reader.readexactly(int(length)))

    async def _head(self) -> Head:
        first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip().split("\r\n")
        version, status = first.split(" ")[:2]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return Head(version, int(status), headers)


@asynccontextmanager
async def conversation(route: Route) -> AsyncIterator[Conversation]:
    """Connect as the route says. Raises ConnectionRefusedError where the proxy refuses a tunnel."""
    aim = urlsplit(route.url)
    assert aim.hostname is not None
    assert aim.port is not None
    context = None
    if aim.scheme == "https":
        context = ssl.create_default_context(cafile=route.ca)
        context.set_alpn_protocols(["http/1.1"])
    if route.proxy is None:
        reader, writer = await asyncio.open_connection(aim.hostname, aim.port, ssl=context)
    else:
        proxy = urlsplit(route.proxy)
        reader, writer = await asyncio.open_connection(proxy.hostname, proxy.port)
    try:
        if route.proxy is not None and context is not None:
            writer.write(f"CONNECT {aim.netloc} HTTP/1.1\r\nHost: {aim.netloc}\r\n\r\n".encode())
            said = await reader.readuntil(b"\r\n\r\n")
            if said.split(b" ")[1] != b"200":
                raise ConnectionRefusedError(said.decode("latin-1"))
            await writer.start_tls(context, server_hostname=aim.hostname)
        yield Conversation(route, reader, writer)
    finally:
        writer.transport.abort()
