"""The one check of `data`, made when it is published, so that whatever is in a log can be sent to any client.

A reader's parser must not fail on what another client wrote: a browser would fail the whole WebSocket, and recovery
would replay it for ever. msgspec checks grammar, UTF-8, lone surrogates and the range of numbers while it decodes;
depth, the length of numbers and raw line breaks are checked here, on the text, because decoding drops all but the last
of equal keys and would hide what stood in the others. Rules: `docs/protocol.md`, section "Words"; JSON: RFC 8259.
No message quotes the data.
"""

from __future__ import annotations

import binascii
import math
import re
from typing import Any, Final

import msgspec

from hybrid.errors import ProtocolError
from hybrid.limits import DATA_DEPTH_MAX, NUMBER_MAX_BYTES

_decode: Final = msgspec.json.Decoder().decode
_decode_msgpack: Final = msgspec.msgpack.Decoder().decode
_encode: Final = msgspec.json.Encoder().encode
_encode_msgpack: Final = msgspec.msgpack.Encoder().encode

_STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
_NUMBER_BYTES: Final = b"0123456789+-.eE"
# Every byte that can stand in a number becomes "0" and every other a space: a long run is then found by one search.
_NUMBERS_TO_ZERO: Final = bytes(48 if byte in _NUMBER_BYTES else 32 for byte in range(256))
_TOO_LONG: Final = b"0" * (NUMBER_MAX_BYTES + 1)
_WHITESPACE: Final = b" \t\r\n"
_NOT_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")
_ONE_BRACKET: Final = bytes.maketrans(b"{}", b"[]")


def check_json(raw: bytes, max_bytes: int) -> bytes:
    """`raw` as it goes into the log: one JSON value without whitespace around it and without raw line breaks.

    Raises ProtocolError: `too_large` above `max_bytes`, otherwise `bad_request` for what is not UTF-8 or not JSON,
    lone surrogates, more than 32 levels, and numbers of more than 64 bytes or beyond the range of a double. Whole
    numbers above 2^53 and equal keys stay as they are: they are valid JSON text, and what they mean is the
    application's affair.
    """
    if len(raw) > max_bytes:
        raise ProtocolError("too_large", f"The data is larger than {max_bytes} bytes.")
    try:
        _decode(raw)
    except msgspec.ValidationError:
        raise _bad_number() from None
    except msgspec.DecodeError:
        raise ProtocolError(None, "The data is not valid JSON, or has a lone surrogate in a string.") from None
    except UnicodeDecodeError:
        raise ProtocolError(None, "The data is not valid UTF-8.") from None
    except RecursionError:
        raise _too_deep() from None
    # The two quick looks count what stands in strings as well; only when that is too much are strings taken out.
    if raw.count(b"[") + raw.count(b"{") > DATA_DEPTH_MAX and _is_too_deep(raw):
        raise _too_deep()
    if (
        len(raw) > NUMBER_MAX_BYTES
        and _TOO_LONG in raw.translate(_NUMBERS_TO_ZERO)
        and _TOO_LONG in _STRING.sub(b" ", raw).translate(_NUMBERS_TO_ZERO)
    ):
        raise _bad_number()
    if b"\n" in raw or b"\r" in raw:
        # Inside strings they cannot stand raw, so only whitespace is changed.
        raw = raw.replace(b"\n", b" ").replace(b"\r", b" ")
    return raw.strip(_WHITESPACE)


def _is_too_deep(json: bytes) -> bool:
    brackets = _STRING.sub(b"", json).translate(_ONE_BRACKET, delete=_NOT_BRACKETS)
    for _ in range(DATA_DEPTH_MAX):
        # Each round takes away the innermost level everywhere; the text is valid, so brackets pair up.
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


def _bad_number() -> ProtocolError:
    return ProtocolError(
        None, f"A number in the data is longer than {NUMBER_MAX_BYTES} bytes or beyond the range of a double."
    )


def _too_deep() -> ProtocolError:
    return ProtocolError(None, f"The data is nested more than {DATA_DEPTH_MAX} levels deep.")


