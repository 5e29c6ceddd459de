"""Calls over the wire: on a WebSocket, and posted."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import connect

from hybrid.engine.calls import Call
from tests.support.server import running_server, settings_for


async def add(call: Call) -> Any:
    return {"sum": sum(call.data), "for": call.principal.subject}


@pytest.mark.parametrize("subprotocol", ["hybrid.v1", "hybrid.v1.msgpack"])
async def test_a_call_on_a_websocket(subprotocol: str) -> None:
    import msgspec

    packer = msgspec.msgpack if subprotocol.endswith("msgpack") else msgspec.json
    async with asyncio.timeout(10), running_server(settings_for()) as server:
        server.engine.calls.register("add", add)
        url = f"ws://127.0.0.1:{server.port}/v1/stream"
        async with connect(
            url,
            subprotocols=[subprotocol],
            additional_headers=server.bearer(),
            compression=None,  # type: ignore[list-item]
        ) as socket:
            for command in (
                {"method": "call", "id": 1, "name": "add", "data": [1, 2], "key": "k"},
                {"method": "call", "id": 2, "name": "other"},
            ):
                raw = packer.encode(command)
                await socket.send(raw if subprotocol.endswith("msgpack") else raw.decode())
            replies = [packer.decode(await socket.recv())["reply"] for _ in range(2)]
    by_id = {reply["id"]: reply for reply in replies}
    assert by_id[1] == {"id": 1, "result": {"sum": 3, "for": "alice"}}
    assert by_id[2]["error"]["name"] == "not_found"


async def test_a_slow_call_does_not_hold_up_what_follows_on_a_websocket() -> None:
    gate = asyncio.Event()

    async def wait(call: Call) -> str:
        await gate.wait()
        return "late"

    async with asyncio.timeout(10), running_server(settings_for()) as server:
        server.engine.calls.register("wait", wait)
        url = f"ws://127.0.0.1:{server.port}/v1/stream"
        async with connect(url, additional_headers=server.bearer(), compression=None) as socket:
            await socket.send('{"method":"call","id":1,"name":"wait"}')
            await socket.send('{"method":"publish","id":2,"channel":"a","data":1}')
            assert json.loads(await socket.recv())["reply"]["id"] == 2
            gate.set()
            assert json.loads(await socket.recv())["reply"] == {"id": 1, "result": "late"}


async def test_a_posted_call_is_carried_out_once() -> None:
    async with asyncio.timeout(10), running_server(settings_for()) as server, httpx2.AsyncClient() as http:
        seen: list[Call] = []

        async def count(call: Call) -> int:
            seen.append(call)
            return len(seen)

        server.engine.calls.register("count", count)
        command = {"method": "call", "id": 7, "name": "count", "key": "k"}
        for _ in range(2):
            answer = await http.post(f"{server.url}/v1/command", headers=server.bearer(), json={"commands": [command]})
            assert answer.json() == {"replies": [{"id": 7, "result": 1}]}
    assert [call.key for call in seen] == ["k"]
