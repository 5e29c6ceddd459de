"""What came, read once for each distinct piece of bytes: thousands of clients of one channel get the same ones.

A `Piece` is what one `recv` brought (behind what was left of the one before), read: the publications in it as runs of
consecutive offsets, whatever else it says, and what is left at its end. A reader keeps its pieces for a moment and
finds them by their bytes, so that the next client that gets the same costs one look-up; that is how every offset of
every client can be checked at the speed of counting.

Payloads of the load begin with `@` and the monotonic time in nanoseconds at which they were sent.
"""

from __future__ import annotations

import re
import struct
from typing import Final, Protocol

import msgspec

from hybrid.bench.histogram import Histogram
from hybrid.bench.http import Unreadable, read_chunks
from hybrid.errors import BY_NUMBER, HybridError
from hybrid.protocol.codec import JSON
from hybrid.protocol.commands import WirePosition
from hybrid.protocol.cursor import parse_composite, parse_cursor, to_wire
from hybrid.protocol.pushes import Disconnect, Push, Reset, Subscribed, SubscribedAll

MARK: Final = "@"
MARK_DIGITS: Final = 19
_PIECES_MAX: Final = 8_192
_PIECES_MAX_BYTES: Final = 33_554_432
_FRAME_MAX_BYTES: Final = 33_554_432
_RETRY_MS: Final = 3_000  # what a plain stream tells at its beginning; more is the wish to be left alone for longer
_LAST_WORDS: Final = re.compile(rb": (\d{4}) (\w+)")


class Run:
    """Consecutive publications of one channel; `channel` is None where the client has only one and is not told."""

    __slots__ = ("channel", "epoch", "first", "last", "tag")

    def __init__(self, channel: str | None, epoch: str, offset: int, tag: str) -> None:
        self.channel = channel
        self.epoch = epoch
        self.first = self.last = offset
        self.tag = tag

    @property
    def position(self) -> WirePosition:
        """Of the last one."""
        return WirePosition(self.last, self.epoch, self.tag)


class Piece:
    """See the module's text. `run` is set where a piece is one run and nothing else, which is the usual case."""

    __slots__ = (
        "arrived_ns",
        "closed",
        "count",
        "is_end",
        "partial",
        "pings",
        "rest",
        "run",
        "sent_ns",
        "size",
        "steps",
    )

    def __init__(self) -> None:
        self.steps: list[Run | Push] = []
        self.run: Run | None = None
        self.count = 0
        self.size = 0
        self.sent_ns: list[int] = []
        self.arrived_ns: list[int] = []
        self.rest = b""
        self.partial = b""
        self.pings: list[bytes] = []
        self.closed: tuple[int, str] | None = None
        self.is_end = False


class Reader(Protocol):
    """Reads what one transport brings; one for all its clients."""

    pieces: dict[bytes | tuple[bytes, bytes], Piece]

    def read(self, data: bytes, partial: bytes) -> Piece:
        """Read a piece that is not among the `pieces` yet, and put it there. Raises Unreadable."""


class _Steps:
    """Gathers what a piece says. Runs of several channels may be woven into each other; nothing moves past a push."""

    def __init__(self, piece: Piece) -> None:
        self._piece = piece
        self._runs: dict[str | None, Run] = {}

    def publication(self, channel: str | None, position: WirePosition, data: object) -> None:
        run = self._runs.get(channel)
        if run is not None and run.last + 1 == position.offset and run.epoch == position.epoch:
            run.last, run.tag = position.offset, position.tag
        else:
            run = self._runs[channel] = Run(channel, position.epoch, position.offset, position.tag)
            self._piece.steps.append(run)
        self._piece.count += 1
        if isinstance(data, str) and data.startswith(MARK):
            digits = data[1 : 1 + MARK_DIGITS]
            if len(digits) == MARK_DIGITS and digits.isdecimal():
                self._piece.sent_ns.append(int(digits))

    def push(self, push: Push) -> None:
        if push.publication is not None:
            told = push.publication
            self.publication(told.channel, WirePosition(told.offset, told.epoch, told.tag), told.data)
        elif push.heartbeat is None:
            self._runs.clear()
            self._piece.steps.append(push)


class _Pieces:
    def __init__(self) -> None:
        self.pieces: dict[bytes | tuple[bytes, bytes], Piece] = {}
        self.last_ns = 0
        self.deliveries = 0
        self.received_bytes = 0
        self._size = 0
        self._histogram = Histogram()

    def settle(self) -> None:
        """Turn what came into latencies, and forget the pieces."""
        for piece in self.pieces.values():
            times = len(piece.arrived_ns)
            self.received_bytes += piece.size * times
            if piece.count and times:
                self.deliveries += piece.count * times
                self.last_ns = max(self.last_ns, piece.arrived_ns[-1])
            if piece.sent_ns and piece.arrived_ns:
                self._histogram.add_spread(piece.sent_ns, piece.arrived_ns)
        self.pieces.clear()
        self._size = 0

    def take_latencies(self, histogram: Histogram) -> None:
        """Add what was settled to `histogram`, and begin to count anew."""
        self.deliveries = self.received_bytes = 0
        histogram.merge(self._histogram.pairs(), self._histogram.max_us)
        self._histogram.clear()

    def _keep(self, key: bytes, partial: bytes, piece: Piece) -> Piece:
        if len(self.pieces) >= _PIECES_MAX or self._size > _PIECES_MAX_BYTES:
            self.settle()
        if len(piece.steps) == 1 and not (piece.pings or piece.closed or piece.is_end):
            [step] = piece.steps
            piece.run = step if isinstance(step, Run) else None
        piece.sent_ns.sort()
        piece.size = len(key) - len(piece.rest)
        self.pieces[(partial, key) if partial else key] = piece
        self._size += len(key) + len(partial)
        return piece


