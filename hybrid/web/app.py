"""The application: wiring, no decisions."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from quart import Blueprint, Quart

from hybrid import __version__
from hybrid.auth.derive import derive_key
from hybrid.auth.development import FULL_SCOPE, DevelopmentIssuer, Revocation, check_loopback
from hybrid.auth.grants import ADMIN_SCOPE, MANAGING_SCOPES, METRICS_SCOPE, REVOKE_SCOPE
from hybrid.auth.hooks import AuthoriseHook, GrantsHook, as_it_is, finish_with
from hybrid.auth.origin import DoorPolicy
from hybrid.auth.verifier import TokenVerifier
from hybrid.auth.verifiers import AnyTokenVerifier
from hybrid.broker.base import Broker
from hybrid.broker.redis.broker import RedisBroker
from hybrid.clock import Clock, SystemClock
from hybrid.engine.engine import Engine
from hybrid.errors import HybridError, SettingsError
from hybrid.settings import Settings, host_in_url
from hybrid.transports.app import PREFIX, Transports
from hybrid.transports.forwarded import BehindProxies, TrustedProxies
from hybrid.web.admin import admin_blueprint
from hybrid.web.guard import guard
from hybrid.web.hooks import Hooks
from hybrid.web.issuer import ISSUER_PATH, issuer_blueprint, page_addresses
from hybrid.web.issuers import make_verifier
from hybrid.web.lifespan import Lifespan
from hybrid.web.metadata import RESOURCE_METADATA_PATH, metadata_blueprint
from hybrid.web.metrics import EXTENSION as METRICS
from hybrid.web.metrics.collect import Collector
from hybrid.web.metrics.readers import Readers
from hybrid.web.metrics.routes import Metrics, metrics_blueprint
from hybrid.web.metrics.text import check_installed
from hybrid.web.session_cookie import SessionCookie, SessionHook
from hybrid.web.static import find_static_root, static_blueprint
from hybrid.web.stores import make_stores

_log = logging.getLogger(__name__)
_OURS = frozenset(("dev_issuer", "hybrid_admin", "hybrid_metadata", "hybrid_metrics", "hybrid_static"))
EXTENSION = "hybrid"
"""Where an app's engine stands in `app.extensions`."""
SETTINGS = "hybrid_settings"
"""Likewise, its settings."""
_ENTRY = "hybrid_entry"

ALL_SCOPES = " ".join((FULL_SCOPE, REVOKE_SCOPE, METRICS_SCOPE, *MANAGING_SCOPES))
"""The most that the development issuer gives to anybody, unless it is told otherwise."""


