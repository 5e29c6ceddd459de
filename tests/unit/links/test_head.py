"""Which requests are read outside of the server in front, and that they are read as it reads them."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.links.head import REMEMBERED_MAX_BYTES, Headers, HeadReader, read_head

GET = b"GET /v1/ping?a=1 HTTP/1.1\r\nHost: test\r\n%b\r\n"
POST = b"POST /v1/publish HTTP/1.1\r\nHost: test\r\n%b\r\n"


def test_a_plain_request_is_read() -> None:
    head = read_head(POST % b"Content-Length: 12\r\nX-Two:  words here \t\r\nx-two: again\r\n")
    assert head is not None
    assert (head.method, head.raw_path, head.query_string, head.lines.body_bytes) == ("POST", b"/v1/publish", b"", 12)
    assert head.lines.headers == (
        (b"host", b"test"),
        (b"content-length", b"12"),
        (b"x-two", b"words here"),
        (b"x-two", b"again"),
    )
    head = read_head(GET % b"Connection: Keep-Alive\r\n")
    assert head is not None
    assert (head.raw_path, head.query_string, head.lines.body_bytes) == (b"/v1/ping", b"a=1", 0)


NOT_PLAIN = {
    "an upgrade": GET % b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
    "an upgrade without Connection": GET % b"Upgrade: h2c\r\n",
    "HTTP/2 settings": GET % b"HTTP2-Settings: AAA\r\n",
    "the last request": GET % b"Connection: close\r\n",
    "several words for the connection": GET % b"Connection: keep-alive, close\r\n",
    "an expectation": POST % b"Content-Length: 1\r\nExpect: 100-continue\r\n",
    "chunks": POST % b"Transfer-Encoding: chunked\r\n",
    "chunks in disguise": POST % b"Transfer-Encoding: xchunked\r\n",
    "chunks and a length": POST % b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
    "a length before chunks": POST % b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
    "two lengths": POST % b"Content-Length: 3\r\nContent-Length: 3\r\n",
    "two lengths in one": POST % b"Content-Length: 3, 3\r\n",
    "a signed length": POST % b"Content-Length: +3\r\n",
    "an endless length": POST % (b"Content-Length: " + b"9" * 40 + b"\r\n"),
    "no length": POST % b"Content-Length:\r\n",
    "a space before the colon": GET % b"Content-Length : 3\r\n",
    "a folded header": GET % b"X: a\r\n b\r\n",
    "a NUL": GET % b"X: a\0b\r\n",
    "a bare CR": GET % b"X: a\rb\r\n",
    "a bare LF": GET % b"X: a\nY: b\r\n",
    "a request hidden behind bare LFs": b"GET /v1/ping HTTP/1.1\r\nHost: test\n\nGET /x HTTP/1.1\r\nHost: test\r\n\r\n",
    "no host": b"GET /v1/ping HTTP/1.1\r\nAccept: */*\r\n\r\n",
    "two hosts": b"GET /v1/ping HTTP/1.1\r\nHost: test\r\nhost: test\r\n\r\n",
    "HTTP/1.0": b"GET /v1/ping HTTP/1.0\r\nHost: test\r\n\r\n",
    "HTTP/1.2": b"GET /v1/ping HTTP/1.2\r\nHost: test\r\n\r\n",
    "HTTP/0.9": b"GET /v1/ping\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\n",
    "two spaces": b"GET  /v1/ping HTTP/1.1\r\nHost: test\r\n\r\n",
    "an empty line in front": b"\r\nGET /v1/ping HTTP/1.1\r\nHost: test\r\n\r\n",
    "nothing": b"\r\n\r\n",
    "a method of its own": b"BREW /v1/ping HTTP/1.1\r\nHost: test\r\n\r\n",
    "a method in small letters": b"get /v1/ping HTTP/1.1\r\nHost: test\r\n\r\n",
    "a tunnel": b"CONNECT test:80 HTTP/1.1\r\nHost: test\r\n\r\n",
    "a byte that is no ASCII in the target": b"GET /v1/\xff HTTP/1.1\r\nHost: test\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n",
}


@pytest.mark.parametrize("raw", NOT_PLAIN.values(), ids=NOT_PLAIN.keys())
def test_what_is_not_plain_is_for_the_server_in_front(raw: bytes) -> None:
    assert read_head(raw) is None


_words = st.sampled_from(
    [
        *(b"GET", b"POST", b"HEAD", b" ", b"/v1/ping", b"?", b"a", b"%2F", b"#", b"HTTP/1.1", b"HTTP/1.0", b"\r\n"),
        *(b"\n", b"\r", b"\t", b":", b": ", b"Host", b"host", b"Content-Length", b"content-length", b"0", b"3", b"+"),
        *(b",", b"Transfer-Encoding", b"chunked", b"Connection", b"close", b"keep-alive", b"\0", b"\xff", b"\x7f"),
        *(b"\x01", b'"', b";", b"\x0b"),
    ]
)
_lines = st.lists(_words, max_size=6).map(b"".join)
_heads = st.one_of(
    st.lists(_words, max_size=24).map(b"".join),
    st.lists(_lines, max_size=5).map(lambda lines: b"GET /v1/a HTTP/1.1\r\nHost: t\r\n" + b"\r\n".join(lines)),
    st.lists(_lines, max_size=5).map(lambda lines: b"POST /v1/a HTTP/1.1\r\n" + b"\r\n".join(lines)),
)


@given(_heads)
def test_whatever_is_read_the_server_in_front_would_read_as_well(text: bytes) -> None:
    """Two readers that see different ends of one request are how requests are smuggled (RFC 9112, section 11.2)."""
    raw = text + b"\r\n\r\n"
    raw = raw[: raw.find(b"\r\n\r\n") + 4]
    head = read_head(raw)
    if head is None:
        return
    server = h11.Connection(h11.SERVER)
    server.receive_data(raw)
    try:
        event = server.next_event()
    except h11.RemoteProtocolError as error:
        assert "host" in str(error).lower(), "it is refused by us, too, for its Host"  # noqa: PT017
        return
    assert isinstance(event, h11.Request)
    assert (event.method.decode(), event.target.partition(b"?")[0]) == (head.method, head.raw_path)
    assert tuple(event.headers) == head.lines.headers
    assert (
        server.next_event() is h11.NEED_DATA
        if head.lines.body_bytes
        else isinstance(server.next_event(), h11.EndOfMessage)
    )
    assert server.trailing_data[0] == b""


_FIRST = b"GET /v1/a HTTP/1.1\r\n"
_lines_of_heads = st.sampled_from(
    [b"Host: t\r\n\r\n", b"Host: t\r\nX: 1\r\n\r\n", b"Content-Length: 3\r\nHost: t\r\n\r\n"]
)
_requests = st.tuples(
    st.one_of(st.just(_FIRST), _lines, st.lists(_words, max_size=8).map(lambda words: b"".join(words) + b"\r\n")),
    st.one_of(_lines_of_heads, _heads),
).map(b"".join)


@given(st.lists(_requests, max_size=6))
def test_what_was_read_before_changes_nothing(requests: list[bytes]) -> None:
    reader = HeadReader()
    for text in requests:
        raw = text + b"\r\n\r\n"
        raw = raw[: raw.find(b"\r\n\r\n") + 4]
        assert reader.read(raw) == read_head(raw)


@pytest.mark.parametrize("method", [b"GET", b"POST"])
@pytest.mark.parametrize("character", range(256))
def test_every_character_of_a_target_is_judged_as_without_what_came_before(character: int, method: bytes) -> None:
    reader, one = HeadReader(), bytes([character])
    for target in (b"/v1/a", b"/v1/a?b=1", b"/v1/a", b"/", b"", b"/?"):
        for text in (target, target + one, target + one + b"?", one + target):
            raw = method + b" " + text + b" HTTP/1.1\r\nHost: test\r\n\r\n"
            assert reader.read(raw) == read_head(raw)


def test_lines_that_came_before_are_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, lines = HeadReader(), b"Host: t\r\nContent-Length: 3\r\n\r\n"
    first = reader.read(b"POST /v1/a HTTP/1.1\r\n" + lines)
    assert first is not None
    monkeypatch.setattr("hybrid.links.head.read_head", lambda _: None)
    second = reader.read(b"GET /v1/b?c=d HTTP/1.1\r\n" + lines)
    assert second is not None
    assert (second.method, second.raw_path, second.query_string) == ("GET", b"/v1/b", b"c=d")
    assert second.lines is first.lines
    assert reader.read(b"GET /v1/b HTTP/1.1\r\nX: 1\r\n" + lines) is None


def test_long_lines_are_not_remembered() -> None:
    for longer in (False, True):
        lines = b"Host: t\r\nX: %b\r\n\r\n" % (b"x" * (REMEMBERED_MAX_BYTES - 16 + longer))
        assert len(lines) == REMEMBERED_MAX_BYTES + longer
        reader = HeadReader()
        first, second = reader.read(b"GET /v1/a HTTP/1.1\r\n" + lines), reader.read(b"GET /v1/a HTTP/1.1\r\n" + lines)
        assert first is not None
        assert second is not None
        assert first == second
        assert (first.lines is second.lines) is not longer


def test_what_is_found_in_lines_is_looked_for_once() -> None:
    asked: list[Headers] = []

    def count(headers: Headers) -> int:
        asked.append(headers)
        if len(asked) == 1:
            raise ValueError("not yet")
        return len(headers)

    head = read_head(GET % b"X: 1\r\n")
    assert head is not None
    with pytest.raises(ValueError, match="not yet"):
        head.lines.read(count)
    assert [head.lines.read(count), head.lines.read(count), len(asked)] == [2, 2, 2]
