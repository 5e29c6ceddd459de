"""Columns of text that fit a width: what matters least is left out first, and what is too long is cut. Pure.

Names come from elsewhere (channels are named by clients), so nothing that would move a cursor gets through.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

Segment: TypeAlias = tuple[str, str]
"""A style (`bold`, `dim`, `good`, `warn`, `bad`, or none) and a text."""
Line: TypeAlias = list[Segment]

_GAP: Final = "  "
_NAME_MIN: Final = 12
"""The first column is cut down to this many cells before another column is left out."""


@dataclass(frozen=True, slots=True)
class Column:
    """`rank` 0 is never left out; the highest is the first one. Figures stand at the right.

    `keeps_end`: what is too long loses its beginning, where the end tells one from another.
    """

    title: str
    rank: int = 0
    is_figure: bool = True
    keeps_end: bool = False


def table(columns: Sequence[Column], rows: Iterable[Sequence[Segment]], width: int | None) -> list[Line]:
    """A line of titles and one for each row; the first column takes the cells that are left."""
    cells = [[(style, clean(text)) for style, text in row] for row in rows]
    widths = [
        max([width_of(column.title), *(width_of(row[place][1]) for row in cells)])
        for place, column in enumerate(columns)
    ]
    shown = list(range(len(columns)))
    if width is not None:
        shown = _fitting(columns, widths, width)
        others = sum(widths[place] + len(_GAP) for place in shown[1:])
        widths[0] = min(widths[0], max(1, width - others))
    titles = [("dim", column.title) for column in columns]
    return [_line(columns, widths, shown, row) for row in [titles, *cells]]


def _fitting(columns: Sequence[Column], widths: Sequence[int], width: int) -> list[int]:
    shown = list(range(len(columns)))

    def needed() -> int:
        return min(widths[0], _NAME_MIN) + sum(widths[place] + len(_GAP) for place in shown[1:])

    while needed() > width:
        last = max(shown[1:], key=lambda place: (columns[place].rank, place), default=None)
        if last is None or columns[last].rank == 0:
            break
        shown.remove(last)
    return shown


def _line(columns: Sequence[Column], widths: Sequence[int], shown: Sequence[int], row: Sequence[Segment]) -> Line:
    line: Line = []
    for number, place in enumerate(shown):
        style, text = row[place]
        text = (cut_start if columns[place].keeps_end else cut)(text, widths[place])
        space = " " * (widths[place] - width_of(text))
        is_last = number == len(shown) - 1
        padded = space + text if columns[place].is_figure else text + ("" if is_last else space)
        line.append((style, (_GAP if number else "") + padded))
    return line


def clean(text: str) -> str:
    """Without characters that a terminal would obey, or that have no shape."""
    return text if text.isascii() and text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def width_of(text: str) -> int:
    """How many cells a text takes: two for wide characters of East Asia, none for marks that join the one before."""
    if text.isascii():
        return len(text)
    return sum(_cells(character) for character in text)


def _cells(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def cut(text: str, width: int) -> str:
    """At most this wide; what was longer ends in an ellipsis."""
    if width_of(text) <= width:
        return text
    kept, taken = [], 0
    for character in text:
        taken += _cells(character)
        if taken > width - 1:
            break
        kept.append(character)
    return "".join(kept) + "…" if width > 0 else ""


def cut_start(text: str, width: int) -> str:
    """The same, but the end is kept."""
    if width_of(text) <= width:
        return text
    for start in range(len(text)):
        if width_of(text[start:]) < width:
            return "…" + text[start:]
    return "…" if width > 0 else ""


def cut_line(line: Line, width: int | None) -> Line:
    """The same for a line of segments."""
    if width is None:
        return line
    left, found = width, []
    for style, text in line:
        shown = cut(text, left)
        found.append((style, shown))
        left -= width_of(shown)
        if shown != text:
            break
    return found
