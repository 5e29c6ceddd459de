"""The demo page in a real browser: what it promises on its face, it keeps."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from hybrid.engine.fanout import FanOut
from hybrid.engine.link import Link, Segment
from hybrid.engine.live import Group
from hybrid.web.static import find_static_root
from tests.browser.conftest import FAULTS, PANES, Demo, open_demo, part, serve_demo, sign_in
from tests.support.chromium import open_browser

CHAT = "demo:chat"
NOTHING = dict.fromkeys(PANES, 0)


async def publish_at_mixed_rates(demo: Demo, channel: str, count: int) -> int:
    """Publish bursts of 1 to 25 with pauses between them, `count` in all. Returns the last offset."""
    done = 0
    bursts = (1, 1, 3, 25, 2, 10, 1, 17)
    offset = 0
    while done < count:
        for burst in bursts:
            size = min(burst, count - done)
            appended = await asyncio.gather(
                *(
                    demo.engine.publish(channel, {"text": f"number {done + place}", "name": "Test"})
                    for place in range(size)
                )
            )
            done += size
            if appended:
                offset = max(offset, *(one.position.offset for one in appended))
            await asyncio.sleep(0.004 * burst)  # the rate is the test's subject, nothing waits for it
    return offset


async def assert_faultless(demo: Demo) -> None:
    for fault in FAULTS:
        assert await demo.figures(fault) == NOTHING, fault
        assert await demo.page.evaluate(f"document.querySelector('#summary [data-part={fault}]').textContent") == "0"
    assert await demo.page.evaluate("document.getElementById('alarm').textContent") == ""


async def test_nothing_is_lost_repeated_or_reordered_at_mixed_rates(demo: Demo) -> None:
    await demo.open()
    before = [await demo.page.evaluate(f"Number({part(pane, 'received')}.dataset.exact)") for pane in PANES]
    offset = await publish_at_mixed_rates(demo, CHAT, 300)
    await demo.until_offset(CHAT, offset)
    await demo.page.until(
        f"[...document.querySelectorAll('[data-part=received][data-exact]')].every((cell) =>"
        f" Number(cell.dataset.exact) >= {min(before) + 300})"
    )
    await assert_faultless(demo)
    assert await demo.healed("gaps") == NOTHING
    assert demo.page.errors == []


async def test_nothing_is_lost_while_panes_are_cut_and_moved_every_second(demo: Demo) -> None:
    await demo.open()
    await demo.page.click("#storm")
    for _ in range(6):
        await publish_at_mixed_rates(demo, CHAT, 50)
    await demo.page.until(
        "[...document.querySelectorAll('[data-part=trail]')].every((trail) =>"
        " /back [3-9]/.test(trail.textContent) && /moved [3-9]/.test(trail.textContent))"
    )
    await demo.page.click("#storm")
    offset = await publish_at_mixed_rates(demo, CHAT, 1)
    await demo.until_connected()
    await demo.until_offset(CHAT, offset)
    assert offset == 301
    await assert_faultless(demo)


Fault = Callable[[Link, Segment, int], None]


def drop(link: Link, segment: Segment, number: int) -> None:
    """The hundredth write never happens."""
    if number % 100:
        link.write(segment)


def repeat(link: Link, segment: Segment, number: int) -> None:
    """The hundredth write happens twice."""
    link.write(segment)
    if not number % 100:
        link.write(segment)


def break_live_writes(monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    """Between the hub and the LIVE links, where no code of ours would notice."""
    writes = 0

    def write(group: Group, segment: Segment, first: int, end: int) -> None:
        nonlocal writes
        links: Sequence[Any] = group.links
        for place in range(first, end):
            group.written = place + 1
            writes += 1
            fault(links[place], segment, writes)

    monkeypatch.setattr(FanOut, "_write", staticmethod(write))


async def test_what_a_bad_server_drops_is_healed_and_shown_as_that(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    await demo.open()
    break_live_writes(monkeypatch, drop)
    for _ in range(2):
        await publish_at_mixed_rates(demo, CHAT, 150)
    await demo.page.until("/gaps? healed/.test(document.getElementById('panes').textContent)")
    monkeypatch.undo()
    offset = await publish_at_mixed_rates(demo, CHAT, 1)
    await demo.until_connected()
    await demo.until_offset(CHAT, offset)
    await assert_faultless(demo)
    assert sum((await demo.healed("gaps")).values()) > 0


async def test_what_a_bad_server_repeats_is_dropped_and_shown_as_that(
    demo: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    await demo.open()
    break_live_writes(monkeypatch, repeat)
    for _ in range(2):
        await publish_at_mixed_rates(demo, CHAT, 150)
    await demo.page.until("/repeats? dropped/.test(document.getElementById('panes').textContent)")
    monkeypatch.undo()
    offset = await publish_at_mixed_rates(demo, CHAT, 1)
    await demo.until_offset(CHAT, offset)
    await assert_faultless(demo)


@pytest.mark.parametrize(("fault", "shown"), [(drop, "lost"), (repeat, "repeated")])
async def test_the_page_is_a_witness_of_its_own(
    fault: Fault, shown: str, chromium: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a client that takes whatever comes, one write in a hundred that goes wrong is seen by the page's counters.

    Without this, counters that always say 0 would pass every other test here.
    """
    static = tmp_path / "static"
    shutil.copytree(find_static_root(), static)
    channel = static / "hybrid" / "channel.js"
    source = channel.read_text(encoding="utf-8")
    blind = source.replace("if (isOtherLog || offset > own.offset + 1) return false;", "").replace(
        "if (offset <= own.offset) stats.dropped++;", "if (false) return false;"
    )
    assert blind.count("if (false)") == 1
    assert "isOtherLog ||" not in blind
    channel.write_text(blind, encoding="utf-8")
    async with open_demo(chromium, tmp_path, static) as demo:
        await demo.open()
        break_live_writes(monkeypatch, fault)
        for _ in range(2):
            await publish_at_mixed_rates(demo, CHAT, 150)
        total = f"document.querySelector('#summary [data-part={shown}]')"
        await demo.page.until(f"Number({total}.textContent) > 0")
        assert "lost, repeated or reordered" in await demo.page.evaluate("document.getElementById('alarm').textContent")
        assert await demo.page.evaluate(f"{total}.parentElement.classList.contains('is-bad')")


