"""What a WebSocket client sends, from bytes to whole messages (RFC 6455, section 5), without I/O.

It differs from a general frame parser in what it is asked: the next message only. So its owner can stop between two
messages that came in one packet, raise the size limit after the first (a token) and go on with the second (an attach),
and what breaks a rule is refused when its *header* is there, before its payload is waited for; a compressed message is
inflated up to the same limit and no further. Nothing needs to be
kept while no bytes are incomplete, which is nearly always: a link makes a reader for the bytes at hand and drops it.
Unmasking and close frames are left to the `websockets` library, which the tests also use as the oracle.
"""

from __future__ import annotations

from typing import Final

from websockets.exceptions import ProtocolError
from websockets.frames import Close

from hybrid.links.inflate import BrokenMessage, inflate

try:
    from websockets.speedups import apply_mask
except ImportError:  # an interpreter for which websockets has no compiled part
    from websockets.utils import apply_mask

TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA
_CONTINUATION: Final = 0x0
_RSV1: Final = 0x40
_KNOWN: Final = frozenset((_CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG))


class BrokenFrame(Exception):
    """The peer broke RFC 6455 or a limit. `code` is what the connection is closed with."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class MessageReader:
    """Turns the bytes of one client into messages and control frames, in order."""

    __slots__ = (
        "_data",
        "_first_opcode",
        "_fragment_bytes",
        "_fragments",
        "_is_deflated",
        "_position",
        "_takes_deflated",
    )

    def __init__(self, *, takes_deflated: bool = False) -> None:
        """`takes_deflated`: permessage-deflate was agreed on, each message for itself (RFC 7692, section 7.1.1)."""
        self._takes_deflated = takes_deflated
        self._is_deflated = False  # the message in progress, or that of the last frame that was looked at
        self._data: bytes | bytearray = b""
        self._position = 0  # of the first byte of `_data` not yet consumed
        self._fragments: list[bytes] | None = None  # of the message in progress
        self._fragment_bytes = 0  # of all of them
        self._first_opcode = TEXT  # of that message

    @property
    def is_empty(self) -> bool:
        """True when nothing is incomplete: the reader may be dropped and another one go on."""
        return self._position == len(self._data) and self._fragments is None

    def feed(self, data: bytes) -> None:
        """Add what came from the socket. Costs as much as `data` is long, however much waits already."""
        if self._position == len(self._data):
            self._data = data
            self._position = 0
            return
        if isinstance(self._data, bytes):
            # Only an incomplete frame is ever copied, and once: a client that sends single bytes must not make
            # every one of them copy all those before it.
            self._data = bytearray(memoryview(self._data)[self._position :])
        else:
            del self._data[: self._position]
        self._position = 0
        self._data += data

    def next_event(self, message_max_bytes: int, fragments_max: int) -> tuple[int, bytes] | None:
        """Return the next whole message or control frame as (opcode, payload), or None until more bytes come.

        The opcode of a message is that of its first frame; text has been checked to be UTF-8. Raises BrokenFrame; the
        reader is of no use afterwards.
        """
        while True:
            frame = self._next_frame(message_max_bytes, fragments_max)
            if frame is None:
                return None
            is_final, opcode, payload = frame
            if opcode > BINARY:
                return opcode, payload
            if opcode == _CONTINUATION:
                fragments = self._fragments
                assert fragments is not None  # _next_frame refuses a continuation of nothing
                fragments.append(payload)
                self._fragment_bytes += len(payload)
                if not is_final:
                    continue
                opcode, payload = self._first_opcode, b"".join(fragments)
                self._fragments = None
            elif not is_final:
                self._first_opcode = opcode
                self._fragments = [payload]
                self._fragment_bytes = len(payload)
                continue
            if self._is_deflated:
                self._is_deflated = False
                payload = self._inflated(payload, message_max_bytes)
            if opcode == TEXT and not payload.isascii():
                try:
                    payload.decode()
                except UnicodeDecodeError:
                    raise BrokenFrame(1007, "text is not UTF-8") from None
            return opcode, payload

    @staticmethod
    def _inflated(payload: bytes, message_max_bytes: int) -> bytes:
        try:
            inflated = inflate(payload, message_max_bytes)
        except BrokenMessage:
            raise BrokenFrame(1007, "the message cannot be inflated") from None
        if inflated is None:
            raise BrokenFrame(1009, f"a message has at most {message_max_bytes} bytes")
        return inflated

    def _next_frame(self, message_max_bytes: int, fragments_max: int) -> tuple[bool, int, bytes] | None:
        data, start = self._data, self._position
        available = len(data) - start
        if available < 2:
            return None
        first, second = data[start], data[start + 1]
        opcode, length = first & 0x0F, second & 0x7F
        is_final = first >= 0x80
        reserved = first & 0x70
        if reserved and not (self._takes_deflated and reserved == _RSV1 and opcode in (TEXT, BINARY)):
            raise BrokenFrame(1002, "reserved bits are set to what was not agreed on")
        if opcode not in _KNOWN:
            raise BrokenFrame(1002, "unknown opcode")
        if second < 0x80:
            raise BrokenFrame(1002, "a client's frames must be masked")
        body = start + 6
        if opcode > BINARY:
            if length > 125 or not is_final:
                raise BrokenFrame(1002, "control frames are whole and at most 125 bytes")
        else:
            if (opcode == _CONTINUATION) == (self._fragments is None):
                raise BrokenFrame(1002, "frames of a message are out of order")
            if opcode != _CONTINUATION:
                self._is_deflated = reserved != 0
            if length == 126:
                if available < 4:
                    return None
                length, body = int.from_bytes(data[start + 2 : start + 4], "big"), start + 8
                if length < 126:
                    raise BrokenFrame(1002, "length is not in its shortest form")
            elif length == 127:
                if available < 10:
                    return None
                length, body = int.from_bytes(data[start + 2 : start + 10], "big"), start + 14
                if length < 65_536:
                    raise BrokenFrame(1002, "length is not in its shortest form")
            announced = length
            if self._fragments is not None:
                if len(self._fragments) >= fragments_max:
                    raise BrokenFrame(1009, f"a message has at most {fragments_max} fragments")
                announced += self._fragment_bytes
            if announced > message_max_bytes:
                raise BrokenFrame(1009, f"a message has at most {message_max_bytes} bytes")
        end = body + length
        if len(data) < end:
            return None
        payload = apply_mask(data[body:end], data[body - 4 : body]) if length else b""
        self._position = end
        return is_final, opcode, payload


def parse_close(payload: bytes) -> tuple[int, str]:
    """Return code and reason of a close frame; 1005 where it has none (RFC 6455, sections 5.5.1 and 7.4).

    Raises BrokenFrame for a code that must not be sent and for a reason that is not UTF-8.
    """
    try:
        close = Close.parse(payload)
    except UnicodeDecodeError:
        raise BrokenFrame(1007, "reason is not UTF-8") from None
    except ProtocolError:
        raise BrokenFrame(1002, "malformed close frame") from None
    return int(close.code), close.reason
