"""Two snapshots as what goes on between them."""

from __future__ import annotations

import math

import pytest

from hybrid.top.figures import Count, compare, percentile
from hybrid.top.reading import Reading
from hybrid.top.snapshot import Channels, Server, Trouble
from tests.unit.top.told import buckets, channel, node, snapshot, worker


def test_rates_are_by_the_time_that_passed_and_added_up() -> None:
    before = snapshot(10.0, worker("1", deliveries=1_000), worker("2", deliveries=0))
    now = snapshot(14.0, worker("1", deliveries=2_000), worker("2", deliveries=400))
    figures = compare(before, now)
    assert figures.interval_s == 4.0
    assert (figures.deliveries_per_s, figures.publications_per_s) == (350.0, 3.5)
    assert [one.deliveries_per_s for one in figures.workers] == [250.0, 100.0]
    assert figures.workers[0].cpu == pytest.approx(0.025)
    assert figures.clients == {"websocket": 200, "sse": 40, "longpoll": 6}
    assert figures.room == 30_000


def test_a_first_look_has_no_rates() -> None:
    figures = compare(None, snapshot(10.0, worker(deliveries=1_000), channels=Channels((channel("a", 1, 5),), 1)))
    assert (figures.deliveries_per_s, figures.interval_s, figures.workers[0].cpu) == (None, None, None)
    assert figures.channels[0].publications_per_s is None


def test_who_was_restarted_has_no_rate_and_spoils_none() -> None:
    before = snapshot(10.0, worker("1", deliveries=9_000), worker("2", deliveries=0))
    now = snapshot(12.0, worker("1", deliveries=50, started_s=111.0), worker("2", deliveries=200))
    figures = compare(before, now)
    assert [one.deliveries_per_s for one in figures.workers] == [None, 100.0]
    assert figures.deliveries_per_s == 100.0


def test_a_worker_that_begins_to_leave_is_the_same_and_its_successor_another() -> None:
    before = snapshot(10.0, worker("1", deliveries=1_000))
    now = snapshot(12.0, worker("1", deliveries=10, started_s=111.0), worker("1-leaving", deliveries=1_200))
    figures = compare(before, now)
    assert [(one.name[-9:], one.state, one.deliveries_per_s) for one in figures.workers] == [
        ("10:8000/1", "serving", None),
        ("1-leaving", "leaving", 100.0),
    ]


def test_percentiles_are_of_what_came_since() -> None:
    before = snapshot(10.0, worker(histograms={"write": buckets(1_000, 0, 0), "lag": buckets(0, 0, 50, 0)}))
    now = snapshot(12.0, worker(histograms={"write": buckets(1_000, 98, 2), "lag": buckets(10, 0, 50, 0)}))
    figures = compare(before, now)
    assert figures.write_s == (0.01, 0.1)
    assert figures.lag_s == 0.001
    assert figures.publish_s == (None, None)


@pytest.mark.parametrize(
    ("counts", "share", "bound"),
    [
        *(((), 0.5, None), ((0, 0, 0, 0), 0.99, None), ((1, 0, 0, 0), 0.99, 0.001)),
        *(((99, 1, 0, 0), 0.99, 0.001), ((98, 2, 0, 0), 0.99, 0.01), ((0, 0, 0, 5), 0.5, math.inf)),
    ],
)
def test_percentile(counts: tuple[int, ...], share: float, bound: float | None) -> None:
    assert percentile(buckets(*counts) if counts else {}, share) == bound


def test_what_is_hit_now_comes_first_and_what_never_was_is_left_out() -> None:
    before = snapshot(10.0, worker(limits={"links_max": 900, "connects_per_s": 10, "sessions_max": 0}))
    now = snapshot(12.0, worker(limits={"links_max": 900, "connects_per_s": 30, "sessions_max": 0}))
    assert compare(before, now).limits == (Count("connects_per_s", 30, 10.0), Count("links_max", 900, 0.0))


def test_whoever_lacks_redis_is_named() -> None:
    well = {"asking": 1.0, "listening": 1.0, "durable": 0.0}
    now = snapshot(
        12.0,
        worker("1", broker="redis", broker_up=well),
        worker("2", broker="redis", broker_up={**well, "listening": 0.0}, broker_waiting=3, broker_oldest_s=2.5),
    )
    figures = compare(None, now)
    assert figures.broker_down == ("10.1.2.10:8000/2",)
    assert (figures.broker_waiting, figures.broker_oldest_s) == (3, 2.5)


def test_channels_by_their_heads() -> None:
    before = snapshot(10.0, channels=Channels((channel("a", 5, 10, at_s=9.0), channel("b", 5, 10, at_s=9.0)), 2))
    a, b, c = (channel("a", 5, 16, at_s=11.0), channel("b", 5, 2, at_s=11.0, epoch="e2"), channel("c", 1, 7, at_s=11.0))
    figures = compare(before, snapshot(12.0, channels=Channels((a, b, c, channel("d", 1)), 9, has_more=True)))
    assert [(one.publications_per_s, one.deliveries_per_s) for one in figures.channels] == [
        (3.0, 15.0),
        (None, None),
        (None, None),
        (None, None),
    ]
    assert (figures.channels_seen, figures.has_more_channels) == (9, True)


def test_the_first_publication_of_a_channel_is_one() -> None:
    before = snapshot(10.0, channels=Channels((channel("a", 1, 0, at_s=9.0, epoch=""),), 1))
    now = snapshot(12.0, channels=Channels((channel("a", 1, 4, at_s=11.0),), 1))
    assert compare(before, now).channels[0].publications_per_s == 2.0


def test_who_does_not_answer_is_a_row_and_a_reason() -> None:
    gone = Server("b:1", 12.0, trouble=Trouble("unreachable", "Cannot reach b:1"))
    figures = compare(None, snapshot(12.0, worker(), servers=(gone,), nodes=(node(),), silent=2))
    assert [(one.name, one.state) for one in figures.workers] == [("10.1.2.10:8000", "serving"), ("b:1", "unreachable")]
    assert figures.troubles == (Trouble("unreachable", "Cannot reach b:1"),)
    assert figures.silent == 2


def test_back_after_a_silence_there_is_a_rate_one_look_later() -> None:
    gone = Server("10.1.2.10:8000", 12.0, trouble=Trouble("unreachable", "no"))
    back = compare(snapshot(12.0, servers=(gone,)), snapshot(14.0, worker(deliveries=5)))
    assert back.deliveries_per_s is None


def test_a_reading_of_the_same_moment_has_no_rate() -> None:
    now = snapshot(10.0, worker(deliveries=5))
    assert compare(now, now).deliveries_per_s is None
    assert isinstance(now.servers[0].reading, Reading)
