"""Long polls: what is there after some positions, or else a wait for the first of it.

A poll has no subscription and no link. It costs one future, registered with each of its channels, and whatever it is
answered with is read from the rings (or the broker's log), so a lost answer costs nothing: the next poll asks again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping, Set
from dataclasses import dataclass, field
from typing import Final

from hybrid.engine.channel import Channel
from hybrid.engine.counts import LOG_DIFFERS, TOO_OLD, UNWRITABLE
from hybrid.engine.encodings import Encoding
from hybrid.engine.feed import ChannelSource
from hybrid.engine.locate import RETRY_S
from hybrid.engine.ring import UNENCODABLE, Entry, Reach
from hybrid.engine.wait import Wait
from hybrid.errors import BrokerError, UnrecoverablePosition
from hybrid.model import Position
from hybrid.protocol.states import ChannelState

_log = logging.getLogger(__name__)

BROKER_RETRY_S: Final = 1.0
"""Told to a poll that the broker keeps from an answer: when to ask again."""
_NONE: Final[Set[str]] = frozenset()
_READY_MIN_S: Final = 2.0
"""Also a poll that will not wait for publications waits this long for the broker to tell the channel's head."""


@dataclass(slots=True)
class Collected:
    """What a poll is answered with.

    `payloads`: encoded publications, channel by channel, ascending offsets. `positions`: the new position of every
    channel that moved, resets included. `resets`: channels that cannot go on from where the poll was, and where they
    start anew.
    """

    payloads: list[bytes] = field(default_factory=list)
    positions: dict[str, Position] = field(default_factory=dict)
    resets: dict[str, Position] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.positions)