def text_to_json(raw: bytes, max_bytes: int) -> bytes:
    """UTF-8 text as a JSON string, checked. Raises ProtocolError `bad_request`, or `too_large` for the JSON string."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise ProtocolError(None, "The text is not valid UTF-8.") from None
    return _bounded(_encode(text), max_bytes)


def bytes_to_json(raw: bytes, max_bytes: int) -> bytes:
    """Bytes as `{"base64": "..."}`. Raises ProtocolError `too_large` when that is above `max_bytes`."""
    return _bounded(b'{"base64":"%b"}' % binascii.b2a_base64(raw, newline=False), max_bytes)


def _bounded(json: bytes, max_bytes: int) -> bytes:
    if len(json) > max_bytes:
        raise ProtocolError("too_large", f"The data is larger than {max_bytes} bytes as JSON.")
    return json


class _Base64(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    base64: str


_decode_base64: Final = msgspec.json.Decoder(_Base64).decode


def check_binary_json(raw: bytes, max_bytes: int) -> bytes:
    """`raw` as it goes into the log, if it stands for bytes: `{"base64": "..."}` and nothing else, written anew.

    The base64 is that of RFC 4648, section 4, with its padding and without line breaks. Raises ProtocolError:
    `too_large` above `max_bytes`, otherwise `bad_request`.
    """
    return bytes_to_json(_strict_bytes(check_json(raw, max_bytes)), max_bytes)


def _strict_bytes(json: bytes) -> bytes:
    try:
        text = _decode_base64(json).base64
        decoded = binascii.a2b_base64(text, strict_mode=True)
    except (msgspec.DecodeError, ValueError):
        raise ProtocolError(None, 'Binary data must read {"base64": "..."} with padded base64.') from None
    if len(text) != (len(decoded) + 2) // 3 * 4:
        raise ProtocolError(None, "The base64 of binary data must be padded.")
    return decoded


def binary_of(data: bytes) -> bytes:
    """The bytes that checked data of the form `{"base64": "..."}` stands for."""
    return binascii.a2b_base64(_decode_base64(data).base64)


def to_msgpack(data: bytes, is_binary: bool) -> bytes:
    """Checked data as MessagePack: bytes as binary, whole numbers beyond 64 bits as doubles (it has no others)."""
    if is_binary:
        return _encode_msgpack(binary_of(data))
    value = _decode(data)
    try:
        return _encode_msgpack(value)
    except OverflowError:
        return _encode_msgpack(_without_big_integers(value))


def _without_big_integers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_big_integers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_big_integers(item) for item in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return float(value)
    return value


def from_msgpack(raw: bytes) -> tuple[bytes, bool]:
    """A MessagePack value as JSON, and whether it was binary as a whole. The result has still to be checked.

    Raises ProtocolError `bad_request` for what JSON does not know: binary inside, extensions, keys that are not
    strings, numbers that are not finite.
    """
    try:
        value = _decode_msgpack(raw)
        if isinstance(value, bytes):
            return bytes_to_json(value, 2 * len(raw) + 32), True
        _refuse_foreign(value, 0)
        return _encode(value), False
    except UnicodeDecodeError:
        raise ProtocolError(None, "A string in the data is not valid UTF-8.") from None
    except msgspec.DecodeError:
        raise ProtocolError(None, "The data is not valid MessagePack, or has a key that is not a string.") from None
    except RecursionError:
        raise _too_deep() from None


def _refuse_foreign(value: Any, depth: int) -> None:
    if isinstance(value, dict):
        if depth == DATA_DEPTH_MAX:
            raise _too_deep()
        for key, item in value.items():
            if not isinstance(key, str):
                raise ProtocolError(None, "A key in the data is not a string.")
            _refuse_foreign(item, depth + 1)
    elif isinstance(value, list):
        if depth == DATA_DEPTH_MAX:
            raise _too_deep()
        for item in value:
            _refuse_foreign(item, depth + 1)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ProtocolError(None, "A number in the data is not finite.")
    elif not isinstance(value, str | int | None):
        raise ProtocolError(None, "Bytes must be the whole of the data, and extension types are not taken.")
