"""The head of a plain HTTP/1.1 request, from bytes to ASGI's terms (RFC 9112, sections 2 and 3), without I/O.

Only what needs no second thought is read here: whole heads of requests whose body, if any, has a Content-Length. All
else is for the server in front, which gets the same bytes and answers them as it always does. So nothing is lenient
here, and nothing is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, TypeAlias, TypeVar

import msgspec

try:
    from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
except ImportError:  # an interpreter for which it has no compiled part: every request is the server's
    HAS_PARSER = False
else:
    HAS_PARSER = True

Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]
_Result = TypeVar("_Result")

HEAD_END: Final = b"\r\n\r\n"
REMEMBERED_MAX_BYTES: Final = 4_096
"""Of lines that are kept for the next request of their connection: a long token, and what browsers add."""
_PLAIN_LINE: Final = re.compile(rb"(GET|POST) (/[!->@-~]*)(?:\?([!-~]*))? HTTP/1\.1\r\n")
_UNPLAIN: Final = frozenset((b"upgrade", b"expect", b"transfer-encoding", b"http2-settings"))


class HeadLines(msgspec.Struct, frozen=True):
    """What stands under a request's first line; names of `headers` are in lower case, as ASGI has them.

    All requests of a connection that say the same there share one of these, and what was found in it.
    """

    headers: Headers
    body_bytes: int
    _found: dict[Callable[[Headers], Any], Any] = msgspec.field(default_factory=dict)

    def __repr__(self) -> str:
        return f"HeadLines({len(self.headers)} headers, {self.body_bytes} bytes)"  # credentials are among them

    def read(self, reader: Callable[[Headers], _Result]) -> _Result:
        """What `reader` finds in the headers, which is asked once only. Raises what it raises, each time."""
        try:
            found: _Result = self._found[reader]
        except KeyError:
            found = self._found[reader] = reader(self.headers)
        return found


class Head(msgspec.Struct, frozen=True):
    """A request. `raw_path` is without the query."""

    method: str
    raw_path: bytes
    query_string: bytes
    lines: HeadLines

    def __repr__(self) -> str:
        return f"Head({self.method} {self.raw_path!r}, {self.lines})"  # a ticket may be in the query


class HeadReader:
    """Reads the heads of one connection's requests, one after the other.

    A client says much the same of itself each time. Lines that stood under the last request, byte for byte, are not
    read again: only the first line is. Longer ones than `REMEMBERED_MAX_BYTES` are.
    """

    __slots__ = ("_lines", "_text")

    def __init__(self) -> None:
        self._text = b""  # no head ends so
        self._lines: HeadLines | None = None

    def read(self, raw: bytes) -> Head | None:
        """As `read_head`."""
        cut = raw.find(b"\r\n") + 2
        if self._lines is not None and raw[cut:] == self._text:
            line = _PLAIN_LINE.fullmatch(raw, 0, cut)
            if line is not None:
                method, raw_path, query = line.groups(b"")
                return Head(method.decode("ascii"), raw_path, query, self._lines)
        head = read_head(raw)
        if head is not None:
            is_short = len(raw) - cut <= REMEMBERED_MAX_BYTES
            self._text, self._lines = (raw[cut:], head.lines) if is_short else (b"", None)
        return head


class _Notes:
    """What the parser calls."""

    __slots__ = ("headers", "hosts", "is_plain", "target")

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.hosts = 0
        self.is_plain = True

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        value = value.strip(b" \t")
        if name in _UNPLAIN or (name == b"connection" and value.lower() != b"keep-alive"):
            self.is_plain = False
        self.hosts += name == b"host"
        self.headers.append((name, value))


def read_head(raw: bytes) -> Head | None:
    """The request whose head is `raw`, up to and including its empty line; None where it is for the server in front.

    That is: anything malformed, another version than 1.1, none or several `Host`s, a body of unknown length, and
    whatever asks for something of the connection (`Connection` other than keep-alive, `Upgrade`, `Expect`).
    """
    notes = _Notes()
    parser = HttpRequestParser(notes)
    try:
        parser.feed_data(raw)
    except (HttpParserError, HttpParserUpgrade):
        return None
    method = parser.get_method()
    # The parser forgives a second space and an empty line in front.
    if not notes.is_plain or notes.hosts != 1 or not raw.startswith(b"%b %b HTTP/1.1\r\n" % (method, notes.target)):
        return None
    length = 0
    for name, value in notes.headers:
        if name == b"content-length":
            length = int(value)
    raw_path, _, query = notes.target.partition(b"?")
    return Head(method.decode("ascii"), raw_path, query, HeadLines(tuple(notes.headers), length))
