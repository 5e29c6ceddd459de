"""What the server's own encoders write is read, whole or cut anywhere; the faulty is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
import pytest

from hybrid.bench.http import Unreadable
from hybrid.bench.reading import EventReader, FrameReader, Piece, PollReader, Run
from hybrid.links.framing import event_stream_chunked, event_stream_plain, websocket_text
from hybrid.model import Position, Publication
from hybrid.protocol import eventstream
from hybrid.protocol.codec import JSON
from hybrid.protocol.cursor import format_composite
from hybrid.protocol.publications import bundle_event, plain_event, session_event, session_json
from hybrid.protocol.pushes import HeartbeatPush, Push


def publication(offset: int, channel: str = "bench:1", epoch: str = "e1", data: bytes | None = None) -> Publication:
    data = data if data is not None else b'"@%019dxyz"' % (offset * 1_000)
    return Publication(channel, offset, epoch, f"{offset:08x}", data)


HEARTBEAT = JSON.encode_push(Push(heartbeat=HeartbeatPush(at_ms=1)))


def sessions_over_websocket(publications: list[Publication]) -> bytes:
    return websocket_text([HEARTBEAT, *map(session_json, publications)])


def sessions_over_sse(publications: list[Publication]) -> bytes:
    middle = len(publications) // 2
    parts = (eventstream.PADDING, *map(session_event, publications[:middle]))
    return event_stream_chunked(parts) + event_stream_chunked([*map(session_event, publications[middle:])])


def plain(publications: list[Publication]) -> bytes:
    return event_stream_chunked([eventstream.HEARTBEAT, *map(plain_event, publications)])


def bundled(publications: list[Publication]) -> bytes:
    positions = {"bench:1": Position(0), "bench:2": Position(0)}
    events = []
    for item in publications:
        positions[item.channel] = Position(item.offset, item.epoch, item.tag)
        events.append(bundle_event(item, format_composite(positions)))
    return event_stream_chunked(events)


Reader = FrameReader | EventReader
KINDS: list[tuple[str, Callable[[], Reader], Callable[[list[Publication]], bytes]]] = [
    ("websocket", FrameReader, sessions_over_websocket),
    ("sse", lambda: EventReader(is_plain=False), sessions_over_sse),
    ("plain-sse", lambda: EventReader(is_plain=True), plain),
    ("bundle", lambda: EventReader(is_plain=True), bundled),
]
of_every_kind = pytest.mark.parametrize(("name", "make", "write"), KINDS, ids=[kind[0] for kind in KINDS])


def pieces(reader: Reader, parts: list[bytes]) -> Iterator[Piece]:
    """As a subscriber does it."""
    rest = partial = b""
    for part in parts:
        data = rest + part
        piece = reader.pieces.get((partial, data) if partial else data) or reader.read(data, partial)
        rest, partial = piece.rest, piece.partial
        yield piece
    assert (rest, partial) == (b"", b"")


def offsets(found: list[Piece]) -> list[int]:
    runs = [step for piece in found for step in piece.steps if isinstance(step, Run)]
    return [offset for run in runs for offset in range(run.first, run.last + 1)]


@of_every_kind
def test_a_piece_is_one_run(name: str, make: Callable[[], Reader], write: Callable[[list[Publication]], bytes]) -> None:
    [piece] = pieces(make(), [write([publication(n) for n in range(5, 9)])])
    assert piece.run is not None
    assert (piece.run.first, piece.run.last, piece.run.epoch, piece.run.tag) == (5, 8, "e1", "00000008")
    assert piece.run.channel == (None if name == "plain-sse" else "bench:1")
    assert (piece.count, piece.sent_ns) == (4, [5_000, 6_000, 7_000, 8_000])


@of_every_kind
def test_cut_anywhere_it_says_the_same(
    name: str, make: Callable[[], Reader], write: Callable[[list[Publication]], bytes]
) -> None:
    data = write([publication(n) for n in range(1, 4)])
    for place in range(1, len(data)):
        assert offsets(list(pieces(make(), [data[:place], data[place:]]))) == [1, 2, 3]
    assert offsets(list(pieces(make(), [data[n : n + 1] for n in range(len(data))]))) == [1, 2, 3]


@of_every_kind
def test_a_gap_ends_a_run(name: str, make: Callable[[], Reader], write: Callable[[list[Publication]], bytes]) -> None:
    [piece] = pieces(make(), [write([publication(1), publication(3), publication(2)])])
    assert piece.run is None
    assert offsets([piece]) == [1, 3, 2]


def test_channels_woven_into_each_other_are_a_run_each() -> None:
    woven = [publication(n, f"bench:{channel}") for n in (1, 2) for channel in (1, 2)]
    for make, write in ((FrameReader, sessions_over_websocket), (lambda: EventReader(is_plain=True), bundled)):
        [piece] = pieces(make(), [write(woven)])
        runs = [step for step in piece.steps if isinstance(step, Run)]
        assert [(run.channel, run.first, run.last) for run in runs] == [("bench:1", 1, 2), ("bench:2", 1, 2)]


def test_nothing_moves_past_a_reset() -> None:
    reset = b'{"reset":{"channel":"bench:1","position":{"offset":8,"epoch":"e1","tag":"00000008"}}}'
    data = websocket_text([session_json(publication(5)), reset, session_json(publication(9))])
    [piece] = pieces(FrameReader(), [data])
    assert [type(step) for step in piece.steps] == [Run, Push, Run]


def test_the_same_bytes_are_read_once() -> None:
    reader = FrameReader()
    data = sessions_over_websocket([publication(1)])
    first, second = pieces(reader, [data, data])
    assert first is second


def test_what_is_kept_is_bounded() -> None:
    reader = FrameReader()
    for n in range(1, 9_000):
        reader.read(sessions_over_websocket([publication(n)]), b"")
    assert len(reader.pieces) < 8_193


def test_a_plain_stream_says_where_it_begins_and_when_it_was_reset() -> None:
    begin = eventstream.PADDING + eventstream.block(retry_ms=3_000) + eventstream.block(id="e1-4-00000004")
    reset = eventstream.event(
        '{"channel":"bench:1","cursor":"e2-1-00000001"}', id="e2-1-00000001", event="hybrid.reset"
    )
    [piece] = pieces(EventReader(is_plain=True), [event_stream_chunked([begin, reset])])
    begun, told = piece.steps
    assert isinstance(begun, Push)
    assert isinstance(told, Push)
    assert begun.subscribed is not None
    assert begun.subscribed.channels[0].position is not None
    assert (begun.subscribed.channels[0].channel, begun.subscribed.channels[0].position.offset) == ("", 4)
    assert told.reset is not None
    assert (told.reset.channel, told.reset.position.offset, told.reset.position.epoch) == ("bench:1", 1, "e2")


def test_a_plain_stream_that_sends_away_says_for_how_long() -> None:
    words = eventstream.block(retry_ms=4_500)
    [piece] = pieces(EventReader(is_plain=True), [event_stream_chunked([words])])
    [push] = piece.steps
    assert isinstance(push, Push)
    assert push.disconnect is not None
    assert (push.disconnect.code, push.disconnect.delay_ms) == (1012, 1_500)
    [piece] = pieces(
        EventReader(is_plain=True), [event_stream_chunked([eventstream.comment("4401 token_expired: over")])]
    )
    [push] = piece.steps
    assert isinstance(push, Push)
    assert push.disconnect is not None
    assert (push.disconnect.code, push.disconnect.reason) == (4401, "token_expired")


def test_a_stream_without_chunks_is_read_as_it_is() -> None:
    reader = EventReader(is_plain=False, is_chunked=False)
    data = event_stream_plain([session_event(publication(n)) for n in (1, 2)])
    assert offsets(list(pieces(reader, [data[:60], data[60:]]))) == [1, 2]


def test_polls_are_read() -> None:
    body = b'{"pushes":[%b,%b]}' % (session_json(publication(3)), session_json(publication(4)))
    piece = PollReader().read(body, b"")
    assert piece.run is not None
    assert (piece.run.first, piece.run.last) == (3, 4)
    assert msgspec.to_builtins(piece.run.position) == {"offset": 4, "epoch": "e1", "tag": "00000004"}


def test_fragments_with_a_ping_between_them_are_put_together() -> None:
    text = session_json(publication(1))
    first = bytes((0x01, 10)) + text[:10]
    last = bytes((0x80, 126)) + len(text[10:]).to_bytes(2, "big") + text[10:]
    ping = b"\x89\x02hi"
    found = list(pieces(FrameReader(), [first, ping, last]))
    assert offsets(found) == [1]
    assert found[-1].pings == [b"hi"]


def test_pings_and_closes_are_heard() -> None:
    piece = FrameReader().read(b"\x89\x02hi\x88\x04\x0f\xa1no", b"")
    assert (piece.pings, piece.closed, piece.run) == ([b"hi"], (4001, "no"), None)


def test_the_end_of_a_chunked_stream_is_heard() -> None:
    assert EventReader(is_plain=False).read(b"0\r\n\r\n", b"").is_end


@pytest.mark.parametrize(
    ("reader", "data"),
    [
        (FrameReader(), b"\x81\x81\0\0\0\0x"),  # masked
        (FrameReader(), b"\xc1\x02{}"),  # compressed, which nobody asked for
        (FrameReader(), websocket_text([b"no json"])),
        (FrameReader(), b"\x81\x7f" + (2**40).to_bytes(8, "big")),
        (EventReader(is_plain=False), event_stream_chunked([b"data: no json\n\n"])),
        (EventReader(is_plain=True), event_stream_chunked([b"id: x\ndata: 1\n\n"])),
        (EventReader(is_plain=True), event_stream_chunked([b"id: e1-1-00000001\ndata: {\n\n"])),
        (PollReader(), b"<html>"),
    ],
)
def test_what_cannot_be_read_is_a_fault(reader: Reader | PollReader, data: bytes) -> None:
    with pytest.raises(Unreadable):
        reader.read(data, b"")


def test_data_without_the_mark_has_no_latency_and_counts() -> None:
    data = [b'"hello"', b'"@12"', b'{"@":1}', b"null", b'"@%019d"' % 7]
    items = [publication(n + 1, data=value) for n, value in enumerate(data)]
    [piece] = pieces(FrameReader(), [sessions_over_websocket(items)])
    assert (piece.count, piece.sent_ns) == (5, [7])