class Polls:
    """Answers polls; counts those that wait."""

    __slots__ = ("_first", "_source", "waiting")

    def __init__(self, source: ChannelSource) -> None:
        self._source = source
        self._first = 0
        self.waiting = 0

    def at_hand(
        self, positions: Mapping[str, Position], *, encoding: Encoding, max_bytes: int, may_be_empty: bool
    ) -> Collected | None:
        """What `collect` would answer, if that is known now: all channels are followed and their rings reach back.

        Most polls of a busy channel end here, without a future, a timer or a wait. None for all others.
        """
        channels: list[Channel] = []
        is_behind = False
        for name in self._turned(positions):
            channel, position = self._source.channel(name), positions[name]
            if not channel.is_followed:
                return None
            if position != channel.flushed:
                if channel.ring.reach(position) is not Reach.HELD:
                    return None
                is_behind = True
            channels.append(channel)
        if not is_behind and not may_be_empty:
            return None
        collected = Collected()
        room = max_bytes
        for channel in channels:
            offset = positions[channel.name].offset
            if room > 0 and offset < channel.flushed.offset:
                entries = channel.ring.after(offset, channel.flushed.offset, room)
                room -= _add(collected, channel, entries, encoding, room)
        if not collected and not may_be_empty:
            return None
        self._first += 1
        for channel in channels:
            channel.touch()
        return collected

    async def collect(
        self,
        positions: Mapping[str, Position],
        *,
        encoding: Encoding,
        wait_s: float,
        max_bytes: int,
        wait: Wait | None = None,
        max_s: float | None = None,
    ) -> Collected:
        """See `Hub.collect`."""
        loop = self._source.shared.loop
        channels = {name: self._source.channel(name) for name in positions}
        for channel in channels.values():
            channel.hold()
        self.waiting += 1
        until_s = None if max_s is None else loop.time() + max_s
        poll = _Poll(positions, channels, encoding, max_bytes, until_s, wait or Wait())
        poll.limit(loop, wait_s)
        try:
            while True:
                poll.watch(loop)
                is_idle = not poll.unsettled and poll.is_at_heads
                collected = None if is_idle else await self._gather(poll, loop)
                if poll.wait.is_ended or (not poll.unsettled and (collected or (poll.is_over and poll.is_ready))):
                    if poll.is_late and max_s is not None and not (collected or poll.is_ready):
                        # Who does not wait must not be told of nothing where nobody knows.
                        raise BrokerError(retry_after_s=BROKER_RETRY_S)
                    return collected or Collected()
                await poll.woken()
                if not poll.unsettled:
                    known = self.at_hand(positions, encoding=encoding, max_bytes=max_bytes, may_be_empty=False)
                    if known is not None:
                        return known
        except TimeoutError:
            raise BrokerError(retry_after_s=BROKER_RETRY_S) from None
        finally:
            poll.close()
            self.waiting -= 1
            for channel in channels.values():
                channel.release()

    async def _gather(self, poll: _Poll, loop: asyncio.AbstractEventLoop) -> Collected:
        collected = Collected()
        room = poll.max_bytes
        names = self._turned(poll.positions)
        self._first += 1
        for name in names:
            channel = poll.channels[name]
            if channel.state is ChannelState.HOT and (room > 0 or name in poll.unsettled):
                try:
                    room -= await self._gather_one(poll, channel, room, collected)
                except BrokerError as error:
                    _log.warning("a poll of channel %r waits for the broker: %s", name, error)
                    poll.again_in(loop, RETRY_S)
        return collected

    def _turned(self, positions: Mapping[str, Position]) -> list[str]:
        """Another channel comes first in every poll: a busy one must not fill all answers of its neighbours."""
        names = list(positions)
        if len(names) < 2:
            return names
        first = (self._first + 1) % len(names)
        return names[first:] + names[:first]

    async def _gather_one(self, poll: _Poll, channel: Channel, room: int, collected: Collected) -> int:
        """Add what a channel has after the poll's position to the answer; how many bytes that are."""
        position = poll.positions[channel.name]
        poll.settle(channel.name)
        if position == channel.flushed:
            return 0
        reach = channel.ring.reach(position)
        if reach is Reach.FOREIGN:
            if channel.name in poll.doubted:
                _reset(collected, channel, channel.flushed, LOG_DIFFERS)
            else:
                # As in `locate`: perhaps it is this node that has missed something. HOT again, it wakes the poll.
                poll.doubt(channel.name)
                channel.gap()
            return 0
        if position.offset >= channel.flushed.offset:
            return 0
        entries = await self._entries(poll, channel, position, reach, room)
        if entries is None:
            _reset(collected, channel, channel.flushed, TOO_OLD)
            return 0
        return _add(collected, channel, entries, poll.encoding, room)

    async def _entries(
        self, poll: _Poll, channel: Channel, position: Position, reach: Reach, room: int
    ) -> list[Entry] | None:
        """What follows, up to `flushed`; None if the log does not continue there. Raises TimeoutError."""
        if reach is Reach.HELD:
            return channel.ring.after(position.offset, channel.flushed.offset, room)
        shared = self._source.shared
        max_bytes = min(room, shared.limits.recovery_page_max_bytes)
        try:
            async with asyncio.timeout_at(poll.until_s):  # all else that a poll waits for ends with its wait
                page = await asyncio.shield(shared.reads.page(channel.name, position, max_bytes))
        except UnrecoverablePosition:
            return None
        flushed = channel.flushed
        return [
            entry
            for entry in page.entries
            if entry.publication.offset <= flushed.offset and entry.publication.epoch == flushed.epoch
        ]


