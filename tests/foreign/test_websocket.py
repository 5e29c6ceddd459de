"""The `websockets` library as a client that knows nothing of hybrid, on plain channels."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.server import RunningServer, running_server, settings_for


def url(server: RunningServer, target: str = "/v1/channels/news") -> str:
    return f"ws://127.0.0.1:{server.port}{target}"


async def received(socket: ClientConnection, count: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(20):
        return [json.loads(await socket.recv(decode=True)) for _ in range(count)]


def cursor(publication: dict[str, Any]) -> str:
    return f"{publication['epoch']}-{publication['offset']}-{publication['tag']}"


@pytest.mark.parametrize("handoff", [True, False], ids=["hand-off", "asgi"])
@pytest.mark.parametrize("credential", ["header", "frame"])
async def test_publications_come_as_text_frames_and_go_on_after_a_cursor(handoff: bool, credential: str) -> None:
    async with running_server(settings_for(handoff=handoff)) as server:

        async def opened(target: str) -> ClientConnection:
            headers = server.bearer() if credential == "header" else {}
            socket = await connect(url(server, target), additional_headers=headers)
            if credential == "frame":
                await socket.send(json.dumps({"method": "auth", "token": server.token()}))
            return socket

        for number in range(3):
            await server.engine.publish("news", number, type="count")
        await server.engine.publish("news", b"\xff")
        socket = await opened("/v1/channels/news?history=4")
        seen = await received(socket, 4)
        await socket.close()
        assert socket.close_code == 1000
        assert [item["data"] for item in seen] == [0, 1, 2, {"base64": "/w=="}]
        assert [item["offset"] for item in seen] == [1, 2, 3, 4]
        assert [item.get("type") for item in seen] == ["count", "count", "count", None]
        assert [item.get("binary", False) for item in seen] == [False, False, False, True]
        assert {item["channel"] for item in seen} == {"news"}
        socket = await opened(f"/v1/channels/news?after={cursor(seen[1])}")
        assert await received(socket, 2) == seen[2:]
        await server.engine.publish("news", "live")
        assert (await received(socket, 1))[0]["data"] == "live"
        await socket.close()


async def test_several_channels_and_a_reset() -> None:
    async with running_server(settings_for()) as server:
        await server.engine.publish("a", 1)
        target = "/v1/channels?name=a&name=b&after=a=zzzz-7-00000000,b=0"
        async with connect(url(server, target), additional_headers=server.bearer()) as socket:
            reset = (await received(socket, 1))[0]
            assert set(reset) == {"channel", "reset"}
            assert reset["channel"] == "a"
            assert reset["reset"]["offset"] == 1
            await server.engine.publish("a", 2)
            await server.engine.publish("b", 3)
            assert {(item["channel"], item["data"]) for item in await received(socket, 2)} == {("a", 2), ("b", 3)}


async def test_refusals_are_closes_that_a_browser_can_read() -> None:
    async with running_server(settings_for()) as server:
        cases: list[tuple[dict[str, str], list[str | bytes], int]] = [
            ({}, ["hello"], 3401),
            ({}, [json.dumps({"method": "attach", "attempt": 1})], 3401),
            ({}, [json.dumps({"method": "auth", "token": server.token()}).encode()], 3401),
            ({}, [json.dumps({"method": "auth", "token": "x"})], 4501),
            ({}, [json.dumps({"method": "auth", "token": server.token(scope="hybrid:subscribe:other")})], 3403),
            ({}, [json.dumps({"method": "auth", "token": server.token()}), "more"], 4500),
            (server.bearer(), ["anything"], 4500),
        ]
        for headers, frames, code in cases:
            async with connect(url(server), additional_headers=headers) as socket:
                for item in frames:
                    await socket.send(item)
                with pytest.raises(ConnectionClosed):
                    await received(socket, 1)
                assert socket.close_code == code, frames
                assert socket.close_reason


async def test_a_bad_header_is_an_http_answer() -> None:
    async with running_server(settings_for()) as server:
        for headers, status in (
            ({"Authorization": "Bearer x"}, 401),
            ({"Authorization": "Basic eA=="}, 401),
            ({"Origin": "https://evil.example", **server.bearer()}, 403),
        ):
            with pytest.raises(InvalidStatus) as refused:
                await connect(url(server), additional_headers=headers)
            assert refused.value.response.status_code == status
            assert json.loads(refused.value.response.body or b"")["status"] == status


async def test_a_session_needs_no_library_either() -> None:
    """The session protocol by hand, as somebody would who ports a client."""
    async with running_server(settings_for()) as server:
        async with connect(url(server, "/v1/stream"), subprotocols=["hybrid.v1"]) as socket:  # type: ignore[list-item]
            assert socket.subprotocol == "hybrid.v1"
            await socket.send(json.dumps({"method": "auth", "token": server.token()}))
            subscriptions = [{"channel": "news"}]
            await socket.send(
                json.dumps({"method": "attach", "attempt": 1, "nonce": "n", "confirm": True,
                            "subscriptions": subscriptions})
            )  # fmt: skip
            attached, subscribed = await received(socket, 2)
            assert attached["attached"]["nonce"] == "n"
            assert subscribed["subscribed"]["channels"] == [{"channel": "news", "position": {"offset": 0}}]
            await socket.send(json.dumps({"method": "publish", "id": 7, "channel": "news", "data": 1}))
            pushes = await received(socket, 2)
            reply = next(push["reply"] for push in pushes if "reply" in push)
            publication = next(push["publication"] for push in pushes if "publication" in push)
            assert reply["id"] == 7
            assert reply["position"]["tag"] == publication["tag"]
