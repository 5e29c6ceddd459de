"""uvicorn in the test's own loop; it is called as `launcher.serve` is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import pytest

from hybrid.limits import Limits
from hybrid.web.listener import SEND_BUFFER_BYTES, bind

Serve = Callable[..., Coroutine[Any, Any, None]]
_DRAIN_S: Final = 0.5


async def serve_uvicorn(
    app: Any,
    *,
    host: str,
    port: int,
    limits: Limits,
    shutdown_event: asyncio.Event,
    on_started: Callable[[int], None],
    drain: Callable[[float], Awaitable[None]] | None = None,
    streams_under: bytes | None = None,
    abort_links: Callable[[], int] | None = None,
    **options: Any,
) -> None:
    """Serve until the event, then drain; `options` are uvicorn's own. Nothing is read in front of it."""
    del streams_under, abort_links
    uvicorn = pytest.importorskip("uvicorn", reason="needs uvicorn: `make .venv/.tested` installs it")
    listener = bind(host, port, SEND_BUFFER_BYTES)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, timeout_graceful_shutdown=limits.shutdown_grace_s, **options
    )
    server = uvicorn.Server(config)
    serving: asyncio.Future[Any] = asyncio.ensure_future(server.serve(sockets=[listener]))
    waiting: asyncio.Future[Any] = asyncio.ensure_future(shutdown_event.wait())
    try:
        while not server.started:
            if serving.done():
                serving.result()
            await asyncio.sleep(0.005)
        on_started(listener.getsockname()[1])
        await asyncio.wait([waiting, serving], return_when=asyncio.FIRST_COMPLETED)
        if drain is not None:
            await drain(_DRAIN_S)
    finally:
        waiting.cancel()
        server.should_exit = True
        await serving
