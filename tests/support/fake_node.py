"""What stands in for a node where a test has to see, or to be, what no real one would let it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

_EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"


@dataclass
class FakeNode:
    """`heads` are the request heads it got, over `connections` connections."""

    port: int = 0
    connections: int = 0
    heads: list[bytes] = field(default_factory=list)

    def methods(self) -> list[str]:
        return [head.split(b" ", 1)[0].decode() for head in self.heads]


def dying_node() -> AbstractAsyncContextManager[FakeNode]:
    """It takes a whole request and resets the connection instead of answering."""
    return _fake_node(b"")


def recording_node() -> AbstractAsyncContextManager[FakeNode]:
    """It answers every request with 204 and keeps the connection."""
    return _fake_node(_EMPTY)


@asynccontextmanager
async def _fake_node(answer: bytes) -> AsyncIterator[FakeNode]:
    node = FakeNode()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        node.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                for line in head.lower().split(b"\r\n"):
                    if line.startswith(b"content-length: "):
                        await reader.readexactly(int(line.partition(b": ")[2]))
                node.heads.append(head)
                if not answer:
                    return
                writer.write(answer)
        except (asyncio.IncompleteReadError, OSError):
            pass  # nginx has closed it
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    node.port = server.sockets[0].getsockname()[1]
    try:
        yield node
    finally:
        server.close()
