"""What a connect costs in tasks: the application's call and what carries out the attach, or the plain stream."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any, Final

import pytest

from tests.costs.guests import CARRIED, guests
from tests.support.server import running_server, settings_for

COUNT: Final = 20
ACCEPTING: Final = "BaseSelectorEventLoop._accept_connection2"
"""asyncio's own, which uvloop does without."""


@pytest.mark.parametrize("kind", CARRIED)
async def test_a_connect_makes_two_tasks(kind: str) -> None:
    loop = asyncio.get_running_loop()
    made = Counter[str]()

    def factory(
        loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Task[Any]:
        made[coroutine.__qualname__] += 1
        return asyncio.Task(coroutine, loop=loop, **options)

    async with running_server(settings_for()) as server:
        with guests(server, kind) as listening:
            await listening.come(1)  # makes what there is once for all
            await listening.settled()
            loop.set_task_factory(factory)
            await listening.come(COUNT)
            await listening.settled()
            loop.set_task_factory(None)
    made.pop(ACCEPTING, None)
    assert made["_Visitor.serve"] == COUNT
    assert sum(made.values()) == 2 * COUNT, made