async def test_the_switches_of_a_pane_do_what_they_say(demo: Demo) -> None:
    await demo.open()
    page = demo.page
    badge = f"{part('automatic', 'badge')}.textContent"
    await page.until(f"{badge} === 'WebSocket'")
    await page.click("[data-pane=automatic] button[value=longpoll]")
    await page.until(f"{badge} === 'Long polling'")
    assert (
        await page.evaluate(
            "document.querySelector('[data-pane=automatic] button[value=longpoll]').getAttribute('aria-pressed')"
        )
        == "true"
    )
    await page.click("[data-pane=sse] [data-part=cut]")
    await page.until(f"{part('sse', 'news')}.textContent.startsWith('Back on SSE')")
    await page.click("#cut-all")
    await page.until(
        "[...document.querySelectorAll('[data-part=trail]')].every((trail) => /back/.test(trail.textContent))"
    )
    await demo.until_connected()
    await assert_faultless(demo)


async def test_a_server_that_starts_again_is_found_again_and_the_resets_are_told(chromium: str, tmp_path: Path) -> None:
    """Its logs and its issuer's keys are gone: every token of before is refused for good, every position unknown.

    The person signs in again, in a window beside the page, which goes on with its sessions and all that they counted.
    """
    async with open_browser(chromium, tmp_path / "profile") as page:
        async with serve_demo() as (url, engine):
            demo = Demo(url, engine, page)
            await demo.open()
        await page.until("document.querySelectorAll('.pane:not([data-state=connected])').length === 4")
        async with serve_demo(port=int(url.rstrip("/").rpartition(":")[2])) as (_, engine):
            demo.engine = engine
            await page.until("!document.getElementById('ended').hidden")
            await page.click("#ended button", by_hand=True)
            async with page.window() as beside:
                await sign_in(beside)
            await demo.until_connected()
            assert await page.evaluate("document.getElementById('ended').hidden")
            trails = "[...document.querySelectorAll('[data-part=trail]')]"
            await page.until(f"{trails}.every((trail) => /resets? told/.test(trail.textContent))")
            offset = await publish_at_mixed_rates(demo, CHAT, 20)
            await demo.until_offset(CHAT, offset)
            await assert_faultless(demo)


