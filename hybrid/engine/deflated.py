"""Publications compressed for the links that take them so (permessage-deflate, RFC 7692), once for all of them.

Each publication is compressed by itself: what one publisher wrote never stands in the window of another one's, and
nothing that is written to one client only (its session, replies, a page of history) is compressed at all. So the length
of a frame tells of that publication and of nothing else.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final

from hybrid.engine.encodings import PLAIN_JSON, SESSION_JSON, SESSION_MSGPACK, Encoding
from hybrid.engine.link import Deflated, Link
from hybrid.model import Publication

_LEVEL: Final = 1
"""The fastest: for JSON the others save little more and take up to three times as long (`make bench-compression`)."""
_RAW: Final = -15
_TAIL: Final = b"\x00\x00\xff\xff"  # which every receiver adds again (RFC 7692, section 7.2.1)


def deflate(payload: bytes) -> bytes:
    """The payload as `Deflated`, or as it is where that is not smaller."""
    # One for each: to keep one that forgets would save a microsecond, and leave it to zlib that nothing is shared.
    packer = zlib.compressobj(_LEVEL, wbits=_RAW)
    packed = (packer.compress(payload) + packer.flush(zlib.Z_SYNC_FLUSH)).removesuffix(_TAIL)
    return Deflated(packed) if len(packed) < len(payload) else payload


class Compression:
    """The compressed twin of each encoding that WebSockets carry."""

    __slots__ = ("_may_deflate", "_min_bytes", "_twins")

    def __init__(self, min_bytes: int, may_deflate: Callable[[str], bool]) -> None:
        """Payloads of fewer bytes stay as they are, and so do those of channels that `may_deflate` says no of."""
        self._min_bytes = min_bytes
        self._may_deflate = may_deflate
        self._twins = {plain: self._twin(plain) for plain in (SESSION_JSON, SESSION_MSGPACK, PLAIN_JSON)}

    def encoding_for(self, link: Link, encoding: Encoding) -> Encoding:
        """What a link that wants this encoding gets."""
        return self._twins.get(encoding, encoding) if link.takes_deflated else encoding

    def _twin(self, plain: Encoding) -> Encoding:
        def encode(publication: Publication) -> bytes:
            payload = plain.encode(publication)
            if len(payload) < self._min_bytes or not self._may_deflate(publication.channel):
                return payload
            return deflate(payload)

        return Encoding(f"{plain.name}-deflated", encode, plain.announce)
