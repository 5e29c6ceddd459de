"""What delivery counts, and how often it measures."""

from __future__ import annotations

import asyncio

from hybrid.engine.counts import SAMPLE_EVERY_S
from hybrid.engine.encodings import SESSION_JSON
from tests.support.hubs import staged
from tests.support.links import Reader
from tests.support.virtual_time import in_virtual_time


@in_virtual_time
async def test_every_flush_is_counted_and_one_in_a_while_is_measured() -> None:
    async with staged() as stage:
        tally = stage.hub.shared.tally
        names = [f"c{number}" for number in range(20)]
        for name in names:
            for _ in range(3):
                await Reader(stage.hub, SESSION_JSON).follow(name)
        for name in names:
            stage.publish(channel=name)
        assert (tally.flushes, tally.publications, tally.deliveries) == (20, 20, 60)
        assert (sum(tally.flush_links.counts), tally.flush_links.total) == (1, 3)
        await asyncio.sleep(SAMPLE_EVERY_S)
        for _ in range(5):
            stage.publish(channel=names[0])  # the first at once, the others together behind the interval
        await asyncio.sleep(stage.limits.flush_interval_s)
        assert (tally.flushes, tally.publications, tally.deliveries) == (22, 25, 75)
        assert (sum(tally.flush_publications.counts), tally.flush_publications.total) == (2, 2)
        assert sum(tally.write_us.counts) == 2
        assert tally.bytes > 75 * 50


@in_virtual_time
async def test_what_waited_for_its_flush_is_measured_from_its_arrival() -> None:
    async with staged() as stage:
        await Reader(stage.hub, SESSION_JSON).follow("a")
        stage.publish()
        tally = stage.hub.shared.tally
        tally.sample_from_s = 0.0
        stage.publish(3)
        await asyncio.sleep(stage.limits.flush_interval_s)
        assert tally.flush_publications.total == 1 + 3
        assert abs(tally.write_us.total - stage.limits.flush_interval_s * 1e6) <= 1
