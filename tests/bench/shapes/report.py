"""What a run came to: a line for each shape, with medians over the rounds and the lowest and highest."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from tests.bench.shapes.curves import Curve
from tests.bench.shapes.shapes import Row

HEAD = (
    "| shape | deliveries | per CPU-s | us of CPU each | latency p50 / p99, ms | |",
    "| --- | --- | --- | --- | --- | --- |",
)


def by_shape(rounds: Sequence[Sequence[Row]]) -> dict[str, list[Row]]:
    """The rows of all rounds, in the order in which the shapes were measured first."""
    found: dict[str, list[Row]] = {}
    for rows in rounds:
        for row in rows:
            found.setdefault(row.shape, []).append(row)
    return found


def line(rows: Sequence[Row]) -> str:
    """One shape, of each round; what else there is to say is of the round whose cost is the median."""
    outcomes = [row.outcome for row in rows]
    middle = sorted(rows, key=lambda row: row.outcome.cpu_us)[(len(rows) - 1) // 2]
    latency = ""
    if middle.outcome.p99_ms:
        latency = f"{spread([o.p50_ms for o in outcomes], 1)} / {spread([o.p99_ms for o in outcomes], 1)}"
    return (
        f"| {middle.shape} | {middle.outcome.deliveries:,} | {spread([o.per_cpu_s for o in outcomes], 0)} | "
        f"{spread([o.cpu_us for o in outcomes], 2)} | {latency} | {middle.more} |"
    )


def table(curves: Sequence[Curve]) -> Iterator[str]:
    """The curves in figures."""
    yield "| what grows | to | us of CPU for each delivery |"
    yield "| --- | --- | --- |"
    for curve in curves:
        for point in curve.points:
            yield f"| {curve.title} | {point.at:,} | {spread(point.values, 2)} |"


def spread(values: Sequence[float], places: int) -> str:
    """The median; of several, with the lowest and highest."""
    text = f"{statistics.median(values):,.{places}f}"
    return text if len(values) < 2 else f"{text} ({min(values):,.{places}f}-{max(values):,.{places}f})"
