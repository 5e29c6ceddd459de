"""A node that takes a request and dies: it reads the whole of it and resets the connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class DyingNode:
    """`heads` are the request heads it got."""

    port: int = 0
    heads: list[bytes] = field(default_factory=list)

    def methods(self) -> list[str]:
        return [head.split(b" ", 1)[0].decode() for head in self.heads]


@asynccontextmanager
async def dying_node() -> AsyncIterator[DyingNode]:
    node = DyingNode()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length: "):
                    await reader.readexactly(int(line.partition(b": ")[2]))
            node.heads.append(head)
        except (asyncio.IncompleteReadError, OSError):
            pass  # a probe of a test
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    node.port = server.sockets[0].getsockname()[1]
    try:
        yield node
    finally:
        server.close()
