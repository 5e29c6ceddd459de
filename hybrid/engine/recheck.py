"""Asks issuers again about tokens that live here: what an issuer was asked about once may have changed its mind since.

A JWT says by itself for how long it is good. An opaque token is good because its issuer said so when it was asked; what
is remembered of that keeps a token alive that was revoked there (RFC 7662, section 4). So each distinct token of an
introspected principal that holds something open is asked about again, once an interval, each at a time of its own, at
most `AT_ONCE` together.

What the issuer says counts as a refresh would: rights that are gone end their subscriptions, a token that is not active
any more ends its sessions. An issuer that cannot be asked changes nothing: it is asked again at the next turn.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from hybrid.auth.revocation import Key
from hybrid.clock import Clock
from hybrid.engine.holders import Holder, sliced
from hybrid.engine.tasks import Tasks
from hybrid.engine.wheel import Wheel
from hybrid.errors import AuthError, HybridError
from hybrid.limits import Limits
from hybrid.model import Principal

_log = logging.getLogger(__name__)

AT_ONCE: Final = 16
"""Questions under way: with an issuer that answers within 50 ms that is 300 a second, 20,000 tokens a minute."""
_LOOKS: Final = 12
"""Looks at what lives here in one interval; a token's turn is up to one of them late."""
_SPREAD: Final = (0.75, 1.0)
"""Of the interval, drawn for each token and turn: tokens that came together are not asked about together."""


class Rechecker(Protocol):
    """Asks the issuers; implemented in `auth`."""

    async def recheck(self, token_hash: bytes) -> Principal | None:
        """What the issuer says now of the token with this hash; None: it is not active any more.

        Raises AuthError keys_unavailable when the issuer cannot be asked. Cancel-safe.
        """

    def keep(self, token_hashes: set[bytes]) -> None:
        """These are all the tokens that hold something open here, as of now."""


class Recheck:
    """See the module's text. One per process; without a `rechecker` it does nothing."""

    def __init__(
        self,
        rechecker: Rechecker | None,
        limits: Limits,
        clock: Clock,
        wheel: Wheel,
        tasks: Tasks,
        *,
        holders: Callable[[], Iterable[Holder]],
    ) -> None:
        """`holders` gives all that is open here."""
        self._rechecker = rechecker
        self._interval_s = limits.recheck_interval_s
        self._clock = clock
        self._wheel = wheel
        self._tasks = tasks
        self._holders = holders
        self._due_s: dict[bytes, float] = {}
        self._asking: set[bytes] = set()
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._is_looking = False

    def start(self) -> None:
        """Begin to look for tokens whose turn has come."""
        if self._rechecker is not None:
            self._schedule()

    def wheel_fired(self) -> None:
        """Look for tokens whose turn has come."""
        if self._rechecker is not None and not self._is_looking:
            self._is_looking = self._tasks.spawn(self._look(self._rechecker)) is not None
        self._schedule()

    def _schedule(self) -> None:
        self._wheel.schedule(self, self._interval_s / _LOOKS)

    async def _look(self, rechecker: Rechecker) -> None:
        try:
            live: set[bytes] = set()
            async for holder in sliced(self._holders()):
                live.update(p.token_hash for p in holder.principals() if p.is_introspected)
            rechecker.keep(live)
            now_s = self._clock.monotonic_s()
            former, self._due_s = self._due_s, {}
            for token_hash in live:
                due_s = former.get(token_hash)
                if due_s is not None and due_s <= now_s:
                    due_s = None
                    if token_hash not in self._asking:
                        self._asking.add(token_hash)
                        self._tasks.spawn(self._ask(rechecker, token_hash))
                self._due_s[token_hash] = self._next_s(now_s) if due_s is None else due_s
        finally:
            self._is_looking = False

    def _next_s(self, now_s: float) -> float:
        # So that the look which finds it due comes before the interval is over.
        return now_s + self._interval_s * (random.uniform(*_SPREAD) - 1 / _LOOKS)

    async def _ask(self, rechecker: Rechecker, token_hash: bytes) -> None:
        try:
            async with self._slots:
                principal = await rechecker.recheck(token_hash)
        except AuthError as error:
            if error.row.name not in ("token_refused", "forbidden_or_revoked"):
                _log.debug("a token could not be checked again: %s", error)
                return
            principal = None
        except HybridError as error:
            _log.warning("a token could not be checked again: %s", error)
            return
        finally:
            self._asking.discard(token_hash)
        if principal is None:
            await self._end(token_hash)
        else:
            await self._receive(principal)

    async def _end(self, token_hash: bytes) -> None:
        def is_it(principal: Principal) -> Key | None:
            is_that = principal.is_introspected and principal.token_hash == token_hash
            return ("jti", principal.issuer, principal.token_id) if is_that else None

        async for holder in sliced(self._holders()):
            holder.end_if(is_it)

    async def _receive(self, principal: Principal) -> None:
        async for holder in sliced(self._holders()):
            held = [shown for shown in holder.principals() if shown.token_hash == principal.token_hash]
            if any(shown != principal for shown in held):
                holder.receive_again(principal)
