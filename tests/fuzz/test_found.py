"""What `make fuzz` has found, kept: each was something else than a documented error once."""

from __future__ import annotations

import pytest

from tests.fuzz.targets import TARGETS

BY_NAME = {target.name: target for target in TARGETS}


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        pytest.param("word of another node", b"\x94\xa5\xa5ther", id="a node's name that is not UTF-8"),
        pytest.param("broker address", b"redis://a/" + b"9" * 5_000, id="a database with 5,000 digits"),
        pytest.param("settings", b"s=" + b"[" * 3_000, id="settings nested too deep"),
        pytest.param("settings", b"s=" + b"9" * 5_000, id="a setting with 5,000 digits"),
        pytest.param("settings", b'public_url = "https://["', id="a bracket that is not closed"),
        pytest.param("settings", b'allowed_origins = ["https://["]', id="an origin with a bracket that is not closed"),
        pytest.param("HTTP error", b"\xb2\n", id="a Retry-After in superscript"),
    ],
)
def test_it_is_an_error_like_others_now(name: str, raw: bytes) -> None:
    assert BY_NAME[name].fault(raw) is None
