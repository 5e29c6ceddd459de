"""The operators' page in a real browser: what it shows is true, what it does is done, and it says so in words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from hybrid.client import Client
from hybrid.errors import HybridError
from tests.browser.conftest import Demo, serve_demo, sign_in
from tests.support.chromium import Page, open_browser
from tests.support.processes import free_port
from tests.support.redis_servers import redis_server
from tests.support.server import running_server, settings_for

READY = "document.documentElement.dataset.ready === 'true'"
OUT = "document.documentElement.dataset.account === 'out'"
CHAT = "demo:chat"
VIEWS = ("overview", "nodes", "channels", "sessions", "publish")


async def enter(page: Page, url: str, *, width: int = 1280, height: int = 860, scheme: str = "light") -> None:
    """Load the page, sign in at the development issuer, and wait for the first figures."""
    await page.open(f"{url}admin", width=width, height=height, scheme=scheme)
    await page.until(f"{OUT} && !document.querySelector('[data-part=sign-in]').hidden")
    await page.click("[data-part=sign-in]")
    await sign_in(page, "operator")
    await page.until(READY)


async def paste(page: Page, url: str, token: str) -> None:
    await page.open(f"{url}/admin", width=390, height=844)
    await page.until(f"{OUT} && !document.querySelector('#gate form').hidden")
    await page.type("#token", token)
    await page.click("#gate form button")


async def text(page: Page, selector: str) -> str:
    return str(await page.evaluate(f"document.querySelector(`{selector}`).innerText.trim()"))


async def show(page: Page, view: str, state: str = "there") -> None:
    """Go to a part of the page, and wait until its list is in this state."""
    await page.evaluate(f"location.hash = '{view}'")
    await page.until(f"document.querySelector('#{view} .list:not([hidden])').dataset.state === '{state}'")


async def choose(page: Page, selector: str, value: str) -> None:
    changed = "element.dispatchEvent(new Event('input', { bubbles: true }))"
    await page.evaluate(
        f"(() => {{ const element = document.querySelector(`{selector}`); element.value = '{value}'; {changed} }})()"
    )


async def press(page: Page, view: str, row: str, label: str) -> None:
    """The button of the row that begins with this name."""
    rows = f"[...document.querySelectorAll('#{view} .list:not([hidden]) tbody tr')]"
    is_row = f"(row) => row.cells[0].textContent === '{row}'"
    is_button = f"(button) => button.textContent === '{label}'"
    button = f"[...{rows}.find({is_row}).querySelectorAll('button')].find({is_button})"
    await page.until(button)
    await page.evaluate(f"{button}.click()")
    await page.until("document.querySelector('#dialog').open")


async def confirmed(page: Page) -> str:
    """Do what the dialog says it will do; what came of it."""
    await page.click("#dialog [data-part=go]")
    parts = "document.querySelectorAll('#dialog :is([data-part=outcome], [data-part=problem]):not([hidden])')"
    await page.until(f"{parts}.length === 1")
    told = str(await page.evaluate(f"{parts}[0].textContent"))
    await page.click("#dialog [data-part=cancel]")
    return told


@asynccontextmanager
async def visitor(url: str, subject: str, transport: str) -> AsyncIterator[Client]:
    """A client of the demo's, on its chat."""
    form = {"grant_type": "client_credentials", "client_id": "cli", "subject": subject}
    async with httpx2.AsyncClient(trust_env=False) as http:
        token = (await http.post(f"{url}dev-issuer/token", data=form)).json()["access_token"]

    async def get_token() -> str:
        return str(token)

    async with Client(url.rstrip("/"), get_token, transport) as client:
        client.heard = await client.subscribe(CHAT)  # type: ignore[attr-defined]
        yield client


