"""Calls: a client asks, a handler of the embedding application answers. At most once for each key.

Nothing can be called that was not registered, and only by who shows a token, unless the registration says otherwise. A
repeat with the same key, while the first runs, waits for it; afterwards it gets the kept result. That holds on
whichever node it comes: the store beside the broker knows who runs a call and what it gave. A call whose node died
before it told is `outcome_unknown`, never run again.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from typing import Any, Final, Protocol, TypeAlias

import msgspec

from hybrid.broker.base import CallStore
from hybrid.clock import Clock
from hybrid.engine.operations import to_json
from hybrid.engine.tasks import Tasks
from hybrid.errors import AuthError, BrokerError, HybridError, LimitError, ProtocolError
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
_LOOK_S: Final = 0.2  # between two looks at a call that runs at another node
_MARGIN_S: Final = 5.0  # for its result to be kept
_FORGOTTEN_S: Final = 0.001  # how long it is kept that a call was not run: others that wait for it run it then


class NotRun(HybridError):
    """What a handler raises that has not begun: nothing took effect, and the same key may be asked with again."""


class _Registration(msgspec.Struct, frozen=True):
    """`may_repeat`: what the broker kept from being done may be tried again, since it does no harm twice."""

    handler: Handler
    allow_anonymous: bool
    may_repeat: bool = False


class _Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a call gave, as it is kept: its result, or the error that refused it."""

    result: msgspec.Raw = msgspec.Raw()
    error: str = ""
    detail: str = ""
    retry_after_s: float | None = None
    was_not_run: bool = False


class _Unheard(ProtocolError):
    """Another node runs the call, and nothing was heard of it: not an outcome, which would be kept."""


class _Kept(msgspec.Struct, frozen=True, eq=False):
    digest: bytes
    task: asyncio.Task[bytes]
    forgotten_at_s: float


class Nodes(Protocol):
    """What calls need to know of the nodes."""

    @property
    def id(self) -> str:
        """This node's."""
        ...

    def is_there(self, node: str) -> bool:
        """Whether a node is in the list, as far as this one knows."""

    async def tell(self) -> None:
        """Read the list anew."""


