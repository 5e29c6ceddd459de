"""The apps that one `Hybrid` is part of, and which of them is meant."""

from __future__ import annotations

from typing import Final, cast
from weakref import WeakSet

from quart import Quart, current_app, has_app_context

from hybrid.engine.engine import Engine
from hybrid.settings import Settings
from hybrid.transports.exchange import AsgiApp
from hybrid.web.app import EXTENSION, SETTINGS

_OUTER: Final = "hybrid_outer"


class Apps:
    """Held weakly: what belongs to an app stands in its `extensions`, and goes with it."""

    def __init__(self) -> None:
        self._apps: WeakSet[Quart] = WeakSet()

    def add(self, app: Quart) -> None:
        """One more."""
        self._apps.add(app)

    def all(self) -> list[Quart]:
        """All that are still there."""
        return list(self._apps)

    def meant(self) -> Quart:
        """The app of the context; or else the only one that is being served, or the only one that can still be.

        Raises RuntimeError where that is none, or several.
        """
        if has_app_context():
            app: Quart = current_app._get_current_object()  # type: ignore[attr-defined]
            if app in self._apps:
                return app
        apps = self.all()
        if not apps:
            raise RuntimeError("hybrid is not part of an app yet: call hybrid.init_app(app), or make Hybrid(app)")
        living = [app for app in apps if engine_of(app).is_serving]
        living = living or [app for app in apps if not engine_of(app).has_closed] or apps
        if len(living) > 1:
            raise RuntimeError("hybrid is part of several apps: say which by `async with app.app_context()`")
        return living[0]


def engine_of(app: Quart) -> Engine:
    """The engine of an app with channels."""
    engine: Engine = app.extensions[EXTENSION]
    return engine


def serving_engine_of(app: Quart) -> Engine:
    """As `engine_of`; raises RuntimeError where the app is not being served."""
    engine = engine_of(app)
    if engine.has_closed:
        raise RuntimeError("the app has been served, and has ended; an app is served once")
    if not engine.is_serving:
        raise RuntimeError(
            "the app is not being served yet: publish and read from requests, `before_serving` or a background "
            "task; in tests, inside `async with app.test_app()` or `hybrid.test_client()`"
        )
    return engine


def settings_of(app: Quart) -> Settings:
    """The settings of an app with channels."""
    settings: Settings = app.extensions[SETTINGS]
    return settings


def serve_through(app: Quart, outer: AsgiApp) -> None:
    """An app of our own is reached through another ASGI callable, which also tells it of its life."""
    app.extensions[_OUTER] = outer


def asgi_of(app: Quart) -> AsgiApp:
    """What a server is given: the app, or what stands in front of it."""
    return cast(AsgiApp, app.extensions.get(_OUTER, app))
