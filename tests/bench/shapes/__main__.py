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
from dataclasses import asdict
from pathlib import Path

from tests.bench.shapes import report
from tests.bench.shapes.chart import draw
from tests.bench.shapes.children import Failed
from tests.bench.shapes.curves import Curve, curves
from tests.bench.shapes.descriptors import raise_limit
from tests.bench.shapes.shapes import FULL, QUICK, SHAPES, Row
from tests.bench.shapes.stage import Cast


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.shapes", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the clients; for a first look")
    parser.add_argument("--only", metavar="SHAPE,...", help=f"some of {', '.join((*SHAPES, 'curves'))}")
    parser.add_argument(
        "--rounds", type=int, default=1, help="how often each shape is measured (1); the curves' own is 3"
    )
    parser.add_argument("--json", metavar="PATH", type=Path, help="write every figure to this file")
    parser.add_argument("--chart", metavar="PATH", type=Path, help="draw the curves into this file, as SVG")
    options = parser.parse_args()
    if not 1 <= options.rounds <= 100:
        parser.error("--rounds is from 1 to 100")
    wanted = options.only.split(",") if options.only else [*SHAPES, "curves"]
    if unknown := set(wanted) - {*SHAPES, "curves"}:
        parser.error(f"no such shape: {', '.join(sorted(unknown))}")
    plan = QUICK if options.quick else FULL
    if raise_limit() < 16_384 and not options.quick:
        print("more descriptors are needed: ulimit -n 20000", file=sys.stderr)
        return 2
    cast = Cast(lambda line: print(line, file=sys.stderr, flush=True))
    faults: list[str] = []
    rounds: list[list[Row]] = []
    print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print("\n".join(report.HEAD), flush=True)
    for number in range(options.rounds):
        rounds.append([])
        for name in filter(SHAPES.__contains__, wanted):
            began_s = time.monotonic()
            try:
                for row in SHAPES[name](cast, plan):
                    cast.say(report.line([row]))
                    faults += [f"{row.shape}: {fault}" for fault in row.outcome.faults]
                    rounds[-1].append(row)
            except Failed as error:
                faults.append(f"{name}: {error}")
            cast.say(f"round {number + 1} of {options.rounds}, {name}: {time.monotonic() - began_s:.0f} s")
    for rows in report.by_shape(rounds).values():
        print(report.line(rows), flush=True)
    drawn: list[Curve] = []
    if "curves" in wanted:
        try:
            for curve in curves(cast, plan):
                drawn.append(curve)
                cast.say(f"curve: {curve.title}")
                faults += [f"{curve.title}: {fault}" for fault in curve.faults]
        except Failed as error:
            faults.append(f"curves: {error}")
        print("\n".join(["", *report.table(drawn)]))
    if options.chart and drawn:
        options.chart.write_text(draw(drawn), encoding="utf-8")
    for fault in faults:
        print(f"FAULT: {fault}")
    if options.json:
        options.json.write_text(
            json.dumps(
                {
                    "rounds": [[asdict(row) for row in rows] for rows in rounds],
                    "curves": [asdict(curve) for curve in drawn],
                    "faults": faults,
                },
                indent=2,
            )
        )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
