from __future__ import annotations

from typing import Any

import pytest

from hybrid.errors import ProtocolError
from hybrid.limits import CURSOR_MAX_BYTES, PADDING_BYTES
from hybrid.protocol import eventstream
from hybrid.protocol.eventstream import HEARTBEAT, PADDING, Event, EventStreamParser, last_event_id
from tests.support.vectors import vectors, wire_of


def fed_in_pieces(parser: EventStreamParser, raw: bytes, size: int) -> list[Event]:
    return [event for start in range(0, len(raw), size) for event in parser.feed(raw[start : start + size])]


@pytest.mark.parametrize("size", [1, 2, 7, 100_000])
@pytest.mark.parametrize("case", vectors("eventstreams"))
def test_parser(case: dict[str, Any], size: int) -> None:
    parser = EventStreamParser()
    events = fed_in_pieces(parser, wire_of(case), size)
    assert {
        "events": [{"data": event.data, "event": event.event, "id": event.id} for event in events],
        "last_event_id": parser.last_event_id,
        "retry_ms": parser.retry_ms,
    } == case["value"]


def test_written_event() -> None:
    assert eventstream.event("a") == b"data: a\n\n"
    assert eventstream.event("") == b"data: \n\n"
    assert eventstream.event("a\nb\rc\r\nd", id="7", event="said", retry_ms=3000) == (
        b"retry: 3000\nid: 7\nevent: said\ndata: a\ndata: b\ndata: c\ndata: d\n\n"
    )


def test_data_is_split_at_line_ends_of_the_standard_only() -> None:
    """str.splitlines would split here as well, and the client would get line feeds that nobody sent."""
    data = "a\u2028b\u2029c\x0bd\x0ce\x85f\x1cg"
    assert eventstream.event(data) == b"data: " + data.encode() + b"\n\n"


def test_block_dispatches_nothing_but_counts() -> None:
    raw = eventstream.block(id="k-1-00000000", retry_ms=3000)
    assert raw == b"retry: 3000\nid: k-1-00000000\n\n"
    parser = EventStreamParser()
    assert parser.feed(raw) == []
    assert (parser.last_event_id, parser.retry_ms) == ("k-1-00000000", 3000)


def test_comments() -> None:
    assert eventstream.comment("a\r\nid: 1\rb") == b": a\n: id: 1\n: b\n\n"
    assert len(PADDING) == PADDING_BYTES
    parser = EventStreamParser()
    raw = PADDING + HEARTBEAT + eventstream.comment() + eventstream.comment("id: 1\nid: 2") + b"data: a\n\n"
    assert parser.feed(raw) == [Event("a")]


@pytest.mark.parametrize("bad", ["a\nb", "a\r", "\0", "\x7f", "\x1b"])
def test_controls_in_fields_are_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="in the id"):
        eventstream.event("a", id=bad)
    with pytest.raises(ValueError, match="in the event"):
        eventstream.event("a", event=bad)
    with pytest.raises(ValueError, match="in the id"):
        eventstream.block(id=bad)


@pytest.mark.parametrize(
    "raw",
    [
        b"data: " + b"a" * 95,  # a line that never ends
        b": " + b"a" * 99,
        b"data: " + b"a" * 40 + b"\ndata: " + b"a" * 40 + b"\ndata: " + b"a" * 40 + b"\n",
        b"data\n" * 101,
    ],
)
@pytest.mark.parametrize("size", [1, 1_000])
def test_more_than_the_bound(raw: bytes, size: int) -> None:
    parser = EventStreamParser(100)
    with pytest.raises(ProtocolError) as caught:
        fed_in_pieces(parser, raw, size)
    assert caught.value.row.name == "too_large"
    with pytest.raises(ProtocolError):
        # It would dispatch what was kept of the event that was too large.
        parser.feed(b"\n\n")


def test_bound_is_of_one_event_not_of_the_stream() -> None:
    parser = EventStreamParser(100)
    for _ in range(50):
        assert parser.feed(b": " + b"c" * 90 + b"\ndata: " + b"a" * 90 + b"\n\n") == [Event("a" * 90)]
    assert parser.feed(b"data: " + b"a" * 94 + b"\n\n") == [Event("a" * 94)]


def test_retry_beyond_any_timer_is_ignored() -> None:
    parser = EventStreamParser()
    parser.feed(b"retry: 999999999\nretry: 1000000000\nretry: " + b"9" * 5_000 + b"\n")
    assert parser.retry_ms == 999_999_999


def test_last_event_id() -> None:
    assert last_event_id(b"") == ""
    assert last_event_id(b" k-1-00000000\t") == "k-1-00000000"
    assert last_event_id("é".encode()) == "é"
    assert last_event_id("é".encode().decode("latin-1")) == "é"
    assert last_event_id("日") == "日"
    assert last_event_id(b"a" * CURSOR_MAX_BYTES) == "a" * CURSOR_MAX_BYTES


@pytest.mark.parametrize(
    ("raw", "error"),
    [(b"\xff", "bad_request"), ("é", "bad_request"), ("日\ud800", "bad_request"), (b"a" * 2049, "too_large")],
)
def test_last_event_id_that_cannot_be_read(raw: bytes | str, error: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        last_event_id(raw)
    assert caught.value.row.name == error
