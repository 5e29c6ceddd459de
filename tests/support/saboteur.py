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

_OFFSET = re.compile(
    rb'"offset":(\d+),"epoch":"[a-z0-9]*","tag":"[0-9a-f]*","data"|^id: [a-z0-9]+-(\d+)-[0-9a-f]{8}\ndata'
)
_LENGTH = re.compile(rb"content-length: *\d+", re.IGNORECASE)


class Rule:
    """Passes everything on. A rule is made anew for each connection."""

    def one(self, offset: int, unit: bytes) -> list[bytes]:
        """What is sent instead of one publication."""
        return [unit]

    def answer(self, units: list[bytes]) -> list[bytes]:
        """What is sent instead of the pushes of one poll's answer."""
        return [part for unit in units for part in self.spoiled(unit)]

    def spoiled(self, unit: bytes) -> list[bytes]:
        """What is sent instead of a unit, which may be something else than a publication."""
        found = _OFFSET.search(unit)
        return [unit] if found is None else self.one(int(found[1] or found[2]), unit)


class Lose(Rule):
    """One publication never comes."""

    def __init__(self, offset: int = 7) -> None:
        self._offset = offset

    def one(self, offset: int, unit: bytes) -> list[bytes]:
        return [] if offset == self._offset else [unit]


class Repeat(Rule):
    """One comes twice."""

    def one(self, offset: int, unit: bytes) -> list[bytes]:
        return [unit, unit] if offset == 7 else [unit]


class Swap(Rule):
    """One comes behind the next one; of polls, the first two that are answered together."""

    def __init__(self) -> None:
        self._held: list[bytes] = []
        self._has_swapped = False

    def one(self, offset: int, unit: bytes) -> list[bytes]:
        if offset == 7:
            self._held.append(unit)
            return []
        passed = [unit, *self._held]
        self._held.clear()
        return passed

    def answer(self, units: list[bytes]) -> list[bytes]:
        if not self._has_swapped and sum(_OFFSET.search(unit) is not None for unit in units) == len(units) > 1:
            self._has_swapped = True
            units = [units[1], units[0], *units[2:]]
        return units


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
        return b"".join(self._rule.spoiled(data[: at + length]))

    def _chunks(self) -> bytes | None:
        size, separator, rest = self._buffer.partition(b"\r\n")
        if not separator or len(rest) < int(size, 16) + 2:
            return None
        body, self._buffer = rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        assert body.endswith(b"\n\n"), "hybrid ends a chunk with an event"
        units = [part for event in body[:-2].split(b"\n\n") for part in self._rule.spoiled(event + b"\n\n")]
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
            body = b'{"pushes":[%b]}' % b",".join(self._rule.answer(pushes))
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
