"""`make bench-shapes`: other shapes of load than one channel with 500 readers, and what a delivery costs as they grow.

Exit status 0 when everything came, in order and complete, for everybody; 1 when not. Times are printed and never fail.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.bench.shapes.chart import draw
from tests.bench.shapes.children import Failed
from tests.bench.shapes.curves import Curve, curves
from tests.bench.shapes.descriptors import raise_limit
from tests.bench.shapes.shapes import FULL, QUICK, SHAPES, Row
from tests.bench.shapes.stage import Cast, Outcome


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.shapes", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the clients; for a first look")
    parser.add_argument("--only", metavar="SHAPE,...", help=f"some of {', '.join((*SHAPES, 'curves'))}")
    parser.add_argument("--json", metavar="PATH", type=Path, help="write every figure to this file")
    parser.add_argument("--chart", metavar="PATH", type=Path, help="draw the curves into this file, as SVG")
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else [*SHAPES, "curves"]
    if unknown := set(wanted) - {*SHAPES, "curves"}:
        parser.error(f"no such shape: {', '.join(sorted(unknown))}")
    plan = QUICK if options.quick else FULL
    if raise_limit() < 16_384 and not options.quick:
        print("more descriptors are needed: ulimit -n 20000", file=sys.stderr)
        return 2
    cast = Cast(lambda line: print(line, file=sys.stderr, flush=True))
    faults: list[str] = []
    rows: list[Row] = []
    print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print("| shape | deliveries | per CPU-s | us of CPU each | latency p50 / p99, ms | |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in wanted:
        if name not in SHAPES:
            continue
        began_s = time.monotonic()
        try:
            for row in SHAPES[name](cast, plan):
                print(line(row.shape, row.outcome, row.more), flush=True)
                faults += [f"{row.shape}: {fault}" for fault in row.outcome.faults]
                rows.append(row)
        except Failed as error:
            faults.append(f"{name}: {error}")
        cast.say(f"{name}: {time.monotonic() - began_s:.0f} s")
    drawn: list[Curve] = []
    if "curves" in wanted:
        try:
            for curve in curves(cast, plan):
                drawn.append(curve)
                cast.say(f"curve: {curve.title}")
                faults += [f"{curve.title}: {fault}" for fault in curve.faults]
        except Failed as error:
            faults.append(f"curves: {error}")
        print("\n".join(["", *table(drawn)]))
    if options.chart and drawn:
        options.chart.write_text(draw(drawn), encoding="utf-8")
    for fault in faults:
        print(f"FAULT: {fault}")
    if options.json:
        options.json.write_text(
            json.dumps(
                {
                    "rows": [asdict(row) for row in rows],
                    "curves": [asdict(curve) for curve in drawn],
                    "faults": faults,
                },
                indent=2,
            )
        )
    return 1 if faults else 0


def table(drawn: Sequence[Curve]) -> Iterator[str]:
    """The curves in figures: medians, and the lowest and highest."""
    yield "| what grows | to | us of CPU for each delivery |"
    yield "| --- | --- | --- |"
    for curve in drawn:
        for point in curve.points:
            spread = f"{point.median:.2f} ({min(point.values):.2f}-{max(point.values):.2f})"
            yield f"| {curve.title} | {point.at:,} | {spread} |"


def line(shape: str, outcome: Outcome, more: str) -> str:
    latency = f"{outcome.p50_ms:.1f} / {outcome.p99_ms:.1f}" if outcome.p99_ms else ""
    return (
        f"| {shape} | {outcome.deliveries:,} | {outcome.per_cpu_s:,.0f} | {outcome.cpu_us:.2f} | {latency} | {more} |"
    )


if __name__ == "__main__":
    sys.exit(main())
