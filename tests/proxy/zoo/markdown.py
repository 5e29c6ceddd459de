"""Tables as GitHub shows them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

_CELL_MAX: Final = 270


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(_cell(cell) for cell in line) + " |\n" for line in lines)


def _cell(value: Any) -> str:
    text = " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;")
    return text if len(text) <= _CELL_MAX else text[:_CELL_MAX] + "…"
