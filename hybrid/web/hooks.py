"""The settings' `[hooks]` -> who is asked and told."""

from __future__ import annotations

from hybrid.auth.hooks import Finish, in_turn
from hybrid.clock import Clock
from hybrid.hooks.authority import Authority
from hybrid.hooks.backend import Backend
from hybrid.hooks.calls import CallHook
from hybrid.hooks.post import Poster
from hybrid.hooks.signature import Signer, read_secret
from hybrid.settings import Settings


class Hooks:
    """What an app has of hooks; parts that the settings do not ask for are None."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        hooks, limits = settings.hooks, settings.limits
        self._signer = Signer(read_secret(secret) for secret in hooks.secrets)
        self._admits = hooks.connect
        self.authority: Authority | None = None
        self.calls: CallHook | None = None
        if hooks.url:
            poster = Poster(
                hooks.url,
                timeout_s=limits.hook_ask_timeout_s,
                answer_max_bytes=limits.hook_answer_max_bytes,
                connections_max=limits.hook_asks_max,
            )
            backend = Backend(poster, self._signer, clock, asks_max=limits.hook_asks_max)
            self.authority = Authority(backend, clock, verdicts_max=limits.hook_verdicts_max)
            self.calls = CallHook(backend, hooks.calls)

    def finish(self, before: Finish) -> Finish:
        """The last step of checking a token, with what has to come before it."""
        if self.authority is None or not self._admits:
            return before
        return in_turn(before, self.authority.admit)

    async def close(self) -> None:
        """Give up what is under way and release connections."""
        if self.authority is not None:
            await self.authority.close()
