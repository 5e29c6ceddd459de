"""Signing in on the demo page in a real browser, and a device through the `hybrid` command and the page for codes."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from hybrid.limits import Limits
from hybrid.web import app
from tests.browser.conftest import Demo, serve_demo, sign_in
from tests.support.chromium import Page, open_browser
from tests.support.nodes import ROOT

CHAT = "demo:chat"
SUBJECT = "document.querySelector('#account [data-part=subject]').textContent"
ACCOUNT = "document.documentElement.dataset.account"


async def test_one_click_leads_from_the_url_to_publications(demo: Demo) -> None:
    page = demo.page
    await page.open(demo.url, width=1440, height=900)
    await demo.sign_in("Ada Lovelace")
    await demo.until_connected()
    assert await page.evaluate(SUBJECT) == "Ada Lovelace"
    await demo.engine.publish(CHAT, {"text": "seen by who signed in", "name": "Test"})
    await page.until("document.querySelector('.said-text')?.textContent === 'seen by who signed in'")
    await page.until("document.querySelectorAll('.said-dots i[data-transport]').length === 4")
    assert page.errors == []
    subjects = {runner.session.principal.subject for runner in demo.engine.registry.runners()}
    assert subjects == {"Ada Lovelace"}


async def test_no_credential_stays_in_a_url_or_a_storage(demo: Demo) -> None:
    await demo.open()
    page = demo.page
    assert await page.evaluate("location.href") == demo.url
    assert await page.evaluate("sessionStorage.length + localStorage.length") == 0
    assert await page.evaluate("document.cookie") == "", "the issuer's cookie is not for scripts"
    queries = [parse_qs(urlsplit(url).query) for url in page.requested]
    assert not [query for query in queries if {"access_token", "refresh_token", "token", "ticket"} & set(query)]
    codes = [query["code"][0] for query in queries if "code" in query]
    assert len(codes) == 1
    assert not any("code_verifier" in query for query in queries)
    assert "eyJ" not in " ".join(page.requested)


async def test_tokens_are_refreshed_in_silence_before_they_are_over(
    chromium: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All four sessions go on with what one of them fetched, on whichever transport, and nothing is lost."""
    monkeypatch.setattr(app, "DevelopmentIssuer", partial(app.DevelopmentIssuer, lifetime_s=8))
    limits = Limits(expiring_margin_s=3.0)
    async with serve_demo(limits=limits) as (url, engine), open_browser(chromium, tmp_path / "profile") as page:
        demo = Demo(url, engine, page)
        await demo.open()
        asked = (
            "performance.getEntriesByType('resource').filter(({ name }) => name.endsWith('/dev-issuer/token')).length"
        )
        await page.until(f"{asked} >= 4")
        for pane in ("websocket", "sse", "longpoll", "automatic"):
            assert await page.evaluate(f"document.querySelector('[data-pane={pane}]').dataset.state") == "connected"
        assert await demo.figures("lost") == dict.fromkeys(await demo.figures("lost"), 0)
        assert await page.evaluate("document.getElementById('ended').hidden")
        assert page.errors == []


async def test_signing_out_revokes_and_asks_before_it_leads_away_again(demo: Demo) -> None:
    await demo.open()
    page = demo.page
    await page.click("#account button")
    await page.until(f"{ACCOUNT} === 'out'")
    assert await page.evaluate("document.querySelector('#gate').innerText.startsWith('You are signed out')")
    assert await page.evaluate("document.querySelector('main').offsetParent === null")
    assert any(urlsplit(url).path == "/dev-issuer/revoke" for url in page.requested)
    await page.click("#gate button")
    await sign_in(page, "grace")
    await demo.until_connected()
    assert await page.evaluate(SUBJECT) == "grace"


async def test_who_denies_is_not_led_away_again(demo: Demo) -> None:
    page = demo.page
    await page.open(demo.url, width=360, height=640)
    await page.until("document.querySelector('[value=deny]')")
    await page.click("[value=deny]")
    await page.until(f"{ACCOUNT} === 'out'")
    assert "You denied the sign-in." in await page.evaluate("document.querySelector('#gate').innerText")
    assert await page.evaluate("location.href") == demo.url
    await page.click("#gate button")
    await sign_in(page)
    await demo.until_connected()


