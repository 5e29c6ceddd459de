"""Tasks whose cleaning behind a cancellation nothing disturbs. The home of AnyIO.

Where cleaning takes turns of the event loop, a second cancellation ends it: `asyncio.gather` passes each on, these do
not. And httpx2 closes connections, also those of others that are over, at any time and over several turns; it holds off
AnyIO's cancellation meanwhile (`CancelScope.shield`) and knows nothing of asyncio's, which makes it forget connections
that it has not closed. So what it does for us is cancelled by AnyIO.
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
    for task in tasks:
        task.cancel()
    await _over(*tasks)


async def once(work: Coroutine[Any, Any, _Result]) -> _Result:
    """The result of `work`, or what it raises, where `work` asks something of httpx2.

    A cancellation reaches it as one of AnyIO's, and it has ended when this is cancelled. What httpx2 does not close by
    itself even then is a connection in the midst of its TLS handshake: that is left to its own timeout for connecting.
    """
    from anyio import CancelScope  # with httpx2, which a server without issuers and webhooks never loads

    scope = CancelScope()

    async def within() -> _Result:
        with scope:
            return await work
        raise asyncio.CancelledError

    task = asyncio.get_running_loop().create_task(within())
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        scope.cancel()
        raise
    finally:
        await _over(task)


async def _over(*tasks: asyncio.Task[Any]) -> None:
    left = {task for task in tasks if not task.done()}
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
