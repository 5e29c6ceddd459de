"""Somebody's waiting, that he can be told to end."""

from __future__ import annotations

import asyncio


class Wait:
    """See the module's text. Whoever waits puts a future here, for as long as he awaits it."""

    __slots__ = ("future", "is_ended")

    def __init__(self) -> None:
        self.future: asyncio.Future[None] | None = None
        self.is_ended = False

    def end(self) -> None:
        """Wait no longer; whatever comes is not wanted any more."""
        self.is_ended = True
        self.resolve()

    def resolve(self) -> None:
        """Look again: something has happened."""
        if self.future is not None and not self.future.done():
            self.future.set_result(None)
