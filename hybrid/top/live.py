"""The view on a terminal: looks again and again, draws what is new, and does what keys say."""

from __future__ import annotations

import asyncio
from typing import Final

from hybrid.top.ask import Asker
from hybrid.top.figures import compare
from hybrid.top.screen import screen
from hybrid.top.snapshot import Snapshot
from hybrid.top.terminal import Terminal
from hybrid.top.view import View, press

KEPT_S: Final = 1.1
"""A server answers the same for a second; who looks again within that would see that nothing happens."""


class Live:
    """One run; `first` is what is shown at first."""

    def __init__(self, asker: Asker, view: View, terminal: Terminal, first: Snapshot) -> None:
        self._asker = asker
        self._view = view
        self._terminal = terminal
        self._before: Snapshot | None = None
        self._now = first
        self._has_news = asyncio.Event()
        self._at_once = asyncio.Event()

    async def run(self) -> None:
        """Until `q`, or until cancelled; the terminal is as before then."""
        with self._terminal.taken(self._press, self._has_news.set):
            looking = asyncio.create_task(self._look_again())
            looking.add_done_callback(lambda _: self._has_news.set())
            try:
                while not self._view.is_over and not looking.done():
                    self._draw()
                    await self._has_news.wait()
                    self._has_news.clear()
            finally:
                looking.cancel()
                await asyncio.wait([looking])
        if not looking.cancelled() and (error := looking.exception()) is not None:
            raise error

    def _draw(self) -> None:
        figures = compare(self._before, self._now)
        width, height = self._terminal.size()
        self._terminal.draw(screen(figures, self._view, width, height))

    def _press(self, key: str) -> None:
        before = self._view
        self._view = press(before, key)
        if self._view.prefix != before.prefix or self._view.interval_s != before.interval_s or key == " ":
            self._at_once.set()
        self._has_news.set()

    async def _look_again(self) -> None:
        while True:
            await self._wait()
            now = await self._asker.look(self._view.prefix)
            self._before, self._now = self._now, now
            self._has_news.set()

    async def _wait(self) -> None:
        """Until the interval is over, or at once where a key wants it so. A pause ends by a key."""
        await asyncio.sleep(KEPT_S)
        while True:
            try:
                async with asyncio.timeout(self._view.interval_s - KEPT_S):
                    await self._at_once.wait()
                self._at_once.clear()
                return
            except TimeoutError:
                if not self._view.is_paused:
                    return
