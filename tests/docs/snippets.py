"""The fenced blocks of the documentation, and what each says of how it is run.

A comment in front of a block, `<!-- test: WORDS; WORDS -->`, is for the tests and not to be seen on the page:

    says "TEXT"             the output must come to hold it (as often as needed)
    runs on                 goes on until the page's end, in a terminal of its own
    runs on until "TEXT"    the same, and what follows waits for it
    stop                    whatever runs on is stopped first, as by Ctrl-C
    file NAME, append NAME  what the reader saves under that name
    needs PROGRAM           skips where it is missing, loudly
    with THING              what the reader has by then: a server, TOKEN, a settings file, redis, workers
    slow                    only among the slow tests
    run by FILE             a test of its own runs it, which names the page or the program
    not run, REASON         cannot be run on a bare machine
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.support.nodes import ROOT

PAGES: Final = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_FENCE: Final = re.compile(
    r"(?:^[ ]*<!-- test:(?P<words>[^\n]*?)-->\n)?^(?P<indent>[ ]*)(?P<fence>```+)(?P<info>[^\n]*)\n"
    r"(?P<text>.*?)^[ ]*(?P=fence)[ ]*$",
    re.MULTILINE | re.DOTALL,
)
_DIRECTIVE: Final = re.compile(
    r'says "(?P<says>[^"]*)"|runs on(?: until "(?P<until>[^"]*)")?|(?P<stop>stop)|(?:file|append) (?P<file>\S+)'
    r"|needs (?P<needs>\S+)|with (?:a )?(?P<with>[\w ]+)|(?P<slow>slow)|run by (?P<run_by>\S+)|not run, (?P<why>.+)"
)


@dataclass
class Block:
    """One fenced block; `line` is where it begins on its page."""

    page: Path
    line: int
    language: str
    text: str
    is_marked: bool = False
    says: list[str] = field(default_factory=list)
    until: str | None = None
    runs_on: bool = False
    stops: bool = False
    file: str = ""
    appends: bool = False
    needs: list[str] = field(default_factory=list)
    given: set[str] = field(default_factory=set)
    is_slow: bool = False
    run_by: str = ""
    why_not: str = ""

    @property
    def place(self) -> str:
        page = self.page.relative_to(ROOT) if self.page.is_relative_to(ROOT) else self.page
        return f"{page}:{self.line}"

    @property
    def is_run_here(self) -> bool:
        return not (self.run_by or self.why_not or self.file)


def blocks_of(page: Path) -> list[Block]:
    """Raises ValueError for a marker that is not understood."""
    return list(_parse(page, page.read_text()))


def _parse(page: Path, text: str) -> Iterator[Block]:
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start("fence")) + 1
        indent = len(match["indent"])
        body = "".join(row[indent:] or "\n" for row in match["text"].splitlines(keepends=True))
        block = Block(page, line, match["info"].split(" ")[0], body, is_marked=match["words"] is not None)
        told = (match["words"] or "").strip()
        for words in [told] if told.startswith("not run,") else filter(None, map(str.strip, told.split(";"))):
            _apply(block, words)
        yield block


def _apply(block: Block, words: str) -> None:
    found = _DIRECTIVE.fullmatch(words)
    if found is None:
        raise ValueError(f"{block.place}: {words!r} is not understood; tests/docs/snippets.py says what is")
    if found["says"] is not None:
        block.says.append(found["says"])
    elif words.startswith("runs on"):
        block.runs_on, block.until = True, found["until"]
    elif found["stop"]:
        block.stops = True
    elif found["file"]:
        block.file, block.appends = found["file"], words.startswith("append")
    elif found["needs"]:
        block.needs.append(found["needs"])
    elif found["with"]:
        block.given.add(found["with"])
    elif found["slow"]:
        block.is_slow = True
    elif found["run_by"]:
        block.run_by = found["run_by"]
    else:
        block.why_not = found["why"]
