"""Calls: answered with what the handler returns or refuses, carried out once, and in nobody's way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hybrid.engine.calls import Call
from hybrid.errors import ChannelError, HybridError
from tests.support.world import Pipe, World, world

CHANNEL = "chat:lobby"


class Handlers:
    """What the application answers, and how often it was asked."""

    def __init__(self, here: World) -> None:
        self.count = 0
        self.gate = asyncio.Event()
        for server in (here.server, *here.others):
            for name in ("add", "refuse", "fail", "wait", "nothing"):
                server.engine.calls.register(name, getattr(self, name))

    async def add(self, call: Call) -> Any:
        self.count += 1
        return {"sum": sum(call.data), "for": call.principal.subject, "text": "é"}

    async def refuse(self, call: Call) -> Any:
        raise ChannelError("forbidden", "Not you.")

    async def fail(self, call: Call) -> Any:
        raise RuntimeError("broken on purpose")

    async def wait(self, call: Call) -> Any:
        await self.gate.wait()
        return "late"

    async def nothing(self, call: Call) -> Any:
        return None


async def test_what_a_handler_returns_or_refuses(pipe: Pipe, handoff: bool, caplog: pytest.LogCaptureFixture) -> None:
    async with world(handoff) as here:
        Handlers(here)
        client = await here.client(pipe)
        assert await client.call("add", [1, 2]) == {"sum": 3, "for": "alice", "text": "é"}
        assert await client.call("nothing") is None
        for name, error in (("refuse", "forbidden"), ("fail", "call_failed"), ("other", "not_found")):
            with pytest.raises(HybridError) as caught:
                await client.call(name, [])
            assert caught.value.row.name == error
        with pytest.raises(HybridError, match="JSON"):
            await client.call("add", b"bytes")


async def test_a_call_whose_answer_is_lost_is_carried_out_once(pipe: Pipe, handoff: bool) -> None:
    async with world(handoff) as here:
        handlers = Handlers(here)
        client = await here.client(pipe)
        for number in range(3):
            path = "" if pipe.transport == "websocket" else "/v1/command"
            loss = here.cabling[pipe.transport].lose_answer(path)
            assert (await client.call("add", [number, 1]))["sum"] == number + 1
            assert loss.has_happened.is_set()
        assert handlers.count == 3


async def test_nothing_waits_behind_a_call(pipe: Pipe, handoff: bool) -> None:
    async with world(handoff) as here:
        handlers = Handlers(here)
        client = await here.client(pipe)
        calls = [asyncio.create_task(client.call("wait")) for _ in range(3)]
        await asyncio.sleep(0)
        for number in range(5):
            assert (await client.publish(CHANNEL, number)).offset == number + 1
        assert not any(call.done() for call in calls)
        handlers.gate.set()
        assert await asyncio.gather(*calls) == ["late"] * 3


async def test_a_call_on_its_way_survives_a_cut(pipe: Pipe, handoff: bool) -> None:
    async with world(handoff) as here:
        handlers = Handlers(here)
        client = await here.client(pipe)
        call = asyncio.create_task(client.call("wait"))
        await client.publish(CHANNEL, 0)  # so the call is there, too
        here.cabling[pipe.transport].cut()
        await client.publish(CHANNEL, 1)
        handlers.gate.set()
        assert await call == "late"
