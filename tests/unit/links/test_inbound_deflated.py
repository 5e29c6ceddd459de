"""Compressed messages among others, against the `websockets` library, over every way of cutting a stream of bytes."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, Protocol, Side

from hybrid.links.inbound import BINARY, CLOSE, PING, PONG, TEXT, BrokenFrame, MessageReader
from tests.support.asgi_server import client_frame

CONTINUATION = 0
RSV1 = 0x40


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """One message, whole or in fragments, compressed or not, with control frames in between."""
    is_deflated = draw(st.booleans())
    data = draw(st.one_of(st.text(max_size=60).map(str.encode), st.just(b"long " * 2_000)))
    payload = deflated(data) if is_deflated else data
    cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=3)))
    pieces = [payload[first:last] for first, last in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
    stream = b""
    for index, piece in enumerate(pieces):
        if index and draw(st.booleans()):
            stream += client_frame(draw(st.sampled_from([PING, PONG])), b"between")
        opcode = CONTINUATION if index else draw(st.sampled_from([TEXT, BINARY]))
        rsv = RSV1 if is_deflated and not index else 0
        stream += client_frame(opcode, piece, is_final=index == len(pieces) - 1, rsv=rsv)
    return stream


def read(data: bytes, step: int) -> list[tuple[int, bytes]]:
    reader = MessageReader(takes_deflated=True)
    events: list[tuple[int, bytes]] = []
    for first in range(0, len(data), step):
        reader.feed(data[first : first + step])
        while (event := reader.next_event(1_000_000, 64)) is not None:
            events.append(event)
        if reader.is_empty:
            reader = MessageReader(takes_deflated=True)  # as a link does
    return events


def oracle(data: bytes) -> list[tuple[int, bytes]]:
    protocol = Protocol(Side.SERVER, state=OPEN, max_size=None)
    protocol.extensions = [PerMessageDeflate(True, True, 15, 15)]
    protocol.receive_data(data)
    assert protocol.parser_exc is None
    events: list[tuple[int, bytes]] = []
    first, parts = TEXT, list[bytes]()
    for frame in protocol.events_received():
        assert isinstance(frame, Frame)
        if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            events.append((int(frame.opcode), bytes(frame.data)))
            continue
        if frame.opcode is not Opcode.CONT:
            first = int(frame.opcode)
        parts.append(bytes(frame.data))
        if frame.fin:
            events.append((first, b"".join(parts)))
            parts.clear()
    return events


@given(st.lists(messages(), max_size=4).map(b"".join), st.sampled_from([1, 3, 1_000_000]))
def test_both_read_the_same(data: bytes, step: int) -> None:
    assert read(data, step) == oracle(data)


def code_of(data: bytes, max_bytes: int = 1_000) -> int:
    reader = MessageReader(takes_deflated=True)
    reader.feed(data)
    try:
        while reader.next_event(max_bytes, 64) is not None:
            pass
    except BrokenFrame as broken:
        return broken.code
    return 0


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(client_frame(TEXT, deflated(b"x" * 1_001), rsv=RSV1), 1009, id="larger than the limit, inflated"),
        pytest.param(client_frame(TEXT, bytes(1_001), rsv=RSV1), 1009, id="larger than the limit, on the wire"),
        pytest.param(client_frame(TEXT, b"\xff\xff", rsv=RSV1), 1007, id="no DEFLATE"),
        pytest.param(client_frame(TEXT, deflated(b"\xff"), rsv=RSV1), 1007, id="not UTF-8, inflated"),
        pytest.param(client_frame(TEXT, deflated(b"x"), rsv=0x60), 1002, id="another bit beside it"),
        pytest.param(client_frame(TEXT, b"x", rsv=0x10), 1002, id="another bit"),
        pytest.param(client_frame(PING, b"x", rsv=RSV1), 1002, id="a ping"),
        pytest.param(client_frame(CLOSE, b"", rsv=RSV1), 1002, id="a close"),
        pytest.param(
            client_frame(TEXT, deflated(b"x"), is_final=False, rsv=RSV1) + client_frame(CONTINUATION, b"", rsv=RSV1),
            1002,
            id="a continuation",
        ),
    ],
)
def test_what_is_wrong_is_refused(data: bytes, code: int) -> None:
    assert code_of(data) == code


def test_a_message_of_the_limit_is_taken_and_the_next_one_is_not_inflated() -> None:
    reader = MessageReader(takes_deflated=True)
    reader.feed(client_frame(TEXT, deflated(b"x" * 1_000), rsv=RSV1) + client_frame(TEXT, b"plain"))
    assert reader.next_event(1_000, 64) == (TEXT, b"x" * 1_000)
    assert reader.next_event(1_000, 64) == (TEXT, b"plain")


def test_without_the_extension_no_bit_is_taken() -> None:
    reader = MessageReader()
    reader.feed(client_frame(TEXT, deflated(b"x"), rsv=RSV1))
    with pytest.raises(BrokenFrame):
        reader.next_event(1_000, 64)
