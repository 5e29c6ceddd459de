"""A peer's process: what its children use counts, and nothing of it is left."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from tests.bench.load import Failed
from tests.bench.peers.daemon import Daemon
from tests.support.processes import free_port

PARENT = """
import socket, subprocess, sys, threading
child = "n = 0\\nwhile n < 3_000_000: n += 1\\nprint('done', flush=True); input()"
worker = subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE, stdin=subprocess.PIPE)
worker.stdout.readline()
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
threading.Event().wait()
"""


def test_a_child_counts_and_ends_with_its_parent(tmp_path: Path) -> None:
    port = free_port()
    with Daemon("parent", [sys.executable, "-c", PARENT, str(port)], None, tmp_path, port) as server:
        parent = psutil.Process(server.pid)
        (child,) = parent.children()
        times = child.cpu_times()
        assert server.cpu_s() >= times.user + times.system > 0
        assert server.memory_bytes()["rss"] > child.memory_info().rss
    _, left = psutil.wait_procs([parent, child], timeout=10)
    assert left == []


def test_one_that_ends_at_once_is_told_with_its_log(tmp_path: Path) -> None:
    with pytest.raises(Failed, match=r"broken ended with 3: no configuration"):
        Daemon(
            "broken",
            [sys.executable, "-c", "print('no configuration'); raise SystemExit(3)"],
            None,
            tmp_path,
            free_port(),
        )
