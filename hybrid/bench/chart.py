"""Charts as SVG, for a page without scripts: lines over a linear axis, with steps that say their values when touched.

Colours and fonts are the page's: shapes have classes, and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

_WIDTH: Final = 440
_HEIGHT: Final = 220
_LEFT: Final = 52
_RIGHT: Final = 12
_TOP: Final = 12
_BOTTOM: Final = 28
_TICKS_X: Final = 5


@dataclass(frozen=True)
class Line:
    """One line: its name, its class, and points; a None is a gap."""

    name: str
    kind: str
    points: Sequence[tuple[float, float | None]]
    is_area: bool = False


@dataclass(frozen=True)
class Chart:
    """One chart. `say_x` and `say_y` write values; `marks` are named places on the x axis."""

    label: str
    lines: Sequence[Line]
    say_x: Callable[[float], str]
    say_y: Callable[[float], str]
    marks: Sequence[tuple[float, str]] = ()
    ticks_x: Sequence[tuple[float, str]] = ()
    is_log: bool = False
    floor: float = 0.0
    say_tick: Callable[[float], str] | None = None
    """How round values at the y axis are written, where that is shorter than `say_y`."""

    def svg(self) -> str:
        """The chart; a sentence where there is nothing to draw."""
        drawn = [(x, y) for line in self.lines for x, y in line.points if y is not None]
        if len(drawn) < 2:
            return '<p class="none">Nothing to draw.</p>'
        every_x = [x for line in self.lines for x, _ in line.points]  # gaps too: charts of one run share their time
        low_x, high_x = min(every_x), max(every_x)
        if high_x <= low_x:
            high_x = low_x + 1
        scale_y, ticks_y = self._scale(max(y for _, y in drawn), min(y for _, y in drawn))

        def place_x(value: float) -> float:
            return _LEFT + (value - low_x) / (high_x - low_x) * (_WIDTH - _LEFT - _RIGHT)

        def place_y(value: float) -> float:
            return _HEIGHT - _BOTTOM - scale_y(value) * (_HEIGHT - _TOP - _BOTTOM)

        parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(self.label)}">']
        for value in ticks_y:
            y = place_y(value)
            parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>')
            words = (self.say_tick or self.say_y)(value)
            parts.append(f'<text class="y" x="{_LEFT - 6}" y="{y + 4:.1f}">{escape(words)}</text>')
        ticks_x = list(self.ticks_x) or [
            (value, self.say_x(value)) for value in _steps(low_x, high_x, _TICKS_X) if low_x <= value <= high_x
        ]
        end_x = 0.0
        for value, words in ticks_x:
            x, width = place_x(value), 6.5 * len(words)
            if low_x <= value <= high_x and x - width / 2 >= end_x:
                end_x = x + width / 2 + 10
                parts.append(f'<text class="x" x="{x:.1f}" y="{_HEIGHT - 8}">{escape(words)}</text>')
        for value, words in self.marks:
            if low_x <= value <= high_x:
                x = place_x(value)
                parts.append(f'<path class="mark" d="M{x:.1f} {_TOP}V{_HEIGHT - _BOTTOM}"/>')
                end = ' text-anchor="end"' if x > _WIDTH * 0.75 else ""
                shift = -4 if end else 4
                parts.append(f'<text class="mark" x="{x + shift:.1f}" y="{_TOP + 8}"{end}>{escape(words)}</text>')
        for line in self.lines:
            parts += _path(line, place_x, place_y)
        parts += self._touch(place_x)
        parts.append("</svg>")
        if len(self.lines) > 1:
            names = (f'<li class="{line.kind}">{escape(line.name)}</li>' for line in self.lines)
            parts.append(f'<ul class="legend">{"".join(names)}</ul>')
        return "".join(parts)

    def _scale(self, top: float, least: float) -> tuple[Callable[[float], float], list[float]]:
        if self.is_log:
            low = 10 ** math.floor(math.log10(max(least, self.floor, 1e-6)))
            high = 10 ** math.ceil(math.log10(max(top, low * 10)))
            span = math.log10(high) - math.log10(low)
            count = round(span)
            ticks = [low * 10**power for power in range(count + 1)]
            return lambda value: max(0.0, (math.log10(max(value, low)) - math.log10(low)) / span), ticks
        steps = _steps(0.0, top or 1.0, 4)
        high = steps[-1] if steps[-1] >= top else steps[-1] + (steps[1] - steps[0])
        if high > steps[-1]:
            steps.append(high)
        return lambda value: value / high, steps

    def _touch(self, place_x: Callable[[float], float]) -> list[str]:
        """A column for each step, which tells its values to a pointer that rests on it."""
        by_x: dict[float, list[str]] = {}
        for line in self.lines:
            for x, y in line.points:
                if y is not None:
                    by_x.setdefault(x, []).append(f"{line.name} {self.say_y(y)}")
        xs = sorted(by_x)
        parts = []
        for before, x, after in zip([xs[0], *xs], xs, [*xs[1:], xs[-1]], strict=False):
            left, right = (place_x(before) + place_x(x)) / 2, (place_x(after) + place_x(x)) / 2
            words = escape(f"{self.say_x(x)}: {', '.join(by_x[x])}")
            parts.append(
                f'<rect class="touch" x="{left:.1f}" y="{_TOP}" width="{max(0.5, right - left):.1f}" '
                f'height="{_HEIGHT - _TOP - _BOTTOM}"><title>{words}</title></rect>'
            )
        return parts


def _path(line: Line, place_x: Callable[[float], float], place_y: Callable[[float], float]) -> list[str]:
    pieces: list[list[tuple[float, float]]] = [[]]
    for x, y in line.points:
        if y is None:
            pieces.append([])
        else:
            pieces[-1].append((place_x(x), place_y(y)))
    parts = []
    for piece in pieces:
        if not piece:
            continue
        if len(piece) == 1:
            [(x, y)] = piece
            parts.append(f'<circle class="dot {line.kind}" cx="{x:.1f}" cy="{y:.1f}" r="2"/>')
            continue
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in piece)
        if line.is_area:
            base = _HEIGHT - _BOTTOM
            area = f"{path}L{piece[-1][0]:.1f} {base}L{piece[0][0]:.1f} {base}Z"
            parts.append(f'<path class="area {line.kind}" d="{area}"/>')
        parts.append(f'<path class="line {line.kind}" d="{path}"/>')
    return parts


def _steps(low: float, high: float, count: int) -> list[float]:
    """Round values from `low` on, about `count` of them, up to `high`."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw)) if raw > 0 else 1.0
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9) * step
    return [first + number * step for number in range(int((high - first) / step + 1e-9) + 1)]
