"""The backend's word on tokens and channels: asked where something waits for it, remembered as long as it said.

What it has not answered is refused with `keys_unavailable`, which every client takes for a matter of time. What it has
denied is refused like anything else that a token may not do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar, TypeVarTuple

import msgspec

from hybrid.auth.channels import channels_of, with_channels
from hybrid.auth.grants import Action, ScopeError, parse_pattern
from hybrid.auth.hooks import Verdict
from hybrid.clock import Clock
from hybrid.errors import AuthError, HybridError
from hybrid.hooks.backend import Backend, Unanswered
from hybrid.hooks.messages import (
    CACHE_MAX_S,
    Answer,
    AskConnect,
    AskPublish,
    AskSubscribe,
    Grants,
    reason_of,
    who,
)
from hybrid.hooks.verdicts import Key, Verdicts, key_of
from hybrid.model import Grant, Principal

AT_ONCE: Final = 8
"""Questions of one client under way: an attach that names 256 channels leaves room for others."""
_AWAY: Final = "The application's backend cannot be asked now; try again."
_Result = TypeVar("_Result")
_Arguments = TypeVarTuple("_Arguments")


class Authority:
    """Implements `auth.hooks.Asked`, and (`admit`) the last step of checking a token, `auth.hooks.Finish`."""

    def __init__(self, backend: Backend, clock: Clock, *, verdicts_max: int) -> None:
        self._backend = backend
        self._clock = clock
        self._verdicts = Verdicts(clock, verdicts_max)
        self._refused = Verdicts(clock, verdicts_max)  # tokens that may not come in
        self._asking: dict[Key, asyncio.Task[None]] = {}
        self._admitting: dict[Key, asyncio.Task[Answer]] = {}

    # -- channels

    def known(self, principal: Principal, action: Action, channel: str) -> Verdict | None:
        """See `Asked.known`."""
        return self._verdicts.find(key_of(principal, action, channel))

    async def ask(self, principal: Principal, action: Action, channels: Sequence[str]) -> None:
        """See `Asked.ask`."""
        unknown = [channel for channel in channels if self.known(principal, action, channel) is None]
        for first in range(0, len(unknown), AT_ONCE):
            tasks = [
                _shared(self._asking, key_of(principal, action, channel), self._ask, principal, action, channel)
                for channel in unknown[first : first + AT_ONCE]
            ]
            await asyncio.wait(tasks)  # which shields: one that gives up must not take the answer away from others
        # The first ones were answered long ago, and all of them are looked at from here on.
        for channel in unknown:
            self._verdicts.settle(key_of(principal, action, channel))

    async def _ask(self, principal: Principal, action: Action, channel: str) -> None:
        key = key_of(principal, action, channel)
        question = (AskPublish if action == "publish" else AskSubscribe)(who(principal), channel)
        try:
            answer = await self._backend.ask(question, Answer, is_repeatable=True)
        except Unanswered as unanswered:
            self._verdicts.keep(key, principal, _unanswered(unanswered))
        else:
            verdict = Verdict(answer.allow, reason_of(answer.reason))
            self._verdicts.keep(key, principal, verdict, min(answer.cache_s, CACHE_MAX_S))

    # -- tokens

    async def admit(self, principal: Principal, claims: Mapping[str, Any]) -> Principal:
        """The principal with the rights that the backend gives it: the last step of checking a token.

        Raises AuthError: `forbidden_or_revoked` where the backend denies, `keys_unavailable` where it does not answer.
        """
        key = key_of(principal, "subscribe", "")
        refused = self._refused.find(key)
        if refused is not None:
            raise AuthError("forbidden_or_revoked", refused.detail)
        task = _shared(self._admitting, key, self._admit, principal, claims)
        await asyncio.wait({task})
        try:
            answer = task.result()
        except (Unanswered, asyncio.CancelledError) as error:
            verdict = _unanswered(error if isinstance(error, Unanswered) else None)
            raise AuthError("keys_unavailable", verdict.detail, retry_after_s=verdict.retry_after_s) from None
        if not answer.allow:
            detail = reason_of(answer.reason)
            self._refused.keep(key, principal, Verdict(False, detail), min(answer.cache_s, CACHE_MAX_S))
            raise AuthError("forbidden_or_revoked", detail)
        return self._with_rights(principal, answer)

    async def _admit(self, principal: Principal, claims: Mapping[str, Any]) -> Answer:
        return await self._backend.ask(AskConnect(who(principal), dict(claims)), Answer, is_repeatable=True)

    def _with_rights(self, principal: Principal, answer: Answer) -> Principal:
        changes: dict[str, Any] = {}
        if answer.grants is not None:
            changes["grants"], changes["channels"] = _granted(answer.grants, principal), ()
        if answer.channels is not None:
            channels = changes["channels"] = _channels(answer.channels)
            changes["grants"] = with_channels(changes.get("grants", principal.grants), channels)
        if answer.expires_in_s is not None:
            changes["expires_at_s"] = min(principal.expires_at_s, self._clock.wall_s() + answer.expires_in_s)
        return msgspec.structs.replace(principal, **changes) if changes else principal

    async def close(self) -> None:
        """Give up open questions and release connections; safe to call twice."""
        tasks = [*self._asking.values(), *self._admitting.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._backend.close()


def _shared(
    tasks: dict[Key, asyncio.Task[_Result]],
    key: Key,
    ask: Callable[[*_Arguments], Coroutine[Any, Any, _Result]],
    *arguments: *_Arguments,
) -> asyncio.Task[_Result]:
    """The task that asks under this key, begun unless it runs already. Its failure is for those who wait, if any."""
    task = tasks.get(key)
    if task is None:
        task = tasks[key] = asyncio.get_running_loop().create_task(ask(*arguments))

        def ended(done: asyncio.Task[_Result]) -> None:
            del tasks[key]
            if not done.cancelled():
                done.exception()

        task.add_done_callback(ended)
    return task


def _granted(grants: Grants, principal: Principal) -> tuple[Grant, ...]:
    """All that the principal may do; to revoke is the token's own matter, and stays."""
    given: dict[Grant, None] = {grant: None for grant in principal.grants if grant.action == "revoke"}
    patterns: tuple[tuple[Action, list[str]], ...] = (("subscribe", grants.subscribe), ("publish", grants.publish))
    for action, texts in patterns:
        for text in texts:
            try:
                given[Grant(action, parse_pattern(text))] = None
            except ScopeError:
                # What was meant to be granted can only be guessed.
                raise HybridError("internal", "The application's backend gave rights that cannot be read.") from None
    return tuple(given)


def _channels(names: list[str]) -> tuple[str, ...]:
    try:
        return channels_of(names)
    except ScopeError:
        raise HybridError("internal", "The application's backend gave channels that cannot be read.") from None


def _unanswered(unanswered: Unanswered | None) -> Verdict:
    """What is refused meanwhile; None: this process ends."""
    retry_after_s = 1.0 if unanswered is None else unanswered.retry_after_s
    detail = unanswered.excess if unanswered is not None and unanswered.limit else _AWAY
    return Verdict(False, detail, retry_after_s)
