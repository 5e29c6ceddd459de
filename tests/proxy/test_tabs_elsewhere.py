"""Tabs of Firefox and WebKit share one connection, as those of Chromium do (`tests/browser/test_tabs.py`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol

import httpx2
import pytest

from tests.proxy.zoo.animals import Absent, Route
from tests.proxy.zoo.drivers.base import Driven
from tests.proxy.zoo.drivers.firefox import firefox
from tests.proxy.zoo.drivers.webkit import webkit
from tests.proxy.zoo.origin import Server, serving
from tests.support.http_issuer import http_issuer
from tests.support.nodes import AUDIENCE
from tests.support.redis_servers import redis_server

CHANNEL = "zoo:tabs"
TABS = 3
PUBLICATIONS = 40


class Tab(Driven, Protocol):
    async def tab(self) -> Tab: ...

    async def close(self) -> None: ...


Browser = Callable[[Route, Path], AbstractAsyncContextManager[Tab]]


@pytest.mark.zoo
@pytest.mark.parametrize("browser", [firefox, webkit])
async def test_tabs_share_a_connection_and_go_on_when_the_leader_is_closed(browser: Browser, tmp_path: Path) -> None:
    try:
        with http_issuer(AUDIENCE) as issuer:
            async with (
                redis_server() as redis,
                serving(tmp_path / "origin", redis_url=redis.url, issuer=issuer) as server,
                asyncio.timeout(120),
            ):
                (tmp_path / "browser").mkdir()
                async with browser(Route(server.url), tmp_path / "browser") as first:
                    await share(first, server)
    except Absent as error:
        pytest.skip(str(error))


async def share(first: Tab, server: Server) -> None:
    tabs = [first, *[await first.tab() for _ in range(TABS - 1)]]
    got: dict[int, list[int]] = {place: [] for place in range(TABS)}
    transports: dict[int, str | None] = {}

    async def look() -> None:
        for place in got:
            seen = await tabs[place].call("take")
            got[place] += [item["position"]["offset"] for item in seen["got"]]
            transports[place] = seen.get("transport")  # not while it has no connection
            assert seen["resets"] == []

    async def until(condition: Callable[[], bool]) -> None:
        while not condition():
            await asyncio.sleep(0.05)
            await look()

    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {server.token}"}, trust_env=False) as http:
        offset = 0

        async def publish(count: int) -> None:
            nonlocal offset
            for number in range(count):
                answer = await http.post(f"{server.url}/v1/channels/{CHANNEL}", json={"number": number})
                offset = answer.raise_for_status().json()["offset"]

        for tab in tabs:
            await tab.load()
            opened: asyncio.Task[Any] = asyncio.create_task(
                tab.call("first", url=f"{server.url}/v1", token=server.token, channel=CHANNEL)
            )
            while not opened.done():  # the first publication tells that it is subscribed
                await publish(1)
                await asyncio.sleep(0.05)
            await opened
        await until(lambda: set(transports.values()) == {"shared"})
        await publish(PUBLICATIONS)
        await until(lambda: all(offsets[-1] == offset for offsets in got.values()))
        await tabs[0].close()  # it was there first, and leads
        del got[0], transports[0]
        await publish(PUBLICATIONS)
        await until(lambda: all(offsets[-1] == offset for offsets in got.values()))
        await until(lambda: set(transports.values()) == {"shared"})
    for offsets in got.values():
        assert offsets == list(range(offsets[0], offset + 1))
