"""Queries that are split instead of parsed give what the library's parser gives."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.auth.query import FIELDS_MAX, plain_fields

PARTS = st.sampled_from(["a", "after", "=", "==", "&", "&&", "wait=2.5", ";", "#", "?", " ", "\x00", "~", "x" * 40])


@given(st.lists(PARTS, max_size=30).map("".join))
def test_what_is_split_is_what_the_parser_gives(text: str) -> None:
    expected = parse_qsl(text, keep_blank_values=True, max_num_fields=FIELDS_MAX)
    assert plain_fields(text.encode()) == expected


@pytest.mark.parametrize("query", [b"a=%41", b"a=1+2", b"a=\xff", b"%"])
def test_what_has_to_be_decoded_is_left_to_the_parser(query: bytes) -> None:
    assert plain_fields(query) is None


def test_more_fields_than_there_may_be_are_refused_alike() -> None:
    most = b"&".join([b"a=1"] * FIELDS_MAX)
    assert len(plain_fields(most) or ()) == FIELDS_MAX
    for query in (most + b"&a=1", most + b"&"):
        with pytest.raises(ValueError, match="fields"):
            plain_fields(query)
        with pytest.raises(ValueError, match="fields"):
            parse_qsl(query.decode(), keep_blank_values=True, max_num_fields=FIELDS_MAX)
