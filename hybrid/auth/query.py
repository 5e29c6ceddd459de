"""The fields of a query string that hides nothing behind percent-encoding: most are such, and are split, not parsed."""

from __future__ import annotations

from typing import Final

FIELDS_MAX: Final = 64
"""Parameters of one query; the longest of ours has 16 names and a handful of options."""


def plain_fields(query: bytes) -> list[tuple[str, str]] | None:
    """What `urllib.parse.parse_qsl` gives with blank values kept, for a query in ASCII without `%` and `+`.

    None for all others. Raises ValueError for more than FIELDS_MAX.
    """
    if b"%" in query or b"+" in query or not query.isascii():
        return None
    if query.count(b"&") >= FIELDS_MAX:
        raise ValueError("too many fields")
    fields = []
    for field in query.decode("ascii").split("&"):
        if field:
            name, _, value = field.partition("=")
            fields.append((name, value))
    return fields
