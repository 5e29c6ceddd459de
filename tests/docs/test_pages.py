"""What the pages refer to is there, and what they say of limits and leases is so."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from hybrid.auth.jwt import LEEWAY_S
from hybrid.engine import departure, nodes, presence
from hybrid.limits import Limits
from tests.support.nodes import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_the_page_of_limits_has_each_of_them_once_with_its_default() -> None:
    text = (ROOT / "docs" / "limits.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) \| ", text, re.MULTILINE)
    assert sorted(rows) == sorted((item.name, str(item.default)) for item in fields(Limits))


def test_the_figures_of_scaling_that_are_limits_are_those_of_the_code() -> None:
    text, limits = (ROOT / "docs" / "scaling.md").read_text(), Limits()
    for said in (
        f"{limits.links_max:,} (`links_max`)",
        f"{limits.accepts_per_s:g}/s (`accepts_per_s`)",
        f"{limits.admissions_per_s:g}/s (`admissions_per_s`), and {limits.admissions_burst_s:g} s' worth",
        f"{limits.rings_max_bytes >> 20} MB at most (`rings_max_bytes`)",
        f"{limits.high_water_bytes >> 10} KB (`high_water_bytes`)",
        f"`shutdown_grace_s` ({limits.shutdown_grace_s:g} s)",
        f"in {departure._TELLING:.0%} of that time".replace("%", " %"),
        f"within {limits.heartbeat_interval_s * limits.heartbeat_grace_intervals:g} s (2.5 heartbeats)",
        f"up to {nodes.LEASE_S:g} s (its lease)",
        f"present for up to {presence.LEASE_S:g} s",
        f"every {limits.head_check_interval_s:g} s",
        f"{LEEWAY_S} s of difference",
        f"for {limits.idempotency_window_s / 60:g} minutes",
        f"for {limits.meta_ttl_s / 86_400:g} days",
    ):
        assert said in text
