"""`make silent`: a thousand of each kind of peer that wastes a server's time, all at once; nothing may stay behind.

    python -m tests.silent --times 1000 --rounds 2
    python -m tests.silent --times 40 --rounds 25 --together

The first round shows how much memory it takes; the second must not take more. Behind each round descriptors and the
server's tasks, counted as objects, are where they were. Exit status 1 when something stays, or when a peer that the
server ought to end was not ended in time.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from tests.silent.peers import PEERS, Peer, Place
from tests.soak import trend
from tests.support.processes import Process

_ROOT: Final = Path(__file__).parents[2]
_CONNECTING_AT_ONCE: Final = 100
_REST_MAX_S: Final = 40.0
_SETTLE_S: Final = 25.0
"""Until everything is let go of: sessions are kept for a while, and connections without a request for 20 s."""
_MOMENT_S: Final = 1.5
_MEMORY_SHARE: Final = 0.03
_MEMORY_SLACK_MB: Final = 3.0
OBJECTS_SLACK: Final = 600
"""What a log, a ring and the caches of libraries may hold at one moment and not at another: less than one a peer."""


@dataclass
class Row:
    """What became of one kind in one round."""

    peer: Peer
    times: int
    ended: int
    last_s: float
    peak_mb: float
    rest_mb: float
    descriptors: int
    objects: int

    @property
    def is_ended(self) -> bool:
        return self.peer.ends_within_s is None or (self.ended == self.times and self.last_s <= self.peer.ends_within_s)


class Server:
    """The server's process from outside."""

    def __init__(self, process: Process, place: Place, folder: Path) -> None:
        self.place = place
        self._process = process
        self._folder = folder
        self._seen = psutil.Process(process.pid)

    def megabytes(self) -> float:
        return float(self._seen.memory_info().rss) / 1e6

    def descriptors(self) -> int:
        return int(self._seen.num_fds())

    async def objects(self) -> int:
        """A count that was begun after this call."""
        file = self._folder / "counts.json"
        asked_s = time.time()
        while not file.exists() or file.stat().st_mtime < asked_s + 1.0:  # noqa: ASYNC110 -- another process writes it
            await asyncio.sleep(0.05)
        return int(json.loads(file.read_text())["objects"])

    async def rest(self, descriptors: int) -> None:
        """Wait until no more descriptors are open than before. What is left shows in the row."""
        end_s = time.monotonic() + _REST_MAX_S
        while self.descriptors() > descriptors and time.monotonic() < end_s:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@asynccontextmanager
async def server() -> AsyncIterator[Server]:
    """A server in a process of its own."""
    folder = Path(tempfile.mkdtemp(prefix="hybrid-silent-"))
    process = Process(
        "server",
        [sys.executable, "-m", "tests.silent.server", str(folder)],
        folder,
        {"PYTHONPATH": str(_ROOT), "PATH": os.environ["PATH"]},
    )
    try:
        process.launch()

        async def has_said() -> bool:
            return process.output().endswith("}\n")

        await process.until(has_said, "listening", 60.0)
        yield Server(process, Place(**json.loads(process.output())), folder)
        assert process.is_running, process.report()
    finally:
        process.kill()
        shutil.rmtree(folder, ignore_errors=True)


async def visit(here: Server, peer: Peer, times: int, patience_s: float | None = None) -> Row:
    """So many at once, and what is left of them when they are gone."""
    before = here.descriptors()
    gate = asyncio.Semaphore(_CONNECTING_AT_ONCE)
    peak_mb = here.megabytes()

    async def one() -> float | None:
        async with gate:
            await asyncio.sleep(0)
        return await peer.visit(here.place, patience_s)

    async def watch() -> None:
        nonlocal peak_mb
        while True:
            peak_mb = max(peak_mb, here.megabytes())
            await asyncio.sleep(0.1)

    watching = asyncio.ensure_future(watch())
    try:
        took = await asyncio.gather(*(one() for _ in range(times)))
    finally:
        watching.cancel()
    await here.rest(before)
    ended = [seconds for seconds in took if seconds is not None]
    descriptors = here.descriptors() - before
    objects = await here.objects()
    return Row(peer, times, len(ended), max(ended, default=0.0), peak_mb, here.megabytes(), descriptors, objects)


