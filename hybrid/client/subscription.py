"""One channel as its reader sees it: in order, exactly once, or told of a reset. Does no I/O of its own.

    NEW --asked for--> REQUESTED --answered--> LIVE --overflow, gap--> PAUSED --left, and room again--> NEW
    any --ended--> ENDED

The buffer between the network and the application is bounded. What does not fit is not lost: the channel is left and
joined again, after the last publication that did fit, once half of the buffer is free. While history reaches back that
far nothing is missed; otherwise the server tells a reset, which the reader meets at its place in the order.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from enum import Enum
from typing import Protocol

from hybrid.client.values import ReceivedPublication
from hybrid.errors import ChannelError, HybridError
from hybrid.model import Position, PresenceEntry


class State(Enum):
    """See the drawing above."""

    NEW = "new"
    REQUESTED = "requested"
    LIVE = "live"
    PAUSED = "paused"
    ENDED = "ended"


class Outcome(Enum):
    """What became of a publication that came from the wire."""

    TAKEN = "taken"
    HELD = "held"
    DROPPED = "dropped"
    GAP = "gap"
    OVERFLOW = "overflow"


class SubscriptionOwner(Protocol):
    """What a subscription asks of its session."""

    async def unsubscribe(self, subscription: Subscription) -> None:
        """Leave the channel."""

    def has_room(self, subscription: Subscription) -> None:
        """Half of the buffer of a PAUSED subscription is free."""


class Subscription(AsyncIterator[ReceivedPublication]):
    """Iterate over it for the publications of its channel. One reader at a time.

    `position` is that of the last publication the application has taken: store it to go on from there another day.
    `on_reset(position)` is called, in its place between publications, when some before `position` were lost;
    `on_presence(what, entry)` when somebody came ("join") or left ("leave"). The iteration ends when the subscription
    is left, and raises HybridError when the server or the client's own end has ended it.
    """

    def __init__(
        self,
        owner: SubscriptionOwner,
        channel: str,
        position: Position | None,
        history: int,
        buffer_max: int,
    ) -> None:
        self.channel = channel
        self.position = position
        self.on_reset: Callable[[Position], None] | None = None
        self.on_presence: Callable[[str, PresenceEntry], None] | None = None
        self.state = State.NEW
        self.history = history
        self.received = position
        self.failures = 0
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._owner = owner
        self._buffer_max = buffer_max
        self._buffer: deque[ReceivedPublication | Position] = deque()
        self.is_behind = False
        self.resets = 0
        """Told to the reader, or to be."""
        self._held: list[ReceivedPublication | Position] = []
        self._last_held: Position | None = None
        self._wake = asyncio.Event()
        self._error: HybridError | None = None

    # -- for the application

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> ReceivedPublication:
        """The next publication. Cancel-safe: nothing is taken from the buffer before it is returned."""
        while True:
            while self._buffer:
                item = self._buffer.popleft()
                if self.state is State.PAUSED and len(self._buffer) <= self._buffer_max // 2:
                    self._owner.has_room(self)
                if isinstance(item, ReceivedPublication):
                    self.position = item.position
                    return item
                self.position = item
                if self.on_reset is not None:
                    self.on_reset(item)
            if self.state is State.ENDED:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()

    async def unsubscribe(self) -> None:
        """Leave the channel; the iteration ends after what is in the buffer. Safe to call twice."""
        await self._owner.unsubscribe(self)

    @property
    def buffered(self) -> int:
        """Publications received but not yet taken by the application."""
        return len(self._buffer)

    @property
    def is_ended(self) -> bool:
        """True when no more will be received."""
        return self.state is State.ENDED

    @property
    def has_room(self) -> bool:
        """True when at least half of the buffer is free."""
        return len(self._buffer) <= self._buffer_max // 2

    # -- for the session

    def receive(self, publication: ReceivedPublication) -> Outcome:
        """A publication came on the leg that counts."""
        if self.state is State.REQUESTED:
            # Its answer travels another way than the stream and may come later; until then only order is unknown.
            self._last_held = publication.position
            if len(self._held) < self._buffer_max:
                self._held.append(publication)
            return Outcome.HELD
        if self.state is not State.LIVE or self.received is None:
            return Outcome.DROPPED
        if not self._continues(publication):
            is_repeat = publication.position.epoch == self.received.epoch and publication.offset <= self.received.offset
            return Outcome.DROPPED if is_repeat else Outcome.GAP
        if len(self._buffer) >= self._buffer_max:
            return Outcome.OVERFLOW
        self._take(publication)
        return Outcome.TAKEN

    def go_on(self, position: Position, *, was_recovered: bool) -> int:
        """The server said from where delivery goes on. Returns how many held publications were taken.

        `was_recovered` False is a reset: some between `received` and `position` are lost to this reader. `is_behind`
        says afterwards whether some came meanwhile that nothing else would bring again: there was no room for them, or
        the server goes on from further ahead (it was asked before an answer that came on the former leg).
        """
        is_ahead = False
        if self.received is None:
            self.received = self.position = position
        elif not was_recovered:
            self.reset(position)
        else:
            is_other_log = position.offset > 0 < self.received.offset and position.epoch != self.received.epoch
            is_ahead = position.offset > self.received.offset or is_other_log
        self.state = State.LIVE
        held, self._held = self._held, []
        taken = 0
        for item in held:
            if isinstance(item, Position):
                self.reset(item)  # one of before the answer does no harm: what lies between is asked for again
            elif self._continues(item) and len(self._buffer) < self._buffer_max:
                self._take(item)
                taken += 1
        last, self._last_held = self._last_held, None
        self.is_behind = is_ahead or (
            last is not None and (last.epoch != self.received.epoch or last.offset > self.received.offset)
        )
        if not self.ready.done():
            self.ready.set_result(None)
        return taken

    def hear_reset(self, position: Position) -> bool:
        """The server tells a reset on the leg that counts. False: not one for now, or not yet, for it keeps its place
        behind an answer that is still on its way.
        """
        if self.state is State.LIVE:
            self.reset(position)
            return True
        if self.state is State.REQUESTED:
            self._last_held = position
            if len(self._held) < self._buffer_max:
                self._held.append(position)
        return False

    def reset(self, position: Position) -> None:
        """Some publications before `position` are lost; the reader is told when it gets there."""
        self.received = position
        self.resets += 1
        if self._buffer and isinstance(self._buffer[-1], Position):
            self._buffer.pop()  # two in a row are one loss; this also keeps the buffer within its bound
        self._buffer.append(position)
        self._wake.set()

    def ask(self) -> None:
        """It was named to the server, whose answer will come."""
        self.state = State.REQUESTED
        self._held.clear()
        self._last_held = None

    def end(self, error: HybridError | None = None) -> None:
        """No more will come. `error` None: it was asked to."""
        if self.state is State.ENDED:
            return
        self.state = State.ENDED
        self._error = error
        self._held.clear()
        if not self.ready.done():
            if error is not None:
                self.ready.set_exception(error)
                self.ready.exception()  # whoever waits for it gets it; nobody waiting is no reason for a warning
            else:
                self.ready.set_exception(ChannelError("not_subscribed"))
                self.ready.exception()
        self._wake.set()

    def _continues(self, publication: ReceivedPublication) -> bool:
        assert self.received is not None
        if self.received.is_start:
            return publication.offset == 1
        return publication.position.epoch == self.received.epoch and publication.offset == self.received.offset + 1

    def _take(self, publication: ReceivedPublication) -> None:
        self.received = publication.position
        self.failures = 0
        self._buffer.append(publication)
        self._wake.set()
