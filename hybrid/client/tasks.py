"""Tasks that are cancelled once.

What is cancelled cleans up behind itself, and where that takes a turn of the event loop, a second cancellation ends the
cleaning: httpx2 then forgets a connection that it has not closed (its shields hold off AnyIO's cancellation, not
asyncio's). `asyncio.gather` passes each cancellation on; these do not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

_Result = TypeVar("_Result")


async def ended(*tasks: asyncio.Task[Any]) -> None:
    """Cancel them, once, and return when all are over, whatever came of them.

    Cancelled meanwhile, it waits all the same and is cancelled then; so they must end soon.
    """
    left = {task for task in tasks if not task.done()}
    for task in left:
        task.cancel()
    interruption: asyncio.CancelledError | None = None
    while left:
        try:
            _, left = await asyncio.wait(left)
        except asyncio.CancelledError as error:
            interruption = error
    for task in tasks:
        if not task.cancelled():
            task.exception()  # or the loop would say that nobody asked for it
    if interruption is not None:
        raise interruption


async def once(work: Coroutine[Any, Any, _Result]) -> _Result:
    """The result of `work`, or what it raises. It hears of one cancellation only, and has ended when this has."""
    task = asyncio.get_running_loop().create_task(work)
    try:
        return await asyncio.shield(task)
    finally:
        await ended(task)