def table(rows: Sequence[Row]) -> str:
    """As Markdown."""
    lines = ["| peers, {:,} of each at once | ended by the server | MB at the peak | MB after | descriptors left |"]
    lines[0] = lines[0].format(rows[0].times)
    lines.append("| --- | --- | --- | --- | --- |")
    for row in rows:
        ended = f"all within {row.last_s:.0f} s" if row.ended == row.times else f"{row.ended}"
        if row.peer.ends_within_s is None and not row.ended:
            ended = "no, it goes by itself"
        elif not row.is_ended:
            ended = f"**{ended}**"
        figures = f"{row.peak_mb:.0f} | {row.rest_mb:.0f} | {row.descriptors}"
        lines.append(f"| {row.peer.name} | {ended} | {figures} |")
    return "\n".join(lines)


async def run_together(times: int, rounds: int, chosen: Sequence[Peer]) -> bool:
    """So many of all kinds at once, round after round, each for a moment only; whether the lines are flat.

    It says nothing of whom the server would have ended, and in minutes what is left of thousands.
    """
    async with server() as here:
        points: dict[str, list[tuple[float, float]]] = {"MB": [], "descriptors": [], "objects": []}
        began_s = time.monotonic()
        print(f"{len(chosen)} kinds, {times} of each in a round\n\n| peers so far | MB | descriptors | objects |")
        print("| --- | --- | --- | --- |")
        for number in range(1, rounds + 1):
            await asyncio.gather(*(visit(here, peer, times, _MOMENT_S) for peer in chosen))
            minute = (time.monotonic() - began_s) / 60
            figures = (here.megabytes(), here.descriptors(), await here.objects())
            for unit, figure in zip(points, figures, strict=True):
                points[unit].append((minute, figure))
            print("| {:,} | {:.1f} | {} | {:,} |".format(number * times * len(chosen), *figures), flush=True)
        # The first third fills what is filled once.
        lines = [trend.Series("server", unit, found[len(found) // 3 :]) for unit, found in points.items()]
        print(f"\n{trend.table(lines)}\n")
        return all(line.is_flat for line in lines)


async def run(times: int, rounds: int, chosen: Sequence[Peer]) -> bool:
    """All of it; whether nothing has stayed behind."""
    is_good = True
    async with server() as here:
        ends: list[tuple[float, int, int]] = []
        for number in range(rounds):
            rows = []
            for peer in chosen:
                row = await visit(here, peer, times)
                rows.append(row)
                is_good &= row.is_ended and row.descriptors <= 0
            print(f"Round {number + 1}\n\n{table(rows)}\n", flush=True)
            await asyncio.sleep(_SETTLE_S)
            ends.append((here.megabytes(), here.descriptors(), await here.objects()))
            print("at rest: {:.1f} MB, {} descriptors, {:,} objects\n".format(*ends[-1]), flush=True)
        for (old_mb, old_descriptors, old_objects), (mb, descriptors, objects) in itertools.pairwise(ends):
            is_good &= mb <= old_mb * (1 + _MEMORY_SHARE) + _MEMORY_SLACK_MB
            is_good &= descriptors <= old_descriptors
            is_good &= objects <= old_objects + OBJECTS_SLACK
    return is_good


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.silent", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--together", action="store_true", help="all kinds at once, each for a moment only")
    parser.add_argument("--only", default="", help="kinds whose name holds this")
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    chosen = [peer for peer in PEERS if options.only in peer.name]
    wanted = options.times * (len(chosen) if options.together else 1) + 200
    if soft < wanted:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )
    work = run_together if options.together else run
    is_good = asyncio.run(work(options.times, options.rounds, chosen))
    print("nothing stays behind" if is_good else "NOT WELL")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
