"""`make soak`: two nodes on a Redis under churn for half an hour; nothing may be lost, and nothing may grow.

    python -m tests.soak --minutes 30 --write docs/soak.md

Every ten seconds memory, descriptors and objects of each process are read; after a warm-up a line is laid through them.
One node is restarted after a third of the time, and its figures count from some minutes after that. Exit status 1 when
a promise was broken or a line rises.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import secrets
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import psutil

from hybrid.auth.development import DevelopmentIssuer
from tests.soak import trend
from tests.soak.people import LASTING, People
from tests.soak.trend import Series
from tests.support.checker import Verdict
from tests.support.http_issuer import http_issuer, jwks_url
from tests.support.nodes import AUDIENCE, SECRET, Node, Nodes
from tests.support.redis_servers import RedisServer, redis_server

_EVERY_S: Final = 10.0
_WARM_UP_S: Final = 300.0  # everything that is kept for a while has been let go of once: see the limits below
_JUDGED_FROM_MIN: Final = 12.0  # a third, a restart, and enough points behind its warm-up
SETTINGS: Final[dict[str, Any]] = {
    "public_url": AUDIENCE,
    "allowed_hosts": ["hybrid.example", "127.0.0.1:*"],
    "secret": SECRET,
    "log_level": "warning",
    "limits": {
        # What is kept by default for minutes, and revocations for a month, is kept for as long as the warm-up here:
        # what comes and what goes are the same from then on.
        "session_kept_s": 30.0,
        "idempotency_window_s": 120.0,
        "revocation_kept_s": 270.0,
        "poll_wait_max_s": 10.0,
        "stream_age_max_s": 120.0,
        "heartbeat_interval_s": 10.0,
    },
    "namespaces": {
        "room": {"history_size": 1_000, "history_ttl_s": 180.0},
        "seen": {"history_size": 10, "presence": True, "join_leave": True},
    },
}


class Watch:
    """Reads the figures of every process. A node that is restarted is a new process, `node-1'`."""

    def __init__(self, group: Nodes, redis: RedisServer, folder: Path) -> None:
        self.points: dict[tuple[str, str], list[tuple[float, float]]] = {}
        self.cpu_s = 0.0
        self._cpu: dict[int, float] = {}
        self._group = group
        self._redis = redis
        self._folder = folder
        self._lives: dict[int, list[int]] = {}
        self._began_s = time.monotonic()

    @property
    def minute(self) -> float:
        return (time.monotonic() - self._began_s) / 60

    async def look(self) -> None:
        """Read everything once."""
        for node in self._group:
            if not node.process.is_running:
                continue
            lives = self._lives.setdefault(node.number, [])
            if node.process.pid not in lives:
                lives.append(node.process.pid)
            name = f"node {node.number}{' restarted' * (len(lives) - 1)}"
            with suppress(psutil.NoSuchProcess):
                self._look_at(name, node.process.pid)
            counts = self._folder / f"counts-{node.number}.json"
            if counts.exists() and time.time() - counts.stat().st_mtime < 3 * _EVERY_S:
                for unit, count in json.loads(counts.read_text()).items():
                    self._note(name, unit, count)
        memory = await self._redis.info("memory")
        self._note("Redis", "MB", int(memory["used_memory"]) / 1e6)
        clients = await self._redis.info("clients")
        self._note("Redis", "descriptors", int(clients["connected_clients"]))
        self._cpu_of(os.getpid())
        self._cpu_of(self._redis.process.pid)

    def _look_at(self, name: str, pid: int) -> None:
        process = psutil.Process(pid)
        self._note(name, "MB", process.memory_info().rss / 1e6)
        self._note(name, "descriptors", process.num_fds())
        self._cpu_of(pid)

    def _cpu_of(self, pid: int) -> None:
        with suppress(psutil.NoSuchProcess):
            times = psutil.Process(pid).cpu_times()
            used_s = times.user + times.system
            self.cpu_s += used_s - self._cpu.get(pid, 0.0)
            self._cpu[pid] = used_s

    def _note(self, process: str, unit: str, value: float) -> None:
        self.points.setdefault((process, unit), []).append((self.minute, value))

    def series(self, warm_up_min: float) -> list[Series]:
        """Each process's figures, from the end of its warm-up on; a process that lived for less is left out."""
        found = []
        for (process, unit), points in sorted(self.points.items()):
            warm = [point for point in points if point[0] >= points[0][0] + warm_up_min]
            if len(warm) >= 6:
                found.append(Series(process, unit, warm))
        return found

    def latest(self) -> str:
        return ", ".join(f"{process} {unit} {points[-1][1]:.0f}" for (process, unit), points in self.points.items())


async def soak(minutes: float, seed: int, pause_s: float) -> tuple[Watch, People, Verdict, dict[str, float]]:
    """Run it. Raises AssertionError when it cannot be judged."""
    folder = Path(tempfile.mkdtemp(prefix="hybrid-soak-"))
    warm_up_s = min(_WARM_UP_S, minutes * 60 / 4)
    with http_issuer(AUDIENCE) as issuer:
        async with redis_server() as redis:
            shared = {
                **SETTINGS,
                "issuers": [{"url": issuer.issuer, "jwks_url": jwks_url(issuer)}],
                "broker": redis.url,
            }
            group = Nodes([_counted(Node(number, folder, shared), folder) for number in range(2)])
            try:
                for node in group:
                    await node.start()
                async with group.balancer:
                    return await _live(group, redis, issuer, folder, minutes, warm_up_s, seed, pause_s)
            except BaseException:
                print(group.report(), file=sys.stderr)
                raise
            finally:
                await asyncio.gather(*(node.stop() for node in group))
                shutil.rmtree(folder, ignore_errors=True)


