"""The incremental parser against the standard's algorithm read literally, and the writer against the parser."""

from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from hybrid.errors import ProtocolError
from hybrid.protocol import eventstream
from hybrid.protocol.eventstream import Event, EventStreamParser

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
fields = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=10)
names = ["data", "data:", "data: ", "id", "id: ", "event: ", "retry: ", ":", "foo: bar", "data: x\n\n", "id: 1\n"]
others = [" ", "\n", "\r", "\r\n", "\n\n", "\r\r", "\0", "7", "a", "é", "\u2028", "\x85", "\ufeff"]
fragments = st.sampled_from([*names, *others])
streams = st.lists(fragments, max_size=25).map(lambda parts: "".join(parts).encode()) | st.binary(max_size=60)


def literally(raw: bytes) -> tuple[list[Event], str, int | None]:
    """WHATWG HTML, section 9.2.6, on a whole stream, line by line."""
    decoded = raw.decode(errors="replace").removeprefix("\ufeff")
    lines = re.split("\r\n|\n|\r", decoded)[:-1]
    events: list[Event] = []
    data = event_type = id_buffer = last_id = ""
    retry = None
    for line in lines:
        if line == "":
            last_id = id_buffer
            if data == "":
                event_type = ""
                continue
            events.append(Event(data.removesuffix("\n"), event_type or "message", last_id))
            data = event_type = ""
            continue
        if line.startswith(":"):
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            event_type = value
        elif field == "data":
            data += value + "\n"
        elif field == "id" and "\0" not in value:
            id_buffer = value
        elif field == "retry" and re.fullmatch("[0-9]+", value):
            retry = int(value)
    return events, last_id, retry


def in_pieces(raw: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(raw) + 1) for cut in cuts), len(raw)]
    return [raw[start:end] for start, end in pairwise(edges)]


@given(streams, st.lists(st.integers(0, 1_000), max_size=20))
def test_any_stream_in_any_pieces_is_read_as_the_standard_says(raw: bytes, cuts: list[int]) -> None:
    parser = EventStreamParser()
    events = [event for piece in in_pieces(raw, cuts) for event in parser.feed(piece)]
    assert (events, parser.last_event_id, parser.retry_ms) == literally(raw)


@given(streams)
def test_byte_by_byte(raw: bytes) -> None:
    parser = EventStreamParser()
    events = [event for byte in raw for event in parser.feed(bytes([byte]))]
    assert (events, parser.last_event_id, parser.retry_ms) == literally(raw)


@given(streams, st.lists(st.integers(0, 1_000), max_size=20))
def test_bound_is_met_in_any_pieces(raw: bytes, cuts: list[int]) -> None:
    """Whether a stream is refused depends on what is in it, not on how it came."""

    def is_refused(pieces: list[bytes]) -> bool:
        parser = EventStreamParser(8)
        try:
            for piece in pieces:
                parser.feed(piece)
        except ProtocolError:
            return True
        return False

    assert is_refused([raw]) == is_refused(in_pieces(raw, cuts))


@given(text, st.none() | fields, st.none() | fields, st.none() | st.integers(0, 100_000))
def test_what_is_written_is_what_is_read(data: str, id: str | None, event: str | None, retry_ms: int | None) -> None:
    parser = EventStreamParser()
    comment = eventstream.comment(data)
    raw = eventstream.PADDING + comment + eventstream.event(data, id=id, event=event, retry_ms=retry_ms) + comment
    expected = re.sub("\r\n|\r", "\n", data)
    assert parser.feed(raw) == [Event(expected, event or "message", id or "")]
    assert parser.retry_ms == retry_ms
    assert parser.last_event_id == (id or "")
