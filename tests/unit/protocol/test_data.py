from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest

from hybrid.errors import ProtocolError
from hybrid.protocol.data import (
    binary_of,
    bytes_to_json,
    check_binary_json,
    check_json,
    from_msgpack,
    text_to_json,
    to_msgpack,
)
from tests.support.vectors import attempt, outcome, vectors, wire_of

MAX_BYTES = 65_536


@pytest.mark.parametrize("case", vectors("data"))
def test_json(case: dict[str, Any]) -> None:
    assert attempt(lambda raw: check_json(raw, MAX_BYTES).decode(), wire_of(case)) == outcome(case)


@pytest.mark.parametrize("case", vectors("binary"))
def test_binary(case: dict[str, Any]) -> None:
    assert attempt(lambda raw: check_binary_json(raw, MAX_BYTES).decode(), wire_of(case)) == outcome(case)


def error_of(call: Any, *arguments: Any) -> str:
    with pytest.raises(ProtocolError) as caught:
        call(*arguments)
    name: str = caught.value.row.name
    return name


def test_largest_json_and_one_byte_more() -> None:
    raw = b'"' + b"a" * (MAX_BYTES - 2) + b'"'
    assert check_json(raw, MAX_BYTES) == raw
    assert error_of(check_json, raw + b" ", MAX_BYTES) == "too_large"


@pytest.mark.parametrize("raw", [b"[" * 60_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000, b"[" * 900 + b"]" * 900])
def test_nesting_that_would_exhaust_a_parser(raw: bytes) -> None:
    assert error_of(check_json, raw, MAX_BYTES * 2) == "bad_request"


def test_digits_that_python_refuses_to_convert() -> None:
    assert error_of(check_json, b"1" * 60_000, MAX_BYTES) == "bad_request"


@pytest.mark.parametrize("raw", [b'"secret', b'["secret\xff"]', b'{"secret":1e999}', b'["\\ud800secret"]'])
def test_detail_quotes_nothing(raw: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        check_json(raw, MAX_BYTES)
    assert "secret" not in str(caught.value)
    # A cause would carry the data into a log.
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_text() -> None:
    assert text_to_json('a "é"\n\u2028'.encode(), 100) == '"a \\"é\\"\\n\u2028"'.encode()
    assert error_of(text_to_json, b"\xff", 100) == "bad_request"
    assert text_to_json(b"\n\n", 6) == b'"\\n\\n"'
    assert error_of(text_to_json, b"\n\n\n", 6) == "too_large"


def test_bytes() -> None:
    assert bytes_to_json(b"A", 100) == b'{"base64":"QQ=="}'
    assert bytes_to_json(b"", 13) == b'{"base64":""}'
    assert error_of(bytes_to_json, b"A", 16) == "too_large"
    raw = bytes(range(256))
    assert binary_of(check_binary_json(bytes_to_json(raw, 1000), 1000)) == raw


def test_binary_at_its_bound() -> None:
    raw = b'{"base64":"' + b"A" * 8 + b'"}'
    assert check_binary_json(raw, len(raw)) == raw
    assert error_of(check_binary_json, raw, len(raw) - 1) == "too_large"


def test_to_msgpack() -> None:
    decode = msgspec.msgpack.decode
    assert decode(to_msgpack(b'{"a":[1,-1,2.5,"x",null]}', False)) == {"a": [1, -1, 2.5, "x", None]}
    assert decode(to_msgpack(b'{"base64":"QQ=="}', True)) == b"A"
    assert decode(to_msgpack(b'{"base64":"QQ=="}', False)) == {"base64": "QQ=="}


def test_whole_numbers_that_messagepack_lacks_become_doubles() -> None:
    decode = msgspec.msgpack.decode
    edges = b"[-9223372036854775808,18446744073709551615]"
    assert decode(to_msgpack(edges, False)) == [-(2**63), 2**64 - 1]
    beyond = decode(to_msgpack(b'{"a":[-9223372036854775809,18446744073709551616]}', False))
    assert beyond == {"a": [-(2.0**63), 2.0**64]}
    assert all(isinstance(number, float) for number in beyond["a"])
    mixed = decode(to_msgpack(b"[-9223372036854775808,18446744073709551615,18446744073709551616]", False))
    assert [type(number) for number in mixed] == [int, int, float]


def test_from_msgpack() -> None:
    encode = msgspec.msgpack.encode
    assert from_msgpack(encode({"a": [1, 2.5, None, True, "é"]})) == ('{"a":[1,2.5,null,true,"é"]}'.encode(), False)
    assert from_msgpack(encode(b"A")) == (b'{"base64":"QQ=="}', True)
    assert from_msgpack(encode(b"")) == (b'{"base64":""}', True)
    large = bytes(100_000)
    assert from_msgpack(encode(large)) == (b'{"base64":"%b"}' % base64.b64encode(large), True)


@pytest.mark.parametrize("key", [b"\x01", b"\xc0", b"\xc4\x01a", b"\x90", b"\x91\x90", b"\x80", b"\x91\x80"])
def test_keys_of_messagepack_that_json_does_not_know(key: bytes) -> None:
    assert error_of(from_msgpack, b"\x81" + key + b"\x01") == "bad_request"


@pytest.mark.parametrize("seconds", [b"\x00" * 8, b"\x7f" + b"\xff" * 7, b"\x80" + b"\x00" * 7])
@pytest.mark.parametrize("nanoseconds", [b"\x00" * 4, b"\xff" * 4])
def test_timestamps_of_messagepack(seconds: bytes, nanoseconds: bytes) -> None:
    assert error_of(from_msgpack, b"\xc7\x0c\xff" + nanoseconds + seconds) == "bad_request"


@pytest.mark.parametrize("depth", [32, 33, 5_000, 100_000])
@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1a"])
def test_depth_of_messagepack(opening: bytes, depth: int) -> None:
    raw = opening * (depth - 1) + b"\x90"
    if depth == 32:
        assert check_json(from_msgpack(raw)[0], MAX_BYTES)
    else:
        assert error_of(from_msgpack, raw) == "bad_request"
