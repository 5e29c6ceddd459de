"""Somebody's waiting, that he can be told to end."""

from __future__ import annotations

import asyncio


class Wait:
    """See the module's text. Whoever waits has a future here, from before he looks whether he has to."""

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
