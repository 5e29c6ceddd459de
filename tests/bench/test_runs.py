"""Every bench of docs/performance.md runs, in its shortest form, and says what it is there to say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.nodes import ROOT
from tests.support.processes import program

RUNS = {
    "bench": (["tests.bench", "--quick"], "websocket: one publish at a time"),
    "bench-compression": (["tests.bench.compression", "--quick"], "bytes"),
    "bench-idle": (["tests.bench.idle", "--clients", "50", "--rounds", "1"], "us"),
    "bench-nodes": (["tests.bench.nodes", "--quick"], "across two nodes"),
    "bench-polls": (["tests.bench.polls", "--rounds", "1", "--seconds", "0.2"], "poll"),
    "bench-publish": (["tests.bench.publishing", "--rounds", "1", "--seconds", "0.2"], "WebSocket"),
    "bench-servers": (
        ["tests.bench.servers", "--quick", "--only", "hypercorn, hand-off, websocket"],
        "hypercorn, hand-off, websocket |",
    ),
    "bench-shapes": (["tests.bench.shapes", "--quick", "--rounds", "1"], "1 channel x 1,000 clients"),
    "bench-sizing": (["tests.bench.sizing", "--quick"], "Redis"),
    "bench-tokens": (["tests.bench.tokens", "--quick"], "JWT RS256"),
}
"""By the target of the Makefile. `bench-peers` has its own test, tests/foreign/test_bench_peers.py."""
ELSEWHERE = {"bench-peers"}


@pytest.mark.slow
@pytest.mark.parametrize("target", RUNS)
def test_it_runs_and_ends_well(target: str) -> None:
    if target in ("bench-nodes", "bench-publish", "bench-sizing"):
        program("redis-server", package="redis-server")
    arguments, words = RUNS[target]
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert words in done.stdout


@pytest.mark.slow
def test_connects_are_measured_against_another_checkout() -> None:
    """`python -m tests.bench.connects --against DIR`; here against itself."""
    arguments = ["--against", str(ROOT), "--rounds", "1", "--connects", "30", "--idle", "60"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.connects", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("connect, us of CPU") == 3


def test_every_target_of_the_makefile_is_among_them() -> None:
    targets = set(re.findall(r"^(bench[a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert targets == RUNS.keys() | ELSEWHERE
    told = set(re.findall(r"make (bench[a-z-]*)", Path(ROOT / "docs" / "performance.md").read_text()))
    assert told <= targets
