"""The report of `hybrid bench` in a real browser: it loads nothing, throws nothing, and fits a phone."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybrid.bench.report import report
from tests.support.chromium import open_browser
from tests.unit.bench.test_shown import recorded, result_of


@pytest.mark.parametrize(("width", "scheme"), [(1_200, "light"), (390, "dark")])
async def test_the_report_stands_alone_in_both_schemes(chromium: str, tmp_path: Path, width: int, scheme: str) -> None:
    path = tmp_path / "report.html"
    path.write_text(report(result_of(recorded())), encoding="utf-8")
    async with open_browser(chromium, tmp_path / "profile") as page:
        await page.open(path.as_uri(), width=width, height=900, scheme=scheme)
        await page.until("document.readyState === 'complete' && document.querySelector('footer')")
        assert page.errors == []
        assert page.requested == [path.as_uri()]
        wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert await page.evaluate(wider) <= 0
        assert await page.evaluate("document.querySelectorAll('svg .line').length") == 9
        columns = "getComputedStyle(document.querySelector('.charts')).gridTemplateColumns.split(' ').length"
        assert await page.evaluate(columns) == (2 if width > 1_000 else 1)
        paper = str(await page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert paper == ("rgb(11, 15, 20)" if scheme == "dark" else "rgb(244, 245, 247)")
        inside = """[...document.querySelectorAll('svg text')].every((text) => {
          const card = text.closest('section').getBoundingClientRect(), box = text.getBoundingClientRect();
          return box.left >= card.left && box.right <= card.right;
        })"""
        assert await page.evaluate(inside)
