"""The checker finds what a broken server does, end to end: real nodes, clients that do not check, and a bad wire.

Between them sits a relay that drops, doubles, swaps or garbles one frame of publications. Without these tests a fault
suite that finds nothing would prove nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from hybrid.auth.development import DevelopmentIssuer
from hybrid.client.subscription import Subscription
from tests.support.checker import Verdict
from tests.support.crowd import CHANNELS, Crowd, crowd
from tests.support.http_issuer import http_issuer
from tests.support.nodes import AUDIENCE, nodes

CLIENTS = 12
SETTINGS = {"namespaces": {"room": {"history_size": 100_000, "history_ttl_s": 3_600.0}}}
_Edit = Callable[[bytes, list[bytes]], list[bytes]]


def drop(frame: bytes, held: list[bytes]) -> list[bytes]:
    return []


def double(frame: bytes, held: list[bytes]) -> list[bytes]:
    return [frame, frame]


def swap(frame: bytes, held: list[bytes]) -> list[bytes]:
    """Hold the first and send it behind the second."""
    if held:
        return [frame, held.pop()]
    held.append(frame)
    return []


def garble(frame: bytes, held: list[bytes]) -> list[bytes]:
    """Another text of the same length."""
    at = frame.index(b'"', frame.index(b'"text"') + 6) + 1
    return [frame[:at] + bytes([frame[at] ^ 1]) + frame[at + 1 :]]


class BadWire:
    """A relay that edits one frame (of a swap, two) of one WebSocket on its way from the server."""

    def __init__(self, port: int) -> None:
        self.edited = asyncio.Event()
        self._port = port
        self._edit: _Edit | None = None
        self._held: list[bytes] = []
        self._victim: asyncio.StreamWriter | None = None
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> BadWire:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    def dial(self, transport: str) -> tuple[str, int]:
        assert self._server is not None
        if transport != "websocket":
            return "127.0.0.1", self._port
        host, port = self._server.sockets[0].getsockname()
        return str(host), int(port)

    def arm(self, edit: _Edit) -> None:
        """Do this to the next frame with a publication that somebody is sent as JSON."""
        self._edit = edit

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._port)
            try:
                async with asyncio.TaskGroup() as group:
                    up = group.create_task(self._up(reader, to_server))
                    await self._down(from_server, writer)
                    up.cancel()
            finally:
                to_server.transport.abort()
                writer.transport.abort()

    async def _up(self, reader: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                to_server.write(data)
            to_server.write_eof()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            writer.write(await reader.readuntil(b"\r\n\r\n"))
            while True:
                frame = await read_frame(reader)
                writer.writelines(self._edited(frame, writer))

    def _edited(self, frame: bytes, writer: asyncio.StreamWriter) -> list[bytes]:
        is_meant = self._edit is not None and frame[0] == 0x81 and b'"publication"' in frame
        if not is_meant or self._victim not in (None, writer):
            return [frame]
        assert self._edit is not None
        self._victim = writer
        result = self._edit(frame, self._held)
        if not self._held:
            self._edit, self._victim = None, None
            self.edited.set()
        return result


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """One unmasked frame, whole (RFC 6455, section 5.2)."""
    head = await reader.readexactly(2)
    size = head[1] & 127
    if size >= 126:
        more = await reader.readexactly(2 if size == 126 else 8)
        head += more
        size = int.from_bytes(more)
    return head + await reader.readexactly(size)


@pytest.fixture(scope="module")
def issuer() -> Iterator[DevelopmentIssuer]:
    with http_issuer(AUDIENCE) as made:
        yield made


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients give their application whatever comes."""
    monkeypatch.setattr(Subscription, "_continues", lambda self, publication: True)


async def judged(issuer: DevelopmentIssuer, edit: _Edit | None) -> tuple[Verdict, Crowd]:
    """What a crowd's checker says after one frame was edited."""
    async with nodes(1, broker="memory:", issuer=issuer, settings=SETTINGS) as group, BadWire(group[0].port) as wire:
        async with crowd(wire.dial, issuer, CLIENTS) as people:
            if edit is not None:
                wire.arm(edit)
                for channel in CHANNELS:
                    await people.publish_answered(channel, 2)
                async with asyncio.timeout(10):
                    await wire.edited.wait()
            people.fault_ended()
            await people.until_healed()
            return await people.settle(), people


async def test_a_good_server_is_found_good(issuer: DevelopmentIssuer, unchecked: None) -> None:
    verdict, _ = await judged(issuer, None)
    verdict.check()
    assert verdict.deliveries > CLIENTS
    assert verdict.streams > CLIENTS
    assert verdict.heal_s is not None


@pytest.mark.parametrize(
    ("edit", "fault"), [(drop, "lost"), (double, "repeated"), (swap, "reordered"), (garble, "wrong_data")]
)
async def test_one_bad_frame_is_found(issuer: DevelopmentIssuer, unchecked: None, edit: _Edit, fault: str) -> None:
    verdict, _ = await judged(issuer, edit)
    assert set(verdict.broken) == {fault}
    with pytest.raises(AssertionError, match=fault):
        verdict.check()


@pytest.mark.faults
@pytest.mark.parametrize("edit", [drop, double, swap])
async def test_the_client_s_own_check_heals_what_a_bad_wire_does(issuer: DevelopmentIssuer, edit: _Edit) -> None:
    verdict, people = await judged(issuer, edit)
    verdict.check()
    counts = people.counts()
    assert counts["dropped"] >= 1
    assert (counts["gaps"] >= 1) == (edit is not double)
