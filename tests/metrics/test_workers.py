"""One scrape tells all workers of a machine, whichever of them it reaches; as an operator runs them."""

from __future__ import annotations

import os
import signal
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.metrics.scrape import Scrape
from tests.support.crew import until
from tests.support.redis_servers import RedisServer, redis_server
from tests.web.test_serve_workers import SECRET, Serving, serving

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers with places of their own")


@pytest.fixture
async def redis() -> Iterator[RedisServer]:  # type: ignore[misc]
    async with redis_server() as server:
        yield server


@pytest.fixture
def served(tmp_path: Path, redis: RedisServer) -> Iterator[Serving]:
    (tmp_path / "hybrid.toml").write_text(
        f'broker = "{redis.url}"\nsecret = "{SECRET}"\nworkers = 2\nmetrics = true\n'
        'metrics_networks = ["127.0.0.1"]\nnamespaces.default.subscribe = "anyone"\n'
        "limits.shutdown_grace_s = 3\n"
    )
    places = tmp_path / "places"
    places.mkdir()
    with serving(tmp_path, environment={"TMPDIR": str(places)}) as server:
        yield server


def read(server: Serving) -> Scrape:
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=20) as answer:
        return Scrape(answer.read().decode())


def stream(server: Serving) -> HTTPResponse:
    asked = urllib.request.Request(f"{server.url}/v1/channels/a", headers={"Accept": "text/event-stream"})
    opened: HTTPResponse = urllib.request.urlopen(asked, timeout=20)
    return opened


def pids(server: Serving) -> dict[str, float]:
    """Which process is in which place, by when it was started."""
    return {
        sample.labels["worker"]: sample.value
        for sample in read(server).samples
        if sample.name == "process_start_time_seconds"
    }


def test_every_scrape_tells_all_workers(served: Serving, tmp_path: Path) -> None:
    with ExitStack() as open_streams:
        for _ in range(20):
            open_streams.enter_context(stream(served))
        until(lambda: read(served).sum("hybrid_connections") == 20)
        for _ in range(8):  # connections of their own, so that both workers are reached
            now = read(served)
            assert now.of("hybrid_workers") == 2
            assert now.of("hybrid_workers_silent") == 0
            assert now.sum("hybrid_connections_opened_total") == 20
            for worker in ("1", "2"):
                assert now.of("hybrid_draining", worker=worker) == 0
                assert now.of("hybrid_broker_up", worker=worker, purpose="listening") == 1
                assert now.of("hybrid_broker_answer_seconds_count", worker=worker, purpose="control") > 0
        assert all(now.sum("hybrid_connections", worker=worker) for worker in ("1", "2")), "the kernel spreads them"
    (place,) = (tmp_path / "places").iterdir()
    assert place.stat().st_mode & 0o777 == 0o700
    assert urlsplit(served.url).port


def test_a_worker_that_was_killed_is_replaced_and_leaves_nothing_behind(served: Serving, tmp_path: Path) -> None:
    (place,) = (tmp_path / "places").iterdir()
    until(lambda: len(list(place.iterdir())) == 2)
    first, other = sorted(place.iterdir())
    os.kill(int(first.name.partition(".")[2]), signal.SIGKILL)
    until(lambda: len(set(place.iterdir()) - {first, other}) == 1)

    def healed() -> bool:
        now = read(served)
        return (now.of("hybrid_workers"), now.of("hybrid_workers_silent")) == (2, 0)

    until(healed)
    assert first not in list(place.iterdir())
    assert served.end() == 0
    assert list((tmp_path / "places").iterdir()) == []


def test_a_worker_that_leaves_is_told_from_its_successor(served: Serving) -> None:
    with ExitStack() as open_streams:
        for _ in range(8):
            open_streams.enter_context(stream(served))
        before = pids(served)
        assert before.keys() == {"1", "2"}
        served.process.send_signal(signal.SIGHUP)
        seen: set[str] = set()

        def all_new() -> bool:
            now = pids(served)
            seen.update(now)
            return now.keys() == {"1", "2"} and not set(now.values()) & set(before.values())

        until(all_new)
    assert seen <= {"1", "2", "1-leaving", "2-leaving"}
    assert seen > {"1", "2"}, "their streams were told to go over as much of the grace as there is"
