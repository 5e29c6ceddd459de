"""Who waits for everything to have ended."""

from __future__ import annotations

import asyncio

from hybrid.engine.census import Census


async def test_all_who_wait_hear_that_nothing_is_open() -> None:
    census = Census()
    with census.poll():
        waiting = [asyncio.create_task(census.emptied()) for _ in range(2)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
    async with asyncio.timeout(5):
        await asyncio.gather(*waiting)
        await census.emptied()
    with census.poll():
        again = asyncio.create_task(census.emptied())
        await asyncio.sleep(0)
        assert not again.done()
    await again
