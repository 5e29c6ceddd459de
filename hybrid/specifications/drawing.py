"""Draws a table of states as SVG, without a layout engine: the states stand in one column, in their order.

What leads to the next state is an arrow between the two; what skips forward runs down on the right, what leads back up
on the left, each on a lane of its own, with its events at its beginning. Events that change nothing stand in the box.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Final
from xml.sax.saxutils import escape

from hybrid.protocol.states import EventT, StateT, Table

_BOX: Final = 190
_LEAST: Final = 46
_GAP: Final = 46
_PORT: Final = 18  # between two lines that begin or end at one side of a box
_LETTER: Final = 6.6  # of 11 px, on average, and rather more
_MARGIN: Final = 12
_STYLE: Final = (
    # Colours that can be read on white and on black: a page that changes its scheme cannot change a picture.
    "text{font:11px ui-sans-serif,system-ui,sans-serif;fill:#708098}"
    ".name{font-size:14px;font-weight:600;fill:#fff}.stays{font-size:10px;fill:#e0e7ff}"
    ".box{fill:#3f51b5}.final{fill:#475569}.line{fill:none;stroke:#7c8aa0;stroke-width:1.5}.tip{fill:#7c8aa0}"
)


@dataclass
class _Box:
    state: Enum
    row: int
    stays: list[str] = field(default_factory=list)
    is_final: bool = False
    ports: dict[str, int] = field(default_factory=lambda: {"left": 0, "right": 0})
    used: dict[str, int] = field(default_factory=lambda: {"left": 0, "right": 0})
    y: float = 0

    @property
    def height(self) -> float:
        return max(_LEAST, _PORT * (max(self.ports.values()) + 1))

    def port(self, side: str) -> float:
        """The height of the next free place on this side; the places are spread evenly."""
        self.used[side] += 1
        return self.y + self.height * self.used[side] / (self.ports[side] + 1)


@dataclass
class _Edge:
    source: _Box
    target: _Box
    events: list[str]

    @property
    def side(self) -> str:
        """Where it runs; empty for the arrow between two neighbours."""
        step = self.target.row - self.source.row
        return "" if step == 1 else "right" if step > 0 else "left"

    @property
    def label(self) -> str:
        return ", ".join(self.events)


def draw(table: Table[StateT, EventT], title: str) -> str:
    """The whole SVG document; the same for the same table."""
    boxes, edges = _boxes(table)
    y = float(_MARGIN)
    for box in boxes.values():
        box.y = y
        y += box.height + _GAP
    lanes = {side: [edge for edge in edges if edge.side == side] for side in ("left", "right")}
    room = {side: _room(lanes[side]) for side in lanes}
    left = _MARGIN + room["left"]
    width, height = left + _BOX + room["right"] + _MARGIN, y - _GAP + _MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path class="tip" d="M0 0L8 4L0 8z"/></marker></defs>',
    ]
    for edge in edges:
        if not edge.side:
            lines.extend(_down(edge, left + _BOX / 2))
    for side, sign in (("left", -1), ("right", 1)):
        lines.extend(_around(lanes[side], side, sign, left + (_BOX if sign > 0 else 0)))
    for box in boxes.values():
        lines.extend(_drawn(box, left))
    return "\n".join([*lines, "</svg>"]) + "\n"


def _boxes(table: Table[StateT, EventT]) -> tuple[dict[StateT, _Box], list[_Edge]]:
    boxes = {state: _Box(state, row) for row, state in enumerate(table)}
    edges: dict[tuple[StateT, StateT], _Edge] = {}
    for state, events in table.items():
        boxes[state].is_final = not events
        for event, after in events.items():
            if after is state:
                boxes[state].stays.append(_word(event))
            else:
                edge = edges.setdefault((state, after), _Edge(boxes[state], boxes[after], []))
                edge.events.append(_word(event))
    for edge in edges.values():
        if edge.side:
            edge.source.ports[edge.side] += 1
            edge.target.ports[edge.side] += 1
    return boxes, sorted(edges.values(), key=lambda edge: (abs(edge.target.row - edge.source.row), edge.source.row))


def _room(edges: list[_Edge]) -> float:
    return _reach(edges) + _PORT * len(edges) if edges else 0


def _reach(edges: list[_Edge]) -> float:
    """How far from the boxes the first lane is: the longest label fits in before it."""
    return max(len(edge.label) for edge in edges) * _LETTER + 16


def _down(edge: _Edge, x: float) -> Iterator[str]:
    top, bottom = edge.source.y + edge.source.height, edge.target.y
    yield f'<path class="line" marker-end="url(#tip)" d="M{x:g} {top:g}V{bottom:g}"/>'
    yield f'<text x="{x + 8:g}" y="{(top + bottom) / 2 + 3:g}">{escape(edge.label)}</text>'


def _around(edges: list[_Edge], side: str, sign: int, edge_x: float) -> Iterator[str]:
    """Ports go by the other end, so that lines of one box do not cross each other more than they must."""
    lanes = {id(edge): edge_x + sign * (_reach(edges) + _PORT * place) for place, edge in enumerate(edges)}
    ends: dict[int, list[float]] = {id(edge): [0, 0] for edge in edges}
    touching = [(edge.source, edge, 0) for edge in edges] + [(edge.target, edge, 1) for edge in edges]
    for box, edge, end in sorted(touching, key=lambda item: _order(*item)):
        ends[id(edge)][end] = box.port(side)
    for edge in edges:
        lane, (begin, end_y) = lanes[id(edge)], ends[id(edge)]
        turn = 6 if end_y > begin else -6
        yield (
            f'<path class="line" marker-end="url(#tip)" d="M{edge_x:g} {begin:.1f}H{lane - sign * 6:g}'
            f"Q{lane:g} {begin:.1f} {lane:g} {begin + turn:.1f}V{end_y - turn:.1f}"
            f'Q{lane:g} {end_y:.1f} {lane - sign * 6:g} {end_y:.1f}H{edge_x:g}"/>'
        )
        anchor = "end" if sign < 0 else "start"
        yield (
            f'<text x="{edge_x + sign * 8:g}" y="{begin - 4:.1f}" text-anchor="{anchor}">{escape(edge.label)}</text>'
        )


def _order(box: _Box, edge: _Edge, end: int) -> tuple[int, int, int]:
    """Lines that come from above first, the longest inmost; then those that go down, the longest uppermost."""
    other = edge.target if end == 0 else edge.source
    comes_from_above = other.row < box.row
    distance = abs(other.row - box.row)
    return (box.row, 0, distance) if comes_from_above else (box.row, 1, -distance)


def _drawn(box: _Box, x: float) -> Iterator[str]:
    middle, centre = box.y + box.height / 2, x + _BOX / 2
    yield (
        f'<rect class="{"final" if box.is_final else "box"}" x="{x:g}" y="{box.y:g}" width="{_BOX}" '
        f'height="{box.height:g}" rx="8"/>'
    )
    name_y = middle - 2 if box.stays else middle + 5
    yield f'<text class="name" x="{centre:g}" y="{name_y:g}" text-anchor="middle">{escape(box.state.name)}</text>'
    if box.stays:
        stays = escape("stays at " + ", ".join(box.stays))
        yield f'<text class="stays" x="{centre:g}" y="{middle + 13:g}" text-anchor="middle">{stays}</text>'


def _word(event: Enum) -> str:
    return event.name.lower().replace("_", " ")
