"""Peers that waste a server's time leave nothing behind: a few of each kind at once; a thousand in `make silent`."""

from __future__ import annotations

import asyncio
import os

import pytest

from tests.silent.__main__ import OBJECTS_SLACK, Row, Server, run, server, visit
from tests.silent.peers import PEERS

FEW = 12
PATIENCE_S = 2.0


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors are counted in /proc")
def test_a_few_of_each_kind_at_once_leave_nothing_behind() -> None:
    async def scenario() -> None:
        async with server() as here:
            # Once for what libraries import and keep, then counted.
            await visits(here)
            await asyncio.sleep(2.5)  # a session is kept for 2 s
            old_descriptors, old_objects = here.descriptors(), await here.objects()
            await visits(here)
            for _ in range(20):  # what ends late on a busy machine has ended then, and what stays is still there
                await asyncio.sleep(1.0)
                descriptors, objects = here.descriptors(), await here.objects()
                if descriptors <= old_descriptors and objects <= old_objects + OBJECTS_SLACK:
                    return
            raise AssertionError((old_descriptors, descriptors, old_objects, objects))

    async def visits(here: Server) -> None:
        await asyncio.gather(*(visit(here, peer, FEW, PATIENCE_S) for peer in PEERS))

    asyncio.run(scenario())


def test_who_was_not_ended_in_time_is_seen() -> None:
    peer = next(peer for peer in PEERS if peer.ends_within_s == 8)
    assert Row(peer, 10, 10, 7.9, 0, 0, 0, 0).is_ended
    assert not Row(peer, 10, 9, 7.9, 0, 0, 0, 0).is_ended
    assert not Row(peer, 10, 10, 8.1, 0, 0, 0, 0).is_ended
    patient = next(peer for peer in PEERS if peer.ends_within_s is None)
    assert Row(patient, 10, 0, 0.0, 0, 0, 0, 0).is_ended


@pytest.mark.slow
def test_a_hundred_of_each_kind() -> None:
    assert asyncio.run(run(100, 2, PEERS))
