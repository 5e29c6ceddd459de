"""Figures over time, the line through them, and whether it is flat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

GROWTH_MAX: Final = 0.03
"""Of the mean, from one end of the line to the other: more is growth. What a Python process breathes is below that."""
SLACK: Final = {"MB": 1.0, "descriptors": 8.0, "objects": 2_000.0, "blocks": 10_000.0}
"""What is no growth however small the mean is: a few connections that are open at one moment and not at another."""


@dataclass(frozen=True, slots=True)
class Series:
    """One figure of one process: (minute, value), in order."""

    process: str
    unit: str
    points: Sequence[tuple[float, float]]

    @property
    def mean(self) -> float:
        return sum(value for _, value in self.points) / len(self.points)

    @property
    def slope_per_hour(self) -> float:
        """Of the line that fits best (least squares)."""
        if len(self.points) < 2:
            return 0.0
        middle = sum(minute for minute, _ in self.points) / len(self.points)
        spread = sum((minute - middle) ** 2 for minute, _ in self.points)
        if not spread:
            return 0.0
        mean = self.mean
        return 60 * sum((minute - middle) * (value - mean) for minute, value in self.points) / spread

    @property
    def growth(self) -> float:
        """Along that line, from the first point to the last."""
        return self.slope_per_hour * (self.points[-1][0] - self.points[0][0]) / 60

    @property
    def allowed(self) -> float:
        return max(GROWTH_MAX * self.mean, SLACK[self.unit])

    @property
    def is_flat(self) -> bool:
        """Falling is flat: what was taken at the start is given back."""
        return self.growth <= self.allowed


def table(all_series: Sequence[Series]) -> str:
    """The lines as Markdown."""
    lines = ["| process | figure | minutes | mean | slope per hour | growth | allowed | |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for series in all_series:
        first, last = series.points[0][0], series.points[-1][0]
        digits = 1 if series.unit == "MB" else 0
        figures = (series.mean, series.slope_per_hour, series.growth, series.allowed)
        cells = [f"{figure:,.{digits}f}" for figure in figures]
        verdict = "flat" if series.is_flat else "**grows**"
        lines.append(f"| {series.process} | {series.unit} | {first:.0f}-{last:.0f} | {' | '.join(cells)} | {verdict} |")
    return "\n".join(lines)
