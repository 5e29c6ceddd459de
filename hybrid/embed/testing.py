"""Tests of an application with channels, without sockets, issuers and waiting.

    async with hybrid.test_client("alice") as alice, hybrid.test_client("bob") as bob:
        lobby = await bob.subscribe("chat:lobby")
        await alice.publish("chat:lobby", {"text": "hello"})
        assert (await anext(lobby)).data == {"text": "hello"}

The client is the real one (`hybrid.Client`), over the real transports; what is left out is the server in between. An
app that is not being served yet is started by the first client and ended by the last one.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from quart import Quart

from hybrid.auth.development import DevelopmentIssuer
from hybrid.auth.hooks import finish_with
from hybrid.auth.jwt import IssuerConfig, JwtVerifier
from hybrid.auth.revocation import RevocationVerifier
from hybrid.auth.verifier import TokenVerifier
from hybrid.client import Client
from hybrid.embed.apps import asgi_of, engine_of
from hybrid.model import Principal

if TYPE_CHECKING:
    from hybrid.embed.extension import Hybrid

_PATIENCE_S: Final = 10.0
_STAGE: Final = "hybrid_stage"


class TestClock:
    """Both clocks of an app (`Hybrid(app, clock=TestClock())`), moved by hand: `hybrid.clock.Clock`.

    Timers that have become due fire within a quarter of a second. The client's own waits go by the real time.
    """

    __test__ = False  # pytest takes classes of this name for tests

    def __init__(self, wall_s: float = 1_800_000_000.0) -> None:
        self._wall_s = wall_s
        self._monotonic_s = 1_000.0

    def monotonic_s(self) -> float:
        """See `Clock.monotonic_s`."""
        return self._monotonic_s

    def wall_s(self) -> float:
        """See `Clock.wall_s`."""
        return self._wall_s

    def advance(self, seconds: float) -> None:
        """Let time pass. Raises ValueError for a negative time."""
        if seconds < 0:
            raise ValueError("time does not go back")
        self._wall_s += seconds
        self._monotonic_s += seconds


class TestClient(Client):
    """See the module's text. Made by `Hybrid.test_client`."""

    __test__ = False

    def __init__(
        self,
        hybrid: Hybrid,
        subject: str | None,
        scope: str,
        *,
        lifetime_s: float = 900.0,
        transport: str | tuple[str, ...] = "websocket",
        **options: Any,
    ) -> None:
        """A fresh token for `subject` with `scope` is made whenever one is needed; None: no token. `options` are those
        of `Client`.
        """
        issuer = issuer_of(hybrid)
        app = hybrid.app
        self._stage = _Stage.of(app)

        def token() -> str | None:
            return None if subject is None else issuer.mint(subject, scope, lifetime_s=lifetime_s)

        super().__init__(issuer.audience, token, transport, app=asgi_of(app), **options)

    async def __aenter__(self) -> TestClient:
        """Start the app, unless it is being served. Raises RuntimeError for one that has ended."""
        await self._stage.enter()
        try:
            await super().__aenter__()
        except BaseException:
            await self._stage.leave()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await super().__aexit__(kind, error, traceback)
        finally:
            await self._stage.leave()


class _Stage:
    """Serves an app without a server, for as long as some test client needs it."""

    def __init__(self, app: Quart) -> None:
        self._engine = engine_of(app)
        self._app = asgi_of(app)
        self._count = 0
        self._task: asyncio.Task[None] | None = None
        self._told: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self._answers: asyncio.Queue[dict[str, str]] = asyncio.Queue()

    @classmethod
    def of(cls, app: Quart) -> _Stage:
        """The one of an app."""
        stage: _Stage = app.extensions.setdefault(_STAGE, cls(app))
        return stage

    async def enter(self) -> None:
        """Start the app if nobody has."""
        if self._engine.has_closed:
            raise RuntimeError("the app has been served, and has ended: make a new one for each test, by a factory")
        self._count += 1
        if self._count == 1 and not self._engine.is_serving:
            scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
            self._task = asyncio.ensure_future(self._live(scope))
            try:
                await self._ask("startup")
            except BaseException:
                self._count -= 1
                await self._give_up(self._task)
                raise

    async def leave(self) -> None:
        """End the app if it was started here, and nobody needs it any more."""
        self._count -= 1
        if self._count == 0 and self._task is not None:
            try:
                await self._ask("shutdown")
                await self._task
            finally:
                self._task.cancel()

    async def _give_up(self, task: asyncio.Task[None]) -> None:
        """What could not start is told to end; some frameworks have ended by themselves."""
        self._task = None
        if not task.done():
            self._told.put_nowait({"type": "lifespan.shutdown"})
            await asyncio.wait({task}, timeout=_PATIENCE_S)
            task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()

    async def _live(self, scope: dict[str, Any]) -> None:
        await self._app(scope, self._told.get, self._answers.put)  # type: ignore[arg-type]

    async def _ask(self, what: str) -> None:
        assert self._task is not None
        self._told.put_nowait({"type": f"lifespan.{what}"})
        answering = asyncio.ensure_future(self._answers.get())
        try:
            await asyncio.wait({answering, self._task}, timeout=_PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                if self._task.done():
                    self._task.result()
                raise RuntimeError(f"the app did not finish its {what}")
            answer = answering.result()
        finally:
            answering.cancel()
        if answer["type"].endswith("failed"):
            raise RuntimeError(f"the app's {what} failed: {answer.get('message', '')}")


class _AlsoOurs:
    """Takes the tokens that were made for tests, beside those that the app takes anyway: a `TokenVerifier`."""

    def __init__(self, issuer: DevelopmentIssuer, tests: TokenVerifier, others: TokenVerifier) -> None:
        self.issuer = issuer
        self._tests = tests
        self._others = others
        self._issued: set[str] = set()

    def mint(self, subject: str, scope: str, *, lifetime_s: float) -> str:
        """A token, remembered as ours."""
        token = self.issuer.mint(subject, scope, lifetime_s=lifetime_s)
        self._issued.add(token)
        return token

    @property
    def audience(self) -> str:
        """Whom the tokens are for: the app's public URL."""
        return self.issuer.audience

    def cached(self, token: str, proven_key: str = "") -> Principal | None:
        """See `TokenVerifier.cached`."""
        return (self._tests if token in self._issued else self._others).cached(token, proven_key)

    async def verify(self, token: str, proven_key: str = "") -> Principal:
        """See `TokenVerifier.verify`."""
        return await (self._tests if token in self._issued else self._others).verify(token, proven_key)

    async def close(self) -> None:
        """See `TokenVerifier.close`."""
        await self._tests.close()
        await self._others.close()


def issuer_of(hybrid: Hybrid) -> _AlsoOurs:
    """The maker of an app's test tokens; from the first question on the app takes them."""
    engine, settings = hybrid.engine, hybrid.settings
    verifier: TokenVerifier = engine.verifier
    if isinstance(verifier, _AlsoOurs):
        return verifier
    name = settings.issuers[0].url if settings.issuers else f"{settings.public_url}/tests"
    issuer = DevelopmentIssuer(name, settings.public_url, engine.clock)
    tests = JwtVerifier(
        [IssuerConfig(issuer=name, keys=issuer.keys)],
        settings.public_url,
        engine.clock,
        settings.limits,
        finish=finish_with(hybrid.grants_hook),
    )
    ours = _AlsoOurs(issuer, RevocationVerifier(tests, engine.revocations), verifier)
    engine.verifier = ours
    return ours
