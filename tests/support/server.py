"""A whole hybrid server on a free port, in the test's own loop: real Hypercorn, real sockets, nothing in between."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from quart import Quart

from hybrid.auth.development import FULL_SCOPE, DevelopmentIssuer
from hybrid.auth.jwt import IssuerConfig, JwtVerifier
from hybrid.clock import Clock, SystemClock
from hybrid.engine.engine import Engine
from hybrid.limits import Limits
from hybrid.settings import Namespace, Settings
from hybrid.web import launcher
from hybrid.web.app import EXTENSION, create_app, streams_under
from tests.support.asgi_servers import Serve


@dataclass(frozen=True)
class Backend:
    """What stands behind the servers of a test: Redis at this URL, or the memory of each; how many they are."""

    url: str = ""
    nodes: int = 1

    def settings(self) -> dict[str, str]:
        """What `Settings` are told of it; the keys of each test are apart."""
        if not self.url:
            return {}
        return {"broker": self.url, "secret": SECRET, "key_prefix": f"t{secrets.token_hex(4)}"}


class Chosen:
    """The backend that `settings_for` builds on, and what serves; a fixture may choose others."""

    backend = Backend()
    serve: Serve = staticmethod(launcher.serve)


SECRET = "the secret that the nodes of a test share"
AUDIENCE = "https://hybrid.example"
ISSUER = "https://issuer.example"


@dataclass
class RunningServer:
    """A server that runs now. `issuer` mints tokens for any subject; it outlives restarts."""

    port: int
    engine: Engine
    issuer: DevelopmentIssuer
    stop: asyncio.Event
    stopped: asyncio.Task[None] = field(repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def token(self, subject: str = "alice", scope: str = FULL_SCOPE, lifetime_s: float = 900) -> str:
        return self.issuer.mint(subject, scope, lifetime_s=lifetime_s)

    def bearer(self, subject: str = "alice", **options: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(subject, **options)}"}

    async def shut_down(self) -> None:
        """As SIGTERM would."""
        self.stop.set()
        await self.stopped


def new_issuer() -> DevelopmentIssuer:
    """The issuer whose tokens the servers of this module accept."""
    return DevelopmentIssuer(ISSUER, AUDIENCE, SystemClock())


def settings_for(
    *, handoff: bool = True, limits: Limits | None = None, namespaces: dict[str, Namespace] | None = None
) -> Settings:
    return Settings(
        host="127.0.0.1",
        port=0,
        public_url=AUDIENCE,
        allowed_hosts=("127.0.0.1:*", "localhost:*"),
        handoff=handoff,
        limits=limits or Limits(lag_max_s=60.0),  # between tests the loop stands still
        namespaces=namespaces or {},
        log_level="info",
        **Chosen.backend.settings(),
    )


@asynccontextmanager
async def running_server(
    settings: Settings,
    *,
    issuer: DevelopmentIssuer | None = None,
    port: int = 0,
    clock: Clock | None = None,
    prepare: Callable[[Quart], None] | None = None,
    **options: Any,
) -> AsyncIterator[RunningServer]:
    """Start it, and end it as SIGTERM would if the test has not done so.

    `options` are for `create_app`, whose app `prepare` is given before it is served.
    """
    issuer = issuer or new_issuer()
    settings = replace(settings, port=port)
    clock = clock or SystemClock()
    verifier = JwtVerifier(
        [IssuerConfig(issuer=ISSUER, keys=issuer.keys, channels_claim="channels")], AUDIENCE, clock, settings.limits
    )
    app = create_app(settings, verifier=verifier, clock=clock, **options)
    if prepare is not None:
        prepare(app)
    async with serving(app, settings, issuer) as server:
        yield server


@asynccontextmanager
async def serving(app: Quart, settings: Settings, issuer: DevelopmentIssuer) -> AsyncIterator[RunningServer]:
    """Serve an app at the port of its settings, and end it as SIGTERM would if the test has not done so."""
    engine: Engine = app.extensions[EXTENSION]
    stop = asyncio.Event()
    bound: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    served = asyncio.get_running_loop().create_task(
        Chosen.serve(
            app,
            host="127.0.0.1",
            port=settings.port,
            limits=settings.limits,
            shutdown_event=stop,
            on_started=bound.set_result,
            drain=engine.drain,
            abort_links=engine.abort_all,
            streams_under=streams_under(settings),
        )
    )
    await asyncio.wait((served, bound), return_when=asyncio.FIRST_COMPLETED)
    if served.done():
        served.result()
    server = RunningServer(bound.result(), engine, issuer, stop, served)
    try:
        yield server
    finally:
        if not served.done():
            await server.shut_down()
