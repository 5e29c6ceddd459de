"""Keeps what this node knows of revocations up to date, and ends whoever was revoked.

The store says "look"; then, and after every gap, and every few seconds in case neither came through, this node reads
what came after what it knows. Nothing that was learned is forgotten because the store has lost it: it is brought back.
Until all was read once, no token is accepted (`Revocations.is_known`), for a restarted node must not let anybody in
whom it refused before.

One pass over all that is open serves every revocation that came before it began; passes rest in between, so that a
flood of revocations leaves the node to its other work.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias

import msgspec

from hybrid.auth.claims import Refusal, name_of
from hybrid.auth.revocation import KINDS, Key, Kind, Revocation, Revocations, RevocationStore, holds_already
from hybrid.clock import Clock
from hybrid.engine.holders import Holder, sliced
from hybrid.engine.tasks import Tasks
from hybrid.engine.wheel import Wheel
from hybrid.errors import BrokerError, HybridError, ProtocolError
from hybrid.limits import Limits

_log = logging.getLogger(__name__)

PAGE: Final = 1_000
"""Revocations read at once."""
_REST_S: Final = 0.05  # between two passes, and between two looks: many that come together are one
_AGAIN_S: Final = 1.0  # after a look that failed, while nothing is known yet

Ended: TypeAlias = Counter[Key]
"""How many sessions, streams and polls each revocation has ended here."""


class Revoked(msgspec.Struct, frozen=True, gc=False):
    """What was done: the revocation, and how many sessions, streams and waiting polls it has ended at this node."""

    revocation: Revocation
    ended_here: int


class Revoking:
    """See the module's text. One per process."""

    def __init__(
        self,
        store: RevocationStore,
        revocations: Revocations,
        limits: Limits,
        clock: Clock,
        wheel: Wheel,
        tasks: Tasks,
        *,
        holders: Callable[[], Iterable[Holder]],
    ) -> None:
        """`holders` gives all that is open here."""
        self._store = store
        self._revocations = revocations
        self._limits = limits
        self._clock = clock
        self._wheel = wheel
        self._tasks = tasks
        self._holders = holders
        self._cursor = b""
        self._seen: set[Key] | None = set()  # of a reading from the first on, until it is done
        self._is_listening = False
        self._is_doubted = False  # the store may have gone back in time: it is to be read from the first on
        self._is_wanted = False
        self._is_looking = False
        self._has_failed = False
        self._passing: asyncio.Task[None] | None = None
        self._next_pass: asyncio.Future[Ended] | None = None

    async def start(self) -> None:
        """Learn all that was revoked; where the store is away, it is tried again in the background."""
        await self._look()
        self._schedule()

    async def revoke(self, kind: Kind, issuer: str, value: str) -> Revoked:
        """Revoke on all nodes, and end what it concerns here; the others do within moments.

        Raises ProtocolError bad_request for a value that no token can have; LimitError `revocations_max`; BrokerError,
        and then it may have taken effect. Again it does no harm. Cancelling it leaves the outcome unknown.
        """
        if not issuer or not value:
            raise ProtocolError("bad_request", f"Name the {kind} that is to be revoked, and its issuer.")
        try:
            name_of(value)
        except Refusal:
            raise ProtocolError("bad_request", f"No token can have this {kind}: it is too long or not text.") from None
        revocation = self._revocations.find(kind, issuer, value)
        if revocation is None or not holds_already(revocation, self._clock.wall_s(), self._limits.revocation_kept_s):
            revocation = await self._store.append(kind, issuer, value)
            self._revocations.add(revocation)
            _log.info("revoked by %s: tokens of an issuer, as of %.3f", kind, revocation.at_s)
        ended = await asyncio.shield(self._pass_soon())
        return Revoked(revocation, ended[revocation.key])

    def wheel_fired(self) -> None:
        """Look, whether or not anybody has said so."""
        self.look_soon()
        self._schedule()

    def doubt(self) -> None:
        """The connection to the store broke, and another server may stand there now, which lacks the last entries."""
        self._is_doubted = True
        self.look_soon()

    def look_soon(self) -> None:
        """There is, or may be, something to read."""
        self._is_wanted = True
        if not self._is_looking:
            self._is_looking = self._tasks.spawn(self._looks()) is not None

    # -- reading

    def _schedule(self) -> None:
        interval_s = self._limits.revocation_look_s * random.uniform(0.8, 1.2)  # not all nodes at once
        self._wheel.schedule(self, interval_s if self._revocations.is_known else min(_AGAIN_S, interval_s))

    async def _looks(self) -> None:
        try:
            while self._is_wanted:
                self._is_wanted = False
                await self._look()
                await asyncio.sleep(_REST_S)
        finally:
            self._is_looking = False

    async def _look(self) -> None:
        try:
            if not self._is_listening:
                await self._store.listen(self.look_soon, self.doubt)
                self._is_listening = True
            if await self._read():
                self._pass_soon()
            self._has_failed = False
        except BrokerError as error:
            level = logging.DEBUG if self._has_failed else logging.WARNING
            _log.log(level, "what was revoked cannot be read now: %s", error)
            self._has_failed = True
        self._revocations.expire()

    async def _read(self) -> bool:
        """Read what came since the last time; whether it was news. Raises BrokerError, and can go on from there."""
        has_news, has_more = False, True
        if self._is_doubted:
            # A cursor that can go on does not show that what came behind it is still there.
            self._is_doubted, self._cursor = False, b""
        while has_more:
            if not self._cursor:
                self._seen = set()
            page = await self._store.read(self._cursor, PAGE)
            if not page.is_continued:
                self._seen = set()
            for revocation in page.revocations:
                has_news |= self._revocations.add(revocation)
                if self._seen is not None:
                    self._seen.add(revocation.key)
            self._cursor, has_more = page.cursor, page.has_more
        self._revocations.is_known = True
        seen, self._seen = self._seen, None
        self._revocations.expire()
        if seen is not None:
            await self._restore(self._revocations.beside(seen))
        return has_news

    async def _restore(self, lost: list[Revocation]) -> None:
        """Bring back what only we remember: the store was emptied, or has gone back in time."""
        if not lost:
            return
        _log.warning("%d revocations are not in the broker any more and are brought back", len(lost))
        try:
            await self._store.restore(lost)
        except BrokerError:
            self._is_doubted = True  # the next look begins anew, and tries it again
            raise
        except HybridError as error:
            _log.error("revocations could not be brought back; this node refuses them as long as it runs: %s", error)

    # -- ending

    def _pass_soon(self) -> asyncio.Future[Ended]:
        """The next pass, which knows all that is known now."""
        if self._next_pass is None:
            wanted = self._next_pass = asyncio.get_running_loop().create_future()
            if self._passing is None:
                self._passing = self._tasks.spawn(self._passes())
                if self._passing is None:
                    self._give_up()
                else:
                    self._passing.add_done_callback(self._passed)
            return wanted
        return self._next_pass

    async def _passes(self) -> None:
        while self._next_pass is not None:
            done, self._next_pass = self._next_pass, None
            try:
                done.set_result(await self._pass())
            finally:
                done.cancel()
            await asyncio.sleep(_REST_S)
        self._passing = None  # not in `_passed`: that is called a moment later, when another one may have begun

    def _passed(self, task: asyncio.Task[None]) -> None:
        if task is self._passing:  # it was cancelled, perhaps before it began
            self._passing = None
            self._give_up()

    def _give_up(self) -> None:
        """The engine is closed: no pass will follow."""
        if self._next_pass is not None:
            self._next_pass.cancel()
            self._next_pass = None

    async def _pass(self) -> Ended:
        ended: Ended = Counter()
        match = self._revocations.match
        async for holder in sliced(self._holders()):
            reason = holder.end_if(match)
            if reason is not None:
                ended[reason] += 1
        if ended:
            _log.info("%d sessions, streams and polls were ended, for they were revoked", ended.total())
        return ended


def one_of(given: Mapping[str, str | None]) -> tuple[Kind, str]:
    """The one kind that is named, and its value. Raises ProtocolError bad_request for none, or several."""
    named = [(kind, value) for kind in KINDS if (value := given.get(kind)) is not None]
    if len(named) != 1:
        raise ProtocolError("bad_request", "Name exactly one of jti, sid, subject and client.")
    return named[0]
