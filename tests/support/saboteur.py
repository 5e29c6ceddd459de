"""A wire that does what must never happen: it loses, repeats or swaps publications on their way to clients.

It understands as much of the wires as that needs: frames, events in chunks, and the bodies of polls. Each unit that it
finds goes through a rule, which gives what is passed on instead.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

Rule = Callable[[int, bytes], list[bytes]]
"""Takes the offset of a publication and its bytes; gives what is sent instead."""
_OFFSET = re.compile(
    rb'"offset":(\d+),"epoch":"[a-z0-9]*","tag":"[0-9a-f]*","data"|^id: [a-z0-9]+-(\d+)-[0-9a-f]{8}\ndata'
)
_LENGTH = re.compile(rb"content-length: *\d+", re.IGNORECASE)


def lose(offset: int) -> Rule:
    """One publication never comes."""
    return lambda at, unit: [] if at == offset else [unit]


def repeat(offset: int) -> Rule:
    """One comes twice."""
    return lambda at, unit: [unit, unit] if at == offset else [unit]


def swap(offset: int) -> Rule:
    """One comes behind the next one."""
    held: list[bytes] = []

    def rule(at: int, unit: bytes) -> list[bytes]:
        if at == offset:
            held.append(unit)
            return []
        passed = [unit, *held]
        held.clear()
        return passed

    return rule


class _Spoiler:
    """One connection's bytes from the server, unit by unit."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._buffer = b""
        self._kind = ""  # until a head has come that says it

    def feed(self, data: bytes) -> bytes:
        self._buffer += data
        out = b""
        while True:
            if not self._kind:
                head, separator, _ = self._buffer.partition(b"\r\n\r\n")
                if not separator:
                    return out
                self._kind = _kind_of(head)
                if self._kind != "poll":
                    out += head + separator
                    self._buffer = self._buffer[len(head) + 4 :]
            taken = getattr(self, f"_{self._kind}")()
            if taken is None:
                return out
            out += taken

    def _spoiled(self, unit: bytes) -> list[bytes]:
        found = _OFFSET.search(unit)
        return [unit] if found is None else self._rule(int(found[1] or found[2]), unit)

    def _frames(self) -> bytes | None:
        data = self._buffer
        if len(data) < 4:
            return None
        length, at = data[1], 2
        if length == 126:
            length, at = int.from_bytes(data[2:4], "big"), 4
        assert length < 126 or at == 4, "frames of tests are small"
        if len(data) < at + length:
            return None
        self._buffer = data[at + length :]
        return b"".join(self._spoiled(data[: at + length]))

    def _chunks(self) -> bytes | None:
        size, separator, rest = self._buffer.partition(b"\r\n")
        if not separator or len(rest) < int(size, 16) + 2:
            return None
        body, self._buffer = rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        assert body.endswith(b"\n\n"), "hybrid ends a chunk with an event"
        units = [part for event in body[:-2].split(b"\n\n") for part in self._spoiled(event + b"\n\n")]
        return b"".join(b"%x\r\n%b\r\n" % (len(unit), unit) for unit in units)

    def _poll(self) -> bytes | None:
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        found = _LENGTH.search(head)
        if not separator or found is None or len(rest) < (length := int(found[0].split(b":")[1])):
            return None
        body, self._buffer = rest[:length], rest[length:]
        self._kind = ""
        pushes = [json.dumps(push, separators=(",", ":")).encode() for push in json.loads(body).get("pushes", [])]
        if pushes:
            body = b'{"pushes":[%b]}' % b",".join(part for push in pushes for part in self._spoiled(push))
        return _LENGTH.sub(b"Content-Length: %d" % len(body), head) + separator + body


def _kind_of(head: bytes) -> str:
    if b" 101 " in head[:20]:
        return "frames"
    return "chunks" if b"chunked" in head.lower() else "poll"


@asynccontextmanager
async def saboteur(port: int, rule: Callable[[], Rule], *, victims: int = 1) -> AsyncIterator[int]:
    """The port of one in front of a server here; it spoils the first `victims` connections that subscribe."""
    serving: set[asyncio.Task[None]] = set()
    left = victims

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        up: asyncio.StreamWriter | None = None
        try:
            first = await reader.read(65_536)
            down, up = await asyncio.open_connection("127.0.0.1", port)
            up.write(first)
            spoiler: _Spoiler | None = None
            if left and (b"/v1/stream" in first or first.startswith(b"GET /v1/channels/")):
                left -= 1
                spoiler = _Spoiler(rule())
            await asyncio.gather(_carry(reader, up, None), _carry(down, writer, spoiler))
        except (OSError, asyncio.IncompleteReadError):
            pass  # one side has gone
        finally:
            writer.transport.abort()
            if up is not None:
                up.transport.abort()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(serve(reader, writer))
        serving.add(task)
        task.add_done_callback(serving.discard)

    server = await asyncio.start_server(accepted, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(serving):
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await server.wait_closed()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, spoiler: _Spoiler | None) -> None:
    while part := await reader.read(65_536):
        writer.write(part if spoiler is None else spoiler.feed(part))
        await writer.drain()
    with suppress(OSError):
        writer.write_eof()
