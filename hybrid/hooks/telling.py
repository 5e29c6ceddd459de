"""Telling the backend what happened: at least once, in order, one batch at a time.

What happens while a batch is on its way gathers for the next one. A batch that is not taken is told again, under the
same id, after growing, jittered pauses; behind it nothing is told, so the order holds over a receiver that was away.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import msgspec

from hybrid.clock import Clock
from hybrid.hooks.messages import Event, EventType, Told, who
from hybrid.hooks.post import Poster, PostError
from hybrid.hooks.queue import Batch, EventQueue, pause_s
from hybrid.hooks.signature import Signer
from hybrid.model import Principal

_log = logging.getLogger(__name__)
ID_BYTES: Final = 16
_LOGGED_EVERY: Final = 1_000
ROOM: Final = "hook_events_max"
CLOSING_S: Final = 5.0
"""How long the end of the process waits for what is still to be told."""


class Teller:
    """Queues events and tells them. One per process and receiver."""

    def __init__(
        self,
        poster: Poster,
        signer: Signer,
        clock: Clock,
        queue: EventQueue,
        *,
        age_max_s: float,
        rest: Callable[[float], Any] = asyncio.sleep,
    ) -> None:
        """`rest` is awaited between attempts."""
        self.node = ""
        self.hits: Counter[str] = Counter()
        """Events for which there was no room, by the limit."""
        self._poster = poster
        self._signer = signer
        self._clock = clock
        self._queue = queue
        self._age_max_s = age_max_s
        self._rest = rest
        self._telling: asyncio.Task[None] | None = None
        self._is_closed = False

    @property
    def waiting(self) -> int:
        """Events that were not taken yet."""
        return len(self._queue)

    @property
    def dropped(self) -> int:
        """Events that never will be, since the start."""
        return self._queue.dropped_in_all

    @property
    def told(self) -> int:
        """Events that were taken, since the start."""
        return self._queue.told_in_all

    def tell(self, type: EventType, at_ms: int | None = None, **about: Any) -> None:
        """Queue an event, which happened now unless `at_ms` says otherwise."""
        if self._is_closed:
            return
        at_ms = int(self._clock.wall_s() * 1000) if at_ms is None else at_ms
        has_room = self._queue.add(Event(type, f"evt_{secrets.token_urlsafe(ID_BYTES)}", at_ms, **about))
        if not has_room:
            self.hits[ROOM] += 1
        if not has_room and self.dropped % _LOGGED_EVERY == 1:
            _log.error("%d events for %s were dropped: too many wait", self.dropped, self._poster.name)
        self._begin()

    async def close(self) -> None:
        """Tell what waits, for a moment, then give it up and release connections; safe to call twice."""
        self._is_closed = True
        deadline_s = asyncio.get_running_loop().time() + CLOSING_S
        while self._telling is not None and (left_s := deadline_s - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait({self._telling}, timeout=left_s)
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.wait({self._telling})
            _log.error("%d events for %s end with this process untold", self.waiting, self._poster.name)
        await self._poster.close()

    def _begin(self) -> None:
        if self._telling is None:
            self._telling = asyncio.get_running_loop().create_task(self._tell_all())
            self._telling.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._telling = None
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            _log.error("events cannot be told", exc_info=error)
        elif len(self._queue):  # some came when it had just looked
            self._begin()

    async def _tell_all(self) -> None:
        attempt = 0
        await asyncio.sleep(0)  # what happens in this turn of the loop is one batch
        while (batch := self._queue.next(self._clock.monotonic_s())) is not None:
            try:
                await self._told(batch)
            except PostError as error:
                attempt += 1
                if self._clock.monotonic_s() - batch.since_s >= self._age_max_s:
                    self._queue.given_up(batch)
                    _log.error("%d events for %s are given up: %s", len(batch.events), self._poster.name, error)
                    continue
                if attempt == 1:
                    _log.warning("events wait, for %s did not take them: %s", self._poster.name, error)
                await self._rest(pause_s(attempt, random.random()))
            else:
                attempt = 0
                self._queue.told(batch)

    async def _told(self, batch: Batch) -> None:
        body = msgspec.json.encode(Told(self.node, batch.events, batch.dropped))
        await self._poster.tell(body, self._signer.headers(batch.id, self._clock.wall_s(), body))


class SessionTelling:
    """Whose session began and ended: the half of `engine.observer.Observer` that concerns sessions."""

    def __init__(self, teller: Teller, events: frozenset[str]) -> None:
        self._teller = teller
        self._tells_opened = "connected" in events
        self._tells_closed = "disconnected" in events
        self._open: dict[str, Principal] = {}

    def session_opened(self, session: str, principal: Principal, transport: str) -> None:
        """See `Observer.session_opened`."""
        if session in self._open or not (self._tells_opened or self._tells_closed):
            return
        self._open[session] = principal
        if self._tells_opened:
            self._teller.tell("connected", session=session, principal=who(principal), transport=transport)

    def session_closed(self, session: str, principal: Principal, reason: str) -> None:
        """See `Observer.session_closed`."""
        if self._open.pop(session, None) is not None and self._tells_closed:
            self._teller.tell("disconnected", session=session, principal=who(principal), reason=reason)

    def close(self) -> None:
        """This node ends, and its sessions with it."""
        for session, principal in list(self._open.items()):
            self.session_closed(session, principal, "draining")
