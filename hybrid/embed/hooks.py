"""What an application decides: the functions that its decorators registered, and how they are asked.

Registered at any time, before `init_app` or after: what is asked is looked up when it is asked.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, Protocol, TypeAlias

import msgspec

from hybrid.auth.grants import Action
from hybrid.auth.hooks import AuthoriseHook, GrantsHook
from hybrid.engine.tasks import Tasks
from hybrid.model import Grant, Principal

_log = logging.getLogger(__name__)
_GOODBYES_S: Final = 5.0  # for all `on_disconnect` of the sessions that a server ends with


class ConnectedSession(msgspec.Struct, frozen=True):
    """A client with a session, as `on_connect` and `on_disconnect` are told of it. Its transport may change."""

    id: str
    principal: Principal


class Surrounding(Protocol):
    """An async context manager; Quart's own have no common class."""

    async def __aenter__(self) -> Any: ...

    async def __aexit__(self, kind: Any, error: Any, traceback: Any, /) -> Any: ...


Context: TypeAlias = Callable[[], Surrounding]
"""What surrounds a handler: the context of its app."""
SessionHandler: TypeAlias = Callable[[ConnectedSession], Awaitable[None]]


def check_waiting(handler: Callable[..., Any], decorator: str) -> None:
    """Raises TypeError unless this is a coroutine function."""
    if not inspect.iscoroutinefunction(handler):
        raise TypeError(f"{decorator} needs an `async def`, which {_name(handler)} is not")


def check_immediate(hook: Callable[..., Any], decorator: str, instead: str) -> None:
    """Raises TypeError for a coroutine function, where the answer is needed at once."""
    if inspect.iscoroutinefunction(hook):
        raise TypeError(f"{decorator} needs a plain `def`, which answers at once; {instead}")


class Hooks:
    """The functions of one `Hybrid`."""

    def __init__(self) -> None:
        self.grants: GrantsHook | None = None
        self.signed_in: Callable[[Mapping[str, Any]], Principal | None] | None = None
        self.connect: list[SessionHandler] = []
        self.disconnect: list[SessionHandler] = []
        self._authorisers: list[tuple[str | None, AuthoriseHook]] = []

    def add_authoriser(self, channels: str | None, hook: AuthoriseHook) -> None:
        """`channels`: a namespace, a channel's name, a prefix with a `*` at its end, or None for all."""
        check_immediate(hook, "authorize", "what takes time belongs into `grants`, which is asked once for each token")
        if channels is not None and (not channels or "*" in channels[:-1]):
            raise ValueError(f"{channels!r} is neither a namespace, nor a channel, nor a prefix with one `*` behind it")
        self._authorisers.append((channels, hook))

    def authorise(self, principal: Principal, action: Action, channel: str) -> bool | None:
        """See `AuthoriseHook`: one that denies is enough; else one that permits; else the namespace's rule counts."""
        verdict = None
        for channels, hook in self._authorisers:
            if channels is None or _covers(channels, channel):
                found = hook(principal, action, channel)
                if found is False:
                    return False
                verdict = verdict or found
        return verdict

    async def granted(self, principal: Principal, claims: Mapping[str, Any]) -> Iterable[Grant]:
        """See `GrantsHook`: those of the token itself where there is no hook."""
        return principal.grants if self.grants is None else await self.grants(principal, claims)

    def whose_session(self, session: Mapping[str, Any]) -> Principal | None:
        """See `SessionHook`: nobody's, where there is no hook."""
        return None if self.signed_in is None else self.signed_in(session)


class Sessions:
    """Tells the handlers of one app of its sessions, each of its beginning before its end. A `SessionWatch`."""

    def __init__(self, hooks: Hooks, tasks: Tasks, context: Context) -> None:
        self._hooks = hooks
        self._tasks = tasks
        self._context = context
        self._open: dict[str, tuple[ConnectedSession, asyncio.Event]] = {}

    def session_began(self, session: str, principal: Principal) -> None:
        """See `SessionWatch`."""
        if session not in self._open and (self._hooks.connect or self._hooks.disconnect):
            connected, told = ConnectedSession(session, principal), asyncio.Event()
            self._open[session] = connected, told
            self._tasks.spawn(self._tell(self._hooks.connect, connected, told))

    def session_ended(self, session: str) -> None:
        """See `SessionWatch`."""
        if session in self._open:
            connected, told = self._open.pop(session)
            self._tasks.spawn(self._tell_end(connected, told))

    async def close(self) -> None:
        """The server ends, and with it all sessions of this node, wherever their clients go on."""
        ended, self._open = list(self._open.values()), {}
        try:
            async with asyncio.timeout(_GOODBYES_S):
                await asyncio.gather(*(self._tell_end(connected, told) for connected, told in ended))
        except TimeoutError:
            _log.warning("not all handlers of on_disconnect have ended within %g s", _GOODBYES_S)

    async def _tell_end(self, connected: ConnectedSession, told: asyncio.Event) -> None:
        await told.wait()
        await self._tell(self._hooks.disconnect, connected, asyncio.Event())

    async def _tell(self, handlers: list[SessionHandler], connected: ConnectedSession, told: asyncio.Event) -> None:
        try:
            for handler in list(handlers):
                try:
                    async with self._context():
                        await handler(connected)
                except Exception:
                    _log.exception("%s failed", _name(handler))
        finally:
            told.set()


def _covers(channels: str, channel: str) -> bool:
    if channels.endswith("*"):
        return channel.startswith(channels[:-1])
    return channel == channels or (":" not in channels and channel.startswith(f"{channels}:"))


def _name(handler: Callable[..., Any]) -> str:
    return str(getattr(handler, "__qualname__", repr(handler)))
