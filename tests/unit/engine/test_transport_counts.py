from __future__ import annotations

import logging

import pytest

from hybrid.engine.transport_counts import OTHER, REASONS, TOLD_EVERY_S, TRANSPORTS, TransportCounts
from hybrid.engine.wheel import Wheel
from hybrid.protocol.commands import Tried
from tests.support.clock import FakeClock


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def later(clock: FakeClock, wheel: Wheel) -> None:
    clock.advance(TOLD_EVERY_S + 1)
    wheel.advance(clock.monotonic_s())


def test_legs_are_counted_by_what_carries_them_and_why() -> None:
    counts = TransportCounts(Wheel(FakeClock()))
    counts.confirmed("websocket", ())
    counts.confirmed("sse", (Tried("websocket", "mute"),))
    counts.confirmed("sse", (Tried("websocket", "mute"),))
    counts.confirmed("longpoll", (Tried("websocket", "refused"), Tried("sse", "late")))
    assert counts.legs == {"websocket": 1, "sse": 2, "longpoll": 1}
    assert counts.tried["sse", "websocket", "mute"] == 2
    assert str(counts) == "websocket 1; sse 2 (websocket mute 2); longpoll 1 (sse late 1, websocket refused 1)"


def test_no_word_of_a_client_is_kept() -> None:
    """Names are counted, so whoever could make them up would fill the memory, and write into the log."""
    counts = TransportCounts(Wheel(FakeClock()))
    for number in range(10_000):
        counts.confirmed("sse", (Tried(f"t{number}", "mute"), Tried("websocket", f"r{number}\n")))
    assert counts.tried == {("sse", OTHER, "mute"): 10_000, ("sse", "websocket", OTHER): 10_000}
    most = len(TRANSPORTS) * (len(TRANSPORTS) + 1) * (len(REASONS) + 1)
    assert most == 120, "as many numbers as there can ever be"


def test_they_are_told_while_there_is_something_new(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = FakeClock()
    wheel = Wheel(clock)
    counts = TransportCounts(wheel)
    later(clock, wheel)
    counts.tell()
    assert lines(caplog) == []
    counts.confirmed("sse", ())
    counts.confirmed("sse", ())
    assert lines(caplog) == []
    later(clock, wheel)
    later(clock, wheel)
    counts.tell()
    assert lines(caplog) == ["legs since the start: sse 2"]
    counts.confirmed("websocket", ())
    counts.tell()
    later(clock, wheel)
    assert lines(caplog)[1:] == ["legs since the start: websocket 1; sse 2"]
    assert len(wheel) == 0
