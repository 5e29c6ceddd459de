"""The workers of one machine ask each other: whichever of them Prometheus reaches answers for all.

Each listens on a Unix socket of its own, in a directory that its supervisor has made for them and that nobody else may
enter; it says what it counts to whoever connects there, and hangs up. A worker that leaves is asked to its end, for its
clients are still there, and is told from its successor by its name.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

_log = logging.getLogger(__name__)

PATIENCE_S: Final = 2.0
"""For all answers together: below the 10 s that Prometheus waits by default, and longer than a busy loop needs."""
ANSWER_MAX_BYTES: Final = 4_194_304
"""Of one worker: a hundred times what there is today."""


class Siblings:
    """One for each worker. `start` and `close` inside the event loop."""

    def __init__(self, directory: str, number: int, answer: Callable[[], Awaitable[bytes]]) -> None:
        """`answer` is what this worker tells. `number` is that of its place."""
        self.number = number
        self._directory = Path(directory)
        self._own = self._directory / f"{number}.{os.getpid()}"
        self._answer = answer
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. A system that does not let us is told in the log: the others then answer without this one."""
        try:
            self._server = await asyncio.start_unix_server(self._asked, self._own)
        except OSError as error:
            _log.warning("the other workers cannot ask this one for its metrics: %s", error.strerror or error)

    async def close(self) -> None:
        """Be asked no more."""
        if self._server is not None:
            self._server.close()
            _remove(self._own)

    async def ask(self) -> tuple[list[tuple[int, int, bytes]], int]:
        """What the others tell, each with the number of its place and its process; and how many did not answer in time.

        A socket whose worker is gone is removed. Cancel-safe.
        """
        others = [path for path in self._directory.iterdir() if path != self._own]
        answers = await asyncio.gather(*(self._ask_one(path) for path in others))
        told = [answer for answer in answers if answer is not None]
        return [answer for answer in told if answer[2]], sum(not answer[2] for answer in told)

    async def _ask_one(self, path: Path) -> tuple[int, int, bytes] | None:
        number, _, pid = path.name.partition(".")
        try:
            async with asyncio.timeout(PATIENCE_S):
                reader, writer = await asyncio.open_unix_connection(path)
                try:
                    return int(number), int(pid), await _whole(reader)
                finally:
                    writer.close()
        except (OSError, TimeoutError, ValueError) as error:
            if not (number.isdecimal() and pid.isdecimal()):
                return None
            if isinstance(error, FileNotFoundError) or not psutil.pid_exists(int(pid)):
                _remove(path)  # not for a refusal alone: it may be about to listen
                return None
            return int(number), int(pid), b""

    async def _asked(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                writer.write(await self._answer())
                await writer.drain()
        except (OSError, TimeoutError):
            pass
        finally:
            writer.close()


async def _whole(reader: asyncio.StreamReader) -> bytes:
    """All that comes. Raises ValueError for too much."""
    told = b""
    while piece := await reader.read(65_536):
        told += piece
        if len(told) > ANSWER_MAX_BYTES:
            raise ValueError("too much")
    return told


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
