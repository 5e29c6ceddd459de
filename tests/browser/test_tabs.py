"""Tabs of a real browser share one connection: with its locks, its channels and its limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from hybrid.engine.engine import Engine
from hybrid.protocol.states import SessionState
from tests.browser.conftest import serve_demo
from tests.support.chromium import Page, open_browser

CHANNEL = "demo:chat"
TABS = 7  # one more than a browser opens connections to a server over HTTP/1.1
PUBLISH_EVERY_S = 0.01
EMPTY_PAGE = "static/demo.css"  # no script of its own, and nothing that keeps it out of the back/forward cache

MODULE = "const { Client } = await import('/static/hybrid/index.js');"
SCRIPT = """const policy = trustedTypes.createPolicy("test", { createScriptURL: (url) => url });
  const script = document.createElement("script");
  script.src = policy.createScriptURL("/static/hybrid.min.js");
  document.documentElement.append(script);
  await new Promise((resolve) => (script.onload = resolve));
  const { Client } = hybrid;"""
START = """(async () => {
  LOAD
  // One sign-in for all tabs of a browser, as it is with cookies: the issuer makes another guest for each.
  if (!localStorage.token) {
    const form = new URLSearchParams({ grant_type: "client_credentials", client_id: "demo" });
    const { access_token } = await (await fetch("/dev-issuer/token", { method: "POST", body: form })).json();
    localStorage.token = access_token;
  }
  window.seen = [];
  window.resets = 0;
  window.client = new Client({ url: "/v1", getToken: () => localStorage.token, ...OPTIONS });
  const channel = client.channel("demo:chat");
  channel.on("publication", ({ offset }) => seen.push(offset));
  channel.on("reset", () => (resets += 1));
  client.connect();
  await channel.subscribe();
})()"""


@dataclass
class Browser:
    """A served demo, and a browser whose tabs show an empty page of that origin."""

    url: str
    engine: Engine
    page: Page

    @asynccontextmanager
    async def tabs(self, count: int, options: str, load: str = MODULE) -> AsyncIterator[list[Page]]:
        """So many tabs with a subscribed client each, in `window.client`; offsets as they come in `window.seen`."""
        async with AsyncExitStack() as stack:
            tabs = [await stack.enter_async_context(self.page.tab()) for _ in range(count)]
            start = START.replace("LOAD", load).replace("OPTIONS", options)
            await self._show(tabs[0], start)  # it signs in for all, and leads
            await asyncio.gather(*(self._show(tab, start) for tab in tabs[1:]))
            yield tabs

    async def _show(self, tab: Page, start: str) -> None:
        await tab.open(f"{self.url}{EMPTY_PAGE}", width=400, height=300)
        await tab.until(f"document.readyState === 'complete' && location.pathname === '/{EMPTY_PAGE}'")
        await tab.evaluate(start)

    def sessions(self) -> int:
        """How many sessions have a leg at the server."""
        return sum(runner.session.state is not SessionState.DETACHED for runner in self.engine.registry.runners())

    async def until_sessions(self, count: int) -> None:
        """Wait for that many."""
        async with asyncio.timeout(10.0):
            while self.sessions() != count:  # noqa: ASYNC110 -- nothing tells of it
                await asyncio.sleep(0.02)


@asynccontextmanager
async def publishing(engine: Engine) -> AsyncIterator[list[int]]:
    """Publishes as long as it is open; offsets as they are made."""
    offsets: list[int] = []

    async def publish() -> None:
        while True:
            offsets.append((await engine.publish(CHANNEL, "x")).position.offset)
            await asyncio.sleep(PUBLISH_EVERY_S)

    task = asyncio.create_task(publish())
    try:
        yield offsets
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest_asyncio.fixture
async def browser(chromium: str, tmp_path: Path) -> AsyncIterator[Browser]:
    async with serve_demo() as (url, engine), open_browser(chromium, tmp_path / "profile") as page:
        yield Browser(url, engine, page)


async def assert_whole(tabs: Sequence[Page], head: int) -> None:
    """Each has been given every offset from its first one to `head`, once and in order; nothing had to be healed."""
    for tab in tabs:
        await tab.until(f"seen.at(-1) >= {head}")
        offsets = await tab.evaluate("seen")
        assert offsets == list(range(offsets[0], offsets[-1] + 1))
        assert await tab.evaluate("[resets, client.stats.gaps]") == [0, 0]


async def test_seven_tabs_share_one_event_stream_and_go_on_when_the_leader_is_closed(browser: Browser) -> None:
    """Over HTTP/1.1 the seventh stream of its own would never open."""
    async with publishing(browser.engine) as published, browser.tabs(TABS, "{ transports: ['sse'] }") as tabs:
        for tab in tabs:
            await tab.until("client.transport === 'shared'")
        await browser.until_sessions(1)
        leader, *others = tabs
        answer = await others[0].evaluate("client.publish('demo:chat', 'from a follower')")
        await assert_whole(tabs, answer["position"]["offset"])

        head = published[-1]
        await leader.close()
        for tab in others:
            await tab.until("client.stats.reconnects === 1 && client.transport === 'shared'")
        await browser.until_sessions(1)
        assert published[-1] > head
        await assert_whole(others, published[-1])
        assert await others[-1].evaluate("client.state") == "connected"


async def test_a_leader_in_the_back_forward_cache_has_handed_over_and_misses_nothing(browser: Browser) -> None:
    async with publishing(browser.engine) as published, browser.tabs(3, "{ transports: ['sse'] }") as tabs:
        for tab in tabs:
            await tab.until("client.transport === 'shared'")
        leader, *others = tabs
        await leader.evaluate("addEventListener('pageshow', ({ persisted }) => (window.wasKept = persisted))")
        await leader.send("Page.navigate", url=f"{browser.url}static/favicon.svg")
        for tab in others:
            await tab.until("client.stats.reconnects === 1 && client.transport === 'shared'")
        await browser.until_sessions(1)
        await leader.send("Page.bringToFront")
        await leader.evaluate("history.back()")
        await leader.until("wasKept === true && client.transport === 'shared'")
        await browser.until_sessions(1)
        await assert_whole(tabs, published[-1])


@pytest.mark.slow
async def test_without_sharing_each_tab_has_a_session(browser: Browser) -> None:
    async with browser.tabs(TABS, "{ transports: ['websocket'], tabs: false }") as tabs:
        assert browser.sessions() == TABS
        for tab in tabs:
            assert await tab.evaluate("client.transport") == "websocket"


async def test_the_client_of_a_script_tag_loads_what_it_needs_from_beside_itself(browser: Browser) -> None:
    async with browser.tabs(2, "{}", SCRIPT) as tabs:
        for tab in tabs:
            await tab.until("client.transport === 'shared'")
            assert [url for url in tab.requested if "tabs" in url] == [f"{browser.url}static/hybrid.tabs.min.js"]
        await browser.until_sessions(1)
        published = await browser.engine.publish(CHANNEL, "x")
        await assert_whole(tabs, published.position.offset)
