"""What the comparison with other systems counts and writes; `make zoo-peers` makes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.proxy.zoo.peers import report, results
from tests.proxy.zoo.peers.course import Count
from tests.proxy.zoo.peers.setups import SETUPS, versions

NOTHING: dict[str, int] = {"lost": 0, "repeated": 0, "reordered": 0}
RUN: dict[str, Any] = {
    "cold_ms": 81.4,
    "warm_ms": 12.0,
    "transports": ["polling", "websocket"],
    "down": {**NOTHING, "lost": 3},
    "up": NOTHING,
    "taken_over": 0,
    "restart_s": None,
    "told": {"back_s": 1.25, **NOTHING, "lost": 7},
    "silent": None,
    "at": "2026-01-01T00:00:00+00:00",
}


@pytest.mark.parametrize(
    ("came", "count"),
    [
        ([1, 2, 3, 4], Count(0, 0, 0)),
        ([0, 1, 2, 3, 4, 5], Count(0, 0, 0)),
        ([1, 4], Count(2, 0, 0)),
        ([1, 2, 2, 3, 4, 1], Count(0, 2, 0)),
        ([2, 1, 4, 3], Count(0, 0, 2)),
        ([4, 4, 2, 1], Count(1, 1, 2)),
        ([], Count(4, 0, 0)),
    ],
)
def test_what_came_is_counted(came: list[int], count: Count) -> None:
    assert Count.of(range(1, 5), came) == count


def test_every_peer_has_its_files_and_a_pinned_version() -> None:
    folder = Path(report.__file__).parent
    for setup in SETUPS.values():
        assert (folder / "clients" / f"{setup.client}.js").is_file()
        if setup.library:
            assert setup.library.partition("/")[0] in versions()
    assert all(version[0].isdigit() for version in versions().values()), versions()


def test_the_page_shows_what_was_measured_and_nothing_else() -> None:
    peers = {"direct": {"Socket.IO": RUN}, "varnish-hold": {"Socket.IO": {"never": True, "at": RUN["at"]}}}
    ours = {"varnish-hold": {"chromium": {"transport": "sse", "cold": {"ms": 5}, "warm": {"ms": 4}}}}
    lines = "\n".join(report.section(peers, ours)).splitlines()
    assert "| `direct` |  | polling → websocket 81 / 12 |" in lines
    assert "| `varnish-hold` | sse 5 / 4 | **never** |" in lines
    assert "| `direct` | Socket.IO | 3 lost | 0 | 0 | no | 1.2, 7 lost | no |" in lines
    assert not any("EventSource" in line for line in lines)


def test_each_part_of_the_page_is_kept_when_the_other_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "networks.md"
    kept: results.Results = {"direct": {"Socket.IO": RUN}}
    monkeypatch.setattr(results, "load", lambda: kept)
    page.write_text("# Networks\n\nours\n")
    report.write(page, {})
    written = page.read_text()
    assert written.startswith("# Networks\n\nours\n\n## Beside the others\n")
    assert report.part_of(page, {}) == written.removeprefix("# Networks\n\nours\n\n")
    kept = {}
    assert report.part_of(page, {}) == written.removeprefix("# Networks\n\nours\n\n")