def create_app(
    settings: Settings,
    *,
    verifier: TokenVerifier | None = None,
    clock: Clock | None = None,
    issuer_scope: str = ALL_SCOPES,
    grants: GrantsHook | None = None,
    authorise: AuthoriseHook | None = None,
    signed_in: SessionHook | None = None,
) -> Quart:
    """A Quart app of our own, and nobody else's, with `install`; all its routes are for known hosts and origins only.

    The arguments are those of `install`. The browser client is served below `/static`. Raises SettingsError.
    """
    app = Quart("hybrid", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.limits.body_max_bytes
    install(
        app,
        settings,
        verifier=verifier,
        clock=clock,
        issuer_scope=issuer_scope,
        grants=grants,
        authorise=authorise,
        signed_in=signed_in,
        files=static_blueprint(find_static_root(settings.static_dir)),
        guards_all=True,
    )
    return app


def install(
    app: Quart,
    settings: Settings,
    *,
    files: Blueprint,
    verifier: TokenVerifier | None = None,
    clock: Clock | None = None,
    issuer_scope: str = ALL_SCOPES,
    grants: GrantsHook | None = None,
    authorise: AuthoriseHook | None = None,
    signed_in: SessionHook | None = None,
    guards_all: bool = False,
    has_health: bool = True,
) -> Engine:
    """Serve the channels of `settings` under `/v1` of an app, with health and metadata beside them; `files` is how the
    browser client is served.

    `verifier` replaces the one made from the settings' issuers; `grants` and `authorise` decide what those cannot say,
    see `auth.hooks`. `signed_in` tells whom the session of the app speaks for, where `session_cookie` is set; the app
    needs a `secret_key` then. `issuer_scope` is the most that the development issuer gives to anybody. `guards_all`:
    Host and Origin are checked for all of the app's routes, not only for ours. The engine is returned, and stands in
    `app.extensions["hybrid"]`; its `drain` should be awaited before the server stops (the launcher does; under other
    servers it happens when they end the lifespan). Raises SettingsError.
    """
    clock = clock or SystemClock()
    issuer = _development_issuer(settings, clock, issuer_scope)
    stores = make_stores(settings, clock)
    hooks = Hooks(settings, clock, stores.occupancy)
    if verifier is None:
        finish = hooks.finish(as_it_is if grants is None else finish_with(grants))
        verifier = make_verifier(settings, issuer, clock, finish)
    elif settings.hooks.connect:
        raise SettingsError(detail="hooks.connect cannot be asked by a verifier of one's own; ask from there.")
    make_engine, make_transports = _kinds(settings)
    engine = make_engine(
        broker=stores.broker,
        presence_store=stores.presence,
        ticket_store=stores.tickets,
        node_store=stores.nodes,
        call_store=stores.calls,
        proof_store=stores.proofs,
        revocation_store=stores.revocations,
        verifier=verifier,
        namespace_for=settings.namespace_for,
        allows_anonymous=any("anyone" in (rules.subscribe, rules.publish) for rules in settings.namespaces.values()),
        limits=settings.limits,
        clock=clock,
        authorise=authorise,
        asked=hooks.authority,
        observer=hooks,
        seal_key=derive_key(settings.secret, "seals"),
        control_key=derive_key(settings.secret, "control"),
        rechecker=verifier.introspector if isinstance(verifier, AnyTokenVerifier) else None,
        version=__version__,
        address=f"{host_in_url(settings.host)}:{settings.port}",
    )
    app.extensions[EXTENSION] = engine
    if issuer is not None:
        app.register_blueprint(issuer_blueprint(issuer))
        _follow_revocations(issuer, engine)
    issuer_urls = [config.url for config in settings.issuers] + ([issuer.issuer] if issuer else [])
    app.register_blueprint(metadata_blueprint(engine, settings, issuer_urls, has_health=has_health))
    metrics = _metrics(app, engine, stores.broker, hooks, settings)
    app.register_blueprint(files)
    if settings.admin:
        app.register_blueprint(admin_blueprint(find_static_root(settings.static_dir)))
    cookie = _cookie(app, settings, signed_in, clock)
    door_policy = _door_policy(settings)
    guard(app, door_policy, None if guards_all else _OURS)

    @app.before_serving
    async def _start() -> None:
        if cookie is not None:
            cookie.check()
        await engine.start()
        if metrics is not None:
            metrics.start()
        hooks.start(engine)
        if isinstance(verifier, AnyTokenVerifier) and not await verifier.warm():
            _log.warning("the keys of an issuer cannot be had yet; its tokens are answered with 503 until they can")

    transports = make_transports(
        engine,
        door_policy,
        Lifespan(cast(Any, app.asgi_app), lambda: say_goodbye(engine)),
        allow_handoff=settings.handoff,
        may_keep=settings.handoff and settings.fast_requests,
        may_deflate=settings.compression,
        public_url=settings.public_url,
        cookie=None if cookie is None else (settings.session_cookie, cookie),
        resource_metadata=settings.public_url + RESOURCE_METADATA_PATH,
    )
    app.after_serving(hooks.leave)
    app.after_serving(engine.close)
    if metrics is not None:
        app.after_serving(metrics.close)
    app.after_serving(hooks.close)
    proxies = TrustedProxies(settings.trusted_proxies)
    # In front of everything, Quart's own routes included: nothing may decide by a proxy's address or scheme.
    app.asgi_app = BehindProxies(transports, proxies) if proxies else transports  # type: ignore[method-assign,assignment]
    app.extensions[_ENTRY] = app.asgi_app
    app.extensions[SETTINGS] = settings
    return engine


async def say_goodbye(engine: Engine) -> None:
    """Drain where that has not been done: for servers that tell an app only that it ends."""
    if engine.is_serving and not engine.leaving.has_begun:
        await engine.drain(engine.limits.shutdown_grace_s)
    engine.end_local_readers()  # a task of the app that reads for ever ends now, not when Quart loses patience


def streams_under(settings: Settings, app: Any = None) -> bytes | None:
    """Below which path `launcher.serve` may let streams be read in front of the HTTP server; None: nowhere.

    Of an `app` that is somebody else's, only where nothing was put in front of what `install` has put there.
    """
    if not (settings.handoff and settings.fast_accept):
        return None
    if app is None:
        return PREFIX
    if hasattr(app, "streams_under"):
        own: bytes = app.streams_under
        return own
    entry = app.extensions.get(_ENTRY)
    return PREFIX if entry is not None and app.asgi_app is entry else None


def _door_policy(settings: Settings) -> DoorPolicy:
    return DoorPolicy(
        settings.allowed_origins,
        settings.allowed_hosts,
        allow_same_origin=settings.allow_same_origin,
        allow_credentials=bool(settings.session_cookie),
    )


def _follow_revocations(issuer: DevelopmentIssuer, engine: Engine) -> None:
    """What the development issuer ends before its time, ends here as well."""

    async def revoke(ended: Revocation) -> None:
        try:
            if ended.session_id:
                await engine.revoke(issuer=issuer.issuer, sid=ended.session_id)
            else:
                await engine.revoke(issuer=issuer.issuer, jti=ended.token_id)
        except HybridError as error:
            _log.warning("what the development issuer has revoked is still good here: %s", error)

    def told(ended: Revocation) -> None:
        engine.tasks.spawn(revoke(ended))

    issuer.on_revocation(told)


def _kinds(settings: Settings) -> tuple[Callable[..., Engine], Callable[..., Transports]]:
    """What the engine and the transports are made with; those with spans are loaded only where they are wanted."""
    if not settings.tracing:
        return Engine, Transports
    from hybrid.tracing import Spans, TracedEngine, TracedTransports

    spans = Spans()
    return partial(TracedEngine, spans=spans), partial(TracedTransports, spans=spans)


def _metrics(app: Quart, engine: Engine, broker: Broker, hooks: Hooks, settings: Settings) -> Metrics | None:
    if not settings.metrics:
        return None
    check_installed()
    redis = broker if isinstance(broker, RedisBroker) else None
    metrics = Metrics(Collector(engine, redis, hooks), engine.clock)
    app.extensions[METRICS] = metrics
    readers = Readers(engine, settings.metrics_networks, _door_policy(settings))
    app.register_blueprint(metrics_blueprint(metrics, readers))
    return metrics


def _cookie(app: Quart, settings: Settings, signed_in: SessionHook | None, clock: Clock) -> SessionCookie | None:
    if not settings.session_cookie and signed_in is None:
        return None
    if not settings.session_cookie or signed_in is None:
        raise SettingsError(
            detail="session_cookie and create_app(signed_in=...) need each other: the name of the cookie, and whom its "
            "session speaks for."
        )
    return SessionCookie(app, settings.session_cookie, signed_in, clock)


def _development_issuer(settings: Settings, clock: Clock, scope: str) -> DevelopmentIssuer | None:
    if not settings.development_issuer:
        return None
    check_loopback(settings.host, settings.allow_public_development_issuer)
    return DevelopmentIssuer(
        settings.public_url + ISSUER_PATH,
        settings.public_url,
        clock,
        scope=scope,
        seed=derive_key(settings.secret, "development issuer"),
        redirect_uris=page_addresses(settings.public_url, settings.allowed_hosts),
        admin_scope=ADMIN_SCOPE if settings.admin else "",
    )
