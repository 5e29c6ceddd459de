"""Readers of a channel as the engine has them: the real hub, feeds and links, over wires that lead nowhere.

In virtual time, so that what is flushed together is the test's choice and every count comes out the same.
"""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

from hybrid.engine.encodings import (
    PLAIN_EVENT,
    PLAIN_JSON,
    SESSION_EVENT,
    SESSION_JSON,
    SESSION_MSGPACK,
    Encoding,
)
from hybrid.engine.hub import Hub
from hybrid.limits import Limits
from hybrid.links.handoff import HandedOffEventStream, HandedOffWebSocket
from hybrid.model import Position, Publication
from tests.costs.counting import Calls, counted, stepped
from tests.support.hubs import Stage
from tests.support.virtual_time import clock

CHANNEL: Final = "bench:room"
DATA: Final = b'"' + b"x" * 126 + b'"'
"""128 bytes, as everywhere in the figures."""


class Kind(NamedTuple):
    """A way to be carried: what a publication is written as, and the link."""

    encoding: Encoding
    is_stream: bool = False
    is_binary: bool = False


KINDS: Final = {
    "websocket": Kind(SESSION_JSON),
    "websocket-msgpack": Kind(SESSION_MSGPACK, is_binary=True),
    "sse": Kind(SESSION_EVENT, is_stream=True),
    "plain-websocket": Kind(PLAIN_JSON),
    "plain-sse": Kind(PLAIN_EVENT, is_stream=True),
}


class Wire:
    """As much of an asyncio transport as a link uses; it takes everything at once and keeps the last write."""

    __slots__ = ("last", "writes")

    def __init__(self) -> None:
        self.last = b""
        self.writes = 0

    def write(self, data: bytes) -> None:
        self.last = data
        self.writes += 1

    def get_extra_info(self, name: str) -> None: ...

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None: ...

    def resume_reading(self) -> None: ...


class Guest:
    """One reader. Owns its link (`LinkOwner`) and hears its feed (`FeedEvents`), as a leg does."""

    def __init__(self, hub: Hub, kind: Kind, limits: Limits) -> None:
        self.wire = Wire()
        self.link: HandedOffWebSocket | HandedOffEventStream
        if kind.is_stream:
            self.link = HandedOffEventStream(owner=self, is_chunked=True, limits=limits, clock=clock(), client=None)
        else:
            self.link = HandedOffWebSocket(
                owner=self, is_binary=kind.is_binary, limits=limits, clock=clock(), message_max_bytes=1, client=None
            )
        self.link.start(self.wire, b"", b"", False)  # type: ignore[arg-type]  # as much of one as is needed
        self.feed = hub.feed(self.link, kind.encoding, self)

    async def follow(self, channel: str, position: Position | None = None) -> None:
        await self.feed.add(channel, position)
        self.feed.start([channel])

    def link_received(self, message: bytes, is_text: bool) -> None: ...

    def link_paused(self) -> None:
        self.feed.link_paused()

    def link_resumed(self) -> None:
        self.feed.link_resumed()

    def link_closed(self, code: int, reason: str) -> None:
        self.feed.close()

    def feed_reset(self, channel: str, position: Position) -> None:
        raise AssertionError("nothing was lost")

    def feed_fell_behind(self, channel: str) -> bool:
        raise AssertionError("nobody is slow")


async def join(
    stage: Stage, count: int, kind: str = "websocket", channel: str = CHANNEL, position: Position | None = None
) -> list[Guest]:
    """So many more readers of a channel."""
    guests = [Guest(stage.hub, KINDS[kind], stage.limits) for _ in range(count)]
    for guest in guests:
        await guest.follow(channel, position)
    return guests


def made(stage: Stage, count: int = 1) -> list[Publication]:
    """Publications that are in the log and have not been announced yet: the broker's work is done, ours begins."""
    stage.broker.lost_announcements = count
    return [stage.broker.publish(CHANNEL, DATA) for _ in range(count)]


async def warmed(stage: Stage) -> None:
    """What happens once only has happened, and everything is written, long ago; the timer wheel has just turned."""
    stage.publish(channel=CHANNEL, data=DATA)
    await asyncio.sleep(1.1)


async def flushed_at_once(stage: Stage) -> Calls:
    """The calls of one publication on a quiet channel, from the broker's word to the last write."""
    await warmed(stage)
    (publication,) = made(stage)
    with counted() as calls:
        stage.hub.published(publication)
    return calls


async def steps_at_once(stage: Stage) -> int:
    """The lines of code that run for one publication on a quiet channel."""
    await warmed(stage)
    (publication,) = made(stage)
    with stepped() as steps:
        stage.hub.published(publication)
    return steps.lines


async def flushed_together(stage: Stage, count: int) -> Calls:
    """The calls of so many publications that leave in one flush, with that flush."""
    await warmed(stage)
    stage.publish(channel=CHANNEL, data=DATA)  # flushes now, so that the next ones gather
    publications = made(stage, count)
    with counted() as calls:
        for publication in publications:
            stage.hub.published(publication)
        await asyncio.sleep(2 * stage.limits.flush_interval_s)
    return calls
