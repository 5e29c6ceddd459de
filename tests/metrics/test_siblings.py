"""Workers that ask each other, in one process: who is slow, gone, of another version or says too much."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from hybrid.web.metrics import siblings
from hybrid.web.metrics.siblings import Siblings

GONE = 2**22 + 1
"""No process: Linux gives no larger number than 2**22."""


async def nothing() -> bytes:
    return b""


def telling(told: bytes) -> Callable[[], asyncio.Future[bytes]]:
    def tell() -> asyncio.Future[bytes]:
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        future.set_result(told)
        return future

    return tell


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


async def with_sibling(directory: Path, told: bytes) -> tuple[list[tuple[int, int, bytes]], int]:
    """What the first worker hears of a second one that tells this."""
    server = await asyncio.start_unix_server(lambda _, writer: (writer.write(told), writer.close()), directory / "2.1")
    try:
        return await Siblings(str(directory), 1, nothing).ask()
    finally:
        server.close()


async def test_what_is_told_comes_whole_however_long_it_is(tmp_path: Path) -> None:
    told = os.urandom(1_000_000)
    assert await with_sibling(tmp_path, told) == ([(2, 1, told)], 0)


async def test_a_worker_tells_itself_and_is_not_asked_by_itself(tmp_path: Path) -> None:
    one = Siblings(str(tmp_path), 1, telling(b"one"))
    await one.start()
    assert await one.ask() == ([], 0)
    assert await Siblings(str(tmp_path), 2, nothing).ask() == ([(1, os.getpid(), b"one")], 0)
    await one.close()
    assert names(tmp_path) == set()


async def test_too_much_counts_as_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(siblings, "ANSWER_MAX_BYTES", 1_000)
    assert await with_sibling(tmp_path, b"x" * 1_000) == ([(2, 1, b"x" * 1_000)], 0)
    assert await with_sibling(tmp_path, b"x" * 1_001) == ([], 1)


async def test_one_that_says_nothing_is_waited_for_only_so_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(siblings, "PATIENCE_S", 0.01)
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / f"2.{os.getppid()}"))
        mute.listen()
        assert await Siblings(str(tmp_path), 1, nothing).ask() == ([], 1)


async def test_what_is_left_of_one_that_is_gone_is_removed_and_of_one_that_starts_is_not(tmp_path: Path) -> None:
    for name in (f"2.{GONE}", f"3.{os.getppid()}"):
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(tmp_path / name))  # and nobody listens
    (tmp_path / "something else").touch()
    assert await Siblings(str(tmp_path), 1, nothing).ask() == ([], 1)
    assert names(tmp_path) == {f"3.{os.getppid()}", "something else"}


async def test_where_nothing_can_be_made_the_log_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = Siblings(str(tmp_path / "missing"), 1, nothing)
    await one.start()
    assert "cannot ask this one" in caplog.text
    await one.close()
