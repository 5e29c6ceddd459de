"""The JavaScript and HTML of the documentation, as it is printed, in a real browser against a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from quart import Quart, Response, send_from_directory

from hybrid import Hybrid
from hybrid.engine.engine import Engine
from hybrid.web import launcher
from hybrid.web.app import streams_under
from tests.docs.snippets import PAGES, blocks_of
from tests.support.chromium import Page, open_browser
from tests.support.nodes import ROOT
from tests.support.processes import free_port

Holds = Callable[[Engine, Page, str], Any]
LOGGED = "logged.map((item) => JSON.stringify(item)).join()"
SUBSCRIBED = """import { Client } from "/hybrid/index.js";
const client = new Client({ url: "/v1", getToken: async () => token });
client.connect();
"""


def found(name: str, holding: str) -> str:
    """The one block of a page that holds these words."""
    page = next(page for page in PAGES if page == ROOT / name)
    [text] = [block.text for block in blocks_of(page) if block.language in ("js", "html") and holding in block.text]
    return text


async def token_of(url: str) -> str:
    async with httpx2.AsyncClient(trust_env=False) as http:
        form = {"grant_type": "client_credentials", "client_id": "cli", "subject": "kim"}
        return str((await http.post(f"{url}/dev-issuer/token", data=form)).json()["access_token"])


@asynccontextmanager
async def site(snippet: str) -> AsyncIterator[tuple[str, Engine]]:
    """An app that shows a snippet in a page, and has what the snippets take for given: a token, and the client."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    app = Quart(__name__, static_folder=None)
    app.config.update(HYBRID_DEVELOPMENT_ISSUER=True, HYBRID_PORT=port)
    hybrid = Hybrid(app)

    @app.get("/")
    async def page() -> Response:
        if "<script" in snippet:
            body = snippet
        else:
            given = f"globalThis.token = {await token_of(url)!r};"
            body = f"<script>{given}</script><script type=module>{snippet}</script>"
        log = "<script>globalThis.logged = []; console.log = (...values) => logged.push(values);</script>"
        return Response(log + body, content_type="text/html; charset=utf-8")

    @app.get("/token")
    async def token() -> str:
        return await token_of(url)

    @app.get("/favicon.ico")
    async def icon() -> Response:
        return Response(status=204)

    @app.get("/static/hybrid/<path:name>")
    async def client(name: str) -> Response:
        return await send_from_directory(ROOT / "static" / "hybrid", name)

    stop = asyncio.Event()
    bound: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(
        launcher.serve(
            app,
            host="127.0.0.1",
            port=port,
            limits=hybrid.settings.limits,
            shutdown_event=stop,
            on_started=bound.set_result,
            drain=lambda _: hybrid.engine.drain(0.5),
            streams_under=streams_under(hybrid.settings, app),
        )
    )
    await asyncio.wait({serving, bound}, return_when=asyncio.FIRST_COMPLETED)
    try:
        yield url, hybrid.engine
    finally:
        stop.set()
        await serving


async def until_read(engine: Engine, channel: str) -> None:
    """Somebody listens: what is published now must reach the page."""
    while (told := await engine.manage.channel(channel)) is None or not told.subscribers:  # noqa: ASYNC110
        await asyncio.sleep(0.02)


async def readme(engine: Engine, page: Page, url: str) -> None:
    await page.until(f"""{LOGGED} === '[1,{{"text":"hello"}}]'""")


async def first_lines(engine: Engine, page: Page, url: str) -> None:
    await until_read(engine, "chat:lobby")
    await engine.publish("chat:lobby", {"text": "hello"})
    await page.until(f"""{LOGGED} === '[{{"text":"hello"}}]'""")


async def assigned(engine: Engine, page: Page, url: str) -> None:
    while not (await engine.manage.subscribe("chat:lobby", subject="kim")).sessions:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    await until_read(engine, "chat:lobby")
    await engine.publish("chat:lobby", {"text": "hello"})
    await page.until(f"""{LOGGED} === '["chat:lobby",{{"text":"hello"}}]'""")


async def order(engine: Engine, page: Page, url: str) -> None:
    await until_read(engine, "order:7")
    await engine.publish("order:7", {"state": "shipped"})
    await page.until(f"""{LOGGED} === '["shipped"]'""")


async def tutorial(engine: Engine, page: Page, url: str) -> None:
    await engine.publish("order:kim-7", {"state": "packed"})
    await until_read(engine, "order:kim-7")
    await engine.publish("order:kim-7", {"state": "shipped"})
    await page.until("document.querySelector('#states').textContent.endsWith('shipped')")


@pytest.mark.parametrize(
    ("name", "holding", "before", "holds"),
    [
        ("README.md", "await lobby.subscribe", "", readme),
        ("docs/javascript-client.md", "console.warn", "", first_lines),
        ("docs/javascript-client.md", 'client.on("subscribe"', SUBSCRIBED, assigned),
        ("docs/embedding.md", "order:7", "", order),
        ("docs/tutorial.md", "order:kim-7", "", tutorial),
    ],
)
async def test_it_does_what_its_page_says(
    name: str, holding: str, before: str, holds: Holds, chromium: str, tmp_path: Path
) -> None:
    async with asyncio.timeout(60), site(before + found(name, holding)) as (url, engine):
        async with open_browser(chromium, tmp_path / "profile") as page:
            await page.open(url, width=900, height=600)
            await holds(engine, page, url)
            assert page.errors == []


def test_every_block_is_run() -> None:
    """By this table, or by the test that its page names."""
    from tests.docs.test_snippets import of

    with open(__file__) as file:
        source = file.read()
    for block in of("js", "html"):
        assert f'"{block.page.relative_to(ROOT).as_posix()}"' in source, block.place
    assert len(of("js", "html")) == 4, "and the page of the tutorial, which a reader saves"
