"""Applications for the tests of embedding."""

from __future__ import annotations

from typing import Any

from quart import Quart

from hybrid import Hybrid, Settings
from hybrid.settings import Namespace

NAMESPACES = {
    "chat": Namespace("chat", presence=True, join_leave=True),
    "quiet": Namespace("quiet", history_size=0),
    "short": Namespace("short", history_size=3),
}


def settings(**options: Any) -> Settings:
    return Settings(**{"namespaces": NAMESPACES, **options})


def embedded(**options: Any) -> tuple[Quart, Hybrid]:
    """An app of somebody else's, with channels."""
    app = Quart("somebody")
    return app, Hybrid(app, settings=settings(**options))
