"""Has everybody run the course, and writes who did into docs/foreign-clients.md: `python -m tests.foreign.report`."""

from __future__ import annotations

import asyncio
import sys
from typing import Final

import pytest

from tests.foreign.course import STAGES, Outsider, impatience, run
from tests.foreign.outsiders import BROWSERS, OUTSIDERS
from tests.support.nodes import ROOT

PAGE: Final = ROOT / "docs" / "foreign-clients.md"
BEGIN: Final = "<!-- table: begin (python -m tests.foreign.report) -->"
END: Final = "<!-- table: end -->"
HEAD: Final = ("client", "version", *STAGES, "who has it come back", "")


def cells(line: str) -> list[str]:
    """Of a row of a table."""
    return [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]


def table(page: str) -> list[list[str]]:
    """The rows that the page has."""
    lines = page.partition(BEGIN)[2].partition(END)[0].strip().splitlines()
    return [cells(line) for line in lines[2:]]


async def row(outsider: Outsider) -> list[str]:
    """What came of it."""
    passed: list[str] = []
    try:
        await run(outsider, passed)
    except AssertionError as error:
        print(f"{outsider.name}: {error}", file=sys.stderr)
    stages = ["yes" if stage in passed else "no" for stage in STAGES]
    return [outsider.name, outsider.version(), *stages, outsider.comes_back, outsider.remark]


def main() -> int:
    """All of them have to be on this machine."""
    rows = []
    with impatience():
        for outsider in (*BROWSERS, *OUTSIDERS):
            try:
                rows.append(asyncio.run(row(outsider)))
            except pytest.skip.Exception as missing:
                print(f"{outsider.name} is missing, nothing was written: {missing}", file=sys.stderr)
                return 1
    lines = [f"| {' | '.join(cells)} |" for cells in (HEAD, ["---"] * len(HEAD), *rows)]
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text("\n".join((before + BEGIN, *lines, END)) + rest.partition(END)[2])
    return 0


if __name__ == "__main__":
    sys.exit(main())
