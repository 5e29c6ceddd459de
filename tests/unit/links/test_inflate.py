"""Inflating: what comes out, how much of it at most, and what is no message."""

from __future__ import annotations

import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.links.inflate import BrokenMessage, inflate

TAIL = b"\x00\x00\xff\xff"


def deflated(data: bytes, flush: int = zlib.Z_SYNC_FLUSH) -> bytes:
    """As a client does it (RFC 7692, section 7.2.1)."""
    packer = zlib.compressobj(wbits=-15)
    return (packer.compress(data) + packer.flush(flush)).removesuffix(TAIL)


@given(st.one_of(st.binary(max_size=300), st.integers(0, 70_000).map(lambda size: b"ab" * size)))
def test_what_was_compressed_comes_back_up_to_the_limit_and_not_beyond(data: bytes) -> None:
    packed = deflated(data)
    assert inflate(packed, len(data)) == data
    assert inflate(packed, len(data) + 1) == data
    if data:
        assert inflate(packed, len(data) - 1) is None


def test_a_message_without_bytes() -> None:
    assert inflate(b"\x00", 0) == b""  # as section 7.2.3.6 writes it


def test_the_examples_of_the_rfc() -> None:
    """Section 7.2.3: compressed, stored, with a last block, and in two blocks."""
    for text in (
        "f2 48 cd c9 c9 07 00",
        "00 05 00 fa ff 48 65 6c 6c 6f 00",
        "f3 48 cd c9 c9 07 00 00",
        "f2 48 05 00 00 00 ff ff ca c9 c9 07 00",
    ):
        assert inflate(bytes.fromhex(text), 5) == b"Hello"


def test_a_bomb_is_not_made() -> None:
    bomb = deflated(bytes(50_000_000))
    assert len(bomb) < 65_536
    tracemalloc.start()
    try:
        assert inflate(bomb, 69_632) is None
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * 69_632 + len(bomb)


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(b"\xff" * 10, id="no block"),
        pytest.param(deflated(b"x" * 100, zlib.Z_FINISH) + b"more", id="something behind the last block"),
        pytest.param(deflated(b"x" * 100, zlib.Z_FINISH) * 2, id="two streams"),
        pytest.param(zlib.compress(b"x" * 100), id="with the header of zlib"),
    ],
)
def test_what_is_no_message_is_refused(broken: bytes) -> None:
    with pytest.raises(BrokenMessage):
        inflate(broken, 1_000)
