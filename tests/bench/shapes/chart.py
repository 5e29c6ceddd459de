"""The curves as one SVG picture, that follows the reader's light or dark scheme."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Final

from tests.bench.shapes.curves import Curve, Point

WIDTH: Final = 320
HEIGHT: Final = 276
HEADING: Final = "CPU of the server for each delivery, in microseconds"
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 18, 102, 36
_STYLE: Final = """
  text { font: 12px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #3d444d; }
  .heading { font-weight: 600; font-size: 14px; fill: #1f2328; }
  .title { font-weight: 600; font-size: 13px; fill: #1f2328; }
  .note { font-size: 10.5px; fill: #59636e; }
  .ground { fill: #ffffff; }
  .rule { stroke: #d1d9e0; stroke-width: 1; }
  .curve { fill: none; stroke: #0969da; stroke-width: 2; stroke-linejoin: round; }
  .spread { stroke: #0969da; stroke-width: 1; opacity: .55; }
  .dot { fill: #0969da; }
  .value { fill: #0550ae; font-weight: 600; paint-order: stroke; stroke: #ffffff; stroke-width: 3px; }
  @media (prefers-color-scheme: dark) {
    text { fill: #b7bdc8; }
    .heading, .title { fill: #f0f6fc; }
    .note { fill: #9198a1; }
    .ground { fill: #0d1117; }
    .rule { stroke: #3d444d; }
    .curve { stroke: #4493f8; }
    .spread { stroke: #4493f8; }
    .dot { fill: #4493f8; }
    .value { fill: #79c0ff; stroke: #0d1117; }
  }
"""


def draw(curves: Sequence[Curve]) -> str:
    """A panel for each curve, side by side; medians, with lines from the lowest to the highest."""
    width = WIDTH * len(curves)
    panels = "".join(_panel(curve, place * WIDTH) for place, curve in enumerate(curves))
    words = "; ".join(f"{curve.title}: {_words(curve)}" for curve in curves)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}" '
        f'role="img" aria-label="{escape(f"{HEADING}. {words}", quote=True)}">'
        f"<style>{_STYLE}</style>\n"
        f'<rect class="ground" width="{width}" height="{HEIGHT}" rx="6"/>\n'
        f'<text class="heading" x="16" y="26">{HEADING}</text>\n{panels}</svg>\n'
    )


def _words(curve: Curve) -> str:
    first, last = curve.points[0], curve.points[-1]
    return f"{first.median:.1f} us at {first.at:,}, {last.median:.1f} us at {last.at:,}"


def _panel(curve: Curve, left: int) -> str:
    most = _round_up(max(max(point.values) for point in curve.points) * 1.25)
    x0, x1, y0, y1 = left + _LEFT, left + WIDTH - _RIGHT, HEIGHT - _BOTTOM, _TOP
    steps = len(curve.points) - 1

    def x(place: int) -> float:
        return x0 + (x1 - x0) * place / steps if steps else (x0 + x1) / 2

    def y(value: float) -> float:
        return y0 - (y0 - y1) * value / most

    parts = [
        f'<text class="title" x="{left + 16}" y="54">as there are more {escape(curve.title)}</text>',
        *(
            f'<text class="note" x="{left + 16}" y="{70 + 13 * number}">{escape(line)}</text>'
            for number, line in enumerate(_wrapped(curve.note, 54))
        ),
    ]
    for share in (0, 0.5, 1):
        value = most * share
        parts.append(f'<line class="rule" x1="{x0}" x2="{x1}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        words = f"{value:g}" + (" us" if share == 1 else "")
        parts.append(f'<text class="note" x="{x0 - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{words}</text>')
    for place, point in enumerate(curve.points):
        at = x(place)
        low, high = y(min(point.values)), y(max(point.values))
        parts.append(f'<line class="spread" x1="{at:.1f}" x2="{at:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>')
        anchor = "end" if place == steps and steps else "middle"
        shift = 8 if anchor == "end" else 0
        parts.append(f'<text x="{at + shift:.1f}" y="{y0 + 18}" text-anchor="{anchor}">{_short(point.at)}</text>')
    line = " ".join(f"{x(place):.1f},{y(point.median):.1f}" for place, point in enumerate(curve.points))
    parts.append(f'<polyline class="curve" points="{line}"/>')
    for place, point in enumerate(curve.points):
        parts.append(f'<circle class="dot" cx="{x(place):.1f}" cy="{y(point.median):.1f}" r="3"/>')
    for place in dict.fromkeys((0, steps)):
        near = curve.points[place - 1 :] if place else curve.points[:2]  # the label stands above what is beside it
        above = y(max(max(point.values) for point in near))
        parts.append(_value(curve.points[place], x(place), above, place == steps))
    return "\n".join(parts) + "\n"


def _value(point: Point, at: float, above: float, is_last: bool) -> str:
    anchor, shift = ("end", 8) if is_last else ("start", 4)
    place = f'x="{at + shift:.1f}" y="{above - 8:.1f}" text-anchor="{anchor}"'
    return f'<text class="value" {place}>{point.median:.1f} us</text>'


def _round_up(value: float) -> float:
    step = 10.0 ** math.floor(math.log10(value))
    return next(step * factor for factor in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * factor >= value)


def _short(number: int) -> str:
    return f"{number / 1000:g}k" if number >= 1_000 else str(number)


def _wrapped(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
