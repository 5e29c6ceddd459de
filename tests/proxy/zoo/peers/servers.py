"""The peers' servers as processes: each with the port that the animals lead to and a second one for the runner."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import httpx2

from tests.proxy.zoo.animals.base import Absent, executable
from tests.proxy.zoo.peers import cache
from tests.support.processes import Process, free_port

HOST: Final = "127.0.0.1"


class Server:
    """`restarted` is what a restart of the system restarts; `others` go on."""

    def __init__(self, port: int, control_port: int, restarted: Process, others: tuple[Process, ...] = ()) -> None:
        self.port = port
        self._restarted = restarted
        self._others = others
        self._ports = {restarted: port} if others else {restarted: control_port}
        self._ports.update(dict.fromkeys(others, control_port))
        self._http = httpx2.AsyncClient(base_url=f"http://{HOST}:{control_port}", trust_env=False, timeout=10.0)

    async def start(self) -> None:
        """Raises RuntimeError with the end of its log."""
        for process in (self._restarted, *self._others):
            await self._start(process)

    async def restart(self) -> None:
        """SIGTERM, and again on the same port as soon as it has ended."""
        await self._restarted.end()
        await self._start(self._restarted)

    async def stop(self) -> None:
        """End everything, in cancellation too."""
        for process in (*self._others, self._restarted):
            try:
                await process.end(3.0)
            finally:
                process.kill()
        await self._http.aclose()

    async def ups(self) -> list[int]:
        """What the client has sent, in the order in which it came."""
        numbers: list[int] = json.loads((await self._http.get("/")).content)
        return numbers

    async def _start(self, process: Process) -> None:
        process.launch()
        await process.until(lambda: _listens(self._ports[process]))
        if process is self._restarted:
            await process.until(lambda: _listens(self.port))


@asynccontextmanager
async def serving(kind: str, folder: Path) -> AsyncIterator[Server]:
    """One server of that kind: "socketio", "plain" or "centrifugo". Raises Absent."""
    node = executable("node")
    if node is None:
        raise Absent("needs node, which was not found")
    port, control_port = free_port(), free_port()
    if kind == "centrifugo":
        api_port = free_port()
        flags = {"-c": cache.server("centrifugo.json"), "-a": HOST, "-p": port}
        internal = (f"--http_server.internal_address={HOST}", f"--http_server.internal_port={api_port}")
        own = [str(cache.centrifugo()), *(str(part) for flag in flags.items() for part in flag), *internal]
        backend = [node, str(cache.server("centrifugo_backend.mjs")), str(api_port), str(control_port)]
        server = Server(port, control_port, Process("centrifugo", own, folder), (Process("backend", backend, folder),))
    else:
        own = [node, str(cache.server(f"{kind}.mjs")), str(port), str(control_port)]
        server = Server(port, control_port, Process(kind, own, folder))
    try:
        await server.start()
        yield server
    finally:
        await server.stop()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.close()
    return True