async def test_an_answer_that_nobody_asked_for_signs_nobody_in(demo: Demo) -> None:
    """Another person's code, slipped into this browser, must not make it that person's (RFC 9700, section 4.7)."""
    page = demo.page
    await page.open(f"{demo.url}?code=x&state=y&iss=z", width=360, height=640)
    await page.until(f"{ACCOUNT} === 'out'")
    assert "not the answer" in await page.evaluate("document.querySelector('#gate').innerText")
    assert await page.evaluate("location.href") == demo.url


async def test_it_works_under_each_name_of_this_machine(demo: Demo) -> None:
    page = demo.page
    await page.open(demo.url.replace("127.0.0.1", "localhost"), width=1440, height=900)
    await demo.sign_in()
    await demo.until_connected()
    assert page.errors == []


async def test_without_an_issuer_the_page_says_so(chromium: str, tmp_path: Path) -> None:
    async with serve_demo(has_issuer=False) as (url, _), open_browser(chromium, tmp_path / "profile") as page:
        await page.open(url, width=390, height=844)
        await page.until(f"{ACCOUNT} === 'out'")
        assert "no development issuer" in await page.evaluate("document.querySelector('#gate').innerText")


async def until_without_scripts(page: Page, condition: str) -> None:
    """As `Page.until`, which waits inside the page, where no timer runs then."""
    async with asyncio.timeout(30):
        while not await page.evaluate(condition):
            pass


async def test_the_forms_work_without_scripts(demo: Demo) -> None:
    """The pages have none; with scripts off for the whole browser the code still comes back."""
    page = demo.page
    await page.open(demo.url, width=390, height=844)
    await page.until("document.querySelector('#name')")
    url = await page.evaluate("location.href")
    await page.send("Emulation.setScriptExecutionDisabled", value=True)
    await page.open(url, width=390, height=844)
    await until_without_scripts(page, "document.querySelector('#name') !== null")
    await page.evaluate("document.querySelector('#name').focus()")
    await page.press_enter()
    await until_without_scripts(page, "location.pathname === '/'")
    assert any("code" in parse_qs(urlsplit(requested).query) for requested in page.requested)


@pytest.mark.parametrize(("width", "height"), [(320, 568), (390, 844), (1440, 900)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_issuers_pages_fit_every_screen(demo: Demo, width: int, height: int, scheme: str) -> None:
    page = demo.page
    for path in ("", "dev-issuer/device", "dev-issuer/authorize?client_id=nobody"):
        former = await page.evaluate("location.href")
        await page.open(demo.url + path, width=width, height=height, scheme=scheme)
        is_there = f"location.href !== {former!r} && location.pathname.startsWith('/dev-issuer')"
        await page.until(f"{is_there} && document.readyState === 'complete' && document.querySelector('h1')")
        assert await page.evaluate("document.documentElement.scrollWidth === document.documentElement.clientWidth")
        small = "[...document.querySelectorAll('button, input:not([type=hidden])')].filter((e) => e.offsetHeight < 44)"
        assert await page.evaluate(f"{small}.length") == 0, "too small for a thumb"
        assert await page.evaluate("document.fonts.load('15px Inter').then((faces) => faces.length > 0)")


async def enter_code(page: Page, url: str, code: str) -> None:
    await page.open(url, width=390, height=844)
    await page.until("document.querySelector('#user-code')")
    await page.type("#user-code", code)
    await page.press_enter()
    await page.until("document.querySelector('.shown-code')")


async def test_a_device_is_signed_in_by_the_command_and_the_page(demo: Demo, tmp_path: Path) -> None:
    device = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hybrid", "token", "--device", "--url", demo.url.rstrip("/")),
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert device.stdout is not None
    assert device.stderr is not None
    async with asyncio.timeout(60):
        try:
            said = ""
            while "waiting" not in said:
                said += (await device.stderr.readline()).decode()
            url = re.search(r"http://\S+/dev-issuer/device$", said, re.MULTILINE)
            code = re.search(r"\b[B-Z]{4}-[B-Z]{4}\b", said)
            assert url is not None
            assert code is not None
            await enter_code(demo.page, url[0], code[0].lower())
            await demo.page.evaluate("document.querySelector('#name').value = 'ada'")
            await demo.page.click("[value=allow]")
            await demo.page.until("/signed in/.test(document.querySelector('h1').textContent)")
            out, err = await device.communicate()
        finally:
            if device.returncode is None:
                device.kill()
                await device.wait()
    assert device.returncode == 0
    token = out.decode()
    assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+\n", token)
    assert token.strip() not in err.decode()
    principal = await demo.engine.verifier.verify(token.strip())
    assert (principal.subject, principal.client) == ("ada", "cli")
