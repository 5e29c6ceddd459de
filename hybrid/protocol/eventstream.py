"""text/event-stream, both ways, and Last-Event-ID.

Source: WHATWG HTML, section 9.2 ("Server-sent events"), as it stands: lines end with CR LF, LF or CR and with nothing
else; `id` with a NUL is ignored; an event without data is not dispatched, though its id counts.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from hybrid.errors import ProtocolError
from hybrid.limits import CURSOR_MAX_BYTES, PADDING_BYTES

_LINE_END: Final = re.compile("\r\n|\n|\r")
_LINE_END_BYTES: Final = re.compile(b"\r\n|\n|\r")
_CONTROL: Final = re.compile("[\x00-\x1f\x7f]")
_BOM: Final = b"\xef\xbb\xbf"
_RETRY_MAX_DIGITS: Final = 9  # eleven days; the standard knows no bound, but Python's int() and the timers do

HEARTBEAT: Final = b":\n\n"
"""The smallest comment: keeps middle boxes awake and dispatches nothing."""
PADDING: Final = b":" + b" " * (PADDING_BYTES - 3) + b"\n\n"
"""Sent first: several browsers and proxies hold back the first kilobytes of an answer."""


def event(data: str, *, id: str | None = None, event: str | None = None, retry_ms: int | None = None) -> bytes:
    """One event, ready to send. Each line of `data` becomes a `data:` line, so its line ends arrive as LF.

    Raises ValueError for control characters in `id` or `event`: they would end the line, or the browser would drop it.
    """
    return b"".join((_fields(id, event, retry_ms), *(_line("data", part) for part in _LINE_END.split(data)), b"\n"))


def block(*, id: str | None = None, retry_ms: int | None = None) -> bytes:
    """A block without data: it sets the browser's last event id or its delay, and dispatches nothing.

    Raises ValueError as `event` does.
    """
    return _fields(id, None, retry_ms) + b"\n"


def comment(text: str = "") -> bytes:
    """A comment, one line for each of `text`: seen by nobody, but bytes on the wire."""
    return b"".join(b": %b\n" % part.encode() for part in _LINE_END.split(text)) + b"\n"


def _fields(id: str | None, event: str | None, retry_ms: int | None) -> bytes:
    lines = []
    if retry_ms is not None:
        lines.append(_line("retry", str(retry_ms)))
    if id is not None:
        lines.append(_line("id", _without_controls("id", id)))
    if event is not None:
        lines.append(_line("event", _without_controls("event", event)))
    return b"".join(lines)


def _line(name: str, value: str) -> bytes:
    return f"{name}: {value}\n".encode()


def _without_controls(name: str, value: str) -> str:
    if _CONTROL.search(value) is not None:
        raise ValueError(f"a control character in the {name} of an event")
    return value


def last_event_id(raw: bytes | str) -> str:
    """The value of a `Last-Event-ID` header, "" when it is empty or blank.

    Browsers send it as UTF-8; whoever hands it over as `str` has read it as Latin-1, which is undone here. Raises
    ProtocolError: `too_large` past 2 KB, `bad_request` for what is not UTF-8.
    """
    value = raw if isinstance(raw, bytes) else _header_bytes(raw)
    if len(value) > CURSOR_MAX_BYTES:
        raise ProtocolError("too_large", f"Last-Event-ID is longer than {CURSOR_MAX_BYTES} bytes.")
    try:
        return value.decode().strip(" \t")
    except UnicodeDecodeError:
        raise ProtocolError(None, "Last-Event-ID is not valid UTF-8.") from None


def _header_bytes(value: str) -> bytes:
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        # Somebody decoded it as UTF-8 already; a lone surrogate passes here and fails as the bad UTF-8 it is.
        return value.encode("utf-8", "surrogatepass")


class Event(msgspec.Struct, frozen=True, gc=False):
    """One dispatched event: `id` is the last event id at that time, "" before the first."""

    data: str
    event: str = "message"
    id: str = ""


class EventStreamParser:
    """Reads an event stream in pieces of any size. Sans-I/O; not thread-safe.

    `last_event_id` is what a browser would send when it reconnects; `retry_ms` is the last delay it was told, None
    before any. At most `event_max_bytes` of one event, or of one line, are kept.
    """

    def __init__(self, event_max_bytes: int = 1_048_576) -> None:
        self.last_event_id = ""
        self.retry_ms: int | None = None
        self._event_max_bytes = event_max_bytes
        self._is_first_line = True
        self._had_cr = False
        self._line: list[bytes] = []
        self._line_bytes = 0
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._event = ""
        self._id = ""
        self._is_broken = False

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that are complete with `chunk`. An event still open when a stream ends is not one.

        Raises ProtocolError `too_large` when a line or an event passes the bound; the parser is of no use then, and the
        events in front of it in the same chunk are lost with it: the caller reconnects after its last position.
        """
        if self._is_broken:
            raise self._too_large()
        if not chunk:
            return []
        if self._had_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        self._had_cr = chunk.endswith(b"\r")
        lines = _LINE_END_BYTES.split(chunk)
        rest = lines.pop()
        events: list[Event] = []
        for line in lines:
            self._keep(line)
            whole = b"".join(self._line)
            self._line.clear()
            self._line_bytes = 0
            self._take_line(whole, events)
        self._keep(rest)
        return events

    def _keep(self, part: bytes) -> None:
        if part:
            self._line.append(part)
            self._line_bytes += len(part)
            if self._line_bytes > self._event_max_bytes:
                raise self._too_large()

    def _take_line(self, line: bytes, events: list[Event]) -> None:
        if self._is_first_line:
            self._is_first_line = False
            line = line.removeprefix(_BOM)
        if not line:
            self._dispatch(events)
            return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data_bytes += len(value) + 1
            if self._data_bytes > self._event_max_bytes:
                raise self._too_large()
            self._data.append(value)
        elif name == b"id":
            if b"\0" not in value:
                self._id = value.decode(errors="replace")
        elif name == b"event":
            self._event = value.decode(errors="replace")
        elif name == b"retry" and value.isdigit() and len(value) <= _RETRY_MAX_DIGITS:
            self.retry_ms = int(value)

    def _dispatch(self, events: list[Event]) -> None:
        self.last_event_id = self._id
        if self._data:
            data = b"\n".join(self._data).decode(errors="replace")
            events.append(Event(data, self._event or "message", self._id))
            self._data.clear()
            self._data_bytes = 0
        self._event = ""

    def _too_large(self) -> ProtocolError:
        self._is_broken = True
        return ProtocolError("too_large", f"An event is larger than {self._event_max_bytes} bytes.")
