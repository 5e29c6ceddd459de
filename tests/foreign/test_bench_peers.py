"""The peers of `make bench-peers` that are there: each delivers over each of its transports, and the load can read it.

Installed by `make bench-peers`; what is not there skips.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.bench import load
from tests.bench.load import Audience, Failed, Publisher, deliver
from tests.bench.peers.__main__ import KINDS
from tests.bench.peers.base import HOST, Absent, Peer

SUBSCRIBERS, PUBLISHERS = 5, 3


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.name)
def peer(request: pytest.FixtureRequest) -> Peer:
    made: Peer = request.param()
    try:
        made.version()
    except Absent as absent:
        pytest.skip(str(absent))
    return made


def test_everything_arrives_once_and_in_order(peer: Peer, tmp_path: Path) -> None:
    tokens, publishers = peer.subscribers(SUBSCRIBERS), peer.publishers(PUBLISHERS)
    for dialect in peer.dialects:
        (folder := tmp_path / dialect.name).mkdir()
        with peer.start(None, folder) as server:
            audience = Audience(server.address, HOST, dialect)
            try:
                audience.open(tokens)
                audience.settle(0.2)
                publisher = Publisher(server.address, HOST, peer.publishing, publishers, 128)
                outcome = deliver(audience, publisher, seconds=0.1)
            finally:
                audience.close()
        assert outcome.faults == []
        assert outcome.deliveries == outcome.publications * SUBSCRIBERS > 0


def test_nobody_is_let_in_with_a_made_up_token(peer: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "STALLED_S", 1.0)  # some leave the connection open and never subscribe it
    peer.subscribers(1)
    for dialect in peer.dialects:
        (folder := tmp_path / dialect.name).mkdir()
        with peer.start(None, folder) as server:
            audience = Audience(server.address, HOST, dialect)
            try:
                with pytest.raises(Failed):
                    audience.open(["e30.e30.e30"])
            finally:
                audience.close()


def test_the_core_of_a_peer_is_not_ours(peer: Peer, tmp_path: Path) -> None:
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("needs Linux: nothing else pins a process to a core")
    ours = os.sched_getaffinity(0)
    core = max(ours)
    with peer.start(core, tmp_path) as server:
        assert os.sched_getaffinity(server.pid) == {core}
    assert os.sched_getaffinity(0) == ours
