"""What judges the soak, and (slow) a short one."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.soak.__main__ import report, soak
from tests.soak.trend import GROWTH_MAX, SLACK, Series, table
from tests.support.redis_servers import redis_program


def series(*values: float, unit: str = "MB") -> Series:
    return Series("node 0", unit, [(float(minute), value) for minute, value in enumerate(values)])


def test_a_line_is_the_one_that_fits_best() -> None:
    rising = series(*(80 + 0.5 * minute for minute in range(31)))
    assert rising.slope_per_hour == pytest.approx(30)
    assert rising.growth == pytest.approx(15)
    assert series(80, 81, 80, 81, 80).slope_per_hour == pytest.approx(0)
    assert series(80).slope_per_hour == 0
    assert Series("node 0", "MB", [(1.0, 2.0), (1.0, 3.0)]).slope_per_hour == 0


def test_what_breathes_is_flat_and_what_leaks_is_not() -> None:
    dice = random.Random(1)
    breathing = series(*(100 + dice.uniform(-2, 2) for _ in range(25)))
    assert breathing.is_flat
    leaking = series(*(100 + dice.uniform(-2, 2) + 0.2 * minute for minute in range(25)))
    assert not leaking.is_flat
    assert series(*(100 - minute for minute in range(25))).is_flat
    assert "**grows**" in table([leaking])
    assert "flat" in table([breathing])


@pytest.mark.parametrize("unit", SLACK)
def test_the_bound_lies_where_it_says(unit: str) -> None:
    for mean in (SLACK[unit], 1_000 * SLACK[unit]):
        allowed = max(GROWTH_MAX * mean, SLACK[unit])
        for factor, is_flat in ((0.9, True), (1.1, False)):
            half = allowed * factor / 2
            assert series(mean - half, mean, mean + half, unit=unit).is_flat is is_flat


@pytest.mark.slow
def test_a_minute_and_a_half_under_churn() -> None:
    redis_program()
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    watch, people, verdict, facts = asyncio.run(soak(1.5, seed, 0.3))
    text, _ = report(watch, people, verdict, facts, 1.5, seed)
    print(text)
    verdict.check()
    assert verdict.resets == 0
    assert people.counts["restarts of a node"] == 1
    assert min(people.counts[name] for name in ("cuts", "moves", "guests", "plain guests", "sleepers", "revoked")) > 0
