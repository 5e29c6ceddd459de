"""Readers that were not written here run the course: a cut, a restart, a log that is gone."""

from __future__ import annotations

import json

import pytest

from tests.foreign.course import STAGES, Outsider, impatience, run
from tests.foreign.outsiders import BROWSERS, NODE, OUTSIDERS
from tests.foreign.report import PAGE, table


@pytest.mark.parametrize("outsider", OUTSIDERS, ids=lambda outsider: outsider.name)
async def test_nothing_is_lost_repeated_or_untold(outsider: Outsider) -> None:
    with impatience():
        await run(outsider)


@pytest.mark.zoo
@pytest.mark.parametrize("browser", BROWSERS, ids=lambda browser: browser.name)
async def test_nor_by_the_browsers_that_take_seconds_to_start(browser: Outsider) -> None:
    with impatience():
        await run(browser)


def test_the_page_lists_them_all_and_says_yes() -> None:
    rows = {name: rest for name, *rest in table(PAGE.read_text())}
    assert list(rows) == [outsider.name for outsider in (*BROWSERS, *OUTSIDERS)]
    for outsider in (*BROWSERS, *OUTSIDERS):
        _, *told = rows[outsider.name]
        assert told == [*["yes"] * len(STAGES), outsider.comes_back, outsider.remark]


def test_the_page_names_the_versions_that_are_pinned() -> None:
    rows = {name: version for name, version, *_ in table(PAGE.read_text())}
    for package, version in json.loads((NODE / "package.json").read_text())["dependencies"].items():
        assert rows[f"{package} (npm)"] == version
