"""What a client costs that is connected and silent: no task, no timer of the loop, no queue, and few objects."""

from __future__ import annotations

import asyncio
import gc
import sys
import tracemalloc
from collections import Counter
from typing import Any, Final, Literal

import pytest

from hybrid.web import launcher
from tests.costs.counting import census, each, traced
from tests.costs.guests import CARRIED, guests
from tests.support.server import RunningServer, running_server, settings_for

OBJECTS: Final = {
    "websocket": {
        "hybrid.engine.feed.Feed": 1,
        "hybrid.engine.leg.StreamLeg": 1,
        "hybrid.engine.runner.SessionRunner": 1,
        "hybrid.engine.subscription.Subscription": 1,
        "hybrid.links.handoff.HandedOffWebSocket": 1,
        "hybrid.protocol.session.Session": 1,
    },
    "sse": {
        "hybrid.engine.feed.Feed": 1,
        "hybrid.engine.leg.StreamLeg": 1,
        "hybrid.engine.runner.SessionRunner": 1,
        "hybrid.engine.subscription.Subscription": 1,
        "hybrid.links.handoff.HandedOffEventStream": 1,
        "hybrid.protocol.session.Session": 1,
    },
    "plain sse": {
        "hybrid.engine.feed.Feed": 1,
        "hybrid.engine.plain.PlainStream": 1,
        "hybrid.engine.subscription.Subscription": 1,
        "hybrid.links.handoff.HandedOffEventStream": 1,
    },
}
"""The product's own objects of a client that is subscribed to one channel, as the collector knows them."""
_WEAK: Final = 8 if sys.version_info >= (3, 12) else 0  # more for what can be referred to weakly: one, of sessions
OBJECT_BYTES: Final = {"websocket": 800 + _WEAK, "sse": 776 + _WEAK, "plain sse": 480}
"""Of these objects together, without what they point at. A slot more is 8."""
MEMORY_BYTES: Final = {"websocket": 4_250, "sse": 4_300, "plain sse": 3_700}
"""All that Python allocates for such a client and keeps, with its verified token: a tenth more than is measured."""
CONTAINERS: Final = {"websocket": 1, "sse": 1, "plain sse": 1}
"""Lists, dictionaries, sets and queues of such a client, where the event loop has none of its own (uvloop)."""
STRANGERS: Final = ("hypercorn", "h11", "wsproto", "quart", "werkzeug", "_asyncio", "asyncio.queues", "asyncio.streams")
"""Whose objects are all gone once a client is connected; `_asyncio` has tasks and futures."""
SHARED: Final = "hybrid.engine.wheel._Slot"
"""One for all timers of the same quarter of a second."""
COUNT: Final = 20
_CONTAINERS: Final = ("builtins.list", "builtins.dict", "builtins.set", "collections.deque")


@pytest.mark.parametrize("loop_name", ["asyncio", "uvloop"])
@pytest.mark.parametrize("kind", CARRIED)
def test_an_idle_client_is_a_few_objects(kind: str, loop_name: Literal["asyncio", "uvloop"]) -> None:
    launcher.run(lambda: _idle(kind, loop_name == "uvloop"), loop_name)


async def _idle(kind: str, is_uvloop: bool) -> None:
    async with running_server(settings_for()) as server:
        with guests(server, kind) as listening:
            await listening.come(COUNT)
            await listening.settled()
            before, before_bytes = _counts(server)
            await listening.come(COUNT)
            await listening.settled()
            after, after_bytes = _counts(server)
    found = each(after, before, COUNT)
    ours = {name: count for name, count in found.items() if name.startswith("hybrid.") and name != SHARED}
    assert ours == OBJECTS[kind]
    assert sum(after_bytes[name] - before_bytes[name] for name in ours) == COUNT * OBJECT_BYTES[kind]
    assert found.get("tasks", 0) == found.get("timers of the loop", 0) == 0
    assert found["timers of the wheel"] == 1
    assert [name for name in found if name.startswith(STRANGERS)] == []
    if is_uvloop:
        containers = sum(found.get(name, 0) for name in _CONTAINERS)
        assert containers < CONTAINERS[kind] + 0.5, "but for those that many share"


@pytest.mark.parametrize("kind", CARRIED)
def test_an_idle_client_has_so_much_memory(kind: str) -> None:
    """Without what is allocated in C: the kernel's part of a socket, and uvloop's."""
    launcher.run(lambda: _memory(kind), "uvloop")


async def _memory(kind: str) -> None:
    async with running_server(settings_for()) as server:
        with guests(server, kind) as listening:
            await listening.come(COUNT)
            await listening.settled()
            with traced():
                await listening.come(COUNT)
                await listening.settled()
                gc.collect()
                size, _ = tracemalloc.get_traced_memory()
    assert size / COUNT < MEMORY_BYTES[kind]


def _counts(server: RunningServer) -> tuple[Counter[str], Counter[str]]:
    counts, sizes = census()
    loop: Any = asyncio.get_running_loop()
    counts["tasks"] = len(asyncio.all_tasks())
    counts["timers of the wheel"] = len(server.engine.wheel)
    # uvloop has none to look at; asyncio keeps those that were cancelled for a while.
    counts["timers of the loop"] = sum(not timer.cancelled() for timer in getattr(loop, "_scheduled", ()))
    return counts, sizes
