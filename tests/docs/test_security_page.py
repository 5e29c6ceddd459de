"""What docs/security.md names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`([a-z_]+(?:/[a-z_0-9]+)+\.py)`", PAGE)))


def exists(name: str) -> bool:
    """A file of the package, or a test of it."""
    file = Path(name)
    return (ROOT / ("tests" if file.name.startswith("test_") else "hybrid") / file).is_file()


@pytest.mark.parametrize("name", NAMED)
def test_each_file_is_there(name: str) -> None:
    assert exists(name)


def test_it_names_what_it_should_and_would_notice_what_is_missing() -> None:
    assert len(NAMED) > 60
    assert not exists("auth/nowhere.py")
    for target in re.findall(r"\*\*`make ([a-z]+)`\*\*", PAGE):
        assert re.search(rf"^{target}:.*##", (ROOT / "Makefile").read_text(), re.MULTILINE), target
    for row in re.findall(r"^\| .* \|$", PAGE, re.MULTILINE):
        cells = row.split(" | ")
        assert len(cells) < 3 or cells[-1] == "shown by |" or "---" in row or "`" in cells[-1], row
