"""A page in headless Chromium with one peer's client in it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.proxy.zoo.animals import Route
from tests.proxy.zoo.drivers.chromium import browser_on
from tests.proxy.zoo.peers.cache import MODULES
from tests.proxy.zoo.peers.setups import HERE, Setup
from tests.support.chromium import Page


class NotLoaded(Exception):
    """The page itself does not come through."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the page has seen since it was started; times in ms since then."""

    got: list[tuple[str, int, float]]
    """The server's life, the number, the time."""
    transports: list[tuple[str, float]]
    """One for each connection that took over."""
    sent: int


class Tab:
    """The page. Its memory (cookies, storage, caches) outlives a load."""

    def __init__(self, page: Page, url: str, setup: Setup) -> None:
        self._page = page
        self._url = url
        self._setup = setup

    async def start(self, patience_s: float) -> float | None:
        """Load the page anew and connect. The time to the first message in ms, or None when it did not come in time.

        Raises NotLoaded. Any answer of the server will do as a page, its 404 too: the scripts are put into it, so that
        what a proxy does to scripts is not what is measured.
        """
        try:
            async with asyncio.timeout(patience_s):
                await self._page.send("Page.navigate", url="about:blank")
                shown = await self._page.send("Page.navigate", url=f"{self._url}/")
        except TimeoutError:
            raise NotLoaded(f"not within {patience_s:.0f} s") from None
        if "errorText" in shown:
            raise NotLoaded(shown["errorText"])
        try:
            there = f"location.origin === {json.dumps(self._url)} && document.readyState === 'complete'"
            await self._page.until(there, patience_s=patience_s)
        except AssertionError:
            raise NotLoaded(f"not within {patience_s:.0f} s") from None
        setup = self._setup
        library = [MODULES / setup.library] if setup.library else []
        for script in (*library, HERE / "clients" / f"{setup.client}.js", HERE / "clients" / "course.js"):
            await self._page.evaluate(f"{script.read_text()}\n;0")
        await self._page.evaluate(f"course.start({json.dumps(dict(setup.options))})")
        if not await self.until("course.count() > 0", patience_s):
            return None
        first: float = await self._page.evaluate("course.seen().got[0][2]")
        return first

    async def until(self, condition: str, patience_s: float) -> bool:
        """Whether it came true in time."""
        try:
            await self._page.until(condition, patience_s=patience_s)
        except AssertionError:
            return False
        return True

    async def send(self, count: int) -> None:
        """Begin to send the numbers from 0 to `count` - 1."""
        await self._page.evaluate(f"course.send({count})")

    async def now(self) -> float:
        """The page's clock."""
        now: float = await self._page.evaluate("course.now()")
        return now

    async def seen(self) -> Seen:
        """So far."""
        return Seen(**await self._page.evaluate("course.seen()"))

    async def offline(self, is_offline: bool) -> None:
        """Tell the browser so, which tells the page."""
        unlimited = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        await self._page.send("Network.emulateNetworkConditions", offline=is_offline, **unlimited)


@asynccontextmanager
async def opened(route: Route, setup: Setup, folder: Path) -> AsyncIterator[Tab]:
    """A browser with an empty memory whose traffic takes the route, that to the loopback included. Raises Absent."""
    async with browser_on(route, folder) as page:
        yield Tab(page, route.url, setup)
