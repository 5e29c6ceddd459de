"""Plain streams, whose frames and events no client of ours decodes: each is as the AsyncAPI document has it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.bytewise import WEBSOCKET, event_stream, websocket
from tests.support.server import running_server, settings_for
from tests.support.specified import validator

LOST = "zzzz-7-00000001"
"""A cursor of another life of the log."""


def check(name: str, value: Any) -> None:
    assert [error.message for error in validator(name).iter_errors(value)] == []


@pytest.mark.parametrize("handoff", [True, False], ids=["hand-off", "asgi"])
async def test_the_frames_of_a_plain_websocket(handoff: bool) -> None:
    async with running_server(settings_for(handoff=handoff)) as server:
        await server.engine.publish("news", 0)
        headers = {**WEBSOCKET, **server.bearer()}
        async with websocket(server, f"/v1/channels/news?after={LOST}", headers) as socket:
            check("reset-frame", await socket.push())
            await server.engine.publish("news", {"a": [1, None]}, type="note")
            frame = await socket.push()
            check("publication", frame)
            assert (frame["data"], frame["type"]) == ({"a": [1, None]}, "note")
            await server.engine.publish("news", b"bytes")
            frame = await socket.push()
            check("publication", frame)
            assert frame["binary"] is True


@pytest.mark.parametrize("handoff", [True, False], ids=["hand-off", "asgi"])
async def test_the_events_of_plain_streams(handoff: bool) -> None:
    async with running_server(settings_for(handoff=handoff)) as server:
        await server.engine.publish("news", 0)
        async with event_stream(server, f"/v1/channels/news?after={LOST}", server.bearer()) as stream:
            reset = await stream.event()
            assert reset["event"] == "hybrid.reset"
            check("reset-event", json.loads(reset["data"]))
        query = f"name=a&name=news&after=a%3D0,news%3D{LOST}"
        async with event_stream(server, f"/v1/channels?{query}", server.bearer()) as stream:
            reset = await stream.event()
            assert reset["event"] == "hybrid.reset"
            check("reset-event", json.loads(reset["data"]))
            await server.engine.publish("a", {"n": 1})
            event = await stream.event()
            check("bundle-item", json.loads(event["data"]))
