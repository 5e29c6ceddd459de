"""How commands are written: as redis-py does, which is held to the protocol by its own tests."""

from __future__ import annotations

import pytest
from redis.asyncio.connection import Connection

from hybrid.broker.redis.line import Command, pack


@pytest.mark.parametrize(
    "command",
    [
        ("PING",),
        ("SET", b"", ""),
        ("SET", b"\x00\r\n$3\xff", "z\u00fcrich \U0001f600"),
        ("WAIT", 1, -1),
        ("PEXPIRE", "a", 2**53),
        ("EVALSHA", b"a" * 40, 2, b"x" * 70_000, "y" * 70_000),
    ],
)
def test_commands_are_written_as_by_redis_py(command: Command) -> None:
    assert pack([command] * 2) == b"".join(Connection().pack_commands([command] * 2))


def test_nothing_is_nothing() -> None:
    assert pack([]) == b""
