"""The whole way once over every transport, with hybrid's own client."""

from __future__ import annotations

import asyncio

import pytest

from hybrid.client.client import Client
from tests.support.server import running_server, settings_for


@pytest.mark.parametrize("transport", ["websocket", "sse", "longpoll"])
@pytest.mark.parametrize("handoff", [True, False], ids=["hand-off", "asgi"])
async def test_what_is_published_arrives_in_order(transport: str, handoff: bool) -> None:
    async with asyncio.timeout(20), running_server(settings_for(handoff=handoff)) as server:
        async with Client(server.url, server.token, transport) as client:
            subscription = await client.subscribe("chat:lobby")
            for number in range(20):
                await client.publish("chat:lobby", number)
            got = [await anext(subscription) for _ in range(20)]
    assert [publication.data for publication in got] == list(range(20))
    assert [publication.offset for publication in got] == list(range(1, 21))
