"""A channel's dealings with the broker: subscribing, reading its head, healing, letting go.

One task drives one channel from COLD to HOT, through a healing, or back to COLD and away; none stays while the channel
is HOT or lingers. A broker that cannot be reached is asked again after a growing, jittered pause on the timer wheel;
clients stay meanwhile, and everything heals when it is back. Where many channels may have missed something at once (a
reconnect), one task compares their heads in batches, and only channels that differ are read.

Live delivery can also fail without a sign, and on a quiet channel no later publication would show the hole. So every
channel that is followed has its head compared with the broker's now and then (`look`), without leaving HOT for it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from typing import Final

from hybrid.broker.base import Broker
from hybrid.engine.channel import Channel
from hybrid.engine.tasks import Tasks
from hybrid.engine.wheel import Wheel, rest
from hybrid.errors import BrokerError, UnrecoverablePosition
from hybrid.limits import Limits
from hybrid.model import Position
from hybrid.protocol.states import ChannelState

_log = logging.getLogger(__name__)

_COMPARED_AT_ONCE: Final = 256  # heads asked for in one call: a pipeline of some 10 KB
_IN_FLIGHT_S: Final = 1.0  # between two looks at a head that differs: by then, what is on its way has come
_PAUSE_MIN_S: Final = 0.25
_PAUSE_MAX_S: Final = 5.0  # a broker that comes back is noticed within it


class Pauses:
    """How long to wait before the broker is asked again: doubling, with half of it left to chance."""

    __slots__ = ("_pause_s",)

    def __init__(self) -> None:
        self._pause_s = _PAUSE_MIN_S

    def next_s(self) -> float:
        """The next pause, longer than the last one up to 5 s."""
        pause_s, self._pause_s = self._pause_s, min(self._pause_s * 2, _PAUSE_MAX_S)
        return pause_s * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """The broker has answered."""
        self._pause_s = _PAUSE_MIN_S


class BrokerUpkeep:
    """Implements `shared.Upkeep`. `forget` is called with a channel that has become COLD and is not wanted."""

    def __init__(
        self, broker: Broker, limits: Limits, wheel: Wheel, tasks: Tasks, forget: Callable[[Channel], None]
    ) -> None:
        self._broker = broker
        self._limits = limits
        self._wheel = wheel
        self._tasks = tasks
        self._forget = forget
        self._doubted: dict[Channel, None] = {}
        self._is_comparing = False
        self._is_looking = False

    def drive(self, channel: Channel) -> None:
        """See `shared.Upkeep.drive`."""
        if not channel.is_driven:
            channel.is_driven = self._tasks.spawn(self._drive(channel)) is not None

    def doubt(self, channel: Channel) -> None:
        """See `shared.Upkeep.doubt`."""
        if channel.is_driven:
            return  # it is being read anyway, and notices the doubt at the end
        self._doubted[channel] = None
        if not self._is_comparing:
            self._is_comparing = self._tasks.spawn(self._compare()) is not None

    def look(self, channels: Sequence[Channel]) -> None:
        """Find out which of these have missed something in silence, and heal them. Nothing while the last look goes on.

        A publication that is on its way is not missed: a head that differs counts only when the channel has not moved
        from one look to the next.
        """
        if not self._is_looking:
            self._is_looking = self._tasks.spawn(self._look(channels)) is not None

    async def _look(self, channels: Sequence[Channel]) -> None:
        try:
            suspects = await self._differing([(channel, channel.head) for channel in channels])
            if suspects:
                await rest(self._wheel, _IN_FLIGHT_S)
                before = dict(suspects)
                for channel, head in await self._differing([(channel, channel.head) for channel in before]):
                    if before[channel] == head:
                        _log.warning("channel %r has missed publications in silence and is healed", channel.name)
                        channel.gap()
        except BrokerError as error:
            _log.info("heads cannot be compared now: %s", error)
        finally:
            self._is_looking = False

    async def _differing(self, followed: list[tuple[Channel, Position]]) -> list[tuple[Channel, Position]]:
        """Those whose head is not the broker's, while nothing was received since; each with the head it has."""
        found = []
        for first in range(0, len(followed), _COMPARED_AT_ONCE):
            batch = [item for item in followed[first : first + _COMPARED_AT_ONCE] if item[0].is_followed]
            heads = await self._broker.heads([channel.name for channel, _ in batch])
            for (channel, head), now in zip(batch, heads, strict=True):
                if channel.is_followed and now != head and channel.head == head:
                    found.append((channel, head))
            await asyncio.sleep(0)  # a broker in memory answers at once, and 10,000 channels are no single turn
        return found

    async def _drive(self, channel: Channel) -> None:
        pauses = Pauses()
        try:
            while channel.state is not ChannelState.HOT and channel.state is not ChannelState.LINGERING:
                try:
                    is_gone = await self._step(channel)
                    pauses.reset()
                except Exception as error:
                    is_gone = await self._failed(channel, error, pauses)
                if is_gone:
                    return
        finally:
            channel.is_driven = False

    async def _step(self, channel: Channel) -> bool:
        """One step towards HOT or away; True when the channel is gone."""
        if channel.state is ChannelState.SUBSCRIBING:
            await self._broker.subscribe(channel.name)
            channel.acknowledged()
        elif channel.state is ChannelState.READING:
            (head,) = await self._broker.heads([channel.name])
            channel.head_read(head)
        elif channel.state is ChannelState.HEALING:
            await self._heal(channel)
        else:
            # Between an unsubscribe and the next subscribe of the same channel nothing else may come, so this task
            # does both, in order.
            await self._broker.unsubscribe(channel.name)
            return self._is_gone(channel)
        return False

    async def _failed(self, channel: Channel, error: Exception, pauses: Pauses) -> bool:
        """Whatever it was, the channel's readers stay and it is tried again. True when the channel is gone."""
        state = channel.state
        if state is ChannelState.COLD:
            # Nobody can be sure whether it was unsubscribed. What is delivered for a forgotten channel is ignored,
            # and the next subscribe is idempotent.
            _log.warning("channel %r could not be unsubscribed: %s", channel.name, error, exc_info=_trace(error))
            return self._is_gone(channel)
        text = "channel %r waits for the broker (%s): %s"
        _log.warning(text, channel.name, state.name, error, exc_info=_trace(error))
        await rest(self._wheel, pauses.next_s())
        if not channel.is_wanted and channel.state is not ChannelState.COLD:
            channel.expire()
        return False

    def _is_gone(self, channel: Channel) -> bool:
        """True when nobody has asked for the channel while it was being unsubscribed; it is forgotten then."""
        if channel.state is not ChannelState.COLD:
            return False
        self._forget(channel)
        return True

    async def _heal(self, channel: Channel) -> None:
        """Append what the log has after our head; where it cannot be continued, start anew from its head."""
        while True:
            channel.is_doubtful = False
            await self._settled(channel)
            # More than a page needs no flush in between, so that a long gap does not push out of the ring what was
            # not written yet.
            held = channel.held
            try:
                page = await self._broker.read(
                    channel.name,
                    channel.head,
                    limit=max(1, self._limits.recovery_page_max_bytes // 64),
                    max_bytes=self._limits.recovery_page_max_bytes,
                )
            except UnrecoverablePosition as error:
                _log.warning("the log of channel %r does not continue; its readers are reset", channel.name)
                channel.restart(error.head)
                channel.drop_held(held)
                break
            following = page.publications
            if following and following[0].offset != channel.head.offset + 1:
                channel.restart(page.head)
                break
            for publication in following:
                channel.append(publication)
            if channel.head == page.head and not channel.is_doubtful:
                channel.drop_held(held)
                break
            if not following and channel.head != page.head:
                channel.restart(page.head)
                break
        channel.healed()

    async def _settled(self, channel: Channel) -> None:
        """Wait until what was appended is written to the LIVE links."""
        while channel.flushed != channel.head:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            channel.watch(future)
            try:
                await future
            finally:
                channel.unwatch(future)

    async def _compare(self) -> None:
        pauses = Pauses()
        try:
            while self._doubted:
                batch = list(self._doubted)[:_COMPARED_AT_ONCE]
                for channel in batch:
                    del self._doubted[channel]
                    channel.is_doubtful = False
                held = [channel.held for channel in batch]
                try:
                    heads = await self._broker.heads([channel.name for channel in batch])
                except Exception as error:
                    text = "the heads of %d channels cannot be compared: %s"
                    _log.warning(text, len(batch), error, exc_info=_trace(error))
                    self._doubted.update(dict.fromkeys(batch))
                    await rest(self._wheel, pauses.next_s())
                    self._give_up_unwanted()
                    continue
                pauses.reset()
                for channel, head, count in zip(batch, heads, held, strict=True):
                    if channel.state is not ChannelState.HEALING or channel.is_driven or channel in self._doubted:
                        continue
                    if channel.head == head:
                        channel.drop_held(count)
                        channel.healed()
                    else:
                        # Also where a held one is that head: it need not follow ours, only the log tells.
                        self.drive(channel)
        finally:
            self._is_comparing = False

    def _give_up_unwanted(self) -> None:
        for channel in [channel for channel in self._doubted if not channel.is_wanted]:
            del self._doubted[channel]
            if channel.state is ChannelState.HEALING:
                channel.expire()
                self.drive(channel)


def _trace(error: Exception) -> Exception | None:
    """What to log beside the sentence: nothing for a broker that is away, everything for a fault of ours."""
    return None if isinstance(error, BrokerError) else error
