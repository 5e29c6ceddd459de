"""Whatever `recognise` lets through, h11 reads the same; what it does not know for certain, it leaves alone."""

from __future__ import annotations

from typing import Final

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.links.recognise import StreamRequest, Verdict, recognise

PREFIX: Final = b"/v1/"
KEY: Final = b"dGhlIHNhbXBsZSBub25jZQ=="
WEBSOCKET: Final = (
    b"GET /v1/stream?a=b HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Key: " + KEY + b"\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: x, hybrid.v1\r\n\r\n"
)
EVENTS: Final = b"GET /v1/channels/a:b HTTP/1.1\r\nHOST:test\r\nAccept: text/event-stream \t\r\n\r\n"
POST: Final = b"POST /v1/stream HTTP/1.1\r\nhost: test\r\naccept: text/event-stream\r\ncontent-length: 4\r\n\r\n{ } "

METHODS = st.sampled_from([b"GET", b"POST", b"get", b"HEAD", b"GET "])
TARGETS = st.one_of(
    st.sampled_from([b"/v1/stream", b"/v1/channels/%2f?history=1", b"/v2/", b"/v1/a b", b"/v1/\xe2\x82\xac", b"*"]),
    st.binary(max_size=8).map(lambda path: PREFIX + path),
)
VERSIONS = st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"http/1.1", b"HTTP/1.1 "])
NAMES = st.one_of(
    st.sampled_from(
        b"Host Accept Upgrade Connection Sec-WebSocket-Key Sec-WebSocket-Version Cookie Content-Length "
        b"Transfer-Encoding Expect X-Forwarded-For".split()
    ),
    st.binary(max_size=4),
)
VALUES = st.one_of(
    st.sampled_from(
        [b" test", b"text/event-stream", b"websocket", b"Upgrade", b"13", KEY, b"4", b"0", b"-1", b"chunked", b" \t "]
    ),
    st.binary(max_size=6),
)
ENDS = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r"])
LINES = st.builds(lambda name, value, end: name + b":" + value + end, NAMES, VALUES, ENDS)
BODIES = st.sampled_from([b"", b"", b"abcd", b"abcde", b"GET / HTTP/1.1\r\n\r\n"])
PLAIN = st.sampled_from([WEBSOCKET, EVENTS, POST])


def built(method: bytes, target: bytes, version: bytes, lines: list[bytes], body: bytes) -> bytes:
    return method + b" " + target + b" " + version + b"\r\n" + b"".join(lines) + b"\r\n" + body


def with_lines(request: bytes, place: int, lines: list[bytes]) -> bytes:
    """A plain request with further lines somewhere behind its first."""
    head, _, body = request.partition(b"\r\n\r\n")
    own = [line + b"\r\n" for line in head.split(b"\r\n")]
    at = 1 + place % len(own)
    return b"".join([*own[:at], *lines, *own[at:]]) + b"\r\n" + body


def mutated(request: bytes, place: int, byte: int) -> bytes:
    at = place % len(request)
    return request[:at] + bytes((byte,)) + request[at + 1 :]


REQUESTS = st.one_of(
    st.builds(built, METHODS, TARGETS, VERSIONS, st.lists(LINES, max_size=6), BODIES),
    st.builds(with_lines, PLAIN, st.integers(0, 9), st.lists(LINES, max_size=2)),
    st.builds(mutated, PLAIN, st.integers(0, 400), st.integers(0, 255)),
)


