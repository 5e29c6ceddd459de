"""What the course asks of a client, and what those that are programs with processes of their own have in common."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, Protocol

from tests.proxy.zoo.animals import Route

PATIENCE_S: Final = 30.0
LOADING_MAX_S: Final = 180.0
"""Of the page with all its modules, each of which an animal may keep for seconds."""
_END_MAX_S: Final = 5.0
READY: Final = """new Promise((resolve) => {
  const look = () => (window.course ? resolve(true) : setTimeout(look, 20));
  look();
})"""
"""JavaScript for the moment at which the page's course is there: some call a page loaded before its modules are."""


class DriverError(Exception):
    """The client could not be driven: it does not load, it ended, or the course itself has thrown."""


class Driven(Protocol):
    """One client with an empty memory. `version` names the program."""

    version: str

    async def load(self) -> None:
        """Load the course, or load it again as a reload of the page does: with what the client has stored.

        Raises DriverError.
        """

    async def call(self, method: str, **arguments: Any) -> Any:
        """Call a method of the course (`course/course.js`); its JSON-able result. Raises DriverError."""

    async def change_network(self, change: Callable[[], object]) -> bool:
        """Have the network changed by `change`; whether the client was told in the way of its platform."""


Driver = Callable[[Route, Path], AbstractAsyncContextManager[Driven]]
"""From the route and a scratch directory that exists. Raises `Absent` where the machine does not have the program."""


def expression(method: str, arguments: Mapping[str, Any]) -> str:
    """JavaScript that calls a method of the page's course."""
    return f"window.course.{method}({json.dumps(arguments)})"


@asynccontextmanager
async def program(
    *command: str,
    environment: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    stdin: int | None = asyncio.subprocess.DEVNULL,
    stdout: int | None = asyncio.subprocess.DEVNULL,
    stderr: int | None = asyncio.subprocess.DEVNULL,
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program in a process group of its own, which is gone with all that it has started afterwards."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env=None if environment is None else {**os.environ, **environment},
        pass_fds=tuple(pass_fds),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(_END_MAX_S):
                await process.wait()
        with suppress(ProcessLookupError):  # also what has survived its parent
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
