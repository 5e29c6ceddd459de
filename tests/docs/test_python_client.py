"""What docs/python-client.md shows runs, against a real server; the table of options is that of the code."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from types import CodeType, FunctionType
from typing import Any

import pytest

from hybrid import Client
from hybrid.engine.calls import Call
from tests.support.nodes import ROOT
from tests.support.server import running_server, settings_for

PAGE = (ROOT / "docs" / "python-client.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
PATIENCE_S = 20.0


async def run(source: str, **names: Any) -> dict[str, Any]:
    """Execute a block that may await at its top, as in a notebook."""
    code = compile(source, "docs/python-client.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert isinstance(code, CodeType)
    done = FunctionType(code, names)()
    if inspect.isawaitable(done):
        await done
    return names


async def add(call: Call) -> Any:
    return sum(call.data)


@pytest.mark.parametrize("place", range(len(BLOCKS)))
async def test_the_blocks_run(place: int) -> None:
    async with running_server(settings_for()) as server:
        server.engine.calls.register("add", add)
        source = BLOCKS[place].replace("http://127.0.0.1:8000", server.url)
        if "async for" in source:
            source += "        break\n"  # the page's reads on
        scope = "hybrid:subscribe:chat:* hybrid:publish:chat:* hybrid:subscribe:news hybrid:publish:news"
        names = {"get_token": lambda: server.token(scope=scope), "Client": Client}
        async with asyncio.timeout(PATIENCE_S):
            await run(source, **names)


def test_the_options_are_those_of_the_code() -> None:
    table = PAGE.partition("## Options")[2].partition("\n\nProxies")[0]
    told = [
        name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1] if "|" in row else "")
    ]
    assert set(told) == set(inspect.signature(Client).parameters)


def test_the_counters_are_those_of_the_code() -> None:
    from hybrid.client import Stats

    line = next(line for line in PAGE.splitlines() if line.startswith("- `stats`"))
    assert set(re.findall(r"`(\w+)`", line)) == {"stats", *Stats.__dataclass_fields__}
