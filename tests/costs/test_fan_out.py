"""What a publication costs on its way to its readers, counted in calls: the same on every machine and every Python.

The figures are those of today, name by name, so that whatever is added to the hot path fails here. Who adds something
on purpose changes the figure, and says why in the same commit.
"""

from __future__ import annotations

import asyncio
import sys
import tracemalloc
from collections import Counter
from typing import Final

import pytest

from hybrid.limits import Limits
from tests.costs.counting import Calls, counted, each, traced
from tests.costs.party import CHANNEL, DATA, KINDS, flushed_at_once, flushed_together, join, made, steps_at_once, warmed
from tests.support.hubs import Stage, staged
from tests.support.virtual_time import in_virtual_time

A_DELIVERY: Final = {
    "hybrid.links.handoff._HandedOff.write": 1,
    "tests.costs.party.Wire.is_closing": 1,
    "tests.costs.party.Wire.write": 1,
}
"""All there is for each client, whatever the number of publications in the flush. In C: nothing."""

A_PUBLICATION: Final = {
    "engine.channel.Channel._flush_soon": 1,
    "engine.channel.Channel.append": 1,
    "engine.channel.Channel.receive": 1,
    "engine.hub.Hub.published": 1,
    "engine.ring.Entry.__init__": 1,
    "engine.ring.Ring.append": 1,
    "engine.ring.Ring.oldest_s": 1,
    "engine.ring.Rings.entered": 1,
    "engine.ring.Rings.trim": 1,
    "model.Publication.position": 1,
}
"""For each publication, whoever listens."""

AN_ENCODED_PUBLICATION: Final = {"engine.ring.Entry.payload": 1, "engine.ring.Ring.grew": 1}
"""For each publication and encoding that is listened to, with what the encoding does:"""

ENCODINGS: Final = {
    "websocket": {"protocol.publications.session_json": 1, "protocol.publications.wire_publication": 1},
    "websocket-msgpack": {
        "protocol.data.to_msgpack": 1,
        "protocol.publications.session_msgpack": 1,
        "protocol.publications.wire_publication": 1,
        "protocol.publications.wire_publication_msgpack": 1,
    },
    "sse": {
        "protocol.publications.session_event": 1,
        "protocol.publications.session_json": 1,
        "protocol.publications.wire_publication": 1,
    },
    "plain-websocket": {"protocol.publications.plain_json": 1, "protocol.publications.wire_publication": 1},
    "plain-sse": {"protocol.publications.plain_event": 1},
}

A_FLUSH: Final = {
    "engine.bundle.Bundles.admits": 1,
    "engine.bundle.Bundles.ended": 1,
    "engine.channel.Channel._flush_due": 1,
    "engine.channel.Channel._flushed_to": 1,
    "engine.channel.Channel._plan": 1,
    "engine.channel.Channel._thaw": 1,
    "engine.channel.Channel._wake_joiners": 1,
    "engine.channel.Channel._wake_watchers": 1,
    "engine.channel.Channel.fan_out_ended": 1,
    "engine.channel.Channel.flush": 1,
    "engine.channel.Channel.flush_admitted": 1,
    "engine.channel.Channel.head": 2,
    "engine.fanout.FanOut.__init__": 1,
    "engine.fanout.FanOut.step": 1,
    "engine.ring.Ring.after": 1,
    "model.Publication.position": 1,
}
"""For each flush, whatever it holds and whoever gets it. A hundred a second are measured, these are not."""

A_GROUP: Final = {
    "engine.channel.Channel._payloads": 1,
    "engine.encodings.Encoding.payloads": 1,
    "engine.fanout.FanOut._write": 1,
    "engine.live.Group.thaw": 1,
}
"""For each flush and group of links that are written the same bytes, with their framing:"""

FRAMINGS: Final = {
    "websocket": {"links.framing._frames": 1, "links.framing.websocket_text": 1},
    "websocket-msgpack": {"links.framing._frames": 1, "links.framing.websocket_binary": 1},
    "sse": {"links.framing.event_stream_chunked": 1},
    "plain-websocket": {"links.framing._frames": 1, "links.framing.websocket_text": 1},
    "plain-sse": {"links.framing.event_stream_chunked": 1},
}

A_CATCH_UP: Final = {
    "engine.feed.Feed._payload": 1,
    "engine.ring.Entry.payload": 1,
    "model.Publication.position": 1,
}
"""For each client that was away and each publication that it missed, as long as the ring has it."""


@pytest.mark.parametrize("kind", KINDS)
@in_virtual_time
async def test_a_delivery_is_one_write(kind: str) -> None:
    async with staged() as stage:
        await join(stage, 100, kind)
        fewer = await flushed_at_once(stage)
        await join(stage, 100, kind)
        more = await flushed_at_once(stage)
        assert each(more.python, fewer.python, 100) == A_DELIVERY
        assert each(more.c, fewer.c, 100) == {}


@pytest.mark.parametrize("kind", KINDS)
@in_virtual_time
async def test_the_work_for_a_publication_does_not_know_the_clients(kind: str) -> None:
    async with staged() as stage:
        await join(stage, 100, kind)
        fewer, more = await flushed_together(stage, 10), await flushed_together(stage, 20)
        assert each(more.ours, fewer.ours, 10) == _sum(A_PUBLICATION, AN_ENCODED_PUBLICATION, ENCODINGS[kind])


