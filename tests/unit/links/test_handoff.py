"""What the real sockets of the contract suite cannot show exactly: counts per second, and the order of small steps."""

from __future__ import annotations

import asyncio
import errno
from typing import Any, cast

import pytest

from hybrid.limits import Limits
from hybrid.links.handoff import HandedOffEventStream, HandedOffWebSocket, cut_reason
from hybrid.links.inbound import CLOSE, PING, PONG, TEXT
from tests.support.asgi_server import RecordingOwner, client_frame, close_payload


class HandMadeClock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def monotonic_s(self) -> float:
        return self.now_s

    def wall_s(self) -> float:
        return self.now_s


class RecordingTransport:
    """A stream transport whose peer takes nothing until told; it calls its protocol as asyncio's do."""

    def __init__(self) -> None:
        self.written = b""
        self.waiting_bytes = 0
        self.calls: list[str] = []
        self.high = 0
        self.is_over = False
        self.protocol: Any = None

    def get_extra_info(self, name: str) -> Any:
        return {"peername": ("192.0.2.1", 9)}.get(name)

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        self.high = high

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def write(self, data: bytes) -> None:
        self.written += data
        self.waiting_bytes += len(data)
        if self.waiting_bytes > self.high and "paused" not in self.calls:
            self.calls.append("paused")
            self.protocol.pause_writing()

    def take_all(self) -> None:
        self.waiting_bytes = 0
        if "paused" in self.calls:
            self.calls.remove("paused")
            self.protocol.resume_writing()

    def get_write_buffer_size(self) -> int:
        return self.waiting_bytes

    def is_closing(self) -> bool:
        return self.is_over

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.calls.append("eof")

    def close(self) -> None:
        self.calls.append("close")
        self.is_over = True

    def abort(self) -> None:
        self.calls.append("abort")
        self.is_over = True
        self.protocol.connection_lost(None)

    def pause_reading(self) -> None:
        self.calls.append("pause_reading")

    def resume_reading(self) -> None:
        self.calls.append("resume_reading")


class Harness:
    """A WebSocket link on a recorded transport."""

    def __init__(self, **limits: Any) -> None:
        self.clock = HandMadeClock()
        self.owner = RecordingOwner()
        self.transport = RecordingTransport()
        self.link = HandedOffWebSocket(
            owner=self.owner,
            is_binary=False,
            limits=Limits(**limits),
            clock=self.clock,
            message_max_bytes=65_536,
            client=("192.0.2.1", 9),
        )

    def start(self, left: bytes = b"", has_ended: bool = False) -> None:
        self.link.start(cast(asyncio.Transport, self.transport), b"head", left, has_ended)

    def sent_since(self, position: int) -> bytes:
        return self.transport.written[position:]


async def test_twenty_control_frames_a_second_pass_and_the_next_one_does_not() -> None:
    harness = Harness()
    harness.start()
    for _ in range(3):
        harness.link.data_received(client_frame(PONG) * 20)
        harness.clock.now_s += 1.0
    assert harness.sent_since(4) == b""
    harness.link.data_received(client_frame(PONG) * 21)
    assert harness.sent_since(4)[2:4] == (1008).to_bytes(2, "big")
    harness.link.connection_lost(None)
    assert harness.owner.of("closed") == [(1008, "too many control frames")]


async def test_a_peer_that_pings_and_does_not_read_gets_no_pile_of_pongs() -> None:
    harness = Harness(high_water_bytes=100, low_water_bytes=25)
    harness.start()
    harness.link.write(b"x" * 200)
    assert harness.owner.events == [("paused",)]
    position = len(harness.transport.written)
    harness.link.data_received(client_frame(PING, b"ping"))
    harness.link.probe()
    assert harness.sent_since(position) == b""
    harness.transport.take_all()
    harness.link.data_received(client_frame(PING, b"ping"))
    harness.link.probe()
    assert harness.sent_since(position) == b"\x8a\x04ping" + b"\x89\x00"


async def test_a_buffer_that_was_full_before_is_told_after_the_caller_has_the_link() -> None:
    harness = Harness(high_water_bytes=100, low_water_bytes=25)
    harness.transport.waiting_bytes = 1_000
    harness.transport.calls.append("paused")  # told to the former protocol
    harness.start()
    assert harness.owner.events == []
    await asyncio.sleep(0)
    assert harness.owner.events == [("paused",)]
    harness.transport.take_all()
    assert harness.owner.events == [("paused",), ("resumed",)]


