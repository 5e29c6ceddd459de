"""`EventSource` of real browsers, for the course."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.foreign.course import Following, Seen
from tests.proxy.zoo.animals import Absent, Route
from tests.proxy.zoo.drivers.firefox import Firefox, firefox
from tests.proxy.zoo.drivers.webkit import WebKit, webkit
from tests.support.chromium import find_chromium, open_browser

Evaluate = Callable[[str], Awaitable[Any]]
"""Of a page of the server: the value of a JavaScript expression, awaited."""
_OPEN: Final = """(() => {
  window.seen = [];
  const source = new EventSource(URL);
  const take = ({ type, data, lastEventId }) => { seen.push([type, data, lastEventId]); window.wake?.(); };
  for (const type of ["message", "note", "hybrid.reset"]) source.addEventListener(type, take);
})()"""
_NEXT: Final = """(async () => {
  while (!seen.length) await new Promise((resolve) => { window.wake = resolve; });
  return seen.shift();
})()"""


def in_page(opened: Callable[[str], AbstractAsyncContextManager[Evaluate]]) -> Following:
    """A browser's own `EventSource`, on a page of the same server; `opened` shows the page at a URL."""

    @asynccontextmanager
    async def follow(url: str, token: str) -> AsyncIterator[Callable[[], Awaitable[Seen]]]:
        async with opened(url.partition("/v1/")[0] + "/static/hybrid/index.js") as evaluate:
            await evaluate(_OPEN.replace("URL", json.dumps(url)))

            async def next_event() -> Seen:
                kind, data, id = await evaluate(_NEXT)
                return kind, json.loads(data), id

            yield next_event

    return follow


@asynccontextmanager
async def chromium_page(url: str) -> AsyncIterator[Evaluate]:
    """Of a Chromium of its own."""
    with tempfile.TemporaryDirectory() as folder:
        async with open_browser(chromium(), Path(folder) / "profile") as page:
            await page.open(url, width=800, height=600)
            await page.until(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")
            yield page.evaluate


@asynccontextmanager
async def firefox_page(url: str) -> AsyncIterator[Evaluate]:
    """Of a Firefox of its own."""
    async with _page_of(firefox, url) as evaluate:
        yield evaluate


@asynccontextmanager
async def webkit_page(url: str) -> AsyncIterator[Evaluate]:
    """Of a WebKitGTK of its own."""
    async with _page_of(webkit, url) as evaluate:
        yield evaluate


versions: Final[dict[str, str]] = {}
"""Of the browsers that say it only when they run, by the first word."""


@asynccontextmanager
async def _page_of(
    driver: Callable[[Route, Path], AbstractAsyncContextManager[Firefox | WebKit]], url: str
) -> AsyncIterator[Evaluate]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            async with driver(Route(url), Path(folder)) as browser:
                name, _, version = browser.version.rpartition(" ")
                versions[name] = version
                await browser.open(url)
                yield browser.evaluate
        except Absent as error:
            pytest.skip(str(error))


def chromium() -> str:
    """The program."""
    found = find_chromium()
    if found is None:
        pytest.skip("needs chromium: no chromium, chromium-browser or google-chrome on the path")
    return found
