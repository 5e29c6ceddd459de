"""Several `hybrid serve` processes that share one broker, and a balancer in front of them.

    with http_issuer(AUDIENCE) as issuer:
        async with nodes(3, broker=redis.url, issuer=issuer) as group:
            client = Client(AUDIENCE, token, dial=group.balancer.dial)
            group[0].kill()

Each node listens on a port of its own, which it keeps over restarts. The balancer costs no byte its way: it tells
clients which node to dial, each connection another, and leaves out those that do not answer `/readyz`, as a load
balancer with health checks would.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from hybrid.auth.development import DevelopmentIssuer
from tests.support.http_issuer import jwks_url
from tests.support.processes import START_MAX_S, Process, free_port

AUDIENCE: Final = "http://hybrid.example"
"""How clients reach the nodes, whichever they dial, and whom tokens are for."""
SECRET: Final = "what-the-nodes-of-a-test-share-and-nobody-else-knows"
ROOT: Final = Path(__file__).parents[2]
_PROBE_INTERVAL_S: Final = 0.25
_PROBE_MAX_S: Final = 1.0
_HEAD_MAX_BYTES: Final = 65_536


async def ask(port: int, path: str, timeout_s: float = _PROBE_MAX_S) -> int:
    """The status of a GET; 0 when nobody answers in time."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: hybrid.example\r\nConnection: close\r\n\r\n".encode())
            head = await reader.read(_HEAD_MAX_BYTES)
            return int(head.split(b" ", 2)[1])
    except (OSError, TimeoutError, IndexError, ValueError):
        return 0
    finally:
        if writer is not None:
            writer.transport.abort()


class Node:
    """One `hybrid serve`."""

    def __init__(
        self,
        number: int,
        folder: Path,
        settings: Mapping[str, Any],
        arguments: Sequence[str] = (),
        tree: Path = ROOT,
    ) -> None:
        self.number = number
        self.port = free_port()
        self.settings = dict(settings)
        folder = folder / f"node-{number}"
        folder.mkdir(parents=True)
        self._file = folder / "hybrid.toml"
        command = [sys.executable, "-m", "hybrid", "serve", "--port", str(self.port), *arguments]
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(tree),
            "PYTHONWARNINGS": "error::ResourceWarning,default::DeprecationWarning:hybrid",
        }
        self.process = Process(f"node-{number}", command, folder, environment)

    async def start(self, *, path: str = "/readyz") -> None:
        """Start it with its `settings` as they are now; returns when this path answers 200."""
        self.launch()
        await self.until(path)

    def launch(self) -> None:
        """Start it, and return before it listens."""
        self._file.write_text(to_toml(self.settings))
        self.process.launch()

    async def until(self, path: str = "/readyz", status: int = 200, max_s: float = START_MAX_S) -> None:
        """Wait until a path answers with a status."""

        async def does_answer() -> bool:
            return await ask(self.port, path) == status

        await self.process.until(does_answer, f"at {status} for {path}", max_s)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()

    def freeze(self) -> None:
        """SIGSTOP."""
        self.process.freeze()

    def thaw(self) -> None:
        """SIGCONT."""
        self.process.thaw()

    async def stop(self, max_s: float = 20.0) -> int:
        """SIGTERM, and wait for the drain; returns the exit status."""
        return await self.process.end(max_s)

    async def restart(self) -> int:
        """SIGTERM, wait for the drain, start again; returns the exit status of the former one."""
        status = await self.stop()
        await self.start()
        return status


