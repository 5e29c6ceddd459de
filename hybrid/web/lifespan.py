"""The end of an application whose server does not tell it in time: its clients are told to come back elsewhere.

`launcher.serve` drains by itself. Other servers end an application by the lifespan's `shutdown`, in which the drain
happens then. Hypercorn (0.18) and uvicorn (0.54) send that only when their requests have ended, waiting polls among
them, and Hypercorn on Python 3.12.1 and later waits for its connections, too, which never end by themselves while a
stream is open. So under these two the drain begins when their listening sockets are closed, and they are not let wait
for connections that are ended behind that anyway.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from hybrid.transports.exchange import AsgiApp, Receive, Scope, Send

_NEAR: Final = 6
"""Frames from a call of `create_server` to whose call it is: asyncio's streams, and wrappers, may stand between."""
_SERVERS: Final = frozenset(("hypercorn", "uvicorn"))


class Lifespan:
    """In front of an ASGI application: drains before the application hears of its end."""

    def __init__(self, app: AsgiApp, drain: Callable[[], Awaitable[None]]) -> None:
        """`drain` is called once, for one life of the application."""
        self._app = app
        self._drain = drain
        self._draining: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI call."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return

        async def received() -> Any:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._draining = None
                _watch_servers(self._begin_drain)
            elif message["type"] == "lifespan.shutdown":
                await self._begin_drain()
            return message

        await self._app(scope, received, send)

    def _begin_drain(self) -> asyncio.Task[None]:
        if self._draining is None:
            self._draining = asyncio.get_running_loop().create_task(self._drained())
        return self._draining

    async def _drained(self) -> None:
        await self._drain()


class _Watched:
    """A listening server: closing it begins the drain, and waiting for its end waits for that."""

    def __init__(self, server: asyncio.AbstractServer, begin_drain: Callable[[], asyncio.Task[None]]) -> None:
        self._server = server
        self._begin_drain = begin_drain

    def close(self) -> None:
        """See `asyncio.Server.close`."""
        self._server.close()
        self._begin_drain()

    async def wait_closed(self) -> None:
        """Return at the end of the drain; requests under way have the HTTP server's own grace after that."""
        await self._begin_drain()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)


def _watch_servers(begin_drain: Callable[[], asyncio.Task[None]]) -> None:
    loop: Any = asyncio.get_running_loop()
    if "create_server" in getattr(loop, "__dict__", {}):
        return  # the launcher watches itself, and drains
    create = loop.create_server

    async def create_server(*arguments: Any, **options: Any) -> Any:
        server = await create(*arguments, **options)
        return _Watched(server, begin_drain) if _is_asked_by_known() else server

    with suppress(AttributeError):  # a loop of another make, on which nothing can be set
        loop.create_server = create_server


def _is_asked_by_known() -> bool:
    """An application may listen on sockets of its own, which end when it likes."""
    frame = sys._getframe(1)
    for _ in range(_NEAR):
        if frame.f_back is None:
            return False
        frame = frame.f_back
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] in _SERVERS:
            return True
    return False
