"""The table of errors: numbered once, short enough for every transport, and printed as it is."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path

import pytest

from hybrid import errors
from hybrid.errors import BY_NUMBER, TABLE, HybridError
from hybrid.limits import REASON_MAX_BYTES

PROTOCOL = Path(__file__).parents[2] / "docs" / "protocol.md"


def printed() -> str:
    """The table as the page has to show it."""
    lines = ["| number | name | HTTP | client | meaning |", "| --- | --- | --- | --- | --- |"]
    lines += [
        f"| {row.number} | `{row.name}` | {row.http_status} | {'come back' if row.comes_back else 'stay away'} "
        f"| {row.meaning} |"
        for row in errors._ROWS
    ]
    return "\n".join(lines)


def test_the_page_shows_the_table_as_it_is() -> None:
    text = PROTOCOL.read_text()
    between = text[text.index("<!-- errors: begin") : text.index("<!-- errors: end -->")].split("-->", 1)[1]
    assert between.strip() == printed()


def test_no_number_and_no_name_is_used_twice() -> None:
    assert len(TABLE) == len(BY_NUMBER) == len(errors._ROWS)
    assert [row.number for row in errors._ROWS] == sorted(BY_NUMBER)


@pytest.mark.parametrize("row", errors._ROWS, ids=lambda row: row.name)
def test_a_row_fits_every_transport(row: errors.ErrorRow) -> None:
    assert len(row.meaning.encode()) <= REASON_MAX_BYTES
    assert row.meaning.endswith(".")
    assert row.name.isidentifier()
    assert 400 <= HTTPStatus(row.http_status) < 600
    # RFC 6455, section 7.4.2: 3000-3999 are for libraries, 4000-4999 private; 1012 is registered for restarts.
    assert row.number == 1012 or 3000 <= row.number < 5000
    assert row.comes_back == (row.number < 4500)


def subclasses(of: type[HybridError]) -> list[type[HybridError]]:
    return [of, *(deeper for direct in of.__subclasses__() for deeper in subclasses(direct))]


@pytest.mark.parametrize("kind", subclasses(HybridError))
def test_every_exception_has_a_row_to_begin_with(kind: type[HybridError]) -> None:
    assert kind.default_row in TABLE
