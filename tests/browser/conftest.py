"""What every browser test has: a browser (or a loud skip) and the demo served on a free port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from hybrid.engine.engine import Engine
from hybrid.limits import Limits
from hybrid.settings import Settings
from hybrid.web import launcher
from hybrid.web.app import EXTENSION, streams_under
from hybrid.web.demo import create_demo_app
from tests.support.chromium import Page, find_chromium, open_browser
from tests.support.processes import free_port

PANES = ("websocket", "sse", "longpoll", "automatic")
FAULTS = ("lost", "repeated", "reordered")


@dataclass
class Demo:
    """A running demo and a page that shows it."""

    url: str
    engine: Engine
    page: Page

    async def open(self, width: int = 1440, height: int = 900, scheme: str = "light", density: float = 1.0) -> None:
        """Load the page, sign in, and wait until all of its sessions are connected and have heard the feed."""
        await self.page.open(self.url, width=width, height=height, scheme=scheme, density=density)
        await self.sign_in()
        await self.until_connected()
        for pane in PANES:
            await self.page.until(f"Number({part(pane, 'received')}.dataset.exact) > 0")

    async def sign_in(self, name: str = "") -> None:
        """Consent on the issuer's page, to which the demo leads by itself, under the name suggested there or this."""
        await sign_in(self.page, name)

    async def until_connected(self) -> None:
        """Wait until every pane says that it is live."""
        await self.page.until(
            "document.documentElement.dataset.ready === 'true' &&"
            " document.querySelectorAll('.pane[data-state=connected]').length === 4"
        )

    async def until_offset(self, channel: str, offset: int) -> None:
        """Wait until every pane has been given this offset."""
        cells = f"document.querySelectorAll(\"dd[data-channel='{channel}']\")"
        await self.page.until(
            f"[...{cells}].every((cell) => Number(cell.textContent.replaceAll(',', '')) === {offset})"
        )

    async def figures(self, name: str) -> dict[str, int]:
        """One of the counted figures of every pane."""
        return {pane: int(await self.page.evaluate(f"{part(pane, name)}.textContent")) for pane in PANES}

    async def healed(self, name: str) -> dict[str, int]:
        """What the client put right in every pane: "gaps" or "dropped"."""
        return {pane: int(await self.page.evaluate(f"{part(pane, 'trail')}.dataset.{name}")) for pane in PANES}


async def sign_in(page: Page, name: str = "") -> None:
    """Consent on the issuer's page that is shown, or will be."""
    await page.until("location.pathname === '/dev-issuer/authorize' && document.querySelector('[value=allow]')")
    if name:
        await page.evaluate("document.querySelector('#name').value = ''")
        await page.type("#name", name)
    await page.click("[value=allow]")


def part(pane: str, name: str) -> str:
    """The expression for one part of one pane."""
    return f"document.querySelector('[data-pane={pane}] [data-part={name}]')"


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's executable."""
    executable = find_chromium()
    if executable is None:
        pytest.skip("needs chromium: no chromium, chromium-browser or google-chrome on the path")
    return executable


@asynccontextmanager
async def serve_demo(
    static_dir: Path | None = None, port: int = 0, limits: Limits | None = None, has_issuer: bool = True
) -> AsyncIterator[tuple[str, Engine]]:
    """The demo on a free port, or on that one again: its URL and its engine."""
    port = port or free_port()  # known in advance: the issuer compares addresses to the letter
    settings = Settings(
        port=port,
        development_issuer=has_issuer,
        static_dir=str(static_dir) if static_dir else None,
        limits=limits or Limits(),
    )
    app = create_demo_app(settings)
    engine: Engine = app.extensions[EXTENSION]
    ended = asyncio.Event()
    bound: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(
        launcher.serve(
            app,
            host="127.0.0.1",
            port=port,
            limits=settings.limits,
            shutdown_event=ended,
            on_started=bound.set_result,
            drain=lambda _: engine.drain(0.5),
            streams_under=streams_under(settings),
        )
    )
    try:
        done, _ = await asyncio.wait((serving, bound), return_when=asyncio.FIRST_COMPLETED)
        if serving in done:
            await serving
        yield f"http://127.0.0.1:{bound.result()}/", engine
    finally:
        ended.set()
        await serving


@asynccontextmanager
async def open_demo(chromium: str, tmp_path: Path, static_dir: Path | None = None) -> AsyncIterator[Demo]:
    """The demo and a browser for it. The browser goes first: a server waits for nobody who stays."""
    async with serve_demo(static_dir) as (url, engine):
        async with open_browser(chromium, tmp_path / "profile") as page:
            yield Demo(url, engine, page)


@pytest_asyncio.fixture
async def demo(chromium: str, tmp_path: Path) -> AsyncIterator[Demo]:
    """The demo as it is, not yet shown."""
    async with open_demo(chromium, tmp_path) as demo:
        yield demo
