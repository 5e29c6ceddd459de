"""Calls: a client asks, a handler of the embedding application answers. At most once for each key.

Nothing can be called that was not registered, and only by who shows a token, unless the registration says otherwise. A
repeat with the same key, while the first runs, waits for it; afterwards it gets the kept result.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import msgspec

from hybrid.clock import Clock
from hybrid.engine.operations import to_json
from hybrid.engine.tasks import Tasks
from hybrid.errors import AuthError, HybridError, LimitError, ProtocolError
from hybrid.limits import Limits
from hybrid.model import Principal
from hybrid.protocol.data import check_json

_log = logging.getLogger(__name__)


class Call(msgspec.Struct, frozen=True):
    """What a handler is given. `data` is the decoded JSON; `key` lets it recognise a repeat across restarts."""

    principal: Principal
    name: str
    data: Any
    key: str | None


Handler: TypeAlias = Callable[[Call], Awaitable[Any]]
_KeyedCall: TypeAlias = tuple[str, str, str, str, str]
_NULL: Final = b"null"


class _Registration(msgspec.Struct, frozen=True):
    handler: Handler
    allow_anonymous: bool


class _Kept(msgspec.Struct, frozen=True, eq=False):
    digest: int
    task: asyncio.Task[bytes]
    forgotten_at_s: float


class Calls:
    """The registered handlers, the calls that run, and the results that are kept. One per process."""

    def __init__(self, limits: Limits, clock: Clock, tasks: Tasks) -> None:
        self._limits = limits
        self._clock = clock
        self._tasks = tasks
        self._handlers: dict[str, _Registration] = {}
        self._kept: dict[_KeyedCall, _Kept] = {}
        self._open = 0

    def register(self, name: str, handler: Handler, *, allow_anonymous: bool = False) -> None:
        """Let clients call `name`. Raises ValueError when it is taken.

        The handler returns a JSON-able value, or raises HybridError to tell the caller why not; it is cancelled after
        `call_timeout_s`.
        """
        if name in self._handlers:
            raise ValueError(f"a handler for {name!r} is registered already")
        self._handlers[name] = _Registration(handler, allow_anonymous)

    async def call(self, principal: Principal, name: str, data: bytes, key: str | None) -> bytes:
        """The handler's result as JSON. Raises HybridError.

        Cancelling it lets a keyed call go on, since its caller may come back for the result.
        """
        registration = self._handlers.get(name)
        if registration is None:
            raise ProtocolError("not_found", "There is no such call here.")
        if principal.is_anonymous and not registration.allow_anonymous:
            raise AuthError("unauthorized")
        if principal.expires_at_s <= self._clock.wall_s():
            raise AuthError("token_expired")
        checked = check_json(data or _NULL, self._limits.data_max_bytes)
        self._forget_old()
        keyed = None if key is None else (principal.issuer, principal.subject, principal.client, name, key)
        if self._open >= self._limits.calls_max:
            raise LimitError("calls_max", retry_after_s=1.0)
        self._open += 1
        try:
            if keyed is None:
                return await self._carry_out(registration.handler, Call(principal, name, _decoded(checked), key))
            return await asyncio.shield(self._task(keyed, checked, registration, principal))
        finally:
            self._open -= 1

    def _task(
        self, keyed: _KeyedCall, checked: bytes, registration: _Registration, principal: Principal
    ) -> asyncio.Task[bytes]:
        """The task of a keyed call: the one that runs or has run, or a new one."""
        kept = self._kept.get(keyed)
        if kept is not None:
            if kept.digest != hash(checked):
                raise ProtocolError("key_conflict")
            return kept.task
        if len(self._kept) >= self._limits.call_results_max:
            raise LimitError("call_results_max", retry_after_s=1.0)
        name, key = keyed[-2:]
        task = self._tasks.run(self._carry_out(registration.handler, Call(principal, name, _decoded(checked), key)))
        self._kept[keyed] = _Kept(hash(checked), task, self._clock.monotonic_s() + self._limits.idempotency_window_s)
        return task

    async def _carry_out(self, handler: Handler, call: Call) -> bytes:
        try:
            async with asyncio.timeout(self._limits.call_timeout_s):
                answer = await handler(call)
        except HybridError:
            raise
        except TimeoutError:
            raise ProtocolError("outcome_unknown", "The call took too long and was ended.") from None
        except Exception:
            _log.exception("the handler of call %r failed", call.name)
            raise ProtocolError("call_failed") from None
        try:
            return check_json(to_json(answer), self._limits.data_max_bytes)
        except HybridError as error:
            _log.error("the answer of call %r cannot be sent: %s", call.name, error)
            raise ProtocolError("call_failed") from None

    def _forget_old(self) -> None:
        now_s = self._clock.monotonic_s()
        while self._kept:  # in order of their coming, and all are kept equally long
            oldest = next(iter(self._kept))
            if self._kept[oldest].forgotten_at_s > now_s:
                return
            del self._kept[oldest]


def _decoded(checked: bytes) -> Any:
    return msgspec.json.decode(checked)