class Balancer:
    """Says where the next connection goes: round robin over the nodes that answered their last probe."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = list(nodes)
        self._ready = {node.port for node in nodes}
        self._turn = 0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.get_running_loop().create_task(self._probe_all())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    @property
    def ready(self) -> frozenset[int]:
        """The ports of the nodes that are served to."""
        return frozenset(self._ready)

    def dial(self, transport: str = "") -> tuple[str, int]:
        """Where to connect; what `hybrid.client.Client` takes as `dial`. Some node, if none is ready."""
        for _ in self._nodes:
            self._turn += 1
            node = self._nodes[self._turn % len(self._nodes)]
            if node.port in self._ready:
                break
        return "127.0.0.1", node.port

    async def until_ready(self, count: int, max_s: float = START_MAX_S) -> None:
        """Wait until so many nodes are served to. Raises TimeoutError."""
        async with asyncio.timeout(max_s):
            while len(self._ready) != count:  # noqa: ASYNC110 -- probes tell nobody
                await asyncio.sleep(0.01)

    async def _probe_all(self) -> None:
        async with asyncio.TaskGroup() as group:
            for node in self._nodes:
                group.create_task(self._probe(node))

    async def _probe(self, node: Node) -> None:
        while True:
            if await ask(node.port, "/readyz") == 200:
                self._ready.add(node.port)
            else:
                self._ready.discard(node.port)
            await asyncio.sleep(_PROBE_INTERVAL_S)


class Nodes(Sequence[Node]):
    """Nodes with their balancer."""

    def __init__(self, members: Sequence[Node]) -> None:
        self._members = list(members)
        self.balancer = Balancer(self._members)

    def __getitem__(self, index: Any) -> Any:
        return self._members[index]

    def __len__(self) -> int:
        return len(self._members)

    async def roll(self, pause_s: float = 0.0) -> list[int]:
        """Restart one after the other, each so long after the one before was ready again; returns their exit statuses.

        nginx must be given the pause for which it leaves out a node that refused (`fail_timeout`): otherwise it leaves
        out all of them at once, and answers 502 itself.
        """
        statuses = []
        for place, node in enumerate(self._members):
            if place:
                await asyncio.sleep(pause_s)
            statuses.append(await node.restart())
            await self.balancer.until_ready(len(self._members))
        return statuses

    def report(self) -> str:
        """What each has logged last."""
        return "\n".join(node.process.report(without=" hybrid.access: ") for node in self._members)


@asynccontextmanager
async def nodes(
    count: int,
    *,
    broker: str,
    issuer: DevelopmentIssuer,
    settings: Mapping[str, Any] | None = None,
    arguments: Sequence[str] = (),
    tree: Path = ROOT,
) -> AsyncIterator[Nodes]:
    """So many nodes, ready, and their balancer at work. `settings` are keys of hybrid.toml on top of what they need;

    `tree` is where their package is, if it is not this one (see `changed_tree`).
    """
    folder = Path(tempfile.mkdtemp(prefix="hybrid-nodes-"))
    shared = {
        "public_url": AUDIENCE,
        "allowed_hosts": ["hybrid.example", "127.0.0.1:*"],
        "issuers": [{"url": issuer.issuer, "jwks_url": jwks_url(issuer)}],
        "broker": broker,
        "secret": SECRET,
        **(settings or {}),
    }
    group = Nodes([Node(number, folder, shared, arguments, tree) for number in range(count)])
    try:
        began_s = time.monotonic()
        for node in group:
            node.launch()
        for node in group:
            await node.until(max_s=START_MAX_S + began_s - time.monotonic())
        async with group.balancer:
            yield group
    finally:
        await asyncio.gather(*(node.stop() for node in group))
        print(group.report())
        shutil.rmtree(folder, ignore_errors=True)


def changed_tree(folder: Path, changes: Sequence[tuple[str, str, str]]) -> Path:
    """A copy of the package with changes (file below hybrid/, old text, new text), for nodes of another version."""
    shutil.copytree(ROOT / "hybrid", folder / "hybrid", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "static", folder / "static")
    for name, old, new in changes:
        file = folder / "hybrid" / name
        text = file.read_text()
        assert old in text, f"{name} has changed: {old!r}"
        file.write_text(text.replace(old, new, 1))
    return folder


def to_toml(settings: Mapping[str, Any]) -> str:
    """A settings file; values are texts, numbers, lists of texts, tables and lists of tables."""
    plain: list[str] = []
    tables: list[str] = []
    _write(settings, "", plain, tables)
    return "\n".join([*plain, *tables]) + "\n"


def _write(settings: Mapping[str, Any], prefix: str, plain: list[str], tables: list[str]) -> None:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            inner: list[str] = []
            nested: list[str] = []
            _write(value, f"{prefix}{key}.", inner, nested)
            tables += [f"[{prefix}{key}]", *inner, *nested]
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for item in value:
                inner = []
                _write(item, "", inner, tables)
                tables += [f"[[{prefix}{key}]]", *inner]
        else:
            plain.append(f"{key} = {json.dumps(value)}")  # a JSON text, number, boolean or list of texts is TOML too
