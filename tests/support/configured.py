"""A whole server that is told its issuers by its settings, as a deployed one is: it finds and fetches their keys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from hybrid.auth.verifier import TokenVerifier
from hybrid.clock import Clock, SystemClock
from hybrid.engine.engine import Engine
from hybrid.settings import IssuerSettings, Settings
from hybrid.web import launcher
from hybrid.web.app import EXTENSION, create_app
from tests.support.server import RunningServer, new_issuer, settings_for


def settings_of(*issuers: IssuerSettings, **options: Any) -> Settings:
    """The settings of `settings_for`, which takes the other options, with these issuers."""
    return replace(settings_for(**options), issuers=issuers)


@asynccontextmanager
async def configured_server(
    settings: Settings, *, clock: Clock | None = None, verifier: TokenVerifier | None = None
) -> AsyncIterator[RunningServer]:
    """Start it, and end it as SIGTERM would. Its `issuer` is one that it knows nothing of."""
    app = create_app(settings, clock=clock or SystemClock(), verifier=verifier)
    engine: Engine = app.extensions[EXTENSION]
    stop = asyncio.Event()
    bound: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.get_running_loop().create_task(
        launcher.serve(
            app,
            host="127.0.0.1",
            port=0,
            limits=settings.limits,
            shutdown_event=stop,
            on_started=bound.set_result,
            drain=engine.drain,
        )
    )
    await asyncio.wait((serving, bound), return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        serving.result()
    server = RunningServer(bound.result(), engine, new_issuer(), stop, serving)
    try:
        yield server
    finally:
        if not serving.done():
            await server.shut_down()
