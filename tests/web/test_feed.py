from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from hybrid.errors import BrokerError
from hybrid.web.feed import CPU, MEMORY, NETWORK, run_feed


class Clock:
    """A second passes with every look at it."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def monotonic_s(self) -> float:
        self.now_s += 1.0
        return self.now_s

    def wall_s(self) -> float:
        return 1_700_000_000.12375


class Publisher:
    """Takes publications, and ends the feed after a number of them. May be away for the first few."""

    def __init__(self, count: int, *, away_for: int = 0) -> None:
        self.taken: list[tuple[str, dict[str, Any]]] = []
        self.refused = 0
        self._count = count
        self._away_for = away_for
        self.is_done = asyncio.Event()

    async def publish(self, channel: str, data: dict[str, Any]) -> None:
        if self.refused < self._away_for:
            self.refused += 1
            raise BrokerError()
        self.taken.append((channel, data))
        if len(self.taken) >= self._count:
            self.is_done.set()

    def of(self, channel: str) -> list[dict[str, Any]]:
        return [data for name, data in self.taken if name == channel]


async def run_until_done(publisher: Publisher) -> None:
    feed = asyncio.create_task(run_feed(publisher.publish, Clock(), interval_s=0.001))
    done = asyncio.create_task(publisher.is_done.wait())
    try:
        async with asyncio.timeout(10):
            await asyncio.wait((feed, done), return_when=asyncio.FIRST_COMPLETED)
            assert publisher.is_done.is_set(), feed.exception()
    finally:
        done.cancel()
        feed.cancel()
        await asyncio.wait((feed, done))
    assert feed.cancelled()


def network_of(monkeypatch: pytest.MonkeyPatch, *readings: tuple[int, int] | None) -> None:
    """Let the network's counters be these (in, out), one reading after another, the last for ever."""
    left = list(readings)

    def read() -> Any:
        counters = left.pop(0) if len(left) > 1 else left[0]
        return counters and SimpleNamespace(bytes_recv=counters[0], bytes_sent=counters[1])

    monkeypatch.setattr(psutil, "net_io_counters", read)


async def test_this_machines_own_figures_are_published() -> None:
    publisher = Publisher(20)
    await run_until_done(publisher)
    at_ms = 1_700_000_000_123.8  # to a tenth
    for cpu in publisher.of(CPU):
        assert cpu["at_ms"] == at_ms
        assert len(cpu["cores"]) == psutil.cpu_count()
        assert all(0 <= load <= 100 for load in [cpu["percent"], *cpu["cores"]])
        assert cpu["percent"] == pytest.approx(sum(cpu["cores"]) / len(cpu["cores"]), abs=0.06)
    total = psutil.virtual_memory().total
    for memory in publisher.of(MEMORY):
        assert memory["total_bytes"] == total
        assert 0 < memory["used_bytes"] < total
        assert memory["percent"] == pytest.approx(100 * memory["used_bytes"] / total, abs=0.06)


async def test_the_network_has_half_the_rate_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    network_of(monkeypatch, (0, 0))
    publisher = Publisher(25)
    await run_until_done(publisher)
    counts = [len(publisher.of(channel)) for channel in (CPU, MEMORY, NETWORK)]
    assert counts == [10, 10, 5]


async def test_rates_are_per_second_and_never_negative(monkeypatch: pytest.MonkeyPatch) -> None:
    """A counter that starts anew (an interface was replugged) is no traffic backwards."""
    network_of(monkeypatch, (1000, 500), (3010, 620), (0, 0))
    publisher = Publisher(10)
    await run_until_done(publisher)
    rates = [(data["in_bytes_per_s"], data["out_bytes_per_s"]) for data in publisher.of(NETWORK)]
    assert rates == [(2010, 120), (0, 0)]


async def test_without_interfaces_that_channel_stays_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    network_of(monkeypatch, None)
    publisher = Publisher(20)
    await run_until_done(publisher)
    assert publisher.of(NETWORK) == []
    assert len(publisher.of(CPU)) == 10


async def test_an_outage_is_told_once_and_outlived(caplog: pytest.LogCaptureFixture) -> None:
    publisher = Publisher(5, away_for=7)
    with caplog.at_level(logging.WARNING, "hybrid.web.feed"):
        await run_until_done(publisher)
    assert publisher.refused == 7
    assert [record.levelname for record in caplog.records] == ["WARNING"]