async def test_an_operator_sees_who_is_there_and_acts(demo: Demo) -> None:
    page, url = demo.page, demo.url
    async with visitor(url, "alice", "websocket"), visitor(url, "alice", "sse") as alice, visitor(url, "bob", "sse"):
        await enter(page, url)
        assert await page.evaluate("location.href") == f"{url}admin"
        assert await text(page, "#account [data-part=subject]") == "operator"
        await page.until("document.querySelector('.tile dd').textContent === '3'")
        await page.until("/^[1-9]/.test(document.querySelectorAll('.tile dd')[3].textContent)")  # the demo's feed
        drawn = "[...document.querySelectorAll('.chart canvas')].map((one) => one.toDataURL())"
        before = await page.evaluate(drawn)
        await page.until(f"{drawn}.every((one, place) => one !== {before!r}[place])")

        box = await page.evaluate("document.querySelector('.chart canvas').getBoundingClientRect().toJSON()")
        pointed = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        await page.send("Input.dispatchMouseEvent", type="mouseMoved", **pointed)
        await page.until("/ ago$/.test(document.querySelector('.chart:last-child h3').textContent)")

        await show(page, "sessions")
        rows = "[...document.querySelectorAll('#sessions .list:not([hidden]) tbody tr')]"
        await page.until(f"{rows}.length === 3")
        await choose(page, "#sessions [name=transport]", "sse")
        await page.until(f"{rows}.length === 2")
        await choose(page, "#sessions [name=transport]", "")
        await choose(page, "#sessions [name=shape]", "principals")
        await page.until(f"{rows}.length === 2")
        cells = f"{rows}.find((row) => row.cells[0].textContent === 'alice').cells"
        assert await page.evaluate(f"[...{cells}].slice(2, 5).map((cell) => cell.textContent)") == ["2", "1", "1"]

        await press(page, "sessions", "bob", "Disconnect…")
        assert "Ends everything of the subject bob" in await text(page, "#dialog")
        await page.click("#dialog [name=reconnect]")
        assert await confirmed(page) == "1 session ended."
        await page.until(f"{rows}.length === 1")
        await press(page, "sessions", "alice", "Revoke…")
        assert "every token issued until now that is of the subject alice" in await text(page, "#dialog")
        assert "2 connections of it ended" in await confirmed(page)
        with pytest.raises(HybridError):
            async for _ in alice.heard:  # type: ignore[attr-defined]
                pass
        await page.until("document.querySelector('#sessions .list:not([hidden])').dataset.state === 'empty'")
        assert page.errors == []
    queries = [parse_qs(urlsplit(asked).query) for asked in page.requested]
    assert not [query for query in queries if {"access_token", "refresh_token", "token", "ticket"} & set(query)]
    assert "eyJ" not in " ".join(page.requested)
    assert await page.evaluate("sessionStorage.length + localStorage.length") == 0


async def test_publishing_purging_and_draining_are_told_in_words(demo: Demo) -> None:
    page, url = demo.page, demo.url
    async with visitor(url, "alice", "websocket") as alice:
        await enter(page, url)
        await show(page, "channels")
        await page.type("#channels [name=prefix]", "demo:ch")
        await page.until("document.querySelectorAll('#channels tbody tr').length === 1")
        await press(page, "channels", CHAT, "Look…")
        await page.until("document.querySelector('#dialog .facts')")
        assert "Subscribers" in await text(page, "#dialog .facts")
        await page.evaluate("document.querySelectorAll('#dialog .fact-buttons button')[1].click()")  # publish to it

        await page.until("!document.querySelector('#publish').hidden")
        assert await page.evaluate("document.querySelector('#publish [name=channel]').value") == CHAT
        await page.type("#publish [name=data]", "{no json")
        await page.click("#publish [type=submit]")
        assert "This is no JSON" in await text(page, "#publish [data-part=problem]")
        assert not await page.evaluate("document.querySelector('#dialog').open")
        await page.click("#publish [value=text]")
        await page.click("#publish [type=submit]")
        await page.until("/Now 1 subscriber listens/.test(document.querySelector('#dialog').innerText)")
        assert await confirmed(page) == f"Published: it is in the log of {CHAT}, at place 1."
        async for publication in alice.heard:  # type: ignore[attr-defined]
            assert publication.data == "{no json"
            break
        assert "at place 1" in await text(page, "#publish [data-part=sent]")

        await show(page, "channels")
        await press(page, "channels", CHAT, "Purge…")
        assert f"everything that was published to {CHAT}" in await text(page, "#dialog")
        assert f"The history of {CHAT} is empty." in await confirmed(page)
        async with httpx2.AsyncClient(trust_env=False) as http:
            form = {"grant_type": "client_credentials", "client_id": "cli"}
            token = (await http.post(f"{url}dev-issuer/token", data=form)).json()["access_token"]
            history = await http.get(f"{url}v1/history/{CHAT}", headers={"Authorization": f"Bearer {token}"})
        assert history.json()["publications"] == []

        node = demo.engine.router.node
        await show(page, "nodes")
        await press(page, "nodes", node, "Drain…")
        assert "There is no other node" in await confirmed(page), "the last one is refused, and it says so"
        assert not demo.engine.leaving.has_begun
        refused = [error for error in page.errors if "400" not in error]
        assert refused == []


