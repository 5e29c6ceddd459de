"""sseclient-py, an EventSource for Python that knows nothing of hybrid, over httpx2."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, TypeVar

import httpx2
import pytest
import sseclient

from tests.support.server import running_server, settings_for

_Result = TypeVar("_Result")
EVENTS = {"Accept": "text/event-stream"}


def read(url: str, headers: dict[str, str], count: int) -> list[Any]:
    """The next `count` events. Blocking: it is run in a thread."""
    with httpx2.stream("GET", url, headers={**EVENTS, **headers}, timeout=20) as response:
        assert response.status_code == 200
        events = sseclient.SSEClient(response.iter_bytes()).events()
        return [next(events) for _ in range(count)]


async def in_thread(function: Callable[..., _Result], *arguments: Any) -> _Result:
    return await asyncio.wait_for(asyncio.to_thread(function, *arguments), 30)


@pytest.mark.parametrize("handoff", [True, False], ids=["hand-off", "asgi"])
async def test_a_foreign_event_source_reads_and_resumes(handoff: bool) -> None:
    async with running_server(settings_for(handoff=handoff)) as server:
        url = f"{server.url}/v1/channels/news"
        await server.engine.publish("news", {"text": "one\ntwo"}, type="greeting")
        await server.engine.publish("news", "zwei\u2028drei")
        await server.engine.publish("news", b"\x00\xff")
        events = await in_thread(read, f"{url}?history=3", server.bearer(), 3)
        assert [event.event for event in events] == ["greeting", "message", "message"]
        assert [json.loads(event.data) for event in events] == [
            {"text": "one\ntwo"},
            "zwei\u2028drei",
            {"base64": "AP8="},
        ]
        for place in (0, 1):
            again = await in_thread(read, url, {**server.bearer(), "Last-Event-ID": events[place].id}, 2 - place)
            assert [event.id for event in again] == [event.id for event in events[place + 1 :]]
        # The header wins over the URL, which a browser cannot change when it reconnects.
        headers = {**server.bearer(), "Last-Event-ID": events[1].id}
        last = await in_thread(read, f"{url}?after={events[0].id}", headers, 1)
        assert last[0].id == events[2].id


async def test_several_channels_share_one_composite_cursor() -> None:
    async with running_server(settings_for()) as server:
        url = f"{server.url}/v1/channels?name=a&name=chat:1"
        for number in range(3):
            await server.engine.publish("a", number)
            await server.engine.publish("chat:1", -number, type="note")
        events = await in_thread(read, f"{url}&after=a=0,chat%253A1=0", server.bearer(), 6)
        seen = [json.loads(event.data) for event in events]
        assert [item["data"] for item in seen if item["channel"] == "a"] == [0, 1, 2]
        assert [item["data"] for item in seen if item["channel"] == "chat:1"] == [0, -1, -2]
        assert {event.event for event in events if "chat" in json.loads(event.data)["channel"]} == {"note"}
        for place in range(5):
            headers = {**server.bearer(), "Last-Event-ID": events[place].id}
            left = await in_thread(read, url, headers, 5 - place)
            assert sorted(event.data for event in left) == sorted(event.data for event in events[place + 1 :])
            assert left[-1].id == events[-1].id


async def test_a_cursor_that_cannot_be_continued_is_told_as_an_event() -> None:
    async with running_server(settings_for()) as server:
        await server.engine.publish("news", 1)
        url = f"{server.url}/v1/channels/news?after=zzzz-7-00000000"
        events = await in_thread(read, url, server.bearer(), 1)
        assert events[0].event == "hybrid.reset"
        assert json.loads(events[0].data) == {"channel": "news", "cursor": events[0].id}
        reading = asyncio.create_task(
            in_thread(read, f"{server.url}/v1/channels/news", {**server.bearer(), "Last-Event-ID": events[0].id}, 1)
        )
        await server.engine.publish("news", 2)
        assert [event.data for event in await reading] == ["2"]


async def test_a_ticket_opens_it_without_a_header() -> None:
    async with running_server(settings_for()) as server, httpx2.AsyncClient(base_url=server.url) as client:
        wanted = {"purpose": "channels", "channels": ["news"]}
        made = await client.post("/v1/ticket", json=wanted, headers=server.bearer())
        assert made.status_code == 201
        await server.engine.publish("news", 1)
        url = f"{server.url}/v1/channels/news?ticket={made.json()['ticket']}"
        events = await in_thread(read, f"{url}&after=0", {}, 1)
        await server.engine.publish("news", 2)
        again = await in_thread(read, url, {"Last-Event-ID": events[0].id}, 1)
        assert [event.data for event in (*events, *again)] == ["1", "2"]
