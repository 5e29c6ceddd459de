"""Names as they come from a peer: channels, in frames and in URL paths, and types.

A name has one true form: whatever is not in it is refused, never repaired, so that two spellings of one channel cannot
exist and no check can be walked around. Rules: `docs/protocol.md`, section "Words"; percent-encoding: RFC 3986,
section 2.1; path segments: section 3.3. No message quotes what was sent.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from hybrid.errors import ProtocolError
from hybrid.limits import CHANNEL_NAME_MAX_BYTES

_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f]")
# A raw segment: pchar of RFC 3986, each "%" with its two digits. Everything else would have had to be encoded.
_SEGMENT: Final = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+\Z")
_TYPE: Final = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_TYPES_RESERVED: Final = frozenset({"error", "open", "message"})
_TYPE_PREFIX_RESERVED: Final = "hybrid."


def parse_channel(raw: bytes | str) -> str:
    """The channel named by `raw`: 1 to 255 bytes of UTF-8 in NFC, no control characters, no `*`, not `.` or `..`.

    Raises ProtocolError `bad_request`; the detail says which rule is broken.
    """
    if isinstance(raw, bytes):
        if len(raw) > CHANNEL_NAME_MAX_BYTES:
            raise _too_long()
        try:
            name = raw.decode()
        except UnicodeDecodeError:
            raise ProtocolError(None, "The channel's name is not valid UTF-8.") from None
    else:
        name = raw
    if name.isascii():
        if len(name) > CHANNEL_NAME_MAX_BYTES:
            raise _too_long()
        has_control = not name.isprintable()
    else:
        _check_unicode(name)
        has_control = _CONTROL.search(name) is not None
    if not name:
        raise ProtocolError(None, "The channel's name is empty.")
    if has_control:
        raise ProtocolError(None, "The channel's name contains a control character.")
    if "*" in name:
        raise ProtocolError(None, "The channel's name contains `*`, which stands for patterns only.")
    if name in (".", ".."):
        raise ProtocolError(None, "The channel's name is `.` or `..`, which URL paths give another meaning.")
    return name


def _check_unicode(name: str) -> None:
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise ProtocolError(None, "The channel's name contains a lone surrogate.") from None
    if size > CHANNEL_NAME_MAX_BYTES:
        raise _too_long()
    if not unicodedata.is_normalized("NFC", name):
        raise ProtocolError(None, "The channel's name is not in Unicode normalization form C.")


def _too_long() -> ProtocolError:
    return ProtocolError(None, f"The channel's name is longer than {CHANNEL_NAME_MAX_BYTES} bytes.")


def channel_from_path(segment: bytes) -> str:
    """The channel named by one raw path segment, still percent-encoded as it stood in the request line.

    An encoded slash belongs to the name; a raw one is refused, because it ends the segment. Raises ProtocolError
    `bad_request` for bad escapes, for bytes that may not stand raw in a path, and as `parse_channel` does.
    """
    if not segment:
        raise ProtocolError(None, "The channel's name is empty.")
    if len(segment) > 3 * CHANNEL_NAME_MAX_BYTES:
        raise _too_long()
    return parse_channel(percent_decode(segment))


def percent_decode(segment: bytes) -> bytes:
    """The bytes that a percent-encoded segment stands for. Raises ProtocolError `bad_request`: nothing is guessed."""
    if _SEGMENT.match(segment) is None:
        raise ProtocolError(None, "A name in the URL is not percent-encoded as one path segment.")
    return unquote_to_bytes(segment)


def percent_encode(name: str) -> str:
    """The one percent-encoded form that hybrid writes: all but letters, digits and `-._~` is encoded."""
    return quote(name, safe="")


def namespace_of(channel: str) -> str:
    """What stands before the first `:` of a channel's name; "" without one."""
    before, colon, _ = channel.partition(":")
    return before if colon else ""


def parse_type(text: str) -> str:
    """The type that a publisher gives: `[A-Za-z0-9._-]{1,64}` and not one of the reserved names.

    Reserved are the event names with which an `EventSource` or hybrid itself speaks to a page. Raises ProtocolError
    `bad_request`.
    """
    if _TYPE.match(text) is None:
        raise ProtocolError(None, "The type must be 1 to 64 letters, digits, `.`, `_` or `-`.")
    if text in _TYPES_RESERVED or text.startswith(_TYPE_PREFIX_RESERVED):
        raise ProtocolError(None, "This type is reserved: `error`, `open`, `message` and `hybrid.` are.")
    return text
