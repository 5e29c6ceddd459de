"""The client in headless Chromium, driven over the DevTools protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from websockets.exceptions import ConnectionClosed

from tests.proxy.zoo.animals import Absent, Route
from tests.proxy.zoo.drivers.base import LOADING_MAX_S, DriverError, expression
from tests.proxy.zoo.origin import PAGE
from tests.support.chromium import Page, find_chromium, open_browser

_OFFLINE_S: Final = 0.5
"""Between two networks."""


class Chromium:
    """Implements `Driven`."""

    def __init__(self, page: Page, url: str, version: str) -> None:
        self.version = version
        self._page = page
        self._url = url

    async def load(self) -> None:
        # Away first: the same address again would find the former page's course still there.
        await self._page.send("Page.navigate", url="about:blank")
        shown = await self._page.send("Page.navigate", url=self._url)
        if "errorText" in shown:
            raise DriverError(f"the page does not load: {shown['errorText']}")
        try:
            await self._page.until("window.course", patience_s=LOADING_MAX_S)
        except AssertionError as error:
            raise DriverError(f"the page does not come up: {error}") from None

    async def call(self, method: str, **arguments: Any) -> Any:
        try:
            return await self._page.evaluate(expression(method, arguments))
        except (AssertionError, ConnectionClosed) as error:
            raise DriverError(f"{method}: {error}") from None

    async def change_network(self, change: Callable[[], object]) -> bool:
        nothing = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        change()  # first: a client's goodbye must not get through
        await self._page.send("Network.emulateNetworkConditions", offline=True, **nothing)
        await asyncio.sleep(_OFFLINE_S)
        await self._page.send("Network.emulateNetworkConditions", offline=False, **nothing)
        return True


@asynccontextmanager
async def browser_on(route: Route, folder: Path) -> AsyncIterator[Page]:
    """The page of a browser with an empty profile whose traffic takes the route, that to the loopback included.

    Raises Absent.
    """
    found = find_chromium()
    if found is None:
        raise Absent("needs chromium: no chromium, chromium-browser or google-chrome on the path")
    flags = []
    if route.proxy is not None:
        flags += [f"--proxy-server={route.proxy}", "--proxy-bypass-list=<-loopback>"]
    if route.ca is not None:
        flags.append("--ignore-certificate-errors")
    async with open_browser(found, folder / "profile", *flags) as page:
        yield page


@asynccontextmanager
async def chromium(route: Route, folder: Path) -> AsyncIterator[Chromium]:
    """The client in such a browser. Raises Absent."""
    async with browser_on(route, folder) as page:
        version = (await page.send("Browser.getVersion"))["product"].replace("/", " ")
        yield Chromium(page, route.url + PAGE, version)
