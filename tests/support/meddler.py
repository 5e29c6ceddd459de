"""A proxy that changes what passes, as those of offices, hotels and carriers do: heads are edited, bodies held back.

One request a connection (it says so to both sides), or one upgrade; so a head is the first thing on each.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

Edit = Callable[[bytes], bytes]
_READ_MAX = 65_536


@dataclass
class Meddling:
    """What it does to an exchange. `answer` is given instead of the server's, at once or after `answer_after_s`.

    `body`: what comes behind the head of the server's answer passes, is kept until it is whole, is swallowed, is
    "behind" (each piece waits for the next), or comes in "lumps" that were gathered for `lump_s`. `idle_s`: a
    connection on which nothing was said for so long is cut, or, with `idle_mute`, is left open and carries nothing any
    more. `life_s`: it is cut so long after its beginning, in use or not. 0 is never.
    """

    request: Edit = lambda head: head
    response: Edit = lambda head: head
    body: Literal["pass", "keep", "swallow", "behind", "lumps"] = "pass"
    body_after_s: float = 0.0
    lump_s: float = 0.0
    idle_s: float = 0.0
    idle_mute: bool = False
    life_s: float = 0.0
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
            watch = _Watch(what)
            up.write(what.request(_once(head)))
            carrying = asyncio.create_task(_carry(_pipe(reader, up, watch), _answer(what, down, writer, watch)))
            ending = asyncio.create_task(watch.cut())
            try:
                await asyncio.wait({carrying, ending}, return_when=asyncio.FIRST_COMPLETED)
                if carrying.done():
                    carrying.result()
            finally:
                carrying.cancel()
                ending.cancel()
                await asyncio.gather(carrying, ending, return_exceptions=True)
        except (OSError, asyncio.IncompleteReadError):
            pass  # one side has gone, and so has the exchange
        finally:
            writer.close()
            if up is not None:
                up.transport.abort()


def _once(head: bytes) -> bytes:
    return head if b"\r\nUpgrade:" in head else head[:-2] + b"Connection: close\r\n\r\n"


async def _carry(*ways: Coroutine[Any, Any, None]) -> None:
    await asyncio.gather(*ways)


class _Watch:
    """When an exchange was last heard of, and whether it is still carried."""

    def __init__(self, what: Meddling) -> None:
        self.is_mute = False
        self._what = what
        self._clock = asyncio.get_running_loop().time
        self._heard_s = self._clock()

    def heard(self) -> None:
        self._heard_s = self._clock()

    async def cut(self) -> None:
        """Return when the exchange is to be cut, which may be never."""
        what = self._what
        end_s = self._clock() + what.life_s if what.life_s else float("inf")
        while True:
            idle_end_s = self._heard_s + what.idle_s if what.idle_s else float("inf")
            left_s = min(idle_end_s, end_s) - self._clock()
            if left_s <= 0 and what.idle_mute:
                self.is_mute = True
                left_s = float("inf")
            if left_s <= 0:
                return
            if left_s == float("inf"):
                await asyncio.get_running_loop().create_future()
            await asyncio.sleep(left_s)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, watch: _Watch) -> None:
    with suppress(OSError):
        while part := await reader.read(_READ_MAX):
            if watch.is_mute:
                continue
            watch.heard()
            writer.write(part)
            await writer.drain()
    if watch.is_mute:
        return
    if writer.can_write_eof():
        with suppress(OSError):
            writer.write_eof()


async def _answer(what: Meddling, down: asyncio.StreamReader, writer: asyncio.StreamWriter, watch: _Watch) -> None:
    head = await down.readuntil(b"\r\n\r\n")
    if what.body == "keep":
        head += await down.read()
    writer.write(what.response(head))
    if what.body == "swallow":
        while await down.read(_READ_MAX):
            pass
        return
    if what.body == "behind":
        await _one_behind(down, writer)
        return
    if what.body == "lumps":
        await _in_lumps(down, writer, what.lump_s)
        return
    if what.body_after_s:
        await writer.drain()
        await asyncio.sleep(what.body_after_s)
    await _pipe(down, writer, watch)


async def _one_behind(down: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As some virus scanners do. The first piece passes: they let go of what a stream begins with."""
    held = b""
    is_first = True
    while part := await down.read(_READ_MAX):
        writer.write(part if is_first else held)
        await writer.drain()
        held = b"" if is_first else part
        is_first = False
    writer.write(held)


async def _in_lumps(down: asyncio.StreamReader, writer: asyncio.StreamWriter, lump_s: float) -> None:
    gathered = bytearray()

    async def gather() -> None:
        while part := await down.read(_READ_MAX):
            gathered.extend(part)

    gathering = asyncio.create_task(gather())
    try:
        while not gathering.done():
            writer.write(bytes(gathered))
            gathered.clear()
            await writer.drain()
            await asyncio.wait({gathering}, timeout=lump_s)
        writer.write(bytes(gathered))
    finally:
        gathering.cancel()
        await asyncio.gather(gathering, return_exceptions=True)


@asynccontextmanager
async def meddler(target: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[Meddler]:
    """One in front of a server at this port of the loopback; with `tls` it speaks TLS to those who come."""
    made = Meddler(0)
    serving: set[asyncio.Task[None]] = set()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(made.serve(target, reader, writer))
        serving.add(task)
        task.add_done_callback(serving.discard)

    server = await asyncio.start_server(accepted, "127.0.0.1", 0, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for task in list(serving):
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await server.wait_closed()
