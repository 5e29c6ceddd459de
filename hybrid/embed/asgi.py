"""`HybridMiddleware`: channels in front of, or beside, any ASGI application: FastAPI, Starlette, Django, Litestar.

    hybrid = Hybrid()
    app = HybridMiddleware(FastAPI(), hybrid)

What is ours (`/v1`, `/hybrid`, health, metadata) is answered here; all else goes to the application. Both live and end
together: channels are there before the application starts, and their clients are sent away before it ends.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from quart import Quart

from hybrid.embed.apps import engine_of, serve_through, settings_of
from hybrid.embed.extension import Hybrid
from hybrid.errors import SettingsError
from hybrid.transports.app import PREFIX, UNDER
from hybrid.transports.exchange import AsgiApp, Receive, Scope, Send
from hybrid.web.app import say_goodbye
from hybrid.web.lifespan import Lifespan

_PATH: Final = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")
_OURS: Final = PREFIX.decode()


class HybridMiddleware:
    """See the module's text. Outermost is the best place: only there can long-lived connections be taken over."""

    def __init__(self, app: AsgiApp | None, hybrid: Hybrid | None = None, *, path: str = "") -> None:
        """`app` None makes it an application of its own, to be mounted. `path` is what stands before `/v1` in URLs,
        such as "/live", and the end of `public_url` then.

        Raises RuntimeError for a Hybrid that is part of an app already; SettingsError.
        """
        if not _PATH.fullmatch(path):
            raise SettingsError(detail=f"path must read like /live, not {path!r}.")
        self.hybrid = hybrid if hybrid is not None else Hybrid()
        self._app = app
        self._path = path
        self._inner = Quart("hybrid", static_folder=None)
        self.hybrid.init_app(self._inner)
        settings = settings_of(self._inner)
        if urlsplit(settings.public_url).path.rstrip("/") != path:
            raise SettingsError(
                detail=f"public_url must end with the path {path!r} under which hybrid is served, not be "
                f"{settings.public_url}."
            )
        self._inner.config["MAX_CONTENT_LENGTH"] = settings.limits.body_max_bytes
        self._routes = self._inner.url_map.bind("")
        engine = engine_of(self._inner)
        self._lifespan = Lifespan(self._live, lambda: say_goodbye(engine))
        serve_through(self._inner, self)

    @property
    def streams_under(self) -> bytes:
        """Below which path streams may be read in front of an HTTP server, see `web.launcher`."""
        return self._path.encode("ascii") + PREFIX

    @property
    def extensions(self) -> Mapping[str, Any]:
        """As a Quart app has them: the engine stands under "hybrid"."""
        return self._inner.extensions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI call."""
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        path: str = scope["path"]
        rest = path[len(self._path) :]
        if path.startswith(self._path) and (rest.startswith(_OURS) or self._routes.allowed_methods(rest)):
            await self._inner(_below(scope, self._path, rest) if self._path else scope, receive, send)  # type: ignore[arg-type]
        elif self._app is not None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        else:
            await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """The life of a mounted one, which the application has to see to: `Starlette(lifespan=channels.lifespan)`.

        Its clients are sent away at the end of the block.
        """
        engine = engine_of(self._inner)
        await self._inner.startup()
        try:
            yield
        finally:
            try:
                await say_goodbye(engine)
            finally:
                await self._inner.shutdown()

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Both lifespans as one."""
        has_begun = False

        async def received() -> Any:
            nonlocal has_begun
            message = await receive()
            if message["type"] == "lifespan.startup":
                has_begun = True
                await self._inner.startup()
            return message

        async def sent(message: Any) -> None:
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed", "lifespan.startup.failed"):
                await self._inner.shutdown()
            await send(message)

        if self._app is not None:
            try:
                await self._app(scope, received, sent)
            except Exception:
                if has_begun:
                    raise
            else:
                if has_begun:
                    return
        # An application without a lifespan; some say so by an error, some by returning.
        await self._inner(scope, receive, send)  # type: ignore[arg-type]


def _below(scope: Scope, path: str, rest: str) -> Scope:
    """The scope as it would be without the path in front."""
    raw: bytes | None = scope.get("raw_path")
    prefix = path.encode("ascii")
    if raw is not None and raw.startswith(prefix):
        raw = raw[len(prefix) :]
    return {**scope, "path": rest, "raw_path": raw, "root_path": "", UNDER: prefix}
