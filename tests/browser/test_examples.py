"""The pages of the example apps in a real browser: they do what their READMEs promise, wide and on a phone."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from tests.embed.examples import served
from tests.support.chromium import Page, open_browser

FITS = "document.documentElement.scrollWidth <= innerWidth"


async def show(page: Page, url: str, *, width: int = 1100, scheme: str = "light") -> None:
    await page.open(url, width=width, height=760, scheme=scheme)
    await page.until("document.readyState === 'complete'")


async def keep(page: Page, name: str) -> None:
    """Keep what the page looks like, where somebody wants to see it (TEST_SCREENSHOTS=FOLDER)."""
    assert await page.evaluate(FITS), name
    assert page.errors == []
    folder = os.environ.get("TEST_SCREENSHOTS")
    if folder:
        data = await page.screenshot()
        await asyncio.to_thread(Path(folder, f"{name}.png").write_bytes, data)


def text(selector: str) -> str:
    return f"document.querySelector({selector!r})?.textContent"


async def come_in(page: Page, url: str, name: str, *, width: int = 1100, scheme: str = "light") -> None:
    await show(page, url, width=width, scheme=scheme)
    await page.until("!document.getElementById('door').hidden")
    await page.type("[name=name]", name)
    await page.click("#door button")
    await page.until(f"{text('#state')} === 'connected as {name}'")


async def say(page: Page, words: str) -> None:
    await page.type("#text", words)
    await page.press_enter()


async def test_chat(chromium: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = "[...document.querySelectorAll('#present li')].map((line) => line.textContent).join()"
    async with asyncio.timeout(60), served("chat", monkeypatch) as example:
        async with open_browser(chromium, tmp_path / "a") as ada, open_browser(chromium, tmp_path / "b") as bob:
            await show(ada, example.url)
            await ada.until("!document.getElementById('door').hidden")
            await keep(ada, "chat-door")
            await come_in(ada, example.url, "ada")
            await ada.until(f"{here} === 'ada'")
            await come_in(bob, example.url, "bob", width=390, scheme="dark")
            for page in (ada, bob):
                await page.until(f"{here} === 'ada,bob'")
            for page, words in (
                (ada, "Good morning"),
                (bob, "Good morning, <b>Ada</b>!"),
                (bob, "Did the night's run finish? I only saw the first half of it on the train, in a tunnel."),
                (ada, "It did. Scroll up: nothing was lost."),
            ):
                await say(page, words)
                await ada.until(f"{text('#said li:last-child')}.endsWith({words!r})")
            await bob.until("document.querySelectorAll('#said li').length === 4")
            assert await ada.evaluate("document.querySelectorAll('#said li.mine').length") == 2
            assert await ada.evaluate("document.querySelectorAll('#said li b').length") == 4  # no markup of Bob's
            await keep(ada, "chat-wide")
            await keep(bob, "chat-phone-dark")
            await bob.click("header button")  # leaves
            await bob.until("!document.getElementById('door').hidden")
            await ada.until(f"{here} === 'ada'")
            await ada.evaluate("location.reload()")
            await ada.until("document.querySelectorAll('#said li').length === 4")


async def test_progress(chromium: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with asyncio.timeout(60), served("progress", monkeypatch) as example:
        may_go_on, count = threading.Event(), example.module.primes_between

        def count_half(low: int, high: int) -> int:
            assert low < 50_000 or may_go_on.wait(30)
            return int(count(low, high))

        monkeypatch.setattr(example.module, "primes_between", count_half)
        try:
            async with open_browser(chromium, tmp_path / "a") as page:
                await show(page, example.url)
                await page.evaluate("document.getElementById('limit').value = 100000")
                await page.click("#start button")
                await page.until(f"{text('#note')} === 'Step 50 of 100'")
                await page.evaluate("location.reload()")
                await page.until(f"{text('#note')} === 'Step 50 of 100, picked up at step 50'")
                await keep(page, "progress-wide")
                address = await page.evaluate("location.href")
                may_go_on.set()
                await page.until("document.querySelector('#job').dataset.state === 'done'")
                assert await page.evaluate(text("#found")) == "9,592"
                await page.open("about:blank", width=390, height=760)
                await show(page, address, width=390, scheme="dark")
                await page.until(f"{text('#note')} === 'Done, picked up at step 100'")
                await keep(page, "progress-phone-dark")
                await page.evaluate("document.getElementById('limit').setAttribute('max', 400000000)")
                await page.evaluate("document.getElementById('limit').value = 400000000")
                page.errors.clear()
                await page.click("#start button")
                await page.until(f"{text('#wrong')}.includes('limit lies between')")
        finally:
            may_go_on.set()


async def test_sensors(chromium: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with asyncio.timeout(60), served("sensors", monkeypatch) as example:
        async with open_browser(chromium, tmp_path / "a") as page:
            await show(page, example.url)
            await page.until(f"{text('#state')}.startsWith('connected over')")
            await keep(page, "sensors-none")
            names = ("kitchen", "roof", "cellar")
            async with example.module.hybrid.test_client("ada") as ada:
                for step in range(40):
                    for place, name in enumerate(names):
                        cpu = 30 + 25 * place + (step * (7 + place)) % 13
                        reading = {"sensor": name, "cpu": cpu, "memory": 40 + place + step % 5}
                        await ada.call("report", reading)
            await page.until("document.querySelectorAll('article').length === 3")
            last = (
                "document.querySelector('[data-name=\"ada/roof\"] polyline').getAttribute('points').split(' ').length"
            )
            await page.until(f"{last} === 40")
            shown = "[...document.querySelectorAll('h2')].map((name) => name.textContent).join()"
            assert await page.evaluate(shown) == "ada/cellar,ada/kitchen,ada/roof"
            await page.until(f"{text('#alarm')}.startsWith('ada/cellar has become too busy')")
            await keep(page, "sensors-wide")
            await page.open("about:blank", width=390, height=760)
            await show(page, example.url, width=390, scheme="dark")
            await page.until(f"document.querySelectorAll('article').length === 3 && {last} === 40")
            await keep(page, "sensors-phone-dark")
