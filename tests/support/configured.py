"""A whole server that is told its issuers by its settings, as a deployed one is: it finds and fetches their keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from hybrid.auth.verifier import TokenVerifier
from hybrid.clock import Clock, SystemClock
from hybrid.settings import IssuerSettings, Settings
from hybrid.web.app import create_app
from tests.support.server import RunningServer, new_issuer, serving, settings_for


def settings_of(*issuers: IssuerSettings, **options: Any) -> Settings:
    """The settings of `settings_for`, which takes the other options, with these issuers."""
    return replace(settings_for(**options), issuers=issuers)


@asynccontextmanager
async def configured_server(
    settings: Settings, *, clock: Clock | None = None, verifier: TokenVerifier | None = None
) -> AsyncIterator[RunningServer]:
    """Start it, and end it as SIGTERM would. Its `issuer` is one that it knows nothing of."""
    app = create_app(settings, clock=clock or SystemClock(), verifier=verifier)
    async with serving(app, settings, new_issuer()) as server:
        yield server