class FrameReader(_Pieces):
    """WebSocket frames of a session (RFC 6455, section 5): one push in each text frame, or several, one a line."""

    def read(self, data: bytes, partial: bytes) -> Piece:
        """See `Reader`."""
        piece = Piece()
        steps = _Steps(piece)
        start, end = 0, len(data)
        fragments: list[bytes] = []
        whole = 0  # up to here nothing is missing
        while end - start >= 2:
            head, length = data[start], data[start + 1]
            if length & 0x80:
                raise Unreadable("a server's frame is masked")
            at = start + 2
            if length == 126:
                if end < at + 2:
                    break
                length, at = int.from_bytes(data[at : at + 2], "big"), at + 2
            elif length == 127:
                if end < at + 8:
                    break
                length, at = int.from_bytes(data[at : at + 8], "big"), at + 8
                if length > _FRAME_MAX_BYTES:
                    raise Unreadable("a frame is larger than 32 MB")
            if end < at + length:
                break
            payload = data[at : at + length]
            start = at + length
            opcode = head & 0x0F
            if head & 0x70:
                raise Unreadable("a frame has bits that nobody asked for")
            if opcode >= 8:
                _control(piece, opcode, payload)
                if not fragments:
                    whole = start
                continue
            fragments.append(payload)
            if head & 0x80:
                for line in b"".join(fragments).splitlines():
                    steps.push(_push(line))
                fragments = []
                whole = start
        # A message of which fragments are still to come is read again when they are there, with what was between them.
        piece.rest = data[whole:]
        return self._keep(data, partial, piece)


class EventReader(_Pieces):
    """Event streams (WHATWG HTML, section 9.2): of sessions, or plain ones, whose events are publications by id."""

    def __init__(self, *, is_plain: bool, is_chunked: bool = True) -> None:
        super().__init__()
        self._is_plain = is_plain
        self._is_chunked = is_chunked

    def read(self, data: bytes, partial: bytes) -> Piece:
        """See `Reader`."""
        piece = Piece()
        body, used, piece.is_end = read_chunks(data) if self._is_chunked else (data, len(data), False)
        piece.rest = data[used:]
        text = partial + body
        end = text.rfind(b"\n\n") + 2
        if end >= 2:
            steps = _Steps(piece)
            for block in text[:end].split(b"\n\n"):
                if self._is_plain:
                    self._plain_block(block, steps)
                elif block.startswith(b"data: "):
                    steps.push(_push(block[6:]))
            piece.partial = text[end:]
        else:
            piece.partial = text
        return self._keep(data, partial, piece)

    def _plain_block(self, block: bytes, steps: _Steps) -> None:
        cursor = event = data = None
        for line in block.split(b"\n"):
            if line.startswith(b"id: "):
                cursor = line[4:]
            elif line.startswith(b"data: "):
                data = line[6:]
            elif line.startswith(b"event: "):
                event = line[7:]
            elif line.startswith(b"retry: ") and line[7:].isdigit() and int(line[7:]) > _RETRY_MS:
                steps.push(Push(disconnect=Disconnect(1012, "draining", True, int(line[7:]) - _RETRY_MS)))
            elif (words := _LAST_WORDS.match(line)) is not None:
                row = BY_NUMBER.get(int(words[1]))
                comes_back = row is None or row.comes_back
                steps.push(Push(disconnect=Disconnect(int(words[1]), words[2].decode(), comes_back)))
        if cursor is None:
            return
        try:
            positions = _positions(cursor)
            if event == b"hybrid.reset":
                told = msgspec.json.decode(data or b"", type=_PlainReset)
                steps.push(Push(reset=Reset(told.channel, to_wire(parse_cursor(told.cursor)))))
            elif data is None:
                channels = [Subscribed(name, position) for name, position in positions.items()]
                steps.push(Push(subscribed=SubscribedAll(channels)))
            elif "" in positions:
                steps.publication(None, positions[""], msgspec.json.decode(data))
            else:
                item = msgspec.json.decode(data, type=_Bundled)
                steps.publication(item.channel, positions[item.channel], item.data)
        except (msgspec.MsgspecError, HybridError, KeyError):
            raise Unreadable("an event cannot be read") from None


class PollReader(_Pieces):
    """Bodies of polls: `{"pushes": [...]}`."""

    def read(self, data: bytes, partial: bytes) -> Piece:
        """See `Reader`."""
        piece = Piece()
        steps = _Steps(piece)
        try:
            pushes = _polled.decode(data).pushes
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise Unreadable("the answer of a poll cannot be read") from None
        for push in pushes:
            steps.push(push)
        return self._keep(data, partial, piece)


class _PlainReset(msgspec.Struct):
    channel: str
    cursor: str


class _Bundled(msgspec.Struct):
    channel: str
    data: object


class _Polled(msgspec.Struct):
    pushes: list[Push]


_polled: Final = msgspec.json.Decoder(_Polled)


def _push(raw: bytes) -> Push:
    try:
        return JSON.decode_push(raw)
    except HybridError:
        raise Unreadable("a push cannot be read") from None


def _positions(cursor: bytes) -> dict[str, WirePosition]:
    """Of a composite cursor by channel, of a single one under ""."""
    text = cursor.decode()
    if "=" not in text:
        return {"": to_wire(parse_cursor(text))}
    return {channel: to_wire(position) for channel, position in parse_composite(text).items()}


def _control(piece: Piece, opcode: int, payload: bytes) -> None:
    if opcode == 8:
        [code] = struct.unpack("!H", payload[:2]) if len(payload) >= 2 else (1005,)
        piece.closed = (code, payload[2:].decode(errors="replace"))
    elif opcode == 9:
        piece.pings.append(payload)
