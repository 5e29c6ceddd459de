"""A relay that breaks connections as networks do, in ways that no proxy's configuration can play.

A `Fault` carries the bytes of one connection between client and origin, and does to them what its network does. Some
faults know HTTP: they spare what is not a stream. For them the relay reads the heads, and so that a head is the first
thing on each connection, it tells both sides to use every connection once, or for one upgrade.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

HOST: Final = "127.0.0.1"
_READ_MAX: Final = 65_536
_BUFFER_BYTES: Final = 32_768
"""What waits in the relay; behind that the sender feels a slow reader. Heads have to fit."""
_CONNECTION: Final = re.compile(rb"\r\n(?:Connection|Keep-Alive):[^\r]*", re.IGNORECASE)
_REFUSAL: Final = (
    b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: 33\r\n\r\n"
    b"<p>Blocked by your network.</p>\r\n"
)


class Way:
    """One direction of a connection."""

    def __init__(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        self._source, self._target = source, target

    async def head(self) -> bytes:
        """What stands before the first empty line, with that line."""
        return await self._source.readuntil(b"\r\n\r\n")

    async def take(self, most: int = _READ_MAX) -> bytes:
        """What has come, at most so much; nothing at the end."""
        return await self._source.read(most)

    async def give(self, data: bytes) -> None:
        """Pass it on."""
        self._target.write(data)
        await self._target.drain()

    def give_later(self, data: bytes, delay_s: float) -> None:
        """Pass it on after a while, and behind what was given so before."""
        loop = asyncio.get_running_loop()
        loop.call_later(delay_s, lambda: None if self._target.is_closing() else self._target.write(data))

    def end(self) -> None:
        """Pass the end on; the other direction may go on."""
        if self._target.can_write_eof() and not self._target.is_closing():
            with suppress(OSError):  # it was reset, and nobody has been told yet
                self._target.write_eof()

    def reset(self) -> None:
        """RST to the target."""
        raw = self._target.get_extra_info("socket")
        with suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._target.transport.abort()


@dataclass(frozen=True, slots=True)
class Flow:
    """A connection: `up` goes from the client to the origin, `down` back."""

    up: Way
    down: Way

    def reset(self) -> None:
        """RST to both sides."""
        self.up.reset()
        self.down.reset()


Carry = Callable[[Way], Awaitable[None]]
Fault = Callable[[Flow], Awaitable[None]]


# -- one direction


async def carry(way: Way, seen: Callable[[], None] = lambda: None) -> None:
    """Nothing is done to it."""
    while data := await way.take():
        seen()
        await way.give(data)
    way.end()


async def _swallow(way: Way) -> None:
    while await way.take():
        pass


async def one_behind(way: Way) -> None:
    """Each piece waits for the next one."""
    held = b""
    while data := await way.take():
        if held:
            await way.give(held)
        held = data
    if held:
        await way.give(held)
    way.end()


def held(until_bytes: int) -> Carry:
    """Nothing comes before there are so many bytes."""

    async def through(way: Way) -> None:
        held = bytearray()
        while len(held) < until_bytes and (data := await way.take()):
            held += data
        await way.give(bytes(held))
        await carry(way)

    return through


def cut_after(most: int) -> Carry:
    """So many bytes come, and then the end."""

    async def through(way: Way) -> None:
        left = most
        while left and (data := await way.take(left)):
            left -= len(data)
            await way.give(data)
        way.end()

    return through


def dribbled(alone: int, pause_s: float) -> Carry:
    """The first bytes of each piece come one by one."""

    async def through(way: Way) -> None:
        while data := await way.take():
            for place in range(min(alone, len(data))):
                await way.give(data[place : place + 1])
                await asyncio.sleep(pause_s)
            await way.give(data[alone:])
        way.end()

    return through


def in_lumps(every_s: float) -> Carry:
    """What comes waits for the next of these moments."""

    async def through(way: Way) -> None:
        while data := await way.take():
            # The same moments for all connections, as where one radio is switched on for all of them.
            await asyncio.sleep(every_s - asyncio.get_running_loop().time() % every_s)
            await way.give(data)
        way.end()

    return through


def _slow(bytes_per_s: float, delay_s: float) -> Carry:
    async def through(way: Way) -> None:
        while data := await way.take(512):
            await asyncio.sleep(len(data) / bytes_per_s)
            way.give_later(data, delay_s)
        await asyncio.sleep(delay_s)
        way.end()

    return through


# -- whole connections


async def passing(flow: Flow) -> None:
    """Nothing is done to it."""
    await _both(carry(flow.up), carry(flow.down))


def downward(fault: Carry) -> Fault:
    """Only what comes down is concerned."""

    async def both(flow: Flow) -> None:
        await _both(carry(flow.up), fault(flow.down))

    return both


def slow(bytes_per_s: float, delay_s: float) -> Fault:
    """A line of this rate downward; the delay is that of each direction."""

    async def fault(flow: Flow) -> None:
        await _both(_slow(float("inf"), delay_s)(flow.up), _slow(bytes_per_s, delay_s)(flow.down))

    return fault


def dying(after_s: float) -> Fault:
    """It works for so long; then both sides are reset."""

    async def fault(flow: Flow) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(after_s):
                await passing(flow)
                return
        flow.reset()

    return fault


async def mute(flow: Flow) -> None:
    """Nothing passes, neither bytes nor the end of either side; over when the client is gone."""
    sinking = asyncio.ensure_future(_swallow(flow.down))
    try:
        await _swallow(flow.up)
    finally:
        sinking.cancel()
        await asyncio.gather(sinking, return_exceptions=True)


def idle(after_s: float, *, is_silent: bool) -> Fault:
    """Forgotten once nothing was said for so long: both sides are reset, or hear nothing any more."""

    async def fault(flow: Flow) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(after_s) as patience:

                def seen() -> None:
                    patience.reschedule(loop.time() + after_s)

                await _both(carry(flow.up, seen), carry(flow.down, seen))
        except TimeoutError:
            if is_silent:
                await mute(flow)
            else:
                flow.reset()

    return fault


async def _both(up: Awaitable[None], down: Awaitable[None]) -> None:
    """Until both directions have ended, or one has failed. Raises OSError."""
    tasks = [asyncio.ensure_future(up), asyncio.ensure_future(down)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# -- the relay


@dataclass(frozen=True, slots=True)
class Network:
    """What it does to connections: to all of them alike (`anything`), or as their heads say.

    `upgraded` is for what follows a 101, `streams` for the bodies of event streams; all else passes. Requests that
    begin with one of `refused`, such as "POST /v1/command", get 403.
    """

    anything: Fault | None = None
    upgraded: Fault = passing
    streams: Carry = carry
    refused: tuple[str, ...] = ()

    async def serve(self, flow: Flow) -> None:
        """One connection, to its end."""
        if self.anything is not None:
            await self.anything(flow)
            return
        request = await flow.up.head()
        if any(request.startswith(f"{start} ".encode()) for start in self.refused):
            await flow.down.give(_REFUSAL)
            flow.down.end()
            await _swallow(flow.up)  # a body that nobody reads would turn the end into a reset
        elif _is_upgrade(request):
            await flow.up.give(request)
            answer = await flow.down.head()
            await flow.down.give(answer)
            await (self.upgraded if answer.split(b" ", 2)[1] == b"101" else passing)(flow)
        else:
            await flow.up.give(_once(request))
            await _both(carry(flow.up), self._answer(flow.down))

    async def _answer(self, down: Way) -> None:
        head = await down.head()
        await down.give(_once(head))
        await (self.streams if b"\r\ncontent-type: text/event-stream" in head.lower() else carry)(down)


def _is_upgrade(head: bytes) -> bool:
    return b"\r\nupgrade:" in head.lower()


def _once(head: bytes) -> bytes:
    return _CONNECTION.sub(b"", head)[:-2] + b"Connection: close\r\n\r\n"


@asynccontextmanager
async def relay(
    network: Network, host: str, port: int, *, listening: socket.socket | None = None
) -> AsyncIterator[int]:
    """The network in front of the server at this address; yields the port of the loopback where it begins, or that of
    a socket that already listens."""
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward: asyncio.StreamWriter | None = None
        try:
            back, onward = await asyncio.open_connection(host, port, limit=_BUFFER_BYTES)
            await network.serve(Flow(Way(reader, onward), Way(back, writer)))
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # one side has gone
        except asyncio.CancelledError:
            writer.transport.abort()  # a polite end would wait for a client that does not read
            raise
        finally:
            writer.close()
            if onward is not None:
                onward.transport.abort()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(serve(reader, writer))
        serving.add(task)
        task.add_done_callback(serving.discard)

    if listening is not None:
        server = await asyncio.start_server(accepted, sock=listening, limit=_BUFFER_BYTES)
    else:
        server = await asyncio.start_server(accepted, HOST, 0, limit=_BUFFER_BYTES)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(serving):
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await server.wait_closed()
