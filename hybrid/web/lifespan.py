"""The end of an application whose server does not tell it in time: its clients are told to come back elsewhere.

`launcher.serve` drains by itself. Other servers end an application by the lifespan's `shutdown`, in which the drain
happens then. Hypercorn (0.18) and uvicorn (0.54) send that only when their requests have ended, waiting polls among
them, and Hypercorn on Python 3.12.1 and later waits for its connections, too, which never end by themselves while a
stream is open. So under these two the drain begins when their listening sockets are closed, and they are not let wait
for connections that are ended behind that anyway.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, TypeAlias
from weakref import WeakKeyDictionary

from hybrid.transports.exchange import AsgiApp, Receive, Scope, Send

_log = logging.getLogger(__name__)
_NEAR: Final = 6
"""Frames from a call of `create_server` to whose call it is: asyncio's streams, and wrappers, may stand between."""
_SERVERS: Final = frozenset(("hypercorn", "uvicorn"))

_Drain: TypeAlias = "Callable[[], asyncio.Task[None]]"
_drains: WeakKeyDictionary[asyncio.AbstractEventLoop, set[_Drain]] = WeakKeyDictionary()
"""Of each loop whose servers are watched: what begins when one of them is closed, for every app that lives on it."""


class Lifespan:
    """In front of an ASGI application: drains before the application hears of its end."""

    def __init__(self, app: AsgiApp, drain: Callable[[], Awaitable[None]]) -> None:
        """`drain` is called once, for one life of the application; its errors are logged."""
        self._app = app
        self._drain = drain
        self._draining: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI call."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        drains: set[_Drain] = set()

        async def received() -> Any:
            nonlocal drains
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._draining = None
                drains = _watch_servers()
                drains.add(self._begin_drain)
            elif message["type"] == "lifespan.shutdown":
                await self._begin_drain()
            return message

        try:
            await self._app(scope, received, send)
        finally:
            drains.discard(self._begin_drain)

    def _begin_drain(self) -> asyncio.Task[None]:
        if self._draining is None:
            self._draining = asyncio.get_running_loop().create_task(self._drained())
        return self._draining

    async def _drained(self) -> None:
        try:
            await self._drain()
        except Exception:
            _log.exception("draining failed")


class _Watched:
    """A listening server: closing it begins the drains, and waiting for its end waits for them."""

    def __init__(self, server: asyncio.AbstractServer, drains: set[_Drain]) -> None:
        self._server = server
        self._drains = drains

    def close(self) -> None:
        """See `asyncio.Server.close`."""
        self._server.close()
        for begin in list(self._drains):
            begin()

    async def wait_closed(self) -> None:
        """Return at the end of the drains; requests under way have the HTTP server's own grace after that."""
        for begin in list(self._drains):
            await begin()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)


def _watch_servers() -> set[_Drain]:
    """What begins when a server on this loop is closed: to be added to. Goes nowhere where somebody else watches."""
    loop: Any = asyncio.get_running_loop()
    if loop in _drains:
        return _drains[loop]
    drains: set[_Drain] = set()
    if "create_server" in getattr(loop, "__dict__", {}):
        return drains  # the launcher's: it drains by itself
    create = loop.create_server

    async def create_server(*arguments: Any, **options: Any) -> Any:
        server = await create(*arguments, **options)
        return _Watched(server, drains) if _is_asked_by_known() else server

    with suppress(AttributeError, TypeError):  # a loop of another make, on which nothing can be set
        _drains[loop] = drains
        loop.create_server = create_server
    return drains


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