async def test_a_pasted_token_may_do_what_its_scopes_say(chromium: str, tmp_path: Path) -> None:
    async with (
        running_server(replace(settings_for(), admin=True)) as server,
        open_browser(chromium, tmp_path / "profile") as page,
    ):
        await paste(page, server.url, "no token")
        assert "no access token" in await text(page, "#gate [data-part=words]")
        await paste(page, server.url, server.token("eve", "hybrid:nodes hybrid:sessions"))
        await page.until("!document.querySelector('#ended').hidden")
        assert "lacks the scope hybrid:admin" in await text(page, "#ended")
        assert await page.evaluate("document.querySelector('.tile dd').textContent") == "–"
        await page.click("#ended button")
        await page.type("#token", server.token("ada", "hybrid:admin hybrid:nodes"))
        await page.click("#gate form button")
        await page.until(f"{READY} && document.querySelector('#ended').hidden")
        assert await text(page, "#account [data-part=subject]") in ("ada", "")  # no room on a phone
        await show(page, "nodes")
        await show(page, "channels", "denied")
        assert "lacks the scope hybrid:channels:CHANNEL" in await text(page, "#channels .message")
        await show(page, "sessions", "denied")
        assert await page.evaluate("sessionStorage.length + localStorage.length") == 0


async def test_it_goes_on_by_itself_when_the_server_is_back(chromium: str, tmp_path: Path) -> None:
    port = free_port()
    async with open_browser(chromium, tmp_path / "profile") as page:
        async with serve_demo(port=port) as (url, engine):
            await enter(page, url)
            before = engine.router.node
        await page.until("document.querySelector('#pulse').dataset.state === 'offline'")
        await page.until("/again in/.test(document.querySelector('#pulse').innerText)")
        await page.evaluate("location.hash = 'nodes'")
        await page.until("document.querySelector('#nodes .list').dataset.state === 'failed'")
        # Another issuer, whose keys are others: the token is over, the sign-in with it, and the page says so.
        async with serve_demo(port=port) as (url, engine):
            await page.until("document.querySelector('#pulse').dataset.state === 'refused'")
            assert "sign-in has ended" in await text(page, "#ended")
            await page.click("#ended button")
            await sign_in(page, "operator")
            await page.until(READY)
            await show(page, "nodes")
            shown = await text(page, "#nodes tbody")
            assert engine.router.node in shown
            assert before not in shown


async def test_it_fits_every_screen(demo: Demo) -> None:
    page = demo.page
    async with visitor(demo.url, "somebody.with.a.long.name@some.where.example", "websocket"):
        await enter(page, demo.url, width=360, height=640, scheme="dark")
        for width in (360, 820):
            screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
            await page.send("Emulation.setDeviceMetricsOverride", **screen)
            for view in VIEWS:
                if view in ("overview", "publish"):
                    await page.evaluate(f"location.hash = '{view}'")
                    await page.until(f"!document.querySelector('#{view}').hidden")
                else:
                    await show(page, view)
                wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
                assert await page.evaluate(wider) == 0, (view, width)
                if width < 600:
                    small = (
                        "[...document.querySelectorAll('button, a:not(.skip), input:not([type=radio]), select')]"
                        ".filter((one) => one.offsetParent && one.offsetHeight < 44).map((one) => one.outerHTML)"
                    )
                    assert await page.evaluate(small) == [], "too small for a thumb"
                nameless = (
                    "[...document.querySelectorAll('button, a, input, select, textarea')].filter((one) =>"
                    " one.offsetParent && !(one.textContent.trim() || one.ariaLabel || one.labels?.length))"
                )
                assert await page.evaluate(f"{nameless}.length") == 0
        await show(page, "sessions")
        await page.evaluate("document.querySelector('#sessions tbody button').click()")
        await page.until("document.querySelector('#dialog .facts')")
        assert await page.evaluate("document.querySelector('#dialog').scrollWidth <= innerWidth")


async def test_several_nodes_are_told_apart_and_one_is_drained(chromium: str, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(redis_server())
        chosen = replace(settings_for(), broker=redis.url, secret="s" * 32, admin=True)
        one = await stack.enter_async_context(running_server(chosen))
        other = await stack.enter_async_context(running_server(chosen, issuer=one.issuer))
        page = await stack.enter_async_context(open_browser(chromium, tmp_path / "profile"))
        await paste(page, one.url, one.token("ada", "hybrid:admin hybrid:nodes hybrid:drain"))
        await page.until("document.querySelectorAll('#overview select option').length === 3")
        assert await page.evaluate("document.querySelector('#overview .choice').offsetParent !== null")
        await show(page, "nodes")
        await press(page, "nodes", other.engine.router.node, "Drain…")
        told = await confirmed(page)
        assert f"{other.engine.router.node} takes nobody in any more" in told
        assert other.engine.leaving.has_begun
        assert not one.engine.leaving.has_begun
        await page.until("/draining/.test(document.querySelector('#nodes tbody').innerText)")
        assert await page.evaluate("document.querySelectorAll('#nodes tbody button:disabled').length") == 1
