"""permessage-deflate with clients that were not written here: `websockets` and npm's `ws`."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, PerMessageDeflate

from hybrid.settings import Namespace
from tests.foreign.test_runtimes import HERE, MODULES
from tests.support.server import RunningServer, running_server, settings_for

LONG = {"rows": [{"name": f"row {number}", "value": number * 7919, "text": "é😀"} for number in range(300)]}
SHORT = {"text": "hello"}
ITEMS: list[Any] = [LONG, SHORT, "x" * 65_000, [1, 2, 3], LONG]


def settings() -> Any:
    return settings_for(namespaces={"default": Namespace("default", history_size=100)})


def url(server: RunningServer, target: str = "/v1/channels/news?history=100") -> str:
    return f"ws://127.0.0.1:{server.port}{target}"


@pytest.mark.parametrize(
    "offer",
    [
        pytest.param({}, id="as it comes"),
        pytest.param({"server_no_context_takeover": True, "client_no_context_takeover": True}, id="without contexts"),
        pytest.param({"client_max_window_bits": 9}, id="a small window of its own"),
    ],
)
async def test_websockets_reads_what_was_kept_and_what_comes(offer: dict[str, Any]) -> None:
    extensions = [ClientPerMessageDeflateFactory(**offer)]
    async with asyncio.timeout(20), running_server(settings()) as server:
        for item in ITEMS:
            await server.engine.publish("news", item)
        async with connect(url(server), additional_headers=server.bearer(), extensions=extensions) as socket:
            assert [type(extension) for extension in socket.protocol.extensions] == [PerMessageDeflate]
            for item in ITEMS:
                assert json.loads(await socket.recv(decode=True))["data"] == item
            for item in ITEMS:
                await server.engine.publish("news", item)
            for item in ITEMS:
                assert json.loads(await socket.recv(decode=True))["data"] == item


async def test_websockets_speaks_a_session_in_compressed_frames() -> None:
    async with asyncio.timeout(20), running_server(settings()) as server:
        async with connect(url(server, "/v1/stream"), subprotocols=["hybrid.v1"]) as socket:  # type: ignore[list-item]
            assert socket.protocol.extensions
            await socket.send(json.dumps({"method": "auth", "token": server.token()}))
            await socket.send(
                json.dumps({"method": "attach", "attempt": 1, "confirm": True, "subscriptions": [{"channel": "news"}]})
            )
            assert "attached" in json.loads(await socket.recv())
            assert "subscribed" in json.loads(await socket.recv())
            await socket.send(json.dumps({"method": "publish", "id": 7, "channel": "news", "data": LONG}))
            pushes = [json.loads(await socket.recv()) for _ in range(2)]
            assert next(push["publication"]["data"] for push in pushes if "publication" in push) == LONG


async def test_a_client_that_asks_for_a_smaller_window_is_served_without() -> None:
    extensions = [ClientPerMessageDeflateFactory(server_max_window_bits=10)]
    async with asyncio.timeout(20), running_server(settings()) as server:
        await server.engine.publish("news", LONG)
        async with connect(url(server), additional_headers=server.bearer(), extensions=extensions) as socket:
            assert not socket.protocol.extensions
            assert json.loads(await socket.recv(decode=True))["data"] == LONG


async def test_ws_for_node_reads_and_writes_it() -> None:
    node = shutil.which("node")
    if node is None or not (MODULES / "ws").is_dir():
        pytest.skip("needs node and ws: `make runtimes` installs what npm has of them")
    async with asyncio.timeout(40), running_server(settings()) as server:
        for item in ITEMS:
            await server.engine.publish("news", item)
        process = await asyncio.create_subprocess_exec(
            node,
            str(HERE / "deflate.mjs"),
            env={**os.environ, "HYBRID_URL": url(server), "HYBRID_TOKEN": server.token()},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=1 << 20,
        )
        assert process.stdout is not None
        try:
            line = (await process.stdout.readline()).decode().strip()
            assert line.startswith("permessage-deflate"), line
            for item in ITEMS:
                assert json.loads(await process.stdout.readline()) == item
            for item in ITEMS:
                await server.engine.publish("news", item)
            for item in ITEMS:
                assert json.loads(await process.stdout.readline()) == item
        finally:
            process.kill()
            await process.wait()
