from __future__ import annotations

from typing import Any

import pytest

from hybrid.errors import ProtocolError
from hybrid.limits import CHANNEL_NAME_MAX_BYTES
from hybrid.protocol.channels import channel_from_path, namespace_of, parse_channel, parse_type, percent_encode
from tests.support.vectors import attempt, outcome, vectors, wire_of


@pytest.mark.parametrize("case", vectors("channels"))
def test_name_from_bytes(case: dict[str, Any]) -> None:
    assert attempt(parse_channel, wire_of(case)) == outcome(case)


@pytest.mark.parametrize("case", [case for case in vectors("channels") if "text" in case.values[0]])
def test_name_from_text(case: dict[str, Any]) -> None:
    assert attempt(parse_channel, case["text"]) == outcome(case)


def test_lone_surrogate_in_text() -> None:
    with pytest.raises(ProtocolError, match="surrogate"):
        parse_channel("a\ud800")


@pytest.mark.parametrize("case", vectors("paths"))
def test_path_segment(case: dict[str, Any]) -> None:
    assert attempt(channel_from_path, wire_of(case)) == outcome(case)


@pytest.mark.parametrize("name", ["a/b", "..a", "chat:1", "100%", "a+b=c,d", "café", "~-._"])
def test_encoded_name_is_one_segment(name: str) -> None:
    encoded = percent_encode(name)
    assert "/" not in encoded
    assert channel_from_path(encoded.encode()) == name


def test_longest_name_fits_a_path_fully_encoded() -> None:
    assert channel_from_path(b"%61" * CHANNEL_NAME_MAX_BYTES) == "a" * CHANNEL_NAME_MAX_BYTES


@pytest.mark.parametrize("case", vectors("types"))
def test_type(case: dict[str, Any]) -> None:
    assert attempt(parse_type, case["text"]) == outcome(case)


@pytest.mark.parametrize(
    ("channel", "namespace"), [("news", ""), ("chat:1", "chat"), ("a:b:c", "a"), (":x", ""), ("a:", "a")]
)
def test_namespace(channel: str, namespace: str) -> None:
    assert namespace_of(channel) == namespace


@pytest.mark.parametrize("raw", [b"secret\x00", b"secret*", b"secret\xff", b"secret" * 50])
def test_detail_says_what_to_change_and_quotes_nothing(raw: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_channel(raw)
    assert caught.value.detail.startswith("The channel's name")
    assert "secret" not in caught.value.detail
