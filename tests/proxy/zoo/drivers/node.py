"""The client in Node, with undici's WebSocket and fetch: a process whose standard input and output are the driver."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from tests.proxy.zoo.animals import Absent, Route
from tests.proxy.zoo.animals.base import executable
from tests.proxy.zoo.drivers.base import DriverError, program
from tests.proxy.zoo.origin import COURSE
from tests.support.nodes import ROOT

_UNDICI: Final = ROOT / "tests" / "foreign" / "undici" / "node_modules" / "undici"


class Node:
    """Implements `Driven`. Each load is a process of its own; what the client stores is in a file."""

    def __init__(self, command: list[str], folder: Path, version: str, stack: AsyncExitStack) -> None:
        self.version = version
        self._command = command
        self._errors = folder / "node.log"
        self._outer = stack
        self._inner = AsyncExitStack()
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._process: asyncio.subprocess.Process | None = None

    async def load(self) -> None:
        await self._inner.aclose()
        self._inner = await self._outer.enter_async_context(AsyncExitStack())
        pipe = asyncio.subprocess.PIPE
        with self._errors.open("ab") as errors:
            running = program(*self._command, stdin=pipe, stdout=pipe, stderr=errors.fileno())
            self._process = await self._inner.enter_async_context(running)
        listening = asyncio.get_running_loop().create_task(self._listen(self._process))
        self._inner.push_async_callback(asyncio.wait, [listening])
        self._inner.callback(listening.cancel)

    async def call(self, method: str, **arguments: Any) -> Any:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        try:
            process.stdin.write(json.dumps({"id": number, "method": method, "arguments": arguments}).encode() + b"\n")
            return await answer
        except ConnectionError:
            raise DriverError(f"Node has ended: {self._said()}") from None
        finally:
            self._answers.pop(number, None)

    async def change_network(self, change: Callable[[], object]) -> bool:
        change()
        return False  # Node has no event for it

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        buffered = b""
        while piece := await process.stdout.read(65_536):
            *lines, buffered = (buffered + piece).split(b"\n")
            for line in lines:
                self._take(json.loads(line))
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(DriverError(f"Node has ended: {self._said()}"))

    def _take(self, message: dict[str, Any]) -> None:
        answer = self._answers.get(message["id"])
        if answer is None or answer.done():
            return
        if "error" in message:
            answer.set_exception(DriverError(message["error"]))
        else:
            answer.set_result(message["result"])

    def _said(self) -> str:
        return self._errors.read_text(errors="replace")[-2_000:]


@asynccontextmanager
async def node(route: Route, folder: Path) -> AsyncIterator[Node]:
    """Node with an empty memory."""
    found = executable("node")
    if found is None:
        raise Absent("needs node: not on the path")
    if not _UNDICI.is_dir():
        raise Absent("needs undici, which `make undici` installs")
    options = {"proxy": route.proxy, "ca": route.ca and str(route.ca), "storage": str(folder / "storage.json")}
    command = [found, str(COURSE / "node.mjs"), json.dumps(options)]
    async with AsyncExitStack() as stack:
        yield Node(command, folder, await _version(found), stack)


async def _version(path: str) -> str:
    async with program(path, "--version", stdout=asyncio.subprocess.PIPE) as process:
        assert process.stdout is not None
        undici = json.loads((_UNDICI / "package.json").read_text())["version"]
        return f"Node {(await process.stdout.read()).decode().strip().removeprefix('v')}, undici {undici}"
