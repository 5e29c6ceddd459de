"""One open transport of a simulated client, and the tasks that belong to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from tests.simulation.node import Node
from tests.simulation.wires import Wire

Hear = Callable[["Leg", dict[str, Any]], None]


class Leg:
    """Implements `Receiver`. `hear(leg, push)` is told what comes."""

    def __init__(self, transport: str, node: Node, attempt: int, hear: Hear) -> None:
        self.transport = transport
        self.node = node
        self.attempt = attempt
        self.wire: Wire | None = None
        self.session = ""
        self.is_ready = False  # the whole truth has come
        self.left: set[str] = set()  # channels of which something may still come, for commands travel apart from it
        self.heard_s = asyncio.get_running_loop().time()
        self.over = asyncio.Event()
        self._hear = hear
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def is_stream(self) -> bool:
        return self.transport != "longpoll"

    def wire_brought(self, payload: bytes) -> None:
        self.heard_s = asyncio.get_running_loop().time()
        for line in payload.split(b"\n"):
            text = line.removeprefix(b"data: ") if self.transport == "sse" else line
            if text.startswith(b"{"):
                self.tell(msgspec.json.decode(text))

    def wire_ended(self, code: int) -> None:
        self.end()

    def tell(self, push: dict[str, Any]) -> None:
        """Something came on it."""
        if not self.over.is_set():
            self._hear(self, push)
            self._changed.set()

    async def until(self, condition: Callable[[], bool], patience_s: float) -> bool:
        """Wait for it; False when the leg ends first, or nothing happens for so long."""
        try:
            async with asyncio.timeout(patience_s):
                while not condition() and not self.over.is_set():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return condition() and not self.over.is_set()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something for as long as the leg lasts."""
        self._tasks.append(asyncio.get_running_loop().create_task(work))

    def end(self) -> None:
        """Nobody listens to it any more."""
        wire, self.wire = self.wire, None
        if wire is not None:
            wire.hang_up()
        self.over.set()
        self._changed.set()
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()
