"""How long a place waits before it tries again, and when its queue is given up."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from hybrid.web.listener import bind
from hybrid.web.place import Place
from hybrid.web.process import State, describe_end


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with bind("127.0.0.1", 0) as made:
        made.listen()
        yield made


@pytest.fixture
def place(listener: socket.socket) -> Place:
    return Place(1, listener, is_shared=False)


class Worker:
    """As much of a worker as a place looks at."""

    state = State.READY


def is_listening(listener: socket.socket) -> bool:
    return bool(listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def test_the_first_end_is_no_reason_to_wait_and_pauses_grow_to_a_bound(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "uniform", lambda _, most: most)
    pauses = [place.pause_s(0.5, was_ready=False) for _ in range(9)]
    assert pauses == [0, 1, 2, 4, 8, 16, 30, 30, 30]
    assert place.pause_s(0.5, was_ready=True) == 30  # ready for a moment is no better
    for _ in range(2_000):
        assert place.pause_s(0.5, was_ready=False) == 30


def test_pauses_are_jittered(place: Place) -> None:
    for _ in range(10):
        place.pause_s(0.5, was_ready=False)
    pauses = {place.pause_s(0.5, was_ready=False) for _ in range(50)}
    assert len(pauses) > 10
    assert all(15 <= pause <= 30 for pause in pauses)


def test_who_served_for_a_while_is_no_failure_and_clears_the_earlier_ones(place: Place) -> None:
    for _ in range(5):
        place.pause_s(0.5, was_ready=False)
    assert place.pause_s(10.0, was_ready=True) == 0
    assert place.pause_s(0.5, was_ready=False) == 0
    assert place.pause_s(0.5, was_ready=False) > 0
    assert place.pause_s(40.0, was_ready=False) > 0, "slow to fail is a failure all the same"


def test_who_asks_for_a_reload_does_not_wait_for_a_pause(place: Place) -> None:
    for _ in range(5):
        place.pause_s(0.5, was_ready=False)
    place.hasten()
    assert place.start_at_s is None, "nothing was going to be started"
    assert place.pause_s(0.5, was_ready=False) == 0
    place.start_at_s = 1e12
    place.hasten()
    assert place.start_at_s < 1e12


def test_a_queue_is_given_up_once_when_nobody_accepts_for_five_seconds(place: Place, listener: socket.socket) -> None:
    assert not place.tend_queue(100.0)
    assert not place.tend_queue(104.9)
    assert is_listening(listener)
    assert place.tend_queue(105.0)
    assert not is_listening(listener)
    assert not place.tend_queue(200.0)


def test_a_ready_worker_begins_the_count_anew(place: Place, listener: socket.socket) -> None:
    worker: Any = Worker()
    assert not place.tend_queue(100.0)
    place.worker = worker
    assert not place.tend_queue(110.0)
    place.worker = None
    assert not place.tend_queue(111.0)
    assert not place.tend_queue(115.9)
    assert place.tend_queue(116.0)
    listener.listen()
    place.worker = worker
    assert not place.tend_queue(130.0)
    place.worker = None
    assert not place.tend_queue(131.0)
    assert place.tend_queue(136.0)


@pytest.mark.parametrize("role", ["worker", "successor"])
def test_a_queue_is_not_given_up_while_somebody_starts(place: Place, listener: socket.socket, role: str) -> None:
    """Who starts may listen already, and not have said so yet: it would be ready, and never get a connection."""
    starting: Any = Worker()
    starting.state = State.STARTING
    setattr(place, role, starting)
    assert not place.tend_queue(100.0)
    assert not place.tend_queue(200.0)
    assert is_listening(listener)
    setattr(place, role, None)
    assert place.tend_queue(200.1)


def test_a_queue_that_others_serve_too_is_never_given_up(listener: socket.socket) -> None:
    shared = Place(1, listener, is_shared=True)
    for now_s in (100.0, 200.0, 300.0):
        assert not shared.tend_queue(now_s)
    assert is_listening(listener)


@pytest.mark.parametrize(
    ("code", "words"), [(1, "exit code 1"), (0, "exit code 0"), (-9, "SIGKILL"), (-99, "signal 99")]
)
def test_ends_in_words(code: int, words: str) -> None:
    assert describe_end(code) == words
