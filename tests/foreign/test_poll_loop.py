"""The loop that everybody writes: ask, handle, ask again with the cursor that came."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest

from tests.support.bytewise import until
from tests.support.server import running_server, settings_for


@pytest.mark.parametrize("channels", [["news"], ["a", "chat:1", "zoë/ü"]], ids=["one", "several"])
async def test_a_plain_loop_gets_everything_once_and_in_order(channels: list[str]) -> None:
    async with running_server(settings_for()) as server:
        async with httpx2.AsyncClient(base_url=server.url, headers=server.bearer(), timeout=20) as client:
            parameters: dict[str, Any] = {"name": channels}
            seen: dict[str, list[int]] = {channel: [] for channel in channels}
            answer = (await client.get("/v1/channels", params=parameters)).json()
            assert answer["publications"] == []

            async def publish() -> None:
                for number in range(100):
                    for channel in channels:
                        await server.engine.publish(channel, number)

            publishing = asyncio.create_task(publish())
            while min(map(len, seen.values())) < 100:
                parameters["after"] = answer["cursor"]
                answer = (await client.get("/v1/channels", params=parameters)).raise_for_status().json()
                assert answer["recovered"]
                for publication in answer["publications"]:
                    seen[publication["channel"]].append(publication["data"])
            await publishing
            assert all(numbers == list(range(100)) for numbers in seen.values())


async def test_the_end_of_the_wait_gives_the_same_cursor() -> None:
    async with running_server(settings_for()) as server:
        async with httpx2.AsyncClient(base_url=server.url, headers=server.bearer(), timeout=20) as client:
            await server.engine.publish("news", 1)
            first = (await client.get("/v1/channels/news?history=1")).json()
            assert [item["data"] for item in first["publications"]] == [1]
            response = await client.get("/v1/channels/news", params={"after": first["cursor"], "wait": 0.05})
            assert response.json() == {"cursor": first["cursor"], "recovered": True, "publications": []}
            assert int(response.headers["content-length"]) == len(response.content)
            assert response.headers["cache-control"] == "no-store"


async def test_a_cursor_that_cannot_be_continued_answers_at_once() -> None:
    async with running_server(settings_for()) as server:
        async with httpx2.AsyncClient(base_url=server.url, headers=server.bearer(), timeout=20) as client:
            await server.engine.publish("news", 1)
            answer = (await client.get("/v1/channels/news?after=zzzz-7-00000000&wait=25")).json()
            assert not answer["recovered"]
            assert answer["publications"] == []
            assert answer["cursor"].split("-")[1] == "1"
            await server.engine.publish("news", 2)
            following = (await client.get(f"/v1/channels/news?after={answer['cursor']}")).json()
            assert [item["data"] for item in following["publications"]] == [2]


async def test_a_waiting_poll_is_answered_by_the_publication_itself() -> None:
    async with running_server(settings_for()) as server:
        async with httpx2.AsyncClient(base_url=server.url, headers=server.bearer(), timeout=20) as client:
            polling = asyncio.create_task(client.get("/v1/channels/news?after=0&wait=25"))
            await until(lambda: len(server.engine.open) == 1)
            loop = asyncio.get_running_loop()
            started_s = loop.time()
            await server.engine.publish("news", 1)
            answer = (await polling).json()
            assert [item["data"] for item in answer["publications"]] == [1]
            assert loop.time() - started_s < 10  # and not at the end of the wait
