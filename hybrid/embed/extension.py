"""`Hybrid`: channels as a part of a Quart application.

    app = Quart(__name__)
    hybrid = Hybrid(app)                  # or Hybrid(), and hybrid.init_app(app) in a factory

    @hybrid.rpc
    async def add(a: int, b: int) -> int: ...

    await hybrid.publish("chat:lobby", {"text": "hello"})

One `Hybrid` holds an application's decorators and may be part of several apps, as in tests that make one each: what it
does then concerns the app in whose context it is called. Docs: docs/embedding.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

import msgspec
from quart import Quart

from hybrid.auth.hooks import AuthoriseHook, GrantsHook
from hybrid.auth.verifier import TokenVerifier
from hybrid.broker.base import Appended
from hybrid.client.values import ReceivedPublication
from hybrid.clock import Clock
from hybrid.embed.apps import Apps, asgi_of, engine_of, serving_engine_of, settings_of
from hybrid.embed.channel import Channel
from hybrid.embed.hooks import Hooks, SessionHandler, Sessions, check_immediate, check_waiting
from hybrid.embed.rpc import Procedure, Signature
from hybrid.engine.engine import Engine
from hybrid.engine.operations import SERVER, PublishRequest, to_json
from hybrid.errors import HybridError, SettingsError
from hybrid.model import Position, PresenceEntry, Principal
from hybrid.settings import Settings, load
from hybrid.transports.exchange import AsgiApp
from hybrid.web.app import EXTENSION, install
from hybrid.web.static import client_blueprint, find_static_root

if TYPE_CHECKING:
    from hybrid.embed.testing import TestClient

CLIENT_PATH: Final = "/hybrid"
"""Where an app serves the browser client: `/hybrid/index.js`, `/hybrid/hybrid.min.js`. Quart's own `/static` stays."""
FULL_SCOPE: Final = "hybrid:subscribe:* hybrid:publish:*"
_Procedure = TypeVar("_Procedure", bound=Procedure)
_Authorise = TypeVar("_Authorise", bound=AuthoriseHook)
_Grants = TypeVar("_Grants", bound=GrantsHook)
_SignedIn = TypeVar("_SignedIn", bound=Callable[[Mapping[str, Any]], Principal | None])
_Session = TypeVar("_Session", bound=SessionHandler)


class Message(msgspec.Struct, frozen=True):
    """One publication of a batch: a JSON-able value, or bytes."""

    channel: str
    data: Any
    type: str | None = None
    key: str | None = None


