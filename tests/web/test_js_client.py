"""The JavaScript client against a real server, in Node: its own real-server tests, with a server to run against."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from hybrid.settings import Settings
from hybrid.web import launcher
from hybrid.web.app import EXTENSION, create_app

SCRIPT = Path(__file__).parent.parent / "js" / "real-server.test.js"
PATIENCE_S = 120.0


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
async def test_the_javascript_client_against_a_real_server() -> None:
    settings = Settings(development_issuer=True, port=0, allowed_hosts=("127.0.0.1:*",))
    app = create_app(settings)
    stop = asyncio.Event()
    bound: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(
        launcher.serve(
            app,
            host="127.0.0.1",
            port=0,
            limits=settings.limits,
            shutdown_event=stop,
            on_started=bound.set_result,
            drain=app.extensions[EXTENSION].drain,
        )
    )
    try:
        url = f"http://127.0.0.1:{await bound}"
        addresses = {"TEST_SERVER_URL": f"{url}/v1", "TEST_SERVER_TOKEN_URL": f"{url}/dev-issuer/token"}
        node = await asyncio.create_subprocess_exec(
            "node",
            "--test",
            str(SCRIPT),
            env={**os.environ, **addresses},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(PATIENCE_S):
            output, _ = await node.communicate()
    finally:
        stop.set()
        await serving
    text = output.decode()
    assert node.returncode == 0, text
    assert "# skipped 0" in text, text
    assert "# pass 0\n" not in text