async def test_a_resume_whose_pause_went_to_the_former_protocol_is_not_told() -> None:
    harness = Harness()
    harness.start()
    harness.link.resume_writing()
    assert harness.owner.events == []


async def test_bytes_that_come_before_the_left_ones_are_delivered_come_behind_them() -> None:
    """uvloop may call data_received before what call_soon has queued."""
    harness = Harness()
    harness.start(left=client_frame(TEXT, b"one")[:4])
    harness.link.data_received(client_frame(TEXT, b"one")[4:] + client_frame(TEXT, b"two"))
    await asyncio.sleep(0)
    assert harness.owner.messages == [b"one", b"two"]


async def test_nothing_is_delivered_before_the_caller_has_the_link() -> None:
    harness = Harness()
    harness.start(left=client_frame(TEXT, b"one") + client_frame(CLOSE, close_payload(1000)), has_ended=True)
    assert harness.owner.events == []
    await asyncio.sleep(0)
    assert harness.owner.messages == [b"one"]


async def test_an_idle_link_keeps_no_parser_whatever_was_received() -> None:
    harness = Harness()
    harness.start()
    message = client_frame(TEXT, b"a", is_final=False) + client_frame(0, b"b")
    for index in range(len(message)):
        harness.link.data_received(message[index : index + 1])
        assert (harness.link._reader is None) == (index == len(message) - 1)


async def test_the_one_timer_of_a_closing_link_is_cancelled_with_its_end() -> None:
    harness = Harness(close_timeout_s=0.001)
    harness.start()
    harness.link.close(4409)
    harness.link.data_received(client_frame(CLOSE, close_payload(4409)))
    assert harness.transport.calls[-1] == "close"
    harness.link.connection_lost(None)
    await asyncio.sleep(0.01)
    assert "abort" not in harness.transport.calls
    assert harness.owner.events == [("closed", 4409, "")]


async def test_after_the_end_nothing_reaches_the_owner_or_the_transport() -> None:
    harness = Harness()
    harness.start()
    harness.link.connection_lost(ConnectionResetError())
    written, calls = harness.transport.written, list(harness.transport.calls)
    link = harness.link
    link.data_received(client_frame(TEXT, b"late"))
    link.pause_writing()
    link.resume_writing()
    link.eof_received()
    link.write(b"late")
    link.probe()
    link.close(1000)
    link.abort()
    link.pause_reading()
    link.resume_reading()
    link.connection_lost(None)
    await asyncio.sleep(0)
    assert harness.owner.events == [("closed", 1006, "")]
    assert (harness.transport.written, harness.transport.calls) == (written, calls)


class ResetTransport(RecordingTransport):
    """The peer has reset it, and nobody has seen that yet."""

    def write_eof(self) -> None:
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")


async def test_ending_a_stream_that_was_reset_meanwhile_is_nobodys_error() -> None:
    """Whoever ends it, such as the request that has opened the next leg, must not hear of it."""
    owner, transport = RecordingOwner(), ResetTransport()
    link = HandedOffEventStream(owner=owner, is_chunked=True, limits=Limits(), clock=HandMadeClock(), client=None)
    link.start(cast(asyncio.Transport, transport), b"head", b"", False)
    link.close(4509, "replaced")
    assert transport.calls[-1] == "abort"
    assert owner.events == [("closed", 4509, "replaced")]


async def test_a_failed_transport_is_not_written_to() -> None:
    """asyncio logs a line for every such write, and a fan-out makes many before connection_lost comes."""
    harness = Harness()
    harness.start()
    harness.transport.is_over = True
    harness.link.write(b"x")
    assert harness.transport.written == b"head"


async def test_a_link_has_no_room_for_what_is_not_in_its_slots() -> None:
    """A dictionary per link would double what an idle client costs."""
    stream = HandedOffEventStream(
        owner=RecordingOwner(), is_chunked=True, limits=Limits(), clock=HandMadeClock(), client=None
    )
    for link in (Harness().link, stream):
        assert not hasattr(link, "__dict__")


@pytest.mark.parametrize(
    ("reason", "expected"),
    [("", ""), ("x" * 123, "x" * 123), ("x" * 124, "x" * 123), ("€" * 42, "€" * 41), ("\ud800", "?")],
)
def test_reasons_are_cut_between_characters(reason: str, expected: str) -> None:
    assert cut_reason(reason) == expected
