"""A server on the loopback that answers as a test says, byte for byte: what no HTTP library would write."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Answers every request on a loopback port with `answer`, then closes."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[bytes] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/keys"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            self.requests.append(head + await reader.readexactly(int(length[1]) if length else 0))
            await self.answer(writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[Server]:
    server = Server(answer)
    running: set[asyncio.Task[None]] = set()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(server.handle(reader, writer))
        running.add(task)
        task.add_done_callback(running.discard)

    listening = await asyncio.start_server(accepted, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def fixed(body: bytes, *headers: str, status: str = "200 OK") -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close", *headers]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    return answer


def document(value: Any) -> Answer:
    """JSON, in good order."""
    return fixed(json.dumps(value).encode(), "content-type: application/json")


async def endless(writer: asyncio.StreamWriter) -> None:
    """Never an end."""
    writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n[")
    while True:
        writer.write(b"0," * 32_768)
        await writer.drain()


async def dripping(writer: asyncio.StreamWriter) -> None:
    """Byte after byte, each in time."""
    writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


async def silent(writer: asyncio.StreamWriter) -> None:
    """Not a word."""
    await asyncio.Event().wait()


async def garbage(writer: asyncio.StreamWriter) -> None:
    """Something else than HTTP."""
    writer.write(b"\x16\x03\x01\x00 not http at all\r\n\r\n")


async def cut_short(writer: asyncio.StreamWriter) -> None:
    """Less than was announced."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{}")


def bomb(content: bytes) -> Answer:
    """Compressed, though nobody asked for that: a little that becomes 50 MB, with `content` in front."""
    return fixed(gzip.compress(content + b" " * 50_000_000), "content-encoding: gzip")
