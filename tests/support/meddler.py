"""A proxy that changes what passes, as those of offices, hotels and carriers do: heads are edited, bodies held back.

One request a connection (it says so to both sides), or one upgrade; so a head is the first thing on each.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

Edit = Callable[[bytes], bytes]
_READ_MAX = 65_536


@dataclass
class Meddling:
    """What it does to an exchange. `answer` is given instead of the server's, at once or after `answer_after_s`.

    `body`: what comes behind the head of the server's answer passes, is kept until it is whole, or is swallowed.
    """

    request: Edit = lambda head: head
    response: Edit = lambda head: head
    body: Literal["pass", "keep", "swallow"] = "pass"
    body_after_s: float = 0.0
    answer: bytes = b""
    answer_after_s: float = 0.0


@dataclass
class Meddler:
    """Its `rule` says what is done to the exchange that begins with this head; changed while it runs."""

    port: int
    rule: Callable[[bytes], Meddling] = lambda head: Meddling()
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, target: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up: asyncio.StreamWriter | None = None
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            what = self.rule(head)
            if what.answer:
                await asyncio.sleep(what.answer_after_s)
                writer.write(what.answer)
                await writer.drain()
                return
            down, up = await asyncio.open_connection("127.0.0.1", target)
            up.write(what.request(_once(head)))
            await asyncio.gather(_pipe(reader, up), _answer(what, down, writer))
        except (OSError, asyncio.IncompleteReadError):
            pass  # one side has gone, and so has the exchange
        finally:
            writer.close()
            if up is not None:
                up.transport.abort()


def _once(head: bytes) -> bytes:
    return head if b"\r\nUpgrade:" in head else head[:-2] + b"Connection: close\r\n\r\n"


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while part := await reader.read(_READ_MAX):
            writer.write(part)
            await writer.drain()
    if writer.can_write_eof():
        with suppress(OSError):
            writer.write_eof()


async def _answer(what: Meddling, down: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await down.readuntil(b"\r\n\r\n")
    if what.body == "keep":
        head += await down.read()
    writer.write(what.response(head))
    if what.body == "swallow":
        while await down.read(_READ_MAX):
            pass
        return
    if what.body_after_s:
        await writer.drain()
        await asyncio.sleep(what.body_after_s)
    await _pipe(down, writer)


@asynccontextmanager
async def meddler(target: int) -> AsyncIterator[Meddler]:
    """One in front of a server at this port of the loopback."""
    made = Meddler(0)
    serving: set[asyncio.Task[None]] = set()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(made.serve(target, reader, writer))
        serving.add(task)
        task.add_done_callback(serving.discard)

    server = await asyncio.start_server(accepted, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for task in list(serving):
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await server.wait_closed()
