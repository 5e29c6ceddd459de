"""The reader against the parser of the `websockets` library, over every way of cutting a stream of bytes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, Protocol, Side

from hybrid.links.inbound import BINARY, CLOSE, PING, PONG, TEXT, BrokenFrame, MessageReader, parse_close
from tests.support.asgi_server import client_frame, close_payload, frame_head

MANY = 1_000_000
CONTINUATION = 0
Event = tuple[int, bytes]


@dataclass(frozen=True)
class ClientFrame:
    opcode: int
    payload: bytes
    is_final: bool
    rsv: int = 0
    is_masked: bool = True

    def encoded(self) -> bytes:
        return client_frame(self.opcode, self.payload, is_final=self.is_final, rsv=self.rsv, is_masked=self.is_masked)


payloads = st.one_of(
    st.text(max_size=40).map(str.encode),
    st.binary(max_size=40),
    st.sampled_from([125, 126, 65_535, 65_536]).map(lambda length: b"x" * length),
    st.integers(990, 5001).map(close_payload),
)
data_frames = st.builds(ClientFrame, st.sampled_from([CONTINUATION, TEXT, BINARY]), payloads, st.booleans())
control_frames = st.builds(
    ClientFrame, st.sampled_from([CLOSE, PING, PONG]), payloads.map(lambda p: p[:125]), st.just(True)
)
broken_frames = st.builds(
    ClientFrame,
    st.integers(0, 15),
    payloads,
    st.booleans(),
    st.sampled_from([0, 0, 0, 0x10, 0x20, 0x40]),
    st.sampled_from([True, True, True, False]),
)


@st.composite
def messages(draw: st.DrawFn) -> list[ClientFrame]:
    """One whole message in fragments, with control frames in between."""
    pieces = draw(st.lists(st.text(max_size=20).map(str.encode), min_size=1, max_size=4))
    frames: list[ClientFrame] = []
    for index, piece in enumerate(pieces):
        if index:
            frames.extend(draw(st.lists(control_frames, max_size=1)))
        opcode = CONTINUATION if index else draw(st.sampled_from([TEXT, BINARY]))
        frames.append(ClientFrame(opcode, piece, index == len(pieces) - 1))
    return frames


streams = st.lists(
    st.one_of(messages(), messages(), control_frames.map(lambda f: [f]), data_frames.map(lambda f: [f])), max_size=6
).map(lambda groups: [frame for group in groups for frame in group])
hostile_streams = st.tuples(streams, st.lists(broken_frames, max_size=2), streams).map(
    lambda parts: [*parts[0], *parts[1], *parts[2]]
)


def whole(data: bytes) -> Iterator[bytes]:
    yield data


def by_byte(data: bytes) -> Iterator[bytes]:
    for index in range(len(data)):
        yield data[index : index + 1]


def read(pieces: Iterator[bytes], max_bytes: int = MANY, fragments: int = MANY) -> tuple[list[Event], int | None]:
    """All events up to the first close or failure, and the code of the failure."""
    reader = MessageReader()
    events: list[Event] = []
    for piece in pieces:
        reader.feed(piece)
        try:
            while (event := reader.next_event(max_bytes, fragments)) is not None:
                if event[0] == CLOSE:
                    parse_close(event[1])
                events.append(event)
                if event[0] == CLOSE:
                    return events, None
        except BrokenFrame as broken:
            return events, broken.code
        if reader.is_empty:
            reader = MessageReader()  # as a link does
    return events, None


def oracle(data: bytes) -> tuple[list[Event], int | None]:
    """The same from `websockets`, with the assembling of messages and the check of UTF-8 that it leaves out."""
    protocol = Protocol(Side.SERVER, state=OPEN, max_size=None)
    protocol.receive_data(data)
    events: list[Event] = []
    parts: list[bytes] = []
    first = TEXT
    for frame in protocol.events_received():
        assert isinstance(frame, Frame)
        payload = bytes(frame.data)
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            if frame.opcode is not Opcode.CONT:
                first = int(frame.opcode)
            parts.append(payload)
            if frame.fin:
                message = b"".join(parts)
                parts.clear()
                if first == TEXT:
                    try:
                        message.decode()
                    except UnicodeDecodeError:
                        return events, 1007
                events.append((first, message))
        else:
            events.append((int(frame.opcode), payload))
    if protocol.parser_exc is not None:
        assert protocol.close_sent is not None
        return events, int(protocol.close_sent.code)
    return events, None


def has_close_inside_a_message(frames: list[ClientFrame]) -> bool:
    """RFC 6455, section 5.4 lets control frames interrupt a message; `websockets` refuses a close there."""
    is_inside = False
    for frame in frames:
        if frame.opcode == CLOSE:
            return is_inside
        if frame.opcode <= BINARY:
            is_inside = not frame.is_final
    return False


@given(hostile_streams)
def test_it_agrees_with_websockets_on_everything_a_client_can_send(frames: list[ClientFrame]) -> None:
    if has_close_inside_a_message(frames):
        return
    data = b"".join(frame.encoded() for frame in frames)
    assert read(whole(data)) == oracle(data)


@given(hostile_streams.filter(lambda frames: sum(len(frame.payload) for frame in frames) < 2_000))
def test_the_cut_of_the_stream_changes_nothing_byte_by_byte(frames: list[ClientFrame]) -> None:
    data = b"".join(frame.encoded() for frame in frames)
    assert read(by_byte(data)) == read(whole(data))


@given(hostile_streams, st.data())
def test_the_cut_of_the_stream_changes_nothing_anywhere(frames: list[ClientFrame], data: st.DataObject) -> None:
    stream = b"".join(frame.encoded() for frame in frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    borders = [0, *cuts, len(stream)]
    pieces = (stream[start:end] for start, end in itertools.pairwise(borders))
    assert read(pieces) == read(whole(stream))


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65_535, 65_536])
def test_every_form_of_length(length: int) -> None:
    payload = b"x" * length
    assert read(whole(client_frame(BINARY, payload))) == ([(BINARY, payload)], None)


@pytest.mark.parametrize(
    "head",
    [bytes((0x82, 0x80 | 126)) + (125).to_bytes(2, "big"), bytes((0x82, 0x80 | 127)) + (65_535).to_bytes(8, "big")],
)
def test_a_length_not_in_its_shortest_form_is_refused(head: bytes) -> None:
    assert read(whole(head)) == ([], 1002)


@pytest.mark.parametrize("max_bytes", [10, 125, 126, 70_000])
def test_a_message_of_the_limit_passes_and_one_byte_more_is_refused_at_its_header(max_bytes: int) -> None:
    passes = client_frame(TEXT, b"x" * max_bytes)
    assert read(whole(passes), max_bytes) == ([(TEXT, b"x" * max_bytes)], None)
    assert read(whole(frame_head(TEXT, max_bytes + 1)), max_bytes) == ([], 1009)


def test_the_largest_length_that_can_be_announced_is_refused_at_its_header() -> None:
    assert read(whole(frame_head(BINARY, 2**64 - 1)), 65_536) == ([], 1009)


def test_the_limit_is_of_the_message_not_of_its_fragments() -> None:
    begin = client_frame(TEXT, b"x" * 6, is_final=False)
    assert read(whole(begin + client_frame(CONTINUATION, b"y" * 4)), 10)[0] == [(TEXT, b"xxxxxxyyyy")]
    assert read(whole(begin + frame_head(CONTINUATION, 5)), 10) == ([], 1009)


def test_the_limit_counts_bytes_not_characters() -> None:
    euros = "€" * 4
    assert read(whole(client_frame(TEXT, euros.encode())), 11) == ([], 1009)


def test_control_frames_are_not_counted_into_the_message_they_interrupt() -> None:
    stream = (
        client_frame(TEXT, b"x" * 10, is_final=False) + client_frame(PING, b"p" * 125) + client_frame(CONTINUATION, b"")
    )
    assert read(whole(stream), 10) == ([(PING, b"p" * 125), (TEXT, b"x" * 10)], None)


def test_as_many_fragments_as_the_limit_pass_and_one_more_does_not() -> None:
    first, more, last = (
        client_frame(TEXT, b"a", is_final=False),
        client_frame(CONTINUATION, b"b", is_final=False),
        client_frame(CONTINUATION, b"c"),
    )
    assert read(whole(first + more * 2 + last), fragments=4) == ([(TEXT, b"abbc")], None)
    assert read(whole(first + more * 3 + last), fragments=4) == ([], 1009)


def test_empty_fragments_count_too() -> None:
    stream = client_frame(TEXT, is_final=False) + client_frame(CONTINUATION, is_final=False) * 64
    assert read(whole(stream), fragments=64) == ([], 1009)


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (frame_head(TEXT, 5, rsv=0x40), 1002),  # compressed, which was declined
        (frame_head(TEXT, 5, rsv=0x20), 1002),
        (frame_head(TEXT, 5, rsv=0x10), 1002),
        (frame_head(TEXT, 5, is_masked=False), 1002),
        (frame_head(3, 5), 1002),
        (frame_head(PING, 126), 1002),
        (frame_head(PING, 5, is_final=False), 1002),
        (frame_head(CONTINUATION, 5), 1002),
    ],
)
def test_a_bad_header_is_refused_before_its_payload_comes(frame: bytes, code: int) -> None:
    assert read(by_byte(frame)) == ([], code)


@pytest.mark.parametrize("text", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"ok \xe2\x82"])
def test_text_that_is_not_utf8_is_refused_and_binary_is_not_looked_at(text: bytes) -> None:
    assert read(whole(client_frame(TEXT, text))) == ([], 1007)
    assert read(whole(client_frame(BINARY, text))) == ([(BINARY, text)], None)


def test_a_character_may_be_cut_by_fragments() -> None:
    euro = "€".encode()
    stream = client_frame(TEXT, euro[:1], is_final=False) + client_frame(CONTINUATION, euro[1:])
    assert read(by_byte(stream)) == ([(TEXT, euro)], None)


def test_the_limit_may_rise_between_two_messages_of_one_packet() -> None:
    """A token and the attach behind it come together; the limit before the token is smaller than the attach."""
    reader = MessageReader()
    reader.feed(client_frame(TEXT, b"token") + client_frame(TEXT, b"a" * 100))
    assert reader.next_event(10, MANY) == (TEXT, b"token")
    assert reader.next_event(100, MANY) == (TEXT, b"a" * 100)


def test_it_is_empty_only_between_messages() -> None:
    reader = MessageReader()
    for piece in by_byte(client_frame(TEXT, b"a", is_final=False) + client_frame(CONTINUATION, b"b")):
        reader.feed(piece)
        event = reader.next_event(MANY, MANY)
        assert reader.is_empty == (event is not None)
    assert event == (TEXT, b"ab")


@pytest.mark.parametrize(
    ("payload", "meaning"),
    [(b"", (1005, "")), (close_payload(1000), (1000, "")), (close_payload(4999, "büro"), (4999, "büro"))],
)
def test_close_payloads(payload: bytes, meaning: tuple[int, str]) -> None:
    assert parse_close(payload) == meaning


@pytest.mark.parametrize(
    ("payload", "code"),
    [(b"\x03", 1002), (close_payload(999), 1002), (close_payload(1005), 1002), (close_payload(1006), 1002),
     (close_payload(5000), 1002), (close_payload(1000) + b"\xff", 1007)],
)  # fmt: skip
def test_close_payloads_that_must_not_be_sent(payload: bytes, code: int) -> None:
    with pytest.raises(BrokenFrame) as caught:
        parse_close(payload)
    assert caught.value.code == code
