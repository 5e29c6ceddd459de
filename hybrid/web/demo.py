"""The demo: the whole server, a page that shows it, and a feed of real figures.

It needs neither a broker nor an identity provider, and is for showing, not for production.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Final

from quart import Quart, Response, jsonify

from hybrid.auth.verifier import TokenVerifier
from hybrid.clock import Clock, SystemClock
from hybrid.engine.engine import Engine
from hybrid.settings import Namespace, Settings
from hybrid.web.app import EXTENSION, create_app
from hybrid.web.feed import run_feed
from hybrid.web.static import find_static_root, send_page_file

NAMESPACE: Final = Namespace(
    "demo",
    history_size=300,  # a minute of figures at five a second: the page's charts are full when it opens
    history_ttl_s=3_600.0,  # the chat is quiet for longer than that minute
)
FEED_INTERVAL_S: Final = 0.2
ISSUER_SCOPE: Final = "hybrid:subscribe:* hybrid:publish:demo:chat hybrid:publish:chat:*"
"""The figures of the machine are the server's to publish; visitors chat, and the README's commands work."""

_log = logging.getLogger(__name__)


def create_demo_app(
    settings: Settings,
    *,
    verifier: TokenVerifier | None = None,
    clock: Clock | None = None,
    feed_interval_s: float = FEED_INTERVAL_S,
) -> Quart:
    """The app of `create_app` with the page at `/`, its files below `/static`, and the feed for as long as it serves.

    A namespace `demo` in the settings is kept, otherwise `NAMESPACE` is added. The page needs tokens, which it gets
    from the development issuer: without it (settings.development_issuer) only the page comes, and says so.
    Raises SettingsError.
    """
    clock = clock or SystemClock()
    namespaces = {NAMESPACE.name: NAMESPACE, **settings.namespaces}
    settings = replace(settings, namespaces=namespaces, admin=True)
    app = create_app(settings, verifier=verifier, clock=clock, issuer_scope=ISSUER_SCOPE)
    root = find_static_root(settings.static_dir)

    @app.get("/")
    async def page() -> Response:
        return await send_page_file(root, "index.html")

    @app.get("/demo/clock")
    async def now() -> Response:
        """The server's wall clock, by which the page corrects the latencies it shows."""
        response = jsonify({"at_ms": round(clock.wall_s() * 1000, 1)})
        response.headers["Cache-Control"] = "no-store"
        return response

    @app.while_serving
    async def feed() -> AsyncGenerator[None, None]:
        engine: Engine = app.extensions[EXTENSION]
        task = asyncio.create_task(_feed(engine, clock, feed_interval_s))
        yield
        task.cancel()
        await asyncio.wait([task])

    return app


async def _feed(engine: Engine, clock: Clock, interval_s: float) -> None:
    try:
        await run_feed(engine.publish, clock, interval_s)
    except Exception:
        # The figures of some machines cannot be read. The chat and everything else work without them.
        _log.exception("the demo's feed has ended")
