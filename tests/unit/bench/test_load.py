"""The load's judgement catches a server that loses, repeats or reorders: each done once, over real sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Thread

import pytest

from tests.bench.dialects import Dialect, bare_events, events, frames
from tests.bench.load import Audience, Failed, Pace, order_faults

FIRST, SECOND, THIRD, FOURTH = (10**18 + number for number in range(4))
LANES = [[FIRST, THIRD], [SECOND, FOURTH]]
WHOLE = [FIRST, SECOND, THIRD, FOURTH]


def test_what_is_whole_has_no_fault() -> None:
    assert list(order_faults(WHOLE, LANES)) == []
    assert list(order_faults([SECOND, FIRST, FOURTH, THIRD], LANES)) == []  # between publishers, any order


@pytest.mark.parametrize(
    ("got", "fault"),
    [
        ([FIRST, SECOND, FOURTH], "a client lost 1 of 4"),
        ([FIRST, FIRST, SECOND, THIRD, FOURTH], "a client got 1 again"),
        ([THIRD, FIRST, SECOND, FOURTH], "a client got 1 behind a later one of the same publisher"),
        ([*WHOLE, FOURTH + 1], "a client got what nobody has sent"),
    ],
)
def test_each_fault_is_told(got: Sequence[int], fault: str) -> None:
    assert list(order_faults(got, LANES)) == [fault]


class Canned:
    """A server that greets everybody and then sends what a test says."""

    def __init__(self, listener: socket.socket, clients: int) -> None:
        self.peers: list[socket.socket] = []
        self._thread = Thread(target=self._greet, args=(listener, clients))
        self._thread.start()

    def _greet(self, listener: socket.socket, clients: int) -> None:
        for _ in range(clients):
            peer, _ = listener.accept()
            self.peers.append(peer)
            peer.recv(4_096)
            peer.sendall(b"HTTP/1.1 200 OK\r\n\r\n: hi\n\n")

    def close(self) -> None:
        self._thread.join()
        for peer in self.peers:
            peer.close()


DIALECT = Dialect("lines", "GET / HTTP/1.1\r\nHost: {host}\r\nX: {token}\r\n\r\n", "", b": hi", lambda s: iter([s]))


@contextmanager
def audience_of(clients: int) -> Iterator[tuple[Audience, Canned]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        canned = Canned(listener, clients)
        audience = Audience(listener.getsockname(), "bench.test", DIALECT)
        try:
            audience.open(["t"] * clients)
            audience.sample()
            yield audience, canned
        finally:
            audience.close()
            canned.close()


def sent(stamps: Sequence[int]) -> bytes:
    return b"".join(b'"@%019d"\n' % stamp for stamp in stamps)


def judged(*streams: Sequence[int]) -> list[str]:
    with audience_of(len(streams)) as (audience, canned):
        for peer, stamps in zip(canned.peers, streams, strict=True):
            peer.sendall(sent(stamps))
        audience.settle(0.05)
        latencies_ms, faults = audience.judge(LANES, None)
        assert len(latencies_ms) == sum(map(len, streams))
        return faults


def test_an_audience_that_got_everything_is_content() -> None:
    assert judged(WHOLE, WHOLE) == []


def test_a_loss_is_counted_and_named() -> None:
    assert judged(WHOLE, WHOLE[:-1])[0] == "1 clients got between 3 and 3 instead of 4"


def test_two_orders_of_the_same_are_told() -> None:
    assert judged(WHOLE, [SECOND, FIRST, FOURTH, THIRD]) == ["two clients got them in different orders"]


def test_a_repetition_that_makes_up_for_a_loss_is_told() -> None:
    assert "a client lost 1 of 4" in judged([FIRST, SECOND, THIRD, THIRD], WHOLE)


def test_a_connection_that_is_closed_is_a_failure() -> None:
    with audience_of(1) as (audience, canned):
        canned.peers[0].close()
        with pytest.raises(Failed, match="closed"):
            audience.settle(0.05)


def test_a_pace_falls_behind_its_times_and_does_not_move_them() -> None:
    pace = Pace(started_ns=1_000_000_000, rate_hz=50, seconds=0.06)
    assert pace.wait_s(990_000_000) == 0.01
    assert pace.wait_s(1_000_000_000) == 0
    assert pace.advance() == 1_000_000_000
    assert pace.wait_s(1_000_000_000) == 0.02
    assert pace.wait_s(1_050_000_000) == 0
    assert [pace.advance(), pace.advance()] == [1_020_000_000, 1_040_000_000]
    assert pace.wait_s(1_050_000_000) == 0.01
    assert pace.left == 0


def frame(payload: bytes) -> bytes:
    if len(payload) < 126:
        return bytes((0x81, len(payload))) + payload
    size = (126, 2) if len(payload) < 65_536 else (127, 8)
    return bytes((0x81, size[0])) + len(payload).to_bytes(size[1], "big") + payload


@pytest.mark.parametrize("length", [0, 125, 126, 65_535, 65_536])
def test_frames_of_every_length_are_read(length: int) -> None:
    payload = b"x" * length
    ping = b"\x89\x01p"
    assert list(frames(ping + frame(payload) + frame(b"last"))) == [*([payload] if length else []), b"last"]


def test_commands_in_one_frame_are_messages_of_their_own() -> None:
    assert list(frames(frame(b'{"push":1}\n{"push":2}'))) == [b'{"push":1}', b'{"push":2}']


def test_a_frame_that_is_cut_short_is_told() -> None:
    with pytest.raises(ValueError, match="cut short"):
        list(frames(frame(b"whole") + frame(b"half")[:-1]))


def test_events_are_read_over_chunks_that_cut_them() -> None:
    stream = b"id: 1:0\ndata: one\n\n: beat\n\nid: 1:1\ndata: two\n\n"
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (stream[:7], stream[7:]))
    assert list(events(chunks)) == [b"id: 1:0\ndata: one", b"id: 1:1\ndata: two"]
    assert list(bare_events(stream)) == list(events(chunks))


def test_a_greeting_of_any_length_becomes_a_masked_frame() -> None:
    dialect = Dialect("w", "", '40{{"token":"{token}"}}', b"", frames)
    assert dialect.frame("t") == b"\x81\x8f\0\0\0\0" + b'40{"token":"t"}'
    assert dialect.frame("t" * 200)[:4] == b"\x81\xfe" + (214).to_bytes(2, "big")
    assert Dialect("w", "", "", b"", frames).frame("t") == b""
