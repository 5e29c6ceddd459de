"""docs/server-api.md: its examples, run by curl against a real server, are answered as the page shows."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from hybrid.auth.development import FULL_SCOPE
from hybrid.auth.grants import MANAGING_SCOPES
from hybrid.limits import Limits
from hybrid.protocol.routes.management import MANAGEMENT
from tests.support.raw import Door, RawWebSocket, attach_of
from tests.support.server import RunningServer, new_issuer, running_server
from tests.support.world import settings

PAGE = (Path(__file__).parents[2] / "docs" / "server-api.md").read_text()
EXAMPLES = re.findall(r"```sh\n(curl .*?)```(?:\n\n```json\n(.*?)```)?", PAGE, re.DOTALL)
LEFT_OUT = {"buffered"}  # said where it is not 0


def shape(value: Any) -> Any:
    """The names and kinds of a JSON value."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items() if name not in LEFT_OUT}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return "number" if isinstance(value, int | float) else type(value).__name__


async def run(command: str, server: RunningServer, **variables: str) -> Any:
    token = server.token("backend", " ".join((FULL_SCOPE, *MANAGING_SCOPES)))
    environment = {"PATH": "/usr/bin:/bin:/usr/local/bin", "HYBRID": server.url, "TOKEN": token, **variables}
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", command, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, error = await process.communicate()
    assert not process.returncode, error
    return json.loads(out)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
async def test_the_examples() -> None:
    assert len(EXAMPLES) > 8
    chosen = settings(True, chat={"history_size": 100, "presence": True})
    async with running_server(chosen, issuer=new_issuer()) as server:
        leg = RawWebSocket(Door(("127.0.0.1", server.port), f"127.0.0.1:{server.port}", server.token("alice")))
        try:
            for command, shown in EXAMPLES:
                has_channel = "v1/subscribe" not in command
                leg.close()
                await leg.open(attach_of(1, *(["chat:lobby"] if has_channel else [])))
                await leg.next("subscribed")
                while has_channel and (await server.engine.manage.channel("chat:lobby")).present.sessions < 1:  # type: ignore[union-attr]  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                await server.engine.manage.sessions()
                answer = await run(command, server, SESSION=leg.session, NODE=server.engine.router.node)
                if shown:
                    assert shape(answer) == shape(json.loads(shown)), command
                else:
                    assert answer["name"] == "bad_request", "there is no other node to take the clients"
        finally:
            leg.close()


def test_every_route_is_on_the_page() -> None:
    for route in MANAGEMENT:
        told = route.path.partition("/{")[0]
        assert f"`{route.method} {told}`" in PAGE or f"`{told}`" in PAGE or f"{told}/{{" in PAGE, route.path
    for scope in MANAGING_SCOPES:
        assert f"`{scope.replace('*', '<pattern>')}`" in PAGE


def test_the_bounds_on_the_page() -> None:
    limits = Limits()
    for said in (
        f"{limits.broadcast_channels_max:,} channels (`broadcast_channels_max`)",
        f"{limits.broadcast_max_bytes >> 20} MB of data times channels (`broadcast_max_bytes`)",
        f"At most {limits.managed_page_max} at once (`managed_page_max`",
        f"up to {limits.reconnect_delay_max_ms // 1000} s more (`reconnect_delay_max_ms`)",
    ):
        assert said in PAGE
    assert limits.managed_timeout_s == 2
