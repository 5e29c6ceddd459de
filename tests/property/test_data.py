"""The check of data against a slow reading of the same rules with another parser."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.errors import ProtocolError
from hybrid.limits import DATA_DEPTH_MAX, NUMBER_MAX_BYTES
from hybrid.protocol.data import bytes_to_json, check_binary_json, check_json, from_msgpack, text_to_json, to_msgpack

MAX_BYTES = 65_536

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
leaves = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | text
)
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4))


class Refused(Exception):
    pass


def is_right(raw: bytes) -> bool:
    """The rules once more: `object_pairs_hook` keeps equal keys, and the other hooks see the text of numbers."""

    def number(digits: str) -> Any:
        if len(digits) > NUMBER_MAX_BYTES or not math.isfinite(float(digits)):
            raise Refused
        return 0

    def constant(name: str) -> Any:
        raise Refused

    def depth(value: Any) -> int:
        if isinstance(value, str):
            value.encode()  # raises for lone surrogates
        if isinstance(value, tuple):
            return 1 + max((max(depth(key), depth(item)) for key, item in value), default=0)
        if isinstance(value, list):
            return 1 + max((depth(item) for item in value), default=0)
        return 0

    try:
        value = json.loads(
            raw.decode(), parse_float=number, parse_int=number, parse_constant=constant, object_pairs_hook=tuple
        )
        return depth(value) <= DATA_DEPTH_MAX
    except (ValueError, Refused):
        return False


def is_accepted(raw: bytes) -> bool:
    try:
        check_json(raw, MAX_BYTES)
    except ProtocolError:
        return False
    return True


# Pieces that meet each other in every way: whole tokens, halves of tokens, and what lies around the bounds.
tokens = rb'[ ] { } " , : / \ \n \u00e9 \ud83d \ude00 1 - 0 .5 e9 e999 null tru true NaN "a" "a": '.split()
others = [b"\n", b"\r", b"\t", b" ", b"\x00", b"'", b"\xff", b"\xc3", b'"\xc3\xa9"', b"\xef\xbb\xbf"]
bounds = [b"1" * 64, b"[" * 16, b"]" * 16, b'{"a":' * 8, b"1}" + b"}" * 7]
fragments = st.sampled_from([*tokens, *others, *bounds])


@settings(max_examples=300)
@given(st.lists(fragments, max_size=12).map(b"".join))
def test_accepts_what_is_right_and_nothing_else(raw: bytes) -> None:
    assert is_accepted(raw) == is_right(raw)


@given(
    st.integers(30, 35),
    st.lists(st.sampled_from([b"[%b]", b'{"a":%b}', b'{"a":%b,"a":1}', b'["\\"[[",%b]']), min_size=1),
)
def test_depth_at_its_bound(depth: int, shapes: list[bytes]) -> None:
    raw = b"1"
    for level in range(depth):
        raw = shapes[level % len(shapes)] % raw
    assert is_accepted(raw) == is_right(raw) == (depth <= DATA_DEPTH_MAX)


@given(st.integers(60, 70), st.sampled_from([b"%b", b"[%b]", b'{"a":%b,"a":1}', b'["\\"",-%b]', b'"%b"']))
def test_length_of_numbers_at_its_bound(digits: int, shape: bytes) -> None:
    raw = shape % (b"1" * digits)
    assert is_accepted(raw) == is_right(raw)


@given(values, st.sampled_from([None, 0, 1, 3]), st.booleans())
def test_valid_data_means_the_same_afterwards(value: Any, indent: int | None, is_ascii: bool) -> None:
    written = json.dumps(value, indent=indent, ensure_ascii=is_ascii)
    raw = f" \r\n{written}\t\n".replace("\n", "\r\n").encode()
    checked = check_json(raw, MAX_BYTES)
    assert json.loads(checked) == value
    assert b"\n" not in checked
    assert b"\r" not in checked
    assert checked == checked.strip()
    assert check_json(checked, MAX_BYTES) == checked


@given(st.text(max_size=50))
def test_text(value: str) -> None:
    raw = value.encode(errors="surrogatepass")
    try:
        written = text_to_json(raw, MAX_BYTES)
    except ProtocolError:
        assert any("\ud800" <= character <= "\udfff" for character in value)
    else:
        assert json.loads(written) == value
        assert check_json(written, MAX_BYTES) == written


@given(st.binary(max_size=200))
def test_bytes_through_both_formats(raw: bytes) -> None:
    written = bytes_to_json(raw, MAX_BYTES)
    assert check_binary_json(written, MAX_BYTES) == written
    packed = to_msgpack(written, True)
    assert msgspec.msgpack.decode(packed) == raw
    assert from_msgpack(packed) == (written, True)


@given(values)
def test_json_through_messagepack(value: Any) -> None:
    packed = to_msgpack(json.dumps(value).encode(), False)
    back, is_binary = from_msgpack(packed)
    assert not is_binary
    # Whole numbers beyond 64 bits arrive as doubles.
    assert as_doubles(json.loads(back)) == as_doubles(value)


def as_doubles(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: as_doubles(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_doubles(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


@given(st.binary(max_size=60))
def test_any_messagepack_is_data_or_refused(raw: bytes) -> None:
    try:
        written, is_binary = from_msgpack(raw)
    except ProtocolError:
        return
    check = check_binary_json if is_binary else check_json
    assert json.loads(check(written, MAX_BYTES)) == json.loads(written)
