"""Where a reader goes on: the check of a position, and the choice of a start."""

from __future__ import annotations

import asyncio
import logging
from typing import Final, NamedTuple

from hybrid.engine.channel import Channel
from hybrid.engine.counts import BEGUN, RECOVERED, RESET
from hybrid.engine.ring import Reach
from hybrid.engine.wait import Wait
from hybrid.engine.wheel import rest
from hybrid.errors import BrokerError, UnrecoverablePosition
from hybrid.model import Position

_log = logging.getLogger(__name__)

RETRY_S: Final = 1.0
"""Between two attempts to read the log of a broker that cannot be reached."""


class Located(NamedTuple):
    """`position` is where delivery goes on from. `was_recovered` false: not the position asked for (a reset)."""

    position: Position
    was_recovered: bool


async def locate(channel: Channel, position: Position | None, history: int, wait: Wait | None = None) -> Located:
    """Choose the start of a reader on a channel that the caller holds; waits until it is HOT, and for the broker.

    `position` None: `history` publications back, or from now on. After `wait` was ended the answer means nothing.
    Cancel-safe: reads only.
    """
    wait = wait or Wait()
    while True:
        await channel.hot(wait)
        if wait.is_ended:
            return Located(channel.flushed, False)
        try:
            if position is None:
                located = Located(await _start(channel, history), True)
                outcome = BEGUN
            else:
                located = await _check(channel, position, wait)
                outcome = RECOVERED if located.was_recovered else RESET
            channel.shared.tally.recoveries[outcome] += 1
            return located
        except BrokerError as error:
            _log.warning("a position in channel %r waits for the broker: %s", channel.name, error)
            await rest(channel.shared.wheel, RETRY_S)


async def _start(channel: Channel, history: int) -> Position:
    flushed = channel.flushed
    if history <= 0 or flushed.offset == 0:
        return flushed
    wanted = max(0, flushed.offset - history)
    if wanted >= channel.ring.base.offset:
        return channel.ring.position_at(wanted)
    behind = min(history, channel.shared.limits.history_page_max)
    return await channel.shared.reads.start_of(channel.name, behind, flushed)


async def _check(channel: Channel, position: Position, wait: Wait) -> Located:
    reach = channel.ring.reach(position)
    if reach is Reach.FOREIGN:
        # The reader may come from a node that has heard more than this one, or from another life of the log that
        # this node has not noticed: ask the broker before saying that the reader is wrong.
        channel.gap()
        await channel.hot(wait)
        reach = channel.ring.reach(position)
    if reach is Reach.FOREIGN:
        return Located(channel.flushed, False)
    if reach is Reach.OLDER:
        try:
            await asyncio.shield(channel.shared.reads.page(channel.name, position, 1))
        except UnrecoverablePosition:
            return Located(channel.flushed, False)
    return Located(position, True)
