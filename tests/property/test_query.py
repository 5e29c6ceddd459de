"""The parameters of a query, held against the standard library's reader of them."""

from __future__ import annotations

from urllib.parse import parse_qsl

from hypothesis import example, given
from hypothesis import strategies as st

from hybrid.auth.bearer import QUERY_FIELDS_MAX, checked_query
from hybrid.errors import AuthError

QUERIES = st.one_of(
    st.binary(max_size=60),
    st.lists(st.sampled_from([b"a", b"after", b"=", b"&", b"%", b"%41", b"%ff", b"+", b";", b" ", b"\xe9", b"."])).map(
        b"".join
    ),
)


@given(QUERIES)
@example(b"a")
@example(b"&&=&=b&a=b=c&")
def test_what_is_read_is_what_the_standard_library_reads(query: bytes) -> None:
    text = query.decode("ascii", "surrogateescape")
    assert checked_query(query) == parse_qsl(text, keep_blank_values=True, errors="surrogateescape")


@given(st.integers(min_value=QUERY_FIELDS_MAX - 2, max_value=QUERY_FIELDS_MAX + 2), st.booleans())
def test_so_many_are_read_and_no_more(count: int, is_encoded: bool) -> None:
    query = b"&".join([b"%41=1" if is_encoded else b"A=1"] * count)
    try:
        assert len(checked_query(query)) == count <= QUERY_FIELDS_MAX
    except AuthError:
        assert count > QUERY_FIELDS_MAX