class Calls:
    """The registered handlers, the calls that run, and the results that are kept. One per process."""

    def __init__(self, limits: Limits, clock: Clock, tasks: Tasks, store: CallStore, nodes: Nodes) -> None:
        self._limits = limits
        self._clock = clock
        self._tasks = tasks
        self._store = store
        self._nodes = nodes
        self._handlers: dict[str, _Registration] = {}
        self._kept: dict[_KeyedCall, _Kept] = {}
        self._open = 0
        self.fallback: Callable[[str], Handler | None] = lambda name: None
        """Who answers a call that has no handler of its own; None: nobody. For who shows a token."""

    def register(self, name: str, handler: Handler, *, allow_anonymous: bool = False) -> None:
        """Let clients call `name`. Raises ValueError when it is taken.

        The handler returns a JSON-able value, or raises HybridError to tell the caller why not (NotRun where nothing
        was begun); it is cancelled after `call_timeout_s`.
        """
        if name in self._handlers:
            raise ValueError(f"a handler for {name!r} is registered already")
        self._handlers[name] = _Registration(handler, allow_anonymous)

    async def call(self, principal: Principal, name: str, data: bytes, key: str | None) -> bytes:
        """The handler's result as JSON. Raises HybridError.

        Cancelling it lets a keyed call go on, since its caller may come back for the result.
        """
        registration = self._registration(name)
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

    async def once(self, principal: Principal, name: str, data: bytes, key: str, act: Handler) -> bytes:
        """What `act` gives, as JSON, run once on all nodes for this key; a repeat gets what the first one gave.

        `name` is none that a client can call, and `data` the JSON that a repeat must bring again. What a broker that is
        away has kept from being done may be asked for again. Raises HybridError: what `act` raises, `key_conflict`.
        Cancelling it lets it go on.
        """
        self._forget_old()
        keyed = (principal.issuer, principal.subject, principal.client, name, key)
        checked = check_json(data, self._limits.data_max_bytes)
        return await asyncio.shield(self._task(keyed, checked, _Registration(act, False, True), principal))

    def _registration(self, name: str) -> _Registration:
        registration = self._handlers.get(name)
        if registration is not None:
            return registration
        handler = self.fallback(name)
        if handler is None:
            raise ProtocolError("not_found", "There is no such call here.")
        return _Registration(handler, allow_anonymous=False)

    def _task(
        self, keyed: _KeyedCall, checked: bytes, registration: _Registration, principal: Principal
    ) -> asyncio.Task[bytes]:
        """The task of a keyed call: the one that runs or has run here, or a new one."""
        digest = blake2b(checked, digest_size=16).digest()
        kept = self._kept.get(keyed)
        if kept is not None:
            if kept.digest != digest:
                raise ProtocolError("key_conflict")
            return kept.task
        if len(self._kept) >= self._limits.call_results_max:
            raise LimitError("call_results_max", retry_after_s=1.0)
        name, key = keyed[-2:]
        call = Call(principal, name, _decoded(checked), key)
        task = self._tasks.run(self._once(keyed, digest, registration, call))
        passing = (BrokerError, _Unheard, LimitError) if registration.may_repeat else (BrokerError, _Unheard)
        task.add_done_callback(lambda ended: self._forget_unreachable(keyed, passing, ended))
        self._kept[keyed] = _Kept(digest, task, self._clock.monotonic_s() + self._limits.idempotency_window_s)
        return task

    async def _once(self, keyed: _KeyedCall, digest: bytes, registration: _Registration, call: Call) -> bytes:
        """Run the call if nobody has begun it anywhere; otherwise wait for what it gives there. Raises HybridError."""
        key = blake2b(msgspec.json.encode(keyed), digest_size=16).digest()
        kept_s = self._limits.idempotency_window_s
        # Unlike any other's, also of this node in another try: an answer that got lost is not taken for a stranger's.
        claimant = f"{self._nodes.id}/{secrets.token_hex(8)}"
        began = await self._store.begin(key, digest, claimant, kept_s)
        deadline_s = self._clock.monotonic_s() + self._limits.call_timeout_s + _MARGIN_S
        while not began.is_ours:
            if began.is_conflict:
                raise ProtocolError("key_conflict")
            if began.result is not None:
                outcome = msgspec.json.decode(began.result, type=_Outcome)
                if not outcome.was_not_run or self._clock.monotonic_s() > deadline_s:
                    return _told(outcome)
                await asyncio.sleep(_FORGOTTEN_S)  # whoever asks again so soon is not told what another try came to
                began = await self._store.begin(key, digest, claimant, kept_s)
                continue
            runner = began.claimant.partition("/")[0]
            if not self._nodes.is_there(runner):
                await self._nodes.tell()  # it may have joined since the list was read
            if not self._nodes.is_there(runner) or self._clock.monotonic_s() > deadline_s:
                raise _Unheard("outcome_unknown", "The node that ran the call did not tell what it gave.")
            await asyncio.sleep(_LOOK_S)
            began = await self._store.begin(key, digest, claimant, kept_s)
        try:
            result = await self._carry_out(registration.handler, call)
        except HybridError as error:
            may_again = (BrokerError, LimitError, NotRun) if registration.may_repeat else NotRun
            outcome = _Outcome(
                error=error.row.name,
                detail=error.detail,
                retry_after_s=error.retry_after_s,
                was_not_run=isinstance(error, may_again),
            )
            await self._finish(key, digest, claimant, outcome, _FORGOTTEN_S if outcome.was_not_run else kept_s)
            raise
        await self._finish(key, digest, claimant, _Outcome(result=msgspec.Raw(result)), kept_s)
        return result

    async def _finish(self, key: bytes, digest: bytes, claimant: str, outcome: _Outcome, kept_s: float) -> None:
        try:
            await self._store.finish(key, digest, claimant, msgspec.json.encode(outcome), kept_s)
        except BrokerError as error:
            _log.warning("what a call gave cannot be told to other nodes: %s", error)

    def _forget_unreachable(
        self, keyed: _KeyedCall, passing: tuple[type[HybridError], ...], ended: asyncio.Task[bytes]
    ) -> None:
        """A call that could not begin, or was not heard of from where it runs, may be asked for again."""
        if not ended.cancelled() and isinstance(ended.exception(), (*passing, NotRun)):
            self._kept.pop(keyed, None)

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


def _told(told: _Outcome) -> bytes:
    if told.error:
        raise HybridError(told.error, told.detail, retry_after_s=told.retry_after_s)
    return bytes(told.result)


def _decoded(checked: bytes) -> Any:
    return msgspec.json.decode(checked)
