"""A look at all that is open: who is connected and how, who is behind and by how much.

Sessions and streams keep no counts of this, which would have to be right at every turn of their lives: it is counted
when somebody asks. That takes a millisecond or two for a thousand clients, so it is done in slices of time between
which the event loop serves everybody else. What comes and goes meanwhile may be counted or not.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from hybrid.engine.counts import CHANNELS, SESSION
from hybrid.engine.feed import Feed
from hybrid.engine.leg import StreamLeg
from hybrid.engine.plain import PlainStream
from hybrid.engine.polled import PolledLeg
from hybrid.protocol.states import LegState, SessionState, SubscriptionState

if TYPE_CHECKING:
    from hybrid.engine.engine import Engine

CONNECTING, CANDIDATE, CATCHING_UP, LIVE, SLOW = "connecting", "candidate", "catching_up", "live", "slow"
STATES: Final = (CONNECTING, CANDIDATE, CATCHING_UP, LIVE, SLOW)
"""Of a stream: nobody has attached, or its start is being found; attached and not confirmed; reads the log; gets every
publication as it comes; does not take what it is sent, and is sent nothing more until it does."""
NOTHING: Final = "none"
"""The transport of a session that has no leg now."""
SLICE_S: Final = 0.002
"""For so long a survey keeps the event loop to itself, as a pass over revoked sessions does."""
_AT_ONCE: Final = 64  # things between two looks at the clock

_Thing = TypeVar("_Thing")


class Survey:
    """What was found. `state` is one of `STATES`, `kind` one of `counts`."""

    def __init__(self) -> None:
        self.streams: Counter[tuple[str, str, str]] = Counter()
        """By (transport, kind, state)."""
        self.sessions: Counter[tuple[str, str]] = Counter()
        """By (state, transport)."""
        self.channels: Counter[str] = Counter()
        """By state."""
        self.subscriptions: Counter[str] = Counter()
        """Of streams, by state."""
        self.polled = 0
        """Subscriptions of sessions that poll."""
        self.behind = 0
        """Publications that are in the logs and not written to those who are not LIVE: the sum over subscriptions."""
        self.behind_max = 0
        self.buffered_bytes = 0
        """Written to links and not taken by the system yet."""
        self.buffered_max_bytes = 0

    def see_stream(self, stream: object) -> None:
        """Count a stream."""
        if isinstance(stream, StreamLeg):
            self.streams[stream.transport, SESSION, self._state(stream.feed, stream)] += 1
        elif isinstance(stream, PlainStream):
            self.streams[stream.transport, CHANNELS, self._state(stream.feed)] += 1
        else:
            return
        buffered = stream.link.buffered()
        self.buffered_bytes += buffered
        self.buffered_max_bytes = max(self.buffered_max_bytes, buffered)

    def _state(self, feed: Feed | None, leg: StreamLeg | None = None) -> str:
        if leg is not None and leg.state is LegState.CANDIDATE and leg.runner is not None:
            return CANDIDATE
        if feed is None:
            return CONNECTING
        is_live = True
        for subscription in feed.subscriptions:
            state = subscription.state
            self.subscriptions[state.name.lower()] += 1
            if state is SubscriptionState.LIVE:
                continue
            is_live = False
            position, head = subscription.position, subscription.channel.head
            if position is not None and (position.epoch == head.epoch or position.offset == 0):
                behind = max(0, head.offset - position.offset)
                self.behind += behind
                self.behind_max = max(self.behind_max, behind)
        if feed.is_paused:
            return SLOW
        return LIVE if is_live else CATCHING_UP


async def survey(engine: Engine) -> Survey:
    """Look at all streams, sessions and channels of a process. Cancel-safe."""
    found = Survey()
    async for stream in _in_slices(engine.open.streams()):
        found.see_stream(stream)
    async for runner in _in_slices(engine.registry.runners()):
        session = runner.session
        if session.state is not SessionState.CLOSED:
            current = session.current
            transport = current.transport if isinstance(current, StreamLeg | PolledLeg) else NOTHING
            found.sessions[session.state.name.lower(), transport] += 1
            if isinstance(current, PolledLeg):
                found.polled += len(runner.channels())
    async for channel in _in_slices(engine.hub.channels()):
        found.channels[channel.state.name.lower()] += 1
    return found


async def _in_slices(things: Sequence[_Thing]) -> AsyncIterator[_Thing]:
    """The same things, with turns of the event loop in between."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + SLICE_S
    for place, thing in enumerate(things, 1):
        yield thing
        if place % _AT_ONCE == 0 and loop.time() >= until_s:
            await asyncio.sleep(0)
            until_s = loop.time() + SLICE_S
