"""`hybrid.asgi:app` under the commands of ASGI servers: each transport once, real processes, as the docs say it."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest

from hybrid.auth.development import FULL_SCOPE, DevelopmentIssuer
from hybrid.client import Client, Timing
from tests.support.http_issuer import http_issuer, jwks_url
from tests.support.nodes import ROOT, ask
from tests.support.processes import Process, free_port
from tests.support.wire import TRANSPORTS, Cabling

AUDIENCE = "http://hybrid.example"
COMMANDS = {
    "hypercorn": ["hypercorn", "--bind", "127.0.0.1:{port}", "hybrid.asgi:app"],
    "uvicorn": [
        *("uvicorn", "--port", "{port}", "--no-access-log", "--timeout-graceful-shutdown", "5", "hybrid.asgi:app")
    ],
    "granian": ["granian", "--interface", "asgi", "--port", "{port}", "hybrid.asgi:app"],
}
COUNT = 200
FRAIL = ("granian",)
"""Whose worker may end when connections are cut (2.8.9, a panic in its conversion of messages): docs/performance.md."""
WARNS = {"hypercorn": 0, "uvicorn": 0, "granian": 1}


@pytest.fixture
def issuer() -> Iterator[DevelopmentIssuer]:
    with http_issuer(AUDIENCE) as made:
        yield made


@asynccontextmanager
async def served(name: str, issuer: DevelopmentIssuer, folder: Path) -> AsyncIterator[tuple[int, Process]]:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"needs {name}: `make .venv/.tested` installs it")
    port = free_port()
    settings = folder / "hybrid.toml"
    settings.write_text(
        f'public_url = "{AUDIENCE}"\nallowed_hosts = ["127.0.0.1:{port}", "hybrid.example"]\n'
        f'[[issuers]]\nurl = "{issuer.issuer}"\njwks_url = "{jwks_url(issuer)}"\n'
    )
    command = [sys.executable, "-m", *(part.format(port=port) for part in COMMANDS[name])]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HYBRID_SETTINGS": str(settings)}
    process = Process(name, command, folder, environment)
    process.launch()
    try:

        async def is_ready() -> bool:
            return await ask(port, "/readyz") == 200

        await process.until(is_ready)
        yield port, process
    finally:
        await process.end()


@pytest.mark.parametrize("name", COMMANDS)
async def test_every_transport_works_and_the_command_ends_when_told(
    name: str, issuer: DevelopmentIssuer, tmp_path: Path
) -> None:
    async with asyncio.timeout(60), served(name, issuer, tmp_path) as (port, process):
        token = issuer.mint("alice", FULL_SCOPE)
        for transport in TRANSPORTS:
            async with Client(f"http://127.0.0.1:{port}", lambda: token, transport) as client:
                subscription = await client.subscribe(f"chat:{transport}")
                for number in range(20):
                    await client.publish(f"chat:{transport}", number)
                got = [await anext(subscription) for _ in range(20)]
                assert [publication.data for publication in got] == list(range(20))
                assert [publication.offset for publication in got] == list(range(1, 21))
        assert await process.end() in (0, -15), process.report()
        output = process.output()
        assert output.count("streams are served through plain ASGI") == WARNS[name], output
        assert "Traceback" not in output, output
        assert token not in output


@pytest.mark.parametrize("name", COMMANDS)
async def test_moves_lose_nothing_nor_do_cuts(name: str, issuer: DevelopmentIssuer, tmp_path: Path) -> None:
    """A publication every few milliseconds, while sessions change their transport and connections break."""
    async with asyncio.timeout(60), served(name, issuer, tmp_path) as (port, process), Cabling(port) as cabling:
        token = issuer.mint("alice", FULL_SCOPE)
        url, at_once = f"http://127.0.0.1:{port}", Timing(backoff_base_s=0.02, backoff_max_s=0.2)
        async with Client(url, lambda: token, "websocket") as publisher, AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(
                    Client(url, lambda: token, transport, dial=cabling.dial, timing=at_once)
                )
                for transport in TRANSPORTS
            ]
            subscriptions = [await client.subscribe("chat:lobby") for client in clients]

            async def publish() -> None:
                for number in range(COUNT):
                    await publisher.publish("chat:lobby", number)
                    await asyncio.sleep(0.005)

            publishing = asyncio.create_task(publish())
            for step in range(1, 4):
                for place, client in enumerate(clients):
                    with suppress(ConnectionError):  # a cut came in between
                        await client.move_to(TRANSPORTS[(place + step) % 3])
                if name not in FRAIL:
                    for wire in cabling.all():
                        wire.cut()
            await publishing
            for subscription in subscriptions:
                got = [await anext(subscription) for _ in range(COUNT)]
                assert [publication.data for publication in got] == list(range(COUNT))
                assert [publication.offset for publication in got] == list(range(1, COUNT + 1))
            assert all(client.stats.gaps == client.stats.resets == 0 for client in clients)
            assert all(client.stats.moves for client in clients)
        assert process.is_running
        assert "Traceback" not in process.output(), process.report()
