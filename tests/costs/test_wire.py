"""What goes over the wire for a delivery: bytes, writes, system calls."""

from __future__ import annotations

import asyncio
import os
from typing import Final

import pytest

from hybrid.web import launcher
from tests.costs.counting import Calls, counted, each, system_writes
from tests.costs.guests import CARRIED, guests, publish
from tests.costs.party import CHANNEL, DATA, KINDS, flushed_at_once, flushed_together, join
from tests.support.hubs import staged
from tests.support.server import running_server, settings_for
from tests.support.virtual_time import in_virtual_time

ON_THE_WIRE: Final = {
    "websocket": (98, 98),
    "websocket-msgpack": (77, 77),
    "sse": (102, 108),
    "plain-websocket": (82, 82),
    "plain-sse": (31, 37),
}
"""Bytes of a publication beside its 128 of data: each further one of a flush, and one alone, with what frames a flush.

Of a channel whose name has 10 letters, with an epoch of 5 and an offset of 3 digits; the tag has 8.
"""


@pytest.mark.parametrize("kind", KINDS)
@in_virtual_time
async def test_a_publication_has_so_many_bytes_beside_its_data(kind: str) -> None:
    async with staged() as stage:
        stage.publish(300, CHANNEL)
        (guest,) = await join(stage, 1, kind)
        await flushed_at_once(stage)
        alone = len(guest.wire.last) - len(DATA)
        await flushed_together(stage, 5)
        five = len(guest.wire.last)
        await flushed_together(stage, 10)
        each_bytes = (len(guest.wire.last) - five) / 5 - len(DATA)
        assert (each_bytes, alone) == ON_THE_WIRE[kind]


@pytest.mark.parametrize("kind", KINDS)
@in_virtual_time
async def test_what_gathers_is_one_write_for_each_client(kind: str) -> None:
    async with staged() as stage:
        party = await join(stage, 20, kind)
        await flushed_at_once(stage)
        before = [guest.wire.writes for guest in party]
        calls = await flushed_together(stage, 50)
        assert calls.of("Wire.write") == 20
        # The first one, on which the others wait, has left alone; and so has the one that warmed.
        assert [guest.wire.writes - writes for guest, writes in zip(party, before, strict=True)] == [3] * 20


@pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="writes are counted in /proc/self/io, on Linux")
@pytest.mark.parametrize("kind", CARRIED)
def test_a_delivery_is_one_system_call(kind: str) -> None:
    """Of a whole server on uvloop, which writes by write(2)."""
    launcher.run(lambda: _system_calls(kind), "uvloop")


async def _system_calls(kind: str) -> None:
    async with running_server(settings_for()) as server:
        with guests(server, kind) as listening:
            for count in (10, 30):
                await listening.come(count - len(listening.sockets))
                await listening.settled()
                for publications in (1, 20):
                    flushes = server.engine.hub.stats().flushes
                    before = system_writes()
                    await publish(server, publications)
                    got_bytes = await listening.received(publications)
                    calls, size = (now - then for now, then in zip(system_writes(), before, strict=True))
                    flushes = server.engine.hub.stats().flushes - flushes
                    assert publications == 1 or flushes < publications, "they gather, unless the machine sleeps"
                    assert calls == flushes * count
                    assert size == got_bytes, "nothing else is written"


ON_ASYNCIO: Final = {
    "asyncio.selector_events._SelectorSocketTransport.write": 1,
    "asyncio.selector_events._SelectorTransport.is_closing": 1,
    "hybrid.links.handoff._HandedOff.write": 1,
}


@pytest.mark.parametrize("kind", CARRIED)
def test_a_delivery_is_one_send_on_asyncio(kind: str) -> None:
    """Of a whole server on asyncio, whose transports are Python, so that all is seen down to the system call."""
    launcher.run(lambda: _sends(kind), "asyncio")


async def _sends(kind: str) -> None:
    async with running_server(settings_for()) as server:
        with guests(server, kind) as listening:
            found: list[Calls] = []
            for count in (10, 30):
                await listening.come(count - len(listening.sockets))
                await listening.settled()
                await publish(server)
                await listening.received(1)
                await asyncio.sleep(2 * server.engine.limits.flush_interval_s)
                with counted() as calls:
                    await publish(server)
                await listening.received(1)
                found.append(calls)
            assert each(found[1].python, found[0].python, 20) == ON_ASYNCIO
            assert each(found[1].c, found[0].c, 20)["socket.send"] == 1
            assert found[1].c["socket.send"] == 30
