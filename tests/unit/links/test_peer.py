"""The peer's name in logs."""

from __future__ import annotations

import pytest

from hybrid.links.peer import peer_name


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        (("127.0.0.1", 5), "127.0.0.1:5"),
        (("::1", 5), "[::1]:5"),
        (("192.0.2.1", 0), "192.0.2.1"),
        (("2001:db8::1", 0), "2001:db8::1"),
        (None, ""),
        (("1.2.3.4\x1b[2J\n", 5), "1.2.3.4[2J:5"),
        (("9" * 500, 5), "9" * 64 + ":5"),
    ],
)
def test_no_control_character_reaches_a_log(client: tuple[str, int] | None, expected: str) -> None:
    assert peer_name(client) == expected
