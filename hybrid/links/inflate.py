"""Messages that a client compressed, inflated one by one within a bound (RFC 7692, section 7.2.2), without I/O.

Nothing is kept between two messages: the inflater, some 40 KB with its window, lives as long as one call.
"""

from __future__ import annotations

import zlib
from typing import Final

_TAIL: Final = b"\x00\x00\xff\xff"  # what a sender has cut off: the end of an empty stored block
_LEFT: Final = (_TAIL, b"\x00" + _TAIL)  # behind a last block, which a sender may use as well (section 7.2.3.4)
_RAW: Final = -15  # no zlib header, and a window as large as any client's


class BrokenMessage(Exception):
    """It is no DEFLATE stream."""


def inflate(payload: bytes, max_bytes: int) -> bytes | None:
    """Inflate one message; None if that would be more than `max_bytes`, of which no more than one byte is made.

    A stream that stops in the middle of a block gives what is there, as zlib does: what is wrong with it shows where
    the message is read. Raises BrokenMessage.
    """
    inflater = zlib.decompressobj(_RAW)
    try:
        inflated = inflater.decompress(payload + _TAIL, max_bytes + 1)
    except zlib.error:
        raise BrokenMessage from None
    if len(inflated) > max_bytes:
        return None
    if inflater.eof and inflater.unused_data not in _LEFT:
        raise BrokenMessage
    return inflated
