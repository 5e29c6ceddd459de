"""A client that knows nothing of hybrid, of any library or of any animal: bytes on sockets, and when they came."""

from __future__ import annotations

import asyncio
import ssl
import zlib
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

    def __init__(self, host: str, prefix: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._host, self._prefix = host, prefix

    async def ask(self, method: str, path: str, *more: str, body: bytes = b"") -> Head:
        """Send a request, and read the head of what comes back."""
        lines = [f"{method} {self._prefix}{path} HTTP/1.1", f"Host: {self._host}", *more]
        if method == "POST":
            lines.append(f"Content-Length: {len(body)}")
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + body)
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

    async def pieces(self, head: Head) -> AsyncIterator[bytes]:
        """The body as it comes, without what was done to it for the transfer."""
        expand = zlib.decompressobj(31).decompress if head.headers.get("content-encoding") == "gzip" else bytes
        is_chunked = head.headers.get("transfer-encoding") == "chunked"
        while piece := await (self._chunk() if is_chunked else self.reader.read(65_536)):
            yield expand(piece)

    async def _chunk(self) -> bytes:
        size = int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    async def _head(self) -> Head:
        first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip().split("\r\n")
        version, status = first.split(" ")[:2]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return Head(version, int(status), headers)


class Refused(Exception):
    """A proxy did not open a tunnel; `status` is its answer."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@asynccontextmanager
async def conversation(route: Route, *, in_tunnel: bool = False) -> AsyncIterator[Conversation]:
    """Connect as the route says: by a tunnel for https://, and for http:// where that is wanted. Raises Refused."""
    aim = urlsplit(route.url)
    assert aim.hostname is not None
    port = aim.port or {"http": 80, "https": 443}[aim.scheme]
    context = None
    if aim.scheme == "https":
        context = ssl.create_default_context(cafile=route.ca)
        context.set_alpn_protocols(["http/1.1"])
    if route.proxy is None:
        reader, writer = await asyncio.open_connection(aim.hostname, port, ssl=context)
    else:
        proxy = urlsplit(route.proxy)
        reader, writer = await asyncio.open_connection(proxy.hostname, proxy.port)
    try:
        if route.proxy is not None and (context is not None or in_tunnel):
            writer.write(f"CONNECT {aim.hostname}:{port} HTTP/1.1\r\nHost: {aim.hostname}:{port}\r\n\r\n".encode())
            status = int((await reader.readuntil(b"\r\n\r\n")).split(b" ")[1])
            if status != 200:
                raise Refused(status)
            if context is not None:
                await writer.start_tls(context, server_hostname=aim.hostname)
            prefix = ""
        else:
            prefix = route.url if route.proxy else ""  # a proxy is told the whole URL
        yield Conversation(aim.netloc, prefix, reader, writer)
    finally:
        writer.transport.abort()