class _Poll:
    """One poll: what it asks for, the channels whose heads were compared for it, and what it waits for.

    That is a flush of one of its channels, a channel that becomes HOT, or its end.
    """

    __slots__ = (
        "_timers",
        "channels",
        "doubted",
        "encoding",
        "is_late",
        "is_over",
        "max_bytes",
        "positions",
        "unsettled",
        "until_s",
        "wait",
    )

    def __init__(
        self,
        positions: Mapping[str, Position],
        channels: Mapping[str, Channel],
        encoding: Encoding,
        max_bytes: int,
        until_s: float | None,
        wait: Wait,
    ) -> None:
        """It waits for a broker no longer than `until_s`, on the loop's clock. `wait` is ended to end it."""
        self.positions = positions
        self.channels = channels
        self.encoding = encoding
        self.max_bytes = max_bytes
        self.until_s = until_s
        self.wait = wait
        self.doubted: Set[str] = _NONE
        self.unsettled: Set[str] = _NONE
        """Of these, the ones that have not been looked at since: it is not known whether a position is wrong. A reset
        must not wait behind busier channels."""
        self.is_over = False  # its time is over, but it may wait for the broker
        self.is_late = False  # its time is over for good, and it was none
        self._timers: list[asyncio.TimerHandle] = []

    @property
    def is_at_heads(self) -> bool:
        """True when there is nothing to gather: of no channel is there anything behind its position."""
        for name, channel in self.channels.items():
            if channel.state is not ChannelState.HOT or channel.flushed != self.positions[name]:
                return False
        return True

    @property
    def is_ready(self) -> bool:
        """True when "there is nothing" can be said of all channels."""
        return all(channel.state is ChannelState.HOT for channel in self.channels.values())

    def doubt(self, name: str) -> None:
        """A channel's head is compared with the broker's now."""
        self.doubted |= {name}
        self.unsettled |= {name}

    def settle(self, name: str) -> None:
        """It is looked at."""
        if self.unsettled:
            self.unsettled -= {name}

    def limit(self, loop: asyncio.AbstractEventLoop, wait_s: float) -> None:
        """End it after its time; where that is very short, wait a little longer if a channel is not ready."""
        if wait_s < _READY_MIN_S:
            self.is_over = wait_s <= 0
            if self.is_over:
                self._timers.append(loop.call_later(_READY_MIN_S, self._patience_is_over))
                return
            self._timers.append(loop.call_later(wait_s, self._time_is_over))
            wait_s = _READY_MIN_S
        self._timers.append(loop.call_later(wait_s, self.wait.end))

    def again_in(self, loop: asyncio.AbstractEventLoop, delay_s: float) -> None:
        """Look again after a while even if nothing happens."""
        self._timers.append(loop.call_later(delay_s, self.wait.resolve))

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Notice what happens from now on."""
        self._forget()
        future = self.wait.future = loop.create_future()
        for channel in self.channels.values():
            channel.watch(future)

    def woken(self) -> Awaitable[None]:
        """What to await until something has happened since `watch`."""
        assert self.wait.future is not None
        return self.wait.future

    def close(self) -> None:
        """Nobody waits any more."""
        self._forget()
        for timer in self._timers:
            timer.cancel()

    def _patience_is_over(self) -> None:
        self.is_late = not self.wait.is_ended
        self.wait.end()

    def _time_is_over(self) -> None:
        self.is_over = True
        self.wait.resolve()

    def _forget(self) -> None:
        future, self.wait.future = self.wait.future, None
        if future is not None:
            for channel in self.channels.values():
                channel.unwatch(future)


def _add(collected: Collected, channel: Channel, entries: list[Entry], encoding: Encoding, room: int) -> int:
    """Add what follows a poll's position, payloads of at most `room` bytes but at least one; how many that are."""
    size = 0
    last: Entry | None = None
    for entry in entries:
        payload = entry.payload(encoding)
        if payload == UNENCODABLE:
            if not size:
                _reset(collected, channel, entry.publication.position, UNWRITABLE)
            break
        if collected.payloads and size + len(payload) > room:
            break
        size += len(payload)
        collected.payloads.append(payload)
        last = entry
    if last is not None:
        collected.positions[channel.name] = last.publication.position
    return size


def _reset(collected: Collected, channel: Channel, position: Position, reason: str) -> None:
    channel.shared.tally.resets[reason] += 1
    collected.resets[channel.name] = collected.positions[channel.name] = position
