"""The page that examines a network from a browser: in the demo, with a bare server, and behind proxies that meddle."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import serve_demo
from tests.proxy.test_doctor import is_event_stream, upgrade_is_taken_out
from tests.support.chromium import Page, open_browser
from tests.support.meddler import Meddling, meddler
from tests.support.server import running_server, settings_for

TRANSPORTS = ("websocket", "sse", "longpoll")
PATH = "/static/doctor.html"


@asynccontextmanager
async def browser(chromium: str, tmp_path: Path) -> AsyncIterator[Page]:
    async with open_browser(chromium, tmp_path / "profile") as page:
        yield page


async def until_ended(page: Page) -> None:
    await page.until("document.documentElement.dataset.phase === 'ended'", patience_s=60)


async def text(page: Page, selector: str) -> str:
    return str(await page.evaluate(f"document.querySelector(`{selector}`).textContent.trim()"))


async def rows(page: Page, name: str) -> list[str]:
    """One part of each transport's row."""
    return [await text(page, f"[data-transport={transport}].row [data-part={name}]") for transport in TRANSPORTS]


async def overflow(page: Page) -> int:
    """By how many pixels the page is wider than the screen."""
    return int(await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


async def test_the_demo_examines_itself(chromium: str, tmp_path: Path) -> None:
    async with serve_demo() as (url, _), browser(chromium, tmp_path) as page:
        await page.open(f"{url.rstrip('/')}{PATH}#idle=0", width=390, height=844)
        await until_ended(page)
        assert await text(page, "#verdict-title") == "hybrid will use WebSocket here"
        assert await rows(page, "state") == ["works"] * 3
        came = "document.querySelectorAll('.row[data-transport=sse] .dot').length"
        assert await page.evaluate(came) == 4
        line = "document.querySelector('.row[data-transport=sse] [data-part=timeline]')"
        told = await page.evaluate(f"{line}.getAttribute('aria-label')")
        assert str(told).startswith("4 of 4 came, after ")
        assert "development issuer" in await text(page, "#token")
        report = await text(page, "#report pre")
        assert "WebSocket: works; open after " in report
        assert "What would help" not in report
        assert await overflow(page) <= 0
        assert page.errors == []
        origin = url.rstrip("/")
        assert all(request.startswith((origin, origin.replace("http", "ws"))) for request in page.requested)
        assert not any("eyJ" in request for request in page.requested), "a token in a URL"
        assert await page.evaluate("localStorage.length + sessionStorage.length") == 0


async def test_without_a_token_the_server_is_heard(chromium: str, tmp_path: Path) -> None:
    async with running_server(settings_for()) as server, browser(chromium, tmp_path) as page:
        await page.open(f"{server.url}{PATH}", width=1200, height=900, scheme="dark")
        await until_ended(page)
        assert await rows(page, "state") == ["reached"] * 3
        assert all("wants a token" in verdict for verdict in await rows(page, "verdict"))
        assert "With none: " in await text(page, "#token")
        assert await overflow(page) <= 0


@pytest.mark.slow
async def test_a_network_that_meddles(chromium: str, tmp_path: Path) -> None:
    def rule(head: bytes) -> Meddling:
        if b"Upgrade: websocket" in head:
            return upgrade_is_taken_out(head)
        if is_event_stream(head):
            return Meddling(body="behind")
        return Meddling(response=lambda answer: answer.replace(b"\r\n", b"\r\nVia: 1.1 office (squid/5.7)\r\n", 1))

    async with running_server(settings_for()) as server, meddler(server.port) as proxy:
        proxy.rule = rule
        async with browser(chromium, tmp_path) as page:
            await page.open(f"http://127.0.0.1:{proxy.port}{PATH}#idle=10", width=1200, height=900)
            await until_ended(page)
            token = server.token()
            await page.type("#pasted", token)
            await page.press_enter()
            await page.until("document.querySelector('.silence[data-state=trying]')")
            assert await page.evaluate("document.querySelector('[data-part=\"silence\"]').max") is not None
            await until_ended(page)
            assert await text(page, "#verdict-title") == "hybrid will use long polling here"
            assert await rows(page, "state") == ["fails", "works badly", "works"]
            assert "1.1 office (squid/5.7)" in (await rows(page, "facts"))[0]
            assert (await rows(page, "facts"))[1].startswith("one behind: ")
            assert await page.evaluate("document.querySelectorAll('.row[data-transport=sse] .is-late').length") == 4
            assert await page.evaluate("document.querySelectorAll('.row[data-transport=sse] .is-lost').length") == 1
            assert (await rows(page, "silence-words"))[2] == "a request that waits for 10.0 s is answered"
            report = await text(page, "#report pre")
            assert "- Do not hold events back until the next one comes" in report
            assert "Let requests to this server pass: WebSocket handshakes too" in report
            content = await page.evaluate("document.documentElement.outerHTML")
            assert token not in str(content) + "".join(page.requested)
            assert await page.evaluate("document.querySelector('#pasted').value") == ""


@pytest.mark.slow
async def test_an_idle_connection_is_cut(chromium: str, tmp_path: Path) -> None:
    async with running_server(settings_for()) as server, meddler(server.port) as proxy:
        proxy.rule = lambda head: Meddling(idle_s=3.0) if b"Upgrade: websocket" in head else Meddling()
        async with browser(chromium, tmp_path) as page:
            await page.open(f"http://127.0.0.1:{proxy.port}{PATH}#idle=10", width=1200, height=900)
            await until_ended(page)
            await page.type("#pasted", server.token())
            await page.press_enter()
            await page.until("document.querySelector('.silence[data-state=trying]')")
            await until_ended(page)
            assert await text(page, "#verdict-title") == "hybrid will use SSE here"
            words: list[Any] = await rows(page, "silence-words")
            assert words[0].startswith("idle cut after 3.")
            assert words[0].endswith("; a heartbeat every 5 s does not keep it open")
            assert words[1].startswith("still there after 10.")


@pytest.mark.slow
async def test_the_network_asks_to_sign_in_first(chromium: str, tmp_path: Path) -> None:
    page_of_the_hotel = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nVia: 1.1 hotel\r\nConnection: close\r\n\r\n"
    async with running_server(settings_for()) as server, meddler(server.port) as proxy:
        proxy.rule = lambda head: Meddling(answer=page_of_the_hotel) if b" /v1/" in head else Meddling()
        async with browser(chromium, tmp_path) as page:
            await page.open(f"http://127.0.0.1:{proxy.port}{PATH}#idle=10", width=390, height=844, scheme="dark")
            await until_ended(page)
            assert await text(page, "#verdict-title") == "hybrid cannot get through here"
            assert await rows(page, "state") == ["not tried"] * 3
            assert "Via: 1.1 hotel" in await text(page, "#verdict .server")
            assert "Sign in to the network first" in await text(page, "#report pre")
            assert await overflow(page) <= 0
