"""The JavaScript client outside of browsers: Node, Deno and Bun, with a MessagePack library not written here."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from tests.support.server import running_server, settings_for

HERE = Path(__file__).parent / "runtimes"
MODULES = HERE / "node_modules"
PATIENCE_S = 60.0
WHOLE = ["json", "msgpack", "bytes-json", "bytes-msgpack", "bytes-sse", "done"]


def command_of(runtime: str) -> list[str]:
    """How a program is run by it. Skips where it is missing."""
    if runtime == "node":
        command = [shutil.which("node") or ""]
    elif runtime == "deno":
        command = [
            *map(str, MODULES.glob("@deno/*/deno")),
            "run",
            "--allow-all",
            "--node-modules-dir=manual",
            "--cached-only",
        ]
    else:
        command = [*map(str, MODULES.glob("@oven/*/bin/bun")), "run"]
    if not Path(command[0]).is_file() or not (MODULES / "@msgpack").is_dir():
        pytest.skip(f"needs {runtime}: `make runtimes` installs what npm has of them")
    return command


@pytest.mark.parametrize("runtime", ["node", "deno", "bun"])
async def test_the_client_works(runtime: str) -> None:
    command = command_of(runtime)
    async with running_server(settings_for()) as server:
        process = await asyncio.create_subprocess_exec(
            *command,
            str(HERE / "client.mjs"),
            env={**os.environ, "HYBRID_URL": f"{server.url}/v1", "HYBRID_TOKEN": server.token()},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(PATIENCE_S):
                output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    lines = output.decode().splitlines()
    assert process.returncode == 0, output.decode()
    assert [line.split(":")[0] for line in lines] == WHOLE
