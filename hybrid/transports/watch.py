"""How a request that waits notices that its client has gone."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Any

from hybrid.links.asgi import Receive
from hybrid.links.kept_request import KeptRequest


class PeerGone(Exception):
    """The client went away before its answer; there is nobody to tell."""


class Watch:
    """Cancels what is awaited inside `with` when the client goes away: PeerGone is raised then.

    On a kept connection that needs no task, and raises PeerGone at once where the client has gone already.
    """

    __slots__ = ("_has_gone", "_is_over", "_kept", "_receive", "_task", "_watching")

    def __init__(self, receive: Receive, kept: KeptRequest | None) -> None:
        """`receive` is the request's; where it is a kept connection's, that is `kept`."""
        self._receive = receive
        self._kept = kept
        self._has_gone = self._is_over = False
        self._task: asyncio.Task[Any] | None = None
        self._watching: asyncio.Task[None] | None = None

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        if self._kept is None:
            self._watching = asyncio.ensure_future(self._until_gone())
            self._watching.add_done_callback(lambda done: None if done.cancelled() else self._gone())
            return
        if self._kept.is_lost:
            raise PeerGone
        self._kept.on_lost = self._gone

    def __exit__(self, _: object, error: BaseException | None, trace: TracebackType | None) -> None:
        self._is_over = True  # the watcher may have seen the end already, and be about to tell it
        if self._watching is not None:
            self._watching.cancel()
        elif self._kept is not None:
            self._kept.on_lost = None
        if self._has_gone and isinstance(error, asyncio.CancelledError):
            assert self._task is not None
            if self._task.cancelling() == 1:  # nobody else cancels us
                self._task.uncancel()
                raise PeerGone from None

    def _gone(self) -> None:
        if not self._is_over and self._task is not None:
            self._has_gone = True
            self._task.cancel()

    async def _until_gone(self) -> None:
        with suppress(OSError):
            while (await self._receive())["type"] != "http.disconnect":
                pass
