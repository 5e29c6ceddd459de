"""The example apps of docs/examples, served as their READMEs say."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

from hybrid.engine.engine import Engine
from hybrid.web import launcher
from hybrid.web.app import SETTINGS, streams_under
from tests.support.nodes import ROOT
from tests.support.processes import free_port

EXAMPLES = ROOT / "docs" / "examples"


def load(name: str, monkeypatch: pytest.MonkeyPatch, port: int = 8000) -> ModuleType:
    """The module of an example; each time another one, with an app of its own."""
    monkeypatch.setenv("HYBRID_PORT", str(port))
    spec = importlib.util.spec_from_file_location(f"example_{name}_{port}", EXAMPLES / name / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@dataclass
class Example:
    url: str
    module: Any
    engine: Engine


@asynccontextmanager
async def served(name: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Example]:
    """An example on a free port, until it is told to stop."""
    port = free_port()
    module = load(name, monkeypatch, port)
    settings = module.app.extensions[SETTINGS]
    engine: Engine = module.hybrid.engine
    stop = asyncio.Event()
    bound: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        launcher.serve(
            module.app,
            host="127.0.0.1",
            port=port,
            limits=settings.limits,
            shutdown_event=stop,
            on_started=bound.set_result,
            drain=lambda _: engine.drain(0.5),
            streams_under=streams_under(settings, module.app),
        )
    )
    await asyncio.wait({task, bound}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    try:
        yield Example(f"http://127.0.0.1:{port}", module, engine)
    finally:
        stop.set()
        await task
