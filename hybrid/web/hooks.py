"""The settings' `[hooks]` -> who is asked and told."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from hybrid.auth.hooks import Finish, in_turn
from hybrid.broker.base import OccupancyStore
from hybrid.clock import Clock
from hybrid.engine.engine import Engine
from hybrid.hooks.authority import Authority
from hybrid.hooks.backend import Backend
from hybrid.hooks.calls import CallHook
from hybrid.hooks.occupancy import Occupancy
from hybrid.hooks.post import Poster
from hybrid.hooks.queue import EventQueue
from hybrid.hooks.signature import Signer, read_secret
from hybrid.hooks.telling import SessionTelling, Teller
from hybrid.model import Principal
from hybrid.settings import Settings

_CHANNEL_EVENTS = frozenset(("occupied", "vacated"))


class Hooks:
    """What an app has of hooks; parts that the settings do not ask for are None. The engine's `Observer`."""

    def __init__(self, settings: Settings, clock: Clock, store: OccupancyStore) -> None:
        hooks, limits = settings.hooks, settings.limits
        self._signer = Signer(read_secret(secret) for secret in hooks.secrets)
        self._admits = hooks.connect
        self.authority: Authority | None = None
        self.calls: CallHook | None = None
        self.backends: dict[str, Backend] = {}
        """By what they are asked for."""
        if hooks.url:
            poster = Poster(
                hooks.url,
                timeout_s=limits.hook_ask_timeout_s,
                answer_max_bytes=limits.hook_answer_max_bytes,
                connections_max=2 * limits.hook_asks_max,
            )
            decides, carries_out = (
                Backend(
                    poster,
                    self._signer,
                    clock,
                    asks_max=limits.hook_asks_max,
                    asks_per_principal_max=limits.hook_asks_per_principal_max,
                )
                for _ in range(2)
            )
            self.backends = {"decision": decides, "call": carries_out}
            self.authority = Authority(decides, clock, verdicts_max=limits.hook_verdicts_max)
            self.calls = CallHook(carries_out, hooks.calls)
        self.teller = self._teller(settings, clock) if hooks.tell else None
        self._sessions: SessionTelling | None = None
        self._occupancy: Occupancy | None = None
        if self.teller is not None:
            events = frozenset(hooks.tell)
            self._sessions = SessionTelling(self.teller, events)
            if events & _CHANNEL_EVENTS:
                self._occupancy = Occupancy(self.teller, store, events, _told_about(settings))

    def _teller(self, settings: Settings, clock: Clock) -> Teller:
        limits = settings.limits
        poster = Poster(
            settings.hooks.told_at, timeout_s=limits.hook_tell_timeout_s, answer_max_bytes=0, connections_max=1
        )
        queue = EventQueue(limits.hook_events_max, limits.hook_batch_max, lambda: f"msg_{secrets.token_urlsafe(16)}")
        return Teller(poster, self._signer, clock, queue, age_max_s=limits.hook_tell_age_max_s)

    def finish(self, before: Finish) -> Finish:
        """The last step of checking a token, with what has to come before it."""
        if self.authority is None or not self._admits:
            return before
        return in_turn(before, self.authority.admit)

    def start(self, engine: Engine) -> None:
        """The engine has started, and nobody is served yet."""
        for backend in self.backends.values():
            backend.hits = engine.counts.limits
        if self.calls is not None:
            engine.calls.fallback = self.calls.handler_for
        if self.teller is not None:
            self.teller.node = engine.router.node
            self.teller.hits = engine.counts.limits
        if self._occupancy is not None:
            self._occupancy.node = engine.router.node
            self._occupancy.start()

    async def leave(self) -> None:
        """The engine is about to close: say what that means for its sessions and channels."""
        if self._sessions is not None:
            self._sessions.close()
        if self._occupancy is not None:
            await self._occupancy.close()

    async def close(self) -> None:
        """Tell what waits, for a moment; give up what is under way and release connections."""
        if self.teller is not None:
            await self.teller.close()
        if self.authority is not None:
            await self.authority.close()

    # -- `engine.observer.Observer`

    def session_opened(self, session: str, principal: Principal, transport: str) -> None:
        """See `Observer.session_opened`."""
        if self._sessions is not None:
            self._sessions.session_opened(session, principal, transport)

    def session_closed(self, session: str, principal: Principal, reason: str) -> None:
        """See `Observer.session_closed`."""
        if self._sessions is not None:
            self._sessions.session_closed(session, principal, reason)

    def channel_followed(self, channel: str) -> None:
        """See `Observer.channel_followed`."""
        if self._occupancy is not None:
            self._occupancy.channel_followed(channel)

    def channel_left(self, channel: str) -> None:
        """See `Observer.channel_left`."""
        if self._occupancy is not None:
            self._occupancy.channel_left(channel)


def _told_about(settings: Settings) -> Callable[[str], bool]:
    names = frozenset(settings.hooks.tell_namespaces)

    def is_told(channel: str) -> bool:
        namespace = settings.namespace_for(channel)
        return not names or (namespace is not None and namespace.name in names)

    return is_told