@pytest.mark.parametrize("kind", KINDS)
@in_virtual_time
async def test_a_flush_costs_the_same_whatever_it_holds(kind: str) -> None:
    async with staged() as stage:
        await join(stage, 100, kind)
        calls = (await flushed_together(stage, 10)).ours
        publications = _sum(A_PUBLICATION, AN_ENCODED_PUBLICATION, ENCODINGS[kind])
        writes = {"links.handoff._HandedOff.write": 100}
        left = Counter(calls)
        left.subtract({name: 10 * count for name, count in publications.items()})
        left.subtract(writes)
        assert dict(sorted((+left).items())) == _sum(A_FLUSH, A_GROUP, FRAMINGS[kind])


@in_virtual_time
async def test_every_encoding_that_is_listened_to_is_made_once_for_all() -> None:
    async with staged() as stage:
        for kind in KINDS:
            await join(stage, 40, kind)
        calls = await flushed_together(stage, 10)
        for encoding in ("session_msgpack", "session_event", "plain_json", "plain_event"):
            assert calls.of(f"publications.{encoding}") == 10, encoding
        assert calls.of("publications.session_json") == 20, "that of WebSockets, and that inside of events"
        assert calls.of("_HandedOff.write") == calls.of("Wire.write") == 40 * len(KINDS)
        assert calls.of("framing._frames") == 3
        assert calls.of("framing.event_stream_chunked") == 2


@in_virtual_time
async def test_nobody_who_does_not_listen_costs_anything() -> None:
    """A channel without readers here, and readers of this one who are too slow for it now."""
    async with staged() as stage:
        guests = await join(stage, 50)
        alone = await flushed_at_once(stage)
        slow = await join(stage, 50)
        for guest in slow:
            guest.link.pause_writing()
        assert (await flushed_at_once(stage)).python == alone.python
        for guest in guests + slow:
            guest.link.connection_lost(None)
        unheard = (await flushed_at_once(stage)).ours
        assert unheard.total() < sum(A_PUBLICATION.values()) + 10
        assert unheard["engine.fanout.FanOut.__init__"] == 0


@pytest.mark.parametrize("kept", [0, 5_000])
@pytest.mark.parametrize("others", [0, 300])
@in_virtual_time
async def test_a_publication_costs_the_same_beside_many_channels_and_behind_a_long_history(
    kept: int, others: int
) -> None:
    alone = await _in_a_crowd(0, 0)
    assert await _in_a_crowd(kept, others) == alone


async def _in_a_crowd(kept: int, others: int) -> tuple[Counter[str], int]:
    async with staged(Limits(ring_max_bytes=2**30)) as stage:
        await join(stage, 10)
        for number in range(others):
            await join(stage, 1, channel=f"other:{number}")
        stage.broker.history_size = 0  # it copies its list at every publication
        for _ in range(kept):
            stage.publish(channel=CHANNEL)
        return (await flushed_at_once(stage)).python, await steps_at_once(stage)


@pytest.mark.parametrize("kind", KINDS)
@in_virtual_time
async def test_all_clients_are_given_the_same_object(kind: str) -> None:
    async with staged() as stage:
        guests = await join(stage, 200, kind)
        await flushed_together(stage, 10)
        assert len({id(guest.wire.last) for guest in guests}) == 1


@pytest.mark.parametrize("kind", KINDS)
@in_virtual_time
async def test_no_memory_is_taken_for_a_delivery(kind: str) -> None:
    """Neither for a moment nor for longer. Up to 250 clients, because larger whole numbers are objects in CPython."""
    async with staged() as stage:
        await join(stage, 50, kind)
        fewer_bytes, fewer_blocks = await _memory(stage)
        await join(stage, 200, kind)
        more_bytes, more_blocks = await _memory(stage)
        assert more_blocks == fewer_blocks
        assert more_bytes - fewer_bytes < 200 * _POINTER_BYTES / 2, "but for the lists that happen to grow"


_POINTER_BYTES: Final = 8


async def _memory(stage: Stage) -> tuple[int, int]:
    """The most bytes that a flush had at a time, and the blocks that it left; once what happens only once is over."""
    for _ in range(3):
        await warmed(stage)
    first, second = made(stage, 2)
    with traced():
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        stage.hub.published(first)
        _, most = tracemalloc.get_traced_memory()
    await asyncio.sleep(1.1)
    blocks = sys.getallocatedblocks()
    stage.hub.published(second)
    return most - before, sys.getallocatedblocks() - blocks


@pytest.mark.parametrize("kind", KINDS)
@in_virtual_time
async def test_who_comes_back_costs_no_encoding_and_no_read(kind: str) -> None:
    async with staged() as stage:
        await join(stage, 1, kind)
        fewer, more = await _come_back(stage, kind, 10), await _come_back(stage, kind, 20)
        assert each(more.ours, fewer.ours, 5 * 10) == A_CATCH_UP
        assert not any(call.startswith("read") for call in stage.broker.calls)


async def _come_back(stage: Stage, kind: str, missed: int) -> Calls:
    """Five clients come back, each behind so many publications that somebody else has had."""
    await warmed(stage)
    position = stage.channel(CHANNEL).head
    stage.publish(missed, CHANNEL, DATA)
    await warmed(stage)
    with counted() as calls:
        await join(stage, 5, kind, position=position)
    return calls


def _sum(*parts: dict[str, int]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return dict(sorted(total.items()))
