"""Reads the session of the application that hybrid is part of, out of its cookie."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, TypeAlias, cast

from quart import Quart
from quart.sessions import SecureCookieSessionInterface

from hybrid.auth.cookies import bounded, check_name
from hybrid.clock import Clock
from hybrid.errors import HybridError, SettingsError
from hybrid.model import Principal

_log = logging.getLogger(__name__)

SessionHook: TypeAlias = Callable[[Mapping[str, Any]], Principal | None]
"""Called with the application's session; returns whom it speaks for, None when nobody is signed in.

Set `issued_at_s` to the time of the sign-in: without it, who was revoked is refused after signing in again, too. Set
`sign_in` to an id of that sign-in, and it can be revoked alone.
"""


class SessionCookie:
    """Implements `auth.cookies.CookieReader` with the session interface of a Quart app."""

    def __init__(self, app: Quart, name: str, hook: SessionHook, clock: Clock) -> None:
        """Makes `name` the app's session cookie, as safe as it has to be. Raises SettingsError for an unsafe name."""
        check_name(name)
        self._app = app
        self._name = name
        self._hook = hook
        self._clock = clock
        app.config.update(
            SESSION_COOKIE_NAME=name,
            SESSION_COOKIE_SECURE=True,
            SESSION_COOKIE_HTTPONLY=True,
            SESSION_COOKIE_SAMESITE="Lax",
            SESSION_COOKIE_PATH="/",
            SESSION_COOKIE_DOMAIN=None,
        )

    def check(self) -> None:
        """Raises SettingsError when nobody can sign in: Quart's own sessions need a key to be signed with."""
        if isinstance(self._app.session_interface, SecureCookieSessionInterface) and not self._app.secret_key:
            raise SettingsError(
                detail="session_cookie needs the secret_key of the app that create_app returned: without one it has no "
                "sessions."
            )

    async def principal(self, value: str) -> Principal | None:
        """See `CookieReader.principal`. A session that cannot be read, or a hook that fails, lets nobody in."""
        asked = SimpleNamespace(cookies={self._name: value})  # all that a session interface reads of a request
        try:
            session = await self._app.session_interface.open_session(self._app, cast(Any, asked))
            found = None if session is None else self._hook(cast(Mapping[str, Any], session))
        except Exception:
            _log.exception("the session of a cookie could not be read")
            raise HybridError("internal") from None
        return None if found is None or found.is_anonymous else bounded(found, self._clock.wall_s())