class Hybrid:
    """Channels as a part of a Quart application: its decorators say who may do what, its methods publish and read.

    One may be part of several apps, as in tests that make one each: what it does then concerns the app in whose context
    it is called. `Hybrid(app)`, or `Hybrid()` and `init_app(app)` in a factory.
    """

    def __init__(
        self,
        app: Quart | None = None,
        *,
        settings: Settings | None = None,
        verifier: TokenVerifier | None = None,
        clock: Clock | None = None,
        health: bool = True,
    ) -> None:
        """`settings` replaces everything that would be read from `hybrid.toml`, the environment and `app.config`.

        `verifier` checks tokens in place of the settings' issuers; `clock` is for tests. `health` False leaves
        `/healthz` and `/readyz` to the app. With an `app`, `init_app` is called.
        """
        self._settings = settings
        self._verifier = verifier
        self._clock = clock
        self._health = health
        self._hooks = Hooks()
        self._procedures: dict[str, tuple[Signature, bool]] = {}
        self._apps = Apps()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Quart, settings: Settings | None = None) -> None:
        """Make channels a part of an app, before it is served: `/v1`, `/hybrid` (the browser client), health, metadata.

        Raises RuntimeError for an app that has them; SettingsError.
        """
        if EXTENSION in app.extensions:
            raise RuntimeError(f"{app.name} has hybrid already: init_app is called once for an app, or Hybrid(app) is")
        settings = settings or self._settings
        if settings is None:
            settings = load(config=app.config, needs_issuer=False)
            if self._verifier is None and not _has_other_ways_in(settings):
                settings = load(config=app.config)
        elif any(key.startswith("HYBRID_") for key in app.config):
            raise RuntimeError("settings come from a Settings object or from app.config, not from both")
        engine = install(
            app,
            settings,
            files=client_blueprint(find_static_root(settings.static_dir), CLIENT_PATH),
            verifier=self._verifier,
            clock=self._clock,
            grants=self._hooks.granted,
            authorise=self._hooks.authorise,
            signed_in=self._hooks.whose_session if settings.session_cookie else None,
            has_health=self._health,
        )
        for name, (signature, allow_anonymous) in self._procedures.items():
            engine.calls.register(name, signature.in_context(app.app_context), allow_anonymous=allow_anonymous)
        sessions = Sessions(self._hooks, engine.tasks, app.app_context)
        engine.session_watch = sessions
        app.after_serving_funcs.insert(0, sessions.close)  # while there still is an engine
        if settings.session_cookie:
            app.before_serving_funcs.insert(0, self._check_signed_in)
        self._apps.add(app)

    # -- what the application decides

    @overload
    def authorize(self, channels: _Authorise) -> _Authorise: ...

    @overload
    def authorize(self, channels: str | None = None) -> Callable[[_Authorise], _Authorise]: ...

    def authorize(self, channels: Any = None) -> Any:
        """Decorate a function that says who may do what: `(principal, action, channel) -> True, False or None`.

        `channels` is a namespace ("chat"), a channel ("chat:lobby"), a prefix ("chat:team-*"), or nothing for all. Each
        one that covers a channel is asked at every gate and answers at once. One that says False is enough to deny;
        otherwise one that says True permits; otherwise the namespace's rule and the token's grants count. `action` is
        "subscribe" or "publish"; an error denies. Raises TypeError for an `async def`.
        """
        if callable(channels):
            self._hooks.add_authoriser(None, channels)
            return channels

        def decorate(hook: _Authorise) -> _Authorise:
            self._hooks.add_authoriser(channels, hook)
            return hook

        return decorate

    def grants(self, hook: _Grants) -> _Grants:
        """Decorate what is asked once for each checked token: `async (principal, claims) -> grants`, all it permits.

        It may take 5 s, for a database say. One for an app: raises RuntimeError for a second.
        """
        check_waiting(hook, "grants")
        if self._hooks.grants is not None:
            raise RuntimeError("grants is decorated once: what it returns is all that a token permits")
        self._hooks.grants = hook
        return hook

    def signed_in(self, hook: _SignedIn) -> _SignedIn:
        """Decorate what says whom the app's own session speaks for: `(session) -> Principal or None`.

        It counts where the setting `session_cookie` names the cookie, see docs/authentication.md.
        """
        check_immediate(hook, "signed_in", "the session it is given has been read already")
        if self._hooks.signed_in is not None:
            raise RuntimeError("signed_in is decorated once: a session speaks for one principal")
        self._hooks.signed_in = hook
        return hook

    async def _check_signed_in(self) -> None:
        if self._hooks.signed_in is None:
            raise SettingsError(
                detail="session_cookie needs a function @hybrid.signed_in: whom its session speaks for."
            )

    def on_connect(self, handler: _Session) -> _Session:
        """Decorate what is told of each session that begins here: `async (session)`, once, whatever transports it uses.

        Sessions are those of client libraries; who reads a plain channel has none. It is told, not asked: `authorize`
        and `grants` decide.
        """
        check_waiting(handler, "on_connect")
        self._hooks.connect.append(handler)
        return handler

    def on_disconnect(self, handler: _Session) -> _Session:
        """Decorate what is told of each session that ends here, after its `on_connect`: at a goodbye, when the client
        has not come back within `limits.session_kept_s`, and when the server ends.
        """
        check_waiting(handler, "on_disconnect")
        self._hooks.disconnect.append(handler)
        return handler

    @overload
    def rpc(self, name: _Procedure) -> _Procedure: ...

    @overload
    def rpc(self, name: str | None = None, *, allow_anonymous: bool = False) -> Callable[[_Procedure], _Procedure]: ...

    def rpc(self, name: Any = None, *, allow_anonymous: bool = False) -> Any:
        """Decorate what clients may `call`, by the function's name or another one.

        The call's data is a JSON object of the function's parameters, checked against their types; one annotated as
        `Principal` or `Call` is given the caller or the call instead. It returns what can be written as JSON, and
        raises HybridError to tell the caller why not; anything else is told as `call_failed`. Raises ValueError for a
        name that is taken, TypeError for a parameter without a type.
        """
        if callable(name):
            return self._register(name.__name__, name, allow_anonymous)

        def decorate(procedure: _Procedure) -> _Procedure:
            return self._register(name or procedure.__name__, procedure, allow_anonymous)

        return decorate

    def _register(self, name: str, procedure: _Procedure, allow_anonymous: bool) -> _Procedure:
        signature = Signature(procedure)
        if name in self._procedures:
            raise ValueError(f"a procedure {name!r} is registered already")
        self._procedures[name] = signature, allow_anonymous
        for app in self._apps.all():
            engine_of(app).calls.register(name, signature.in_context(app.app_context), allow_anonymous=allow_anonymous)
        return procedure

    # -- what the application does

    async def publish(self, channel: str, data: Any, *, key: str | None = None, type: str | None = None) -> Appended:
        """See `Channel.publish`."""
        return await self.channel(channel).publish(data, key=key, type=type)

    async def publish_many(self, messages: Iterable[Message]) -> list[Appended | HybridError]:
        """Publish in order, in one step for the broker: one result for each, errors as values.

        Cancelling it leaves the outcome unknown.
        """
        results: list[Appended | HybridError | None] = []
        requests: list[PublishRequest] = []
        for message in messages:
            try:
                requests.append(_request(message))
                results.append(None)
            except HybridError as error:
                results.append(error)
        answers = iter(await serving_engine_of(self.app).operations.publish_many(SERVER, requests))
        return [next(answers) if result is None else result for result in results]

    async def history(
        self, channel: str, after: Position | None = None, limit: int = 100, reverse: bool = False
    ) -> list[ReceivedPublication]:
        """See `Channel.history`."""
        return await self.channel(channel).history(after, limit, reverse)

    async def presence(self, channel: str) -> list[PresenceEntry]:
        """See `Channel.presence`."""
        return await self.channel(channel).presence()

    def channel(self, name: str) -> Channel:
        """A channel by its name, to publish to and to read. Raises ProtocolError for what is no name."""
        return Channel(lambda: serving_engine_of(self.app), name)

    # -- where it does it

    @property
    def app(self) -> Quart:
        """The app that is meant, see `Apps.meant`. Raises RuntimeError where there is none, or several may be."""
        return self._apps.meant()

    @property
    def engine(self) -> Engine:
        """The engine of that app, for what has no name here. Raises RuntimeError."""
        return engine_of(self.app)

    @property
    def settings(self) -> Settings:
        """The settings of that app. Raises RuntimeError."""
        return settings_of(self.app)

    @property
    def asgi(self) -> AsgiApp:
        """What a server is given: that app, or what stands in front of it. Raises RuntimeError."""
        return asgi_of(self.app)

    @property
    def grants_hook(self) -> GrantsHook:
        """What `grants` decorates, or the token's own grants."""
        return self._hooks.granted

    def test_client(self, subject: str | None = "alice", scope: str = FULL_SCOPE, **options: Any) -> TestClient:
        """A client for tests that needs no sockets, signed in as a subject; None: anonymous. See `embed.testing`."""
        from hybrid.embed.testing import TestClient

        return TestClient(self, subject, scope, **options)

    def test_token(self, subject: str = "alice", scope: str = FULL_SCOPE, *, lifetime_s: float = 900.0) -> str:
        """An access token that this app takes in tests, from no issuer. Only for an app that runs in this process."""
        from hybrid.embed.testing import issuer_of

        return issuer_of(self).mint(subject, scope, lifetime_s=lifetime_s)


def _has_other_ways_in(settings: Settings) -> bool:
    """Whether somebody could use the channels without a token of an issuer."""
    return bool(settings.session_cookie) or any(rules.subscribe == "anyone" for rules in settings.namespaces.values())


def _request(message: Message) -> PublishRequest:
    is_bytes = isinstance(message.data, bytes)
    raw = message.data if is_bytes else to_json(message.data)
    form = "bytes" if is_bytes else "json"
    return PublishRequest(channel=message.channel, data=raw, form=form, type=message.type, key=message.key)
