"""The datagrams of sd_notify(3), to sockets of both kinds, and what stands in the environment."""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hybrid.settings import ServiceEnvironment, service_environment, worker_environment
from hybrid.web.systemd import ServiceManager

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Unix sockets")


@pytest.fixture(params=["path", "abstract"])
def notify(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """The address as it stands in NOTIFY_SOCKET, and the socket behind it."""
    if request.param == "abstract" and sys.platform != "linux":
        pytest.skip("abstract sockets are Linux's")
    address = str(tmp_path / "notify") if request.param == "path" else f"@hybrid-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address.replace("@", "\0", 1) if request.param == "abstract" else address)
        listener.settimeout(10)
        yield address, listener


def test_each_state_is_one_datagram(notify: tuple[str, socket.socket]) -> None:
    address, listener = notify
    manager = ServiceManager(address, 30.0)
    assert manager.watchdog_interval_s == 15.0
    manager.ready("Serves")
    assert listener.recv(4096) == b"READY=1\nSTATUS=Serves"
    manager.status("Serves")  # told already
    manager.status("Limps")
    assert listener.recv(4096) == b"STATUS=Limps"
    manager.alive()
    assert listener.recv(4096) == b"WATCHDOG=1"
    before_usec = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    manager.reloading()
    first, _, at_usec = listener.recv(4096).decode().rpartition("=")
    assert first == "RELOADING=1\nMONOTONIC_USEC"
    assert before_usec <= int(at_usec) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    manager.stopping("Drains")
    assert listener.recv(4096) == b"STOPPING=1\nSTATUS=Drains"


def test_without_a_service_manager_nothing_is_told_and_nothing_wanted() -> None:
    manager = ServiceManager("", 30.0)
    assert manager.watchdog_interval_s is None
    manager.ready("Serves")
    manager.alive()


def test_one_that_is_gone_is_a_line_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ServiceManager(str(tmp_path / "gone")).ready("Serves")
    assert caplog.messages == ["systemd was not told READY=1: No such file or directory"]


def test_one_that_does_not_read_holds_nobody_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener, caplog.at_level(logging.WARNING):
        listener.bind(address)
        manager = ServiceManager(address, 30.0)
        started_s = time.monotonic()
        for _ in range(10_000):
            manager.alive()
            if caplog.messages:
                break
        assert time.monotonic() - started_s < 5
        assert "systemd was not told WATCHDOG=1" in caplog.messages[0]


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, ServiceEnvironment()),
        ({"NOTIFY_SOCKET": "/run/systemd/notify"}, ServiceEnvironment("/run/systemd/notify")),
        ({"NOTIFY_SOCKET": "@abstract", "WATCHDOG_USEC": "30000000"}, ServiceEnvironment("@abstract", 30.0)),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, ServiceEnvironment("/n", 30.0)),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, ServiceEnvironment("/n")),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "0"}, ServiceEnvironment("/n")),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "soon"}, ServiceEnvironment("/n")),
        ({"NOTIFY_SOCKET": "vsock:2:1234"}, ServiceEnvironment()),
    ],
)
def test_the_environment_says_who_wants_to_hear_it(environ: dict[str, str], found: ServiceEnvironment) -> None:
    assert service_environment(environ, pid=7) == found


def test_workers_do_not_speak_for_their_supervisor() -> None:
    environ = {"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "7", "HYBRID_PORT": "1", "PATH": "/bin"}
    assert worker_environment(environ) == {"HYBRID_PORT": "1", "PATH": "/bin"}