async def test_what_is_said_is_text_and_lights_a_dot_per_pane(demo: Demo) -> None:
    await demo.open()
    page = demo.page
    said = '<img src=x onerror="document.title=1"> & "quoted"'
    await page.type("#say-text", said)
    await page.press_enter()
    await page.until("document.querySelector('.said-text') !== null")
    assert await page.evaluate("document.querySelector('.said-text').textContent") == said
    assert await page.evaluate("document.querySelectorAll('.said img').length") == 0
    assert await page.evaluate("document.querySelector('.said li').classList.contains('is-own')")
    await page.until("document.querySelectorAll('.said-dots i[data-transport]').length === 4")
    assert await page.evaluate("document.querySelector('#say-text').value") == ""
    assert page.errors == []


async def test_what_strangers_say_cannot_harm_the_page(demo: Demo) -> None:
    """Anybody with the scope may publish anything: the wrong shapes are passed over, the rest is cut."""
    await demo.open()
    for data in (None, 7, "text", [], {}, {"text": 5}, {"text": "x", "name": {}, "said_at_ms": "soon"}):
        await demo.engine.publish(CHAT, data)
    appended = await demo.engine.publish(CHAT, {"text": "y" * 5000, "name": "n" * 500, "said_at_ms": 1e300})
    await demo.until_offset(CHAT, appended.position.offset)
    page = demo.page
    lengths = await page.evaluate("[...document.querySelectorAll('.said-text')].map((said) => said.textContent.length)")
    assert lengths == [1, 500]
    assert await page.evaluate("document.querySelector('.said li:last-child .said-name').textContent.length") == 24
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.errors == []


async def test_the_page_asks_nobody_else_and_breaks_no_rule(demo: Demo) -> None:
    await demo.open()
    origin = demo.url.removeprefix("http:")
    foreign = [url for url in demo.page.requested if not url.startswith((f"http:{origin}", f"ws:{origin}", "data:"))]
    assert foreign == []
    assert demo.page.errors == []


@pytest.mark.parametrize(
    ("width", "height"), [(360, 640), (390, 844), (768, 1024), (1024, 768), (1440, 900), (1920, 1080)]
)
async def test_it_fits_every_screen(demo: Demo, width: int, height: int) -> None:
    await demo.open(width, height)
    page = demo.page
    assert await page.evaluate("document.documentElement.scrollWidth === document.documentElement.clientWidth")
    clipped = await page.evaluate(
        "[...document.querySelectorAll('button, h1, h2, dt, dd, .badge, .state')]"
        ".filter((each) => each.offsetParent && each.scrollWidth > each.clientWidth + 1 && getComputedStyle(each)"
        ".display !== 'inline').map((each) => each.className + each.textContent)"
    )
    assert clipped == []
    if width < 600:
        small = await page.evaluate(
            "[...document.querySelectorAll('button')].filter((each) => each.checkVisibility())"
            ".filter((each) => each.getBoundingClientRect().height < 40)"
            ".map((each) => each.textContent)"
        )
        assert small == [], "too small for a thumb"


async def test_the_machine_is_drawn_from_real_figures(demo: Demo) -> None:
    await demo.open()
    page = demo.page
    for figure in ("cpu-figure", "memory-figure", "network-in", "network-out"):
        await page.until(f"/[0-9]/.test(document.querySelector('[data-part={figure}]').textContent)")
    assert "of" in await page.evaluate("document.querySelector('[data-part=memory-detail]').textContent")
    painted = await page.evaluate(
        "[...document.querySelectorAll('canvas')].map((canvas) => new Set(canvas.getContext('2d')"
        ".getImageData(0, 0, canvas.width, canvas.height).data).size > 3)"
    )
    assert painted == [True] * 7
