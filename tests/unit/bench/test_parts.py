"""The poll, the reasons of failures, the server's processes, and the bytes that are sent."""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import socket
import subprocess
import sys

import pytest

from hybrid.bench import connection, wires
from hybrid.bench.messages import Target
from hybrid.bench.poll import READ, WRITE, Poll
from hybrid.bench.server import ServerProcesses
from hybrid.bench.tracking import Track
from hybrid.protocol.codec import JSON
from hybrid.protocol.commands import Attach, Publish, WirePosition
from hybrid.protocol.commands import Poll as PollCommand

WIRES = wires.Wires(Target("h", "h:1", "/base", []))


@pytest.mark.parametrize("has_epoll", [True, False])
def test_what_is_ready_is_told_with_what_for(has_epoll: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not has_epoll:
        monkeypatch.delattr(select, "epoll", raising=False)
    poll = Poll()
    one, other = socket.socketpair()
    with one, other:
        poll.add(one.fileno(), READ)
        assert poll.wait(0) == []
        assert poll.wait(0.001) == []  # shorter than epoll can
        other.send(b"x")
        assert poll.wait(0.001) == poll.wait(1) == [(one.fileno(), READ)]
        poll.change(one.fileno(), READ | WRITE)
        assert poll.wait(1) == [(one.fileno(), READ | WRITE)]
        poll.remove(one.fileno())
        assert poll.wait(0) == []
    poll.close()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.EADDRNOTAVAIL, "no local port is left"),
        (errno.EMFILE, "no file descriptor is left"),
        (errno.ENFILE, "no file descriptor is left"),
        (errno.ECONNREFUSED, "connection refused"),
        (errno.ECONNRESET, "connection reset by peer"),
    ],
)
def test_failures_are_told_in_words(code: int, words: str) -> None:
    assert words in connection._words(code, OSError(code, os.strerror(code)))


PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
child.wait()
time.sleep(60)
"""


def test_children_of_the_named_process_count_and_what_has_ended_is_kept() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stdout is not None
            child = int(parent.stdout.readline())
            processes = ServerProcesses([parent.pid])
            before = processes.sample()
            os.kill(child, signal.SIGKILL)
            # A zombie until its parent has heard of it, which uses no memory.
            while (after := processes.sample()).processes > 1 and after.memory_bytes >= before.memory_bytes:
                pass
        finally:
            parent.kill()
    assert before.processes == 2
    assert after.memory_bytes < before.memory_bytes
    assert after.cpu_s >= before.cpu_s >= 0.0


def test_the_soft_limit_of_descriptors_is_raised_and_never_lowered() -> None:
    code = (
        "import resource; from hybrid.bench.worker import raise_descriptors as r; R = resource.RLIMIT_NOFILE\n"
        "resource.setrlimit(R, (64, 256))\n"
        "for needed in (32, 128, 10_000):\n    r(needed); print(resource.getrlimit(R)[0])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["64", "128", "256"]


# -- what is sent is what the server reads


def test_an_attach_is_one() -> None:
    track = Track("bench:1")
    command = JSON.decode_command(wires.attach("s", 3, 4, [track]), 10_000)
    assert isinstance(command, Attach)
    assert (command.attempt, command.session, command.last_seq, command.confirm) == (3, "s", 4, True)
    assert command.subscriptions[0].position is None
    track.start(WirePosition(7, "e1", "0000000a"))
    command = JSON.decode_command(wires.attach("s", 3, 4, [track]), 10_000)
    assert isinstance(command, Attach)
    assert command.subscriptions[0].position == WirePosition(7, "e1", "0000000a")


def test_a_poll_is_one() -> None:
    track = Track("bench:1")
    track.start(WirePosition(7, "e1", "0000000a"))
    command = JSON.decode_command(wires.poll("s", 3, 4, [track], "sealed"), 10_000)
    assert isinstance(command, PollCommand)
    assert (command.session, command.attempt, command.last_seq, command.sealed) == ("s", 3, 4, "sealed")
    assert command.positions[0].position.offset == 7


@pytest.mark.parametrize("size", [24, 125, 126, 5_000, 65_536])
def test_a_publish_is_one_in_a_frame_of_any_size(size: int) -> None:
    data = json.dumps("x" * (size - 2)).encode()
    frame = wires.publish_command(9, 'a"b', data)
    length = frame[1] & 0x7F
    head = 2 + {126: 2, 127: 8}.get(length, 0)
    assert frame[0] == 0x81
    assert frame[1] & 0x80  # masked
    assert frame[head : head + 4] == bytes(4)
    command = JSON.decode_command(frame[head + 4 :], 100_000)
    assert isinstance(command, Publish)
    assert (command.id, command.channel, bytes(command.data)) == (9, 'a"b', data)


def test_requests_have_no_token_in_their_url_and_keep_the_base_path() -> None:
    track = Track("bench:ä/1")
    track.start(WirePosition(7, "e1", "0000000a"))
    for request in (
        WIRES.upgrade("secret"),
        WIRES.stream("secret", b"{}"),
        WIRES.post("secret", b"{}"),
        WIRES.plain_stream("secret", [track]),
        WIRES.publish("secret", "bench:ä/1", 128),
    ):
        line, *headers = request.split(b"\r\n")
        assert line.split(b" ")[1].startswith(b"/base/v1/")
        assert b"secret" not in line
        assert b"Authorization: Bearer secret" in headers
        assert b"Host: h:1" in headers
    assert b"/v1/channels/bench%3A%C3%A4%2F1 " in WIRES.plain_stream("secret", [track])
    assert b"Last-Event-ID: e1-7-0000000a\r\n" in WIRES.plain_stream("secret", [track])
    assert b"Authorization" not in WIRES.upgrade("")


def test_a_plain_stream_of_several_goes_on_by_a_composite_cursor() -> None:
    tracks = [Track("bench:2"), Track("bench:1")]
    assert b"Last-Event-ID" not in WIRES.plain_stream("", tracks)
    for number, track in enumerate(tracks):
        track.start(WirePosition(number + 1, "e1", "0000000a"))
    request = WIRES.plain_stream("", tracks)
    assert b"?name=bench%3A2&name=bench%3A1 " in request
    assert b"Last-Event-ID: bench%3A1=e1-2-0000000a,bench%3A2=e1-1-0000000a\r\n" in request
