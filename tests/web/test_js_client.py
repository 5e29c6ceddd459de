"""The JavaScript client against real servers, in Node: its own real-server tests, with servers to run against."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from hybrid.settings import Settings
from hybrid.web import launcher
from hybrid.web.app import EXTENSION, create_app, streams_under
from tests.support.redis_servers import redis_server
from tests.support.server import SECRET
from tests.support.wire import Wire

SCRIPT = Path(__file__).parent.parent / "js" / "real-server.test.js"
PATIENCE_S = 120.0
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="needs node")


@asynccontextmanager
async def serving(settings: Settings, port: int = 0) -> AsyncIterator[int]:
    """A server on a free port, or on that one."""
    app = create_app(settings)
    stop = asyncio.Event()
    bound: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        launcher.serve(
            app,
            host="127.0.0.1",
            port=port,
            limits=settings.limits,
            shutdown_event=stop,
            on_started=bound.set_result,
            drain=app.extensions[EXTENSION].drain,
            streams_under=streams_under(settings),
        )
    )
    try:
        yield await bound
    finally:
        stop.set()
        await task


async def run_script(url: str, **more: str) -> None:
    addresses = {"TEST_SERVER_URL": f"{url}/v1", "TEST_SERVER_TOKEN_URL": f"{url}/dev-issuer/token"}
    node = await asyncio.create_subprocess_exec(
        "node",
        "--test",
        str(SCRIPT),
        env={**os.environ, **addresses, **more},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(PATIENCE_S):
        output, _ = await node.communicate()
    text = output.decode()
    assert node.returncode == 0, text
    assert "# skipped 0" in text, text
    assert "# pass 0\n" not in text


@needs_node
async def test_the_javascript_client_against_a_real_server() -> None:
    async with serving(Settings(development_issuer=True, port=0, allowed_hosts=("127.0.0.1:*",))) as port:
        await run_script(f"http://127.0.0.1:{port}")


@needs_node
async def test_the_javascript_client_against_two_nodes_in_turn() -> None:
    """Each connection goes to the other node: nothing in the client may depend on where it lands."""
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(redis_server())
        settings = Settings(
            development_issuer=True,
            port=0,
            public_url="http://hybrid.example",
            allowed_hosts=("127.0.0.1:*",),
            broker=redis.url,
            secret=SECRET,
        )
        ports = [await stack.enter_async_context(serving(settings)) for _ in range(2)]
        balancer = await stack.enter_async_context(Wire(ports[0]))
        balancer.other_ports.append(ports[1])
        host, port = balancer.address
        await run_script(f"http://{host}:{port}", TEST_SERVER_NODES="2")
