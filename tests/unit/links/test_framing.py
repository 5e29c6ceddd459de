"""Framing is checked by reading it back with somebody else's parser."""

from __future__ import annotations

import h11
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side

from hybrid.engine.deflated import deflate
from hybrid.engine.link import Deflated
from hybrid.links import framing

lengths = st.sampled_from([125, 126, 65_535])
payload_lists = st.lists(st.one_of(st.binary(max_size=200), lengths.map(lambda length: b"x" * length)))


def frames_of(data: bytes, *, inflates: bool = False) -> list[Frame]:
    """What a client's parser makes of `data`."""
    protocol = Protocol(Side.CLIENT, max_size=None)
    if inflates:
        protocol.extensions = [PerMessageDeflate(True, True, 15, 15)]
    protocol.receive_data(data)
    assert protocol.parser_exc is None
    return protocol.events_received()  # type: ignore[return-value]  # only handshakes are anything else


@given(payload_lists)
def test_text_payloads_become_one_text_frame_each(payloads: list[bytes]) -> None:
    frames = frames_of(framing.websocket_text(payloads))
    assert [(frame.opcode, bytes(frame.data), frame.fin) for frame in frames] == [
        (Opcode.TEXT, payload, True) for payload in payloads
    ]


@given(payload_lists)
def test_binary_payloads_become_one_binary_frame_each(payloads: list[bytes]) -> None:
    frames = frames_of(framing.websocket_binary(payloads))
    assert [(frame.opcode, bytes(frame.data)) for frame in frames] == [(Opcode.BINARY, payload) for payload in payloads]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3_000).map(lambda size: b"ab" * size)), max_size=5))
def test_a_client_inflates_what_was_deflated_and_leaves_the_rest(messages: list[tuple[bool, bytes]]) -> None:
    payloads = [deflate(payload) if is_deflated else payload for is_deflated, payload in messages]
    for write, opcode in ((framing.websocket_text, Opcode.TEXT), (framing.websocket_binary, Opcode.BINARY)):
        frames = frames_of(write(payloads), inflates=True)
        assert [(frame.opcode, bytes(frame.data)) for frame in frames] == [(opcode, payload) for _, payload in messages]


def test_only_a_deflated_payload_has_the_bit_of_its_extension() -> None:
    assert framing.websocket_text([Deflated(b"x"), b"x"]) == b"\xc1\x01x\x81\x01x"
    assert framing.websocket_binary([Deflated(b"x"), b"x"]) == b"\xc2\x01x\x82\x01x"
    assert framing.websocket_text([Deflated(b"x" * 126)])[:4] == b"\xc1\x7e\x00\x7e"
    assert framing.websocket_text([Deflated(b"x" * 65_536)])[:2] == b"\xc1\x7f"


def test_lengths_are_written_in_their_shortest_form_at_every_border() -> None:
    heads = {
        125: b"\x81\x7d",
        126: b"\x81\x7e\x00\x7e",
        65_535: b"\x81\x7e\xff\xff",
        65_536: b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00",
    }
    for length, head in heads.items():
        assert framing.websocket_text([b"x" * length]) == head + b"x" * length


@given(payload_lists)
def test_an_http_client_reads_the_chunks_back_and_does_not_see_an_end(payloads: list[bytes]) -> None:
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    client.send(h11.EndOfMessage())
    client.receive_data(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    assert isinstance(client.next_event(), h11.Response)
    body = b""
    if chunk := framing.event_stream_chunked(payloads):  # for h11 no bytes would be the end of the connection
        client.receive_data(chunk)
    while (event := client.next_event()) is not h11.NEED_DATA:
        assert isinstance(event, h11.Data)
        body += event.data
    assert body == b"".join(payloads)


def test_payloads_of_one_flush_share_one_chunk() -> None:
    assert framing.event_stream_chunked([b"data: 1\n\n", b"data: 2\n\n"]) == b"12\r\ndata: 1\n\ndata: 2\n\n\r\n"


def test_no_bytes_are_no_chunk_because_an_empty_one_would_end_the_stream() -> None:
    assert framing.event_stream_chunked([]) == b""
    assert framing.event_stream_chunked([b"", b""]) == b""


def test_plain_bodies_are_joined_and_messages_kept_apart() -> None:
    assert framing.event_stream_plain([b"a", b"", b"b"]) == b"ab"
    assert framing.asgi_messages([b"a", b"", b"b"]) == (b"a", b"", b"b")
