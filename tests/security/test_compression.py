"""Compressed WebSockets: what a hostile client can make of them, and what the length of a frame gives away."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from hybrid.limits import Limits
from hybrid.settings import Namespace
from tests.support.bytewise import Connection, frame, websocket
from tests.support.server import RunningServer, running_server, settings_for

OFFER = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}
COMPRESSED = 0x41
"""The opcode of text, and the bit of the extension."""
LONG = {"text": "abc " * 1_000}
LIMITS = Limits()


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(9, wbits=-15)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")


def command(value: Any) -> bytes:
    return frame(deflated(json.dumps(value).encode()), COMPRESSED)


async def raw_frame(socket: Connection) -> tuple[int, bytes]:
    """The first byte of the next frame, with its bits, and the payload."""
    async with asyncio.timeout(10):
        first, length = await socket.reader.readexactly(2)
        if length >= 126:
            length = int.from_bytes(await socket.reader.readexactly(2 if length == 126 else 8), "big")
        return first, await socket.reader.readexactly(length)


def inflated(payload: bytes) -> bytes:
    return zlib.decompressobj(wbits=-15).decompress(payload + b"\x00\x00\xff\xff")


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    namespaces = {"default": Namespace("default"), "bank": Namespace("bank", compression=False)}
    async with running_server(settings_for(limits=LIMITS, namespaces=namespaces)) as running:
        yield running


@asynccontextmanager
async def session(server: RunningServer, *channels: str) -> AsyncIterator[Connection]:
    headers: Mapping[str, str] = {**OFFER, **server.bearer()}
    async with websocket(server, "/v1/stream", headers) as socket:
        subscriptions = [{"channel": channel} for channel in channels]
        socket.send(command({"method": "attach", "attempt": 1, "confirm": True, "subscriptions": subscriptions}))
        assert "attached" in await socket.push()
        assert "subscribed" in await socket.push()
        yield socket


@pytest.mark.parametrize("is_known", [True, False], ids=["with a token", "before the token"])
@pytest.mark.parametrize("target", ["/v1/stream", "/v1/channels/news"])
async def test_a_bomb_ends_with_1009_and_is_not_made(server: RunningServer, target: str, is_known: bool) -> None:
    limit = LIMITS.command_max_bytes if is_known and target == "/v1/stream" else LIMITS.auth_frame_max_bytes
    bomb = deflated(bytes(limit * 900))
    assert len(bomb) < limit
    async with websocket(server, target, {**OFFER, **(server.bearer() if is_known else {})}) as socket:
        tracemalloc.start()
        try:
            socket.send(frame(bomb, COMPRESSED))
            assert (await socket.close_code())[0] == 1009
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 8 * LIMITS.command_max_bytes  # the client's own frames are in it


async def test_a_token_is_bounded_after_inflating_as_well_as_before(server: RunningServer) -> None:
    auth = {"method": "auth", "token": server.token(), "pad": "x" * LIMITS.auth_frame_max_bytes}
    async with websocket(server, "/v1/stream", OFFER) as socket:
        socket.send(command(auth))
        assert (await socket.close_code())[0] == 1009


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        pytest.param(frame(b"\xff\xff\xff", COMPRESSED), 1007, id="no DEFLATE"),
        pytest.param(frame(deflated(b"\xff"), COMPRESSED), 1007, id="no UTF-8 in it"),
        pytest.param(frame(b"x", 0x49), 1002, id="a compressed ping"),
        pytest.param(frame(deflated(b"{}"), 0x61), 1002, id="a bit that nobody has given a meaning"),
    ],
)
async def test_what_is_no_message_ends_it(server: RunningServer, sent: bytes, code: int) -> None:
    async with websocket(server, "/v1/stream", {**OFFER, **server.bearer()}) as socket:
        socket.send(sent)
        assert (await socket.close_code())[0] == code


async def test_without_the_offer_a_compressed_frame_is_refused(server: RunningServer) -> None:
    async with websocket(server, "/v1/stream", server.bearer()) as socket:
        socket.send(command({"method": "heartbeat"}))
        assert (await socket.close_code())[0] == 1002


async def test_nothing_but_publications_is_compressed_and_each_by_itself(server: RunningServer) -> None:
    """What a client's own frames hold (its session, what it asked for) is never beside what others wrote."""
    async with session(server, "news") as socket:
        first = await server.engine.publish("news", LONG)
        byte, payload = await raw_frame(socket)
        assert byte == 0xC1
        assert json.loads(inflated(payload))["publication"]["data"] == LONG
        await server.engine.publish("news", {"text": "secret " * 500})
        assert (await raw_frame(socket))[0] == 0xC1
        again = await server.engine.publish("news", LONG)
        byte, repeated = await raw_frame(socket)
        # Numbers and a tag differ; had it a window, the text would have cost nothing the second time.
        assert abs(len(repeated) - len(payload)) < 20
        assert first.position.offset + 2 == again.position.offset
        socket.send(command({"method": "history", "id": 1, "channel": "news"}))
        byte, reply = await raw_frame(socket)
        assert byte == 0x81
        assert len(reply) > LIMITS.deflate_min_bytes
        assert json.loads(reply)["reply"]["id"] == 1


async def test_a_namespace_that_holds_secrets_beside_what_others_chose_says_so(server: RunningServer) -> None:
    async with session(server, "bank:7", "news") as socket:
        await server.engine.publish("bank:7", LONG)
        assert (await raw_frame(socket))[0] == 0x81
        await server.engine.publish("news", LONG)
        assert (await raw_frame(socket))[0] == 0xC1


async def test_publishing_compressed_commands(server: RunningServer) -> None:
    async with session(server, "news") as socket:
        socket.send(command({"method": "publish", "id": 5, "channel": "news", "data": LONG}))
        got = [await raw_frame(socket), await raw_frame(socket)]
        assert sorted(byte for byte, _ in got) == [0x81, 0xC1]
        publication = next(inflated(payload) for byte, payload in got if byte == 0xC1)
        assert json.loads(publication)["publication"]["data"] == LONG
