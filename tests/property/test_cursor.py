from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hybrid.errors import ProtocolError
from hybrid.limits import CHANNEL_NAME_MAX_BYTES, CURSOR_MAX_BYTES, OFFSET_MAX
from hybrid.model import START, Position
from hybrid.protocol.channels import channel_from_path, parse_channel, percent_encode
from hybrid.protocol.cursor import (
    composite_max_bytes,
    format_composite,
    format_cursor,
    from_wire,
    parse_composite,
    parse_cursor,
    to_wire,
)

positions = st.just(START) | st.builds(
    Position,
    st.integers(1, OFFSET_MAX),
    st.from_regex(r"[a-z0-9]{1,16}", fullmatch=True),
    st.from_regex(r"[0-9a-f]{8}", fullmatch=True),
)
names = (
    st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="*"), min_size=1, max_size=30)
    .map(lambda name: unicodedata.normalize("NFC", name))
    .filter(lambda name: name not in (".", "..") and len(name.encode()) <= CHANNEL_NAME_MAX_BYTES)
)


@given(positions)
def test_cursor_round_trip(position: Position) -> None:
    assert parse_cursor(format_cursor(position)) == position
    assert from_wire(to_wire(position)) == position


@given(st.text(max_size=50) | st.from_regex(r"[a-z0-9]{0,17}-[0-9]{0,17}-[0-9a-f]{7,9}", fullmatch=True))
def test_any_text_is_a_cursor_in_its_only_form_or_refused(text: str) -> None:
    try:
        position = parse_cursor(text)
    except ProtocolError:
        return
    assert format_cursor(position) == text


@given(st.dictionaries(names, positions, min_size=1, max_size=5))
def test_composite_round_trip(positions: dict[str, Position]) -> None:
    if composite_max_bytes(positions) > CURSOR_MAX_BYTES:
        return
    text = format_composite(positions)
    assert parse_composite(text) == positions
    assert list(parse_composite(text)) == sorted(positions)
    assert len(text) <= composite_max_bytes(positions)
    # It travels in a header and in a query.
    assert text.isascii()
    assert text.isprintable()


@given(st.text(max_size=60) | st.from_regex(r"([a-c%24]{1,5}=(0|k-[0-9]-0000000[0-9]),?){1,4}", fullmatch=True))
def test_any_text_is_a_composite_or_refused(text: str) -> None:
    try:
        positions = parse_composite(text)
    except ProtocolError:
        return
    assert parse_composite(format_composite(positions)) == positions


@given(names)
@example("a/b%2F")
def test_name_through_a_path(name: str) -> None:
    segment = percent_encode(name)
    assert channel_from_path(segment.encode()) == name
    assert parse_channel(name) == parse_channel(name.encode()) == name


@given(st.binary(max_size=300))
def test_any_bytes_are_a_name_in_its_only_form_or_refused(raw: bytes) -> None:
    try:
        name = parse_channel(raw)
    except ProtocolError:
        return
    assert name.encode() == raw
    assert 1 <= len(raw) <= CHANNEL_NAME_MAX_BYTES
    assert unicodedata.normalize("NFC", name) == name
    assert not any(unicodedata.category(character) == "Cc" or character == "*" for character in name)


@given(st.text(max_size=100))
def test_text_and_its_bytes_are_judged_alike(text: str) -> None:
    try:
        name = parse_channel(text)
    except ProtocolError:
        with pytest.raises(ProtocolError):
            parse_channel(text.encode(errors="surrogatepass"))
    else:
        assert parse_channel(text.encode()) == name


@given(
    st.binary(max_size=100) | st.lists(st.sampled_from([b"%", b"2", b"F", b"a", b"/", b"%2F", b"%zz"])).map(b"".join)
)
def test_any_segment_is_a_name_or_refused(segment: bytes) -> None:
    try:
        name = channel_from_path(segment)
    except ProtocolError:
        return
    assert channel_from_path(percent_encode(name).encode()) == name
