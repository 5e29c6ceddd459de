"""Writes `docs/states.md` and its drawings from the tables of `protocol/states.py`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, Final

from hybrid.protocol import states
from hybrid.specifications.drawing import draw

_HEAD: Final = """# State machines

<!-- Written by `python -m hybrid.specifications docs`; a test fails when it is stale. -->

Four things on a node have states. Each is one table in `hybrid/protocol/states.py`; the drawings and tables on this
page are made from it. An event that a state does not name cannot come in it: it would be a fault of hybrid and raises.
A final state swallows whatever still arrives, because ends cross with what was already on its way.
[Architecture](architecture.md) says why they are as they are.
"""
_MACHINES: Final[tuple[tuple[str, str, Mapping[Any, Mapping[Any, Any]]], ...]] = (
    ("leg", "One open transport of a session: a candidate until it is confirmed.", states.LEG),
    ("session", "The logical connection, which outlives its legs.", states.SESSION),
    ("subscription", "One reader's interest in one channel, on one node.", states.SUBSCRIPTION),
    ("channel", "What a node knows of a channel while somebody on it listens.", states.CHANNEL),
)


def describe() -> str:
    """The whole page, as Markdown that ends with a newline."""
    return _HEAD + "\n".join(_page()) + "\n"


def drawings() -> dict[str, str]:
    """The SVG of each machine, by its name."""
    return {name: draw(table, f"The states of a {name}") for name, _, table in _MACHINES}


def _page() -> Iterator[str]:
    for name, meaning, table in _MACHINES:
        yield f"\n## {name.capitalize()}\n\n{meaning}\n"
        yield f"![The states of a {name}; the table below says the same](images/states-{name}.svg)\n"
        first = next(iter(table))
        event = next(iter(table[first]))
        yield f"States. {_told(type(first))}\n\nEvents. {_told(type(event))}\n"
        kind: type[Enum] = type(event)
        events = list(kind)
        yield "| | " + " | ".join(_word(item) for item in events) + " |"
        yield "| --- " * (len(events) + 1) + "|"
        for state, after in table.items():
            cells = [after[item].name if item in after else "" for item in events]
            yield f"| {state.name} | " + " | ".join(cells if after else [""] * len(events)) + " |"


def _told(kind: type[Enum]) -> str:
    return " ".join((inspect.getdoc(kind) or "").split())


def _word(event: Enum) -> str:
    return event.name.lower().replace("_", " ")