def read_by_h11(data: bytes) -> tuple[h11.Request, bytes, bytes]:
    """The request, its body, and what is behind it. Raises h11.RemoteProtocolError."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=16_384)
    connection.receive_data(data)
    request = connection.next_event()
    assert isinstance(request, h11.Request)
    assert not connection.they_are_waiting_for_100_continue
    body = b""
    while isinstance(event := connection.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    return request, body, connection.trailing_data[0]


def check(data: bytes) -> None:
    found = recognise(data, PREFIX)
    if not isinstance(found, StreamRequest):
        return
    request, body, rest = read_by_h11(data)
    assert request.http_version == b"1.1"
    assert (request.method, request.target) == (found.method.encode(), found.target)
    assert list(request.headers) == found.headers
    assert (body, rest) == (found.body, b"")
    assert found.target.startswith(PREFIX)


@given(REQUESTS)
def test_what_is_recognised_is_read_by_h11_the_same(data: bytes) -> None:
    check(data)


@pytest.mark.parametrize("request_", [WEBSOCKET, EVENTS, POST])
def test_every_beginning_is_incomplete_and_every_byte_more_is_other(request_: bytes) -> None:
    """Not until it is long enough to tell, when another parser may as well read it."""
    known_from = request_.index(PREFIX) + len(PREFIX)
    for length in range(len(request_)):
        assert recognise(request_[:length], PREFIX) is (Verdict.OTHER if length < known_from else Verdict.INCOMPLETE)
    assert isinstance(recognise(request_, PREFIX), StreamRequest)
    assert recognise(request_ + b"x", PREFIX) is Verdict.OTHER
    check(request_)


def test_what_a_request_asks_for() -> None:
    found = recognise(WEBSOCKET, PREFIX)
    assert isinstance(found, StreamRequest)
    assert (found.websocket_key, found.subprotocols) == (KEY.decode(), ["x", "hybrid.v1"])
    found = recognise(EVENTS, PREFIX)
    assert isinstance(found, StreamRequest)
    assert found.websocket_key == ""
    assert found.headers == [(b"host", b"test"), (b"accept", b"text/event-stream")]
    found = recognise(POST, PREFIX)
    assert isinstance(found, StreamRequest)
    assert found.body == b"{ } "


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"HTTP/1.1", b"HTTP/1.0"),
        (b"/v1/", b"/v2/"),
        (b"GET", b"HEAD"),
        (b"Host: test", b"X: test"),
        (b"Host: test", b"Host: test\r\nHost: test"),
        (b"Host: test", b"Host: test\r\n folded"),
        (b"Host: test", b"Host : test"),
        (b"Host: test", b"Host: t\xebst"),
        (b"Host: test", b"Host: test\r\nExpect: 100-continue"),
        (b"Host: test", b"Host: test\r\nTransfer-Encoding: chunked"),
        (b"Host: test", b"Host: test\r\nContent-Length: 0"),
        (b"Host: test\r\n", b"Host: test\n"),
        (b"websocket", b"h2c"),
        (b"keep-alive, Upgrade", b"keep-alive"),
        (b"Version: 13", b"Version: 12"),
        (b"Sec-WebSocket-Key: " + KEY, b"Sec-WebSocket-Key:"),
    ],
)
def test_what_is_unusual_is_left_alone(old: bytes, new: bytes) -> None:
    assert recognise(WEBSOCKET.replace(old, new), PREFIX) is Verdict.OTHER


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"text/event-stream", b"application/json"),
        (b"accept: text/event-stream\r\n", b""),
        (b"content-length: 4\r\n", b""),
        (b"length: 4", b"length: +4"),
        (b"length: 4", b"length: 4, 4"),
        (b"length: 4", b"length: 1000000"),
        (b"length: 4", b"length: 3"),
    ],
)
def test_a_body_whose_end_is_not_certain_is_left_alone(old: bytes, new: bytes) -> None:
    assert recognise(POST.replace(old, new), PREFIX) is Verdict.OTHER


def test_a_head_that_could_be_read_in_many_ways_is_refused_in_one() -> None:
    """With two repetitions side by side that match the same characters, this would not return within a lifetime."""
    line = b"A:" + b" \t" * 4_000 + b"\r\n"
    data = b"GET /v1/ HTTP/1.1\r\n" + line * 3 + b"\x00: x\r\n\r\n"
    assert recognise(data, PREFIX) is Verdict.OTHER