def _counted(node: Node, folder: Path) -> Node:
    serve = node.process.arguments.index("serve")
    module = [sys.executable, "-m", "tests.soak.node", str(folder / f"counts-{node.number}.json")]
    node.process.arguments = [*module, *node.process.arguments[serve:]]
    return node


async def _live(
    group: Nodes,
    redis: RedisServer,
    issuer: DevelopmentIssuer,
    folder: Path,
    minutes: float,
    warm_up_s: float,
    seed: int,
    pause_s: float,
) -> tuple[Watch, People, Verdict, dict[str, float]]:
    watch = Watch(group, redis, folder)
    end_s = time.monotonic() + minutes * 60
    async with asyncio.TaskGroup() as tasks:
        people = People(group.balancer.dial, issuer, tasks, random.Random(seed))
        await people.gather()
        working = [tasks.create_task(people.publish_forever()), tasks.create_task(people.churn_forever(pause_s))]
        restart_s = time.monotonic() + minutes * 60 / 3
        told_s = 0.0
        has_restarted = False
        try:
            while time.monotonic() < end_s:
                await watch.look()
                if time.monotonic() - told_s > 60:
                    told_s = time.monotonic()
                    print(f"{watch.minute:5.1f} min: {dict(people.counts)}\n  {watch.latest()}", flush=True)
                if time.monotonic() > restart_s and not has_restarted:
                    has_restarted = True
                    status = await group[1].restart()
                    assert status == 0, group.report()
                    people.counts["restarts of a node"] += 1
                await asyncio.sleep(_EVERY_S)
            cores = watch.cpu_s / (time.monotonic() - end_s + minutes * 60)
            verdict = await people.settle()
        finally:
            for task in working:
                task.cancel()
            await people.leave()
    return watch, people, verdict, {"warm_up_min": warm_up_s / 60, "cores": cores}


def report(
    watch: Watch, people: People, verdict: Verdict, facts: dict[str, float], minutes: float, seed: int
) -> tuple[str, bool]:
    """The page, and whether all was well."""
    all_series = watch.series(facts["warm_up_min"])
    broken = dict(verdict.broken)
    if verdict.missing:
        broken["missing"] = len(verdict.missing)
    is_good = not broken and not verdict.resets and all(series.is_flat for series in all_series)
    if minutes >= _JUDGED_FROM_MIN and len({series.process for series in all_series}) < 4:
        is_good = False  # Redis, both nodes and the one that was restarted: a line that was not laid is not flat
    counts = people.counts | {"attaches": people.counts_of_clients("attaches")}
    happened = ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))
    promised = (verdict.lost + verdict.forked, verdict.repeated, verdict.reordered + verdict.silent_epochs)
    lines = [
        f"{minutes:g} minutes, {LASTING} lasting clients and their guests, two nodes on a Redis, "
        f"{facts['cores']:.2f} of a core for all of it together (nodes, Redis and clients). "
        f"Python {platform.python_version()}, seed {seed}.",
        "",
        f"What happened: {happened}.",
        "",
        "| streams judged | deliveries | answered | lost | repeated | out of order | resets told | twice in the log |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        f"| {verdict.streams:,} | {verdict.deliveries:,} | {verdict.answered:,} | "
        + " | ".join(str(number) for number in (*promised, verdict.resets, len(verdict.twice)))
        + " |",
        "",
        trend.table(all_series),
    ]
    if broken:
        lines += ["", f"**Broken:** {broken}", *(f"- {finding}" for finding in verdict.findings)]
    lines += ["", *_by_minute(watch)]
    return "\n".join(lines) + "\n", is_good


def _by_minute(watch: Watch, rows_max: int = 31) -> list[str]:
    """Every figure, about once a minute."""
    keys = sorted(watch.points)
    moments = [minute for minute, _ in watch.points["Redis", "MB"]]
    step = max(1, len(moments) // rows_max)
    lines = ["| minute | " + " | ".join(f"{process}: {unit}" for process, unit in keys) + " |"]
    lines.append("| --- |" + " --- |" * len(keys))
    for moment in moments[::step]:
        cells = []
        for key in keys:
            near = [value for minute, value in watch.points[key] if abs(minute - moment) < _EVERY_S / 60 / 2]
            cells.append(f"{near[0]:,.{1 if key[1] == 'MB' else 0}f}" if near else "")
        lines.append(f"| {moment:.0f} | {' | '.join(cells)} |")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, help="of what happens; drawn where none is given")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between two events (default: 1)")
    parser.add_argument("--write", type=Path, help="put the tables behind the mark in this page")
    options = parser.parse_args()
    seed = secrets.randbelow(1 << 32) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    outcome = asyncio.run(soak(options.minutes, seed, options.pause))
    text, is_good = report(*outcome, options.minutes, seed)
    print(text)
    if options.write:
        head, mark, _ = options.write.read_text().partition("<!-- measured -->\n")
        options.write.write_text(f"{head}{mark}{text}")
    print("all was well" if is_good else "NOT WELL")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
