"""Clients of a node that drains are told at the pace of those who take them."""

from __future__ import annotations

import logging

import pytest

from hybrid.engine.departure import plan_departure
from hybrid.engine.nodes import NodeInfo
from hybrid.limits import Limits

LIMITS = Limits()


def node(**options: object) -> NodeInfo:
    return NodeInfo(**{"id": "n", "room": 10_000, "accepts_per_s": 500.0, **options})  # type: ignore[arg-type]


def test_a_node_alone_tells_all_at_once_and_spreads_their_return() -> None:
    plan = plan_departure(1_000, [], 10.0, LIMITS)
    assert plan.telling_s == 0
    delays = [plan.delay_ms() for _ in range(500)]
    assert min(delays) >= 0
    assert LIMITS.reconnect_delay_max_ms / 2 < max(delays) <= LIMITS.reconnect_delay_max_ms


def test_goodbyes_take_as_long_as_the_others_need() -> None:
    plan = plan_departure(3_000, [node(), node()], 10.0, LIMITS)
    assert plan.telling_s == pytest.approx(3.0)
    assert plan.told_after_s(0) == 0
    assert plan.told_after_s(1_500) == pytest.approx(1.5)
    assert plan.batch == 100
    assert plan.delay_s < 0.5


def test_what_does_not_fit_into_the_grace_waits_outside() -> None:
    plan = plan_departure(15_000, [node()], 10.0, LIMITS)
    assert plan.telling_s == pytest.approx(7.0)
    assert plan.telling_s + plan.delay_s == pytest.approx(30.0)


def test_nodes_that_drain_take_nobody() -> None:
    assert plan_departure(1_000, [node(), node(is_draining=True)], 10.0, LIMITS).telling_s == pytest.approx(2.0)
    assert plan_departure(1_000, [node(is_draining=True)], 10.0, LIMITS).telling_s == 0


def test_too_little_room_is_told_to_who_runs_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    plan_departure(1_000, [node(room=10)], 10.0, LIMITS)
    assert "room for 10" in caplog.text


def test_nobody_is_nobody() -> None:
    plan = plan_departure(0, [node()], 10.0, LIMITS)
    assert plan.batch == 1
    assert plan.told_after_s(0) == 0
