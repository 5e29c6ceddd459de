"""What becomes of a connection when its page is put away, frozen, or runs where platforms lack something."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from hybrid.engine.engine import Engine
from tests.browser.conftest import Demo, serve_demo
from tests.support.chromium import open_browser

CHANNEL = "demo:chat"
TRANSPORTS = ("websocket", "sse", "longpoll")

CONNECT = """(async () => {
  const { Client } = await import("/static/hybrid/index.js");
  const form = new URLSearchParams({ grant_type: "client_credentials", client_id: "demo" });
  const { access_token } = await (await fetch("/dev-issuer/token", { method: "POST", body: form })).json();
  const events = { seen: [], states: [], reasons: [] };
  const client = new Client({ url: "/v1", getToken: () => access_token, transports: [TRANSPORT], tabs: false });
  client.on("state", ({ state }) => events.states.push(state));
  client.on("leg", ({ event, reason }) => reason && events.reasons.push(reason));
  const channel = client.channel("demo:chat");
  channel.on("publication", ({ data }) => events.seen.push(data));
  client.connect();
  await channel.subscribe();
  Object.assign(globalThis, { client, channel, events });
})()"""


@pytest_asyncio.fixture
async def place(chromium: str, tmp_path: Path) -> AsyncIterator[Demo]:
    """A server and a page of its origin that does nothing by itself."""
    async with serve_demo() as (url, engine):
        async with open_browser(chromium, tmp_path / "profile") as page:
            demo = Demo(f"{url}static/demo.css", engine, page)
            await page.open(demo.url, width=800, height=600)
            await page.until("document.readyState === 'complete' && location.pathname !== 'blank'")
            yield demo


async def connect(place: Demo, transport: str) -> None:
    await place.page.evaluate(CONNECT.replace("TRANSPORT", f"'{transport}'"))


async def publish(engine: Engine, *data: Any) -> None:
    for one in data:
        await engine.publish(CHANNEL, one)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_back_forward_cache_takes_the_page_and_gives_it_back_whole(place: Demo, transport: str) -> None:
    """An open connection would keep the page out of it, or be found dead in it."""
    await connect(place, transport)
    await publish(place.engine, 1)
    await place.page.until("events.seen.length === 1")
    await place.page.evaluate("addEventListener('pageshow', ({ persisted }) => { events.isPersisted = persisted; })")
    other = place.url.replace("demo.css", "favicon.svg")
    await place.page.evaluate(f"location.href = {other!r}")
    await place.page.until("location.pathname === '/static/favicon.svg' && document.readyState === 'complete'")
    await publish(place.engine, 2, 3)
    await place.page.evaluate("history.back()")
    await place.page.until("location.pathname === '/static/demo.css'")
    await place.page.until("globalThis.events?.isPersisted !== undefined")
    assert await place.page.evaluate("events.isPersisted") is True
    await place.page.until("events.seen.length === 3")
    await publish(place.engine, 4)
    await place.page.until("events.seen.length === 4")
    assert await place.page.evaluate("events.seen") == [1, 2, 3, 4]
    assert await place.page.evaluate("events.states") == ["connecting", "connected", "connecting", "connected"]
    assert "asleep" in await place.page.evaluate("events.reasons")


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_frozen_page_lets_go_and_comes_back(place: Demo, transport: str) -> None:
    await connect(place, transport)
    await place.page.send("Page.setWebLifecycleState", state="frozen")
    async with asyncio.timeout(10):
        await place.engine.open.emptied()
    await publish(place.engine, 1, 2)
    await place.page.send("Page.setWebLifecycleState", state="active")
    await place.page.until("events.seen.length === 2")
    assert await place.page.evaluate("events.seen") == [1, 2]


async def test_the_page_that_is_told_of_the_network_s_return_asks_at_once(place: Demo) -> None:
    """Its socket may be open and dead; here it lives, and stays."""
    await connect(place, "websocket")
    await place.page.evaluate("dispatchEvent(new Event('online'))")
    await publish(place.engine, 1)
    await place.page.until("events.seen.length === 1")
    assert await place.page.evaluate("client.stats.legs") == 1


async def test_where_fetch_cannot_stream_the_platform_s_event_source_does(place: Demo) -> None:
    """As in React Native: the attach travels ahead, and no token is in a URL."""
    await place.page.evaluate("delete globalThis.ReadableStream")
    await connect(place, "sse")
    await publish(place.engine, 1, 2)
    await place.page.until("events.seen.length === 2")
    assert await place.page.evaluate("client.transport") == "sse"
    await place.page.evaluate("channel.publish(3)")
    await place.page.until("events.seen.length === 3")
    streams = [url for url in place.page.requested if "/v1/stream" in url]
    assert len(streams) == 1
    assert "?ticket=" in streams[0]
    for stream in place.engine.open.streams():
        stream.link.abort()
    await publish(place.engine, 4)
    await place.page.until("events.seen.length === 4")
    assert await place.page.evaluate("events.seen") == [1, 2, 3, 4]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_it_works_in_a_worker(place: Demo, transport: str) -> None:
    """There is no document there, no storage, and no page that could be hidden."""
    origin = place.url.removesuffix("static/demo.css")
    await place.page.open(f"{origin}healthz", width=800, height=600)  # whose policy says nothing of workers
    await place.page.until("location.pathname === '/healthz' && document.readyState === 'complete'")
    connecting = CONNECT.replace("TRANSPORT", f"'{transport}'").replace('"/', f'"{origin}')
    text = (
        f"await {connecting}; postMessage('subscribed'); channel.on('publication', ({{ data }}) => postMessage(data));"
    )
    await place.page.evaluate(
        f"""new Promise((resolve, reject) => {{
          const source = new Blob([{text!r}], {{ type: "text/javascript" }});
          globalThis.said = [];
          globalThis.worker = new Worker(URL.createObjectURL(source), {{ type: "module" }});
          worker.onerror = ({{ message }}) => reject(new Error(message));
          worker.onmessage = ({{ data }}) => {{ said.push(data); resolve(); }};
        }})"""
    )
    await publish(place.engine, 1, 2)
    await place.page.until("said.length === 3")
    assert await place.page.evaluate("said") == ["subscribed", 1, 2]
