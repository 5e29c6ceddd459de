"""The load test against a real server: what it measures, and that it finds what is wrong on the wire."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from hybrid.bench.coordinator import BenchFailed, Coordinator
from hybrid.bench.messages import Target
from hybrid.bench.plan import TRANSPORTS, Plan, make
from hybrid.bench.record import Record
from hybrid.bench.result import Result
from hybrid.errors import SettingsError
from hybrid.limits import Limits
from tests.support.meddler import Meddling, meddler
from tests.support.nginx import HOST, running_nginx
from tests.support.saboteur import Lose, Repeat, Rule, Swap, saboteur
from tests.support.server import RunningServer, new_issuer, running_server, settings_for
from tests.support.wire import Wire

pytestmark = pytest.mark.skipif(os.name != "posix", reason="descriptors and polls as POSIX has them")
MIX = "websocket=8,sse=4,longpoll=4,plain-sse=4"
STORMY = Limits(admissions_per_s=40.0, admissions_burst_s=0.1, accepts_per_s=40.0)
ONE_OF_EACH = "websocket=1,sse=1,longpoll=1,plain-sse=1"


def target(port: int) -> Target:
    return Target("127.0.0.1", f"127.0.0.1:{port}", "", [(socket.AF_INET, "127.0.0.1", port)])


def plan(**choices: Any) -> Plan:
    """Ends by the number of publications; whatever hangs ends, too."""
    return make(**{"clients": 20, "mix": MIX, "publications": 60, "duration_s": 20.0, "drain_s": 5.0, **choices})


async def bench(server: RunningServer, chosen: Plan, port: int | None = None, **options: Any) -> Result:
    tokens = [server.token(f"user-{number}") for number in range(5)]
    return await Coordinator(chosen, target(port or server.port), tokens, **options).run()


# -- what is right


async def test_everybody_gets_everything_over_every_transport() -> None:
    async with running_server(settings_for()) as server:
        result = await bench(server, plan())
    assert (result.exit_code, result.faults) == (0, [])
    assert (result.connect.ready, result.connect.failed, result.connect.errors) == (20, 0, {})
    delivered = result.delivered
    assert (delivered.publications, delivered.answered, delivered.refused) == (60, 60, {})
    assert delivered.deliveries == delivered.latency.count == 20 * 60
    assert {name: part.deliveries for name, part in delivered.transports.items()} == {
        "websocket": 480,
        "sse": 240,
        "longpoll": 240,
        "plain-sse": 240,
    }
    assert delivered.latency.p50_ms is not None
    assert delivered.latency.max_ms is not None
    assert 0 < delivered.latency.p50_ms <= delivered.latency.max_ms < 20_000
    assert sum(count for _, count in result.latency_us) == 1_200
    assert (result.order.is_right, result.order.is_checked_to_the_end, result.order.resets) == (True, True, 0)
    assert result.server is None
    assert any("--pid" in words for words in result.unknown)


@pytest.mark.parametrize(
    "choices",
    [
        {"publish_over": "websocket", "in_flight": 16, "publications": 500, "publishers": 2},
        {"in_flight": 4, "channels": 5, "per_channel": 8},
        {"rate_per_s": 200.0, "publications": 40, "processes": 2, "publishers": 2},
        {"size": 5_000, "in_flight": 8},
    ],
    ids=["websocket", "channels", "rate", "large"],
)
async def test_ways_to_publish(choices: dict[str, Any]) -> None:
    async with running_server(settings_for()) as server:
        chosen = plan(**choices)
        result = await bench(server, chosen)
    assert (result.exit_code, result.faults) == (0, [])
    assert result.delivered.answered == chosen.publications
    per_publication = chosen.clients_per_channel
    assert result.delivered.deliveries == chosen.publications * per_publication


async def test_a_rate_is_kept_and_lateness_told() -> None:
    async with running_server(settings_for()) as server:
        result = await bench(server, plan(rate_per_s=100.0, publications=30))
    assert result.exit_code == 0
    assert result.load_side.late.count == 30
    deliver, drain = (dict(result.phases)[name] for name in ("deliver", "drain"))
    assert drain - deliver >= 0.28  # thirty at 10 ms


async def test_what_the_server_uses_is_told_by_pid() -> None:
    """The server is this process, here; its children, the load, count too, so only that there is something is sure."""
    async with running_server(settings_for()) as server:
        result = await bench(server, plan(), pids=[os.getpid()])
    assert result.server is not None
    assert result.server.processes >= 1
    assert result.server.cpu_s > 0
    assert result.server.memory_before_bytes > 1_000_000
    assert not any("--pid" in words for words in result.unknown)


async def test_only_connecting() -> None:
    async with running_server(settings_for()) as server:
        result = await bench(server, plan(publications=0, duration_s=0.0, is_connect_storm=True))
    assert (result.exit_code, result.connect.ready, result.connect.is_storm) == (0, 20, True)
    assert result.connect.curve[-1][1] == 20
    assert result.delivered.publications == 0


@pytest.mark.slow
async def test_more_publishes_than_a_keep_alive_connection_takes() -> None:
    async with running_server(settings_for()) as server:
        result = await bench(server, plan(clients=2, mix="websocket=1,longpoll=1", publications=1_100))
    assert (result.exit_code, result.delivered.refused, result.order.cuts) == (0, {}, {})
    assert result.delivered.deliveries == 2_200
    assert result.order.renewed >= 1


async def test_what_takes_minutes_elsewhere() -> None:
    """Heartbeats that a server waits for, polls without an answer, and streams that have lived long enough."""
    limits = Limits(heartbeat_interval_s=0.8, heartbeat_interval_min_s=0.1, poll_wait_max_s=0.2, stream_age_max_s=0.6)
    async with running_server(settings_for(limits=limits)) as server:
        # Three seconds of it: whoever is silent for 2.5 intervals, which are two seconds, is cut.
        result = await bench(server, plan(rate_per_s=30.0, publications=90))
    assert (result.exit_code, result.faults) == (0, [])
    assert result.order.cuts.keys() == {"4412 rotated"}
    assert result.order.cuts["4412 rotated"] >= 4  # of the four event streams that have a session
    assert result.order.resets == 0


# -- storms


async def test_clients_come_when_they_are_told() -> None:
    """Forty a second, and four at once are no storm: the others wait for the moment that each was given."""
    async with running_server(settings_for(limits=STORMY)) as server:
        result = await bench(server, plan(mix="websocket=1,sse=1,longpoll=1", is_connect_storm=True, publications=5))
    assert (result.exit_code, result.faults) == (0, [])
    assert result.connect.ready == 20
    assert result.connect.delayed >= 10
    assert result.connect.errors == {"1012 draining": result.connect.delayed}


@pytest.mark.slow
async def test_the_rude_ones_do_not_wait() -> None:
    async with running_server(settings_for(limits=STORMY)) as server:
        result = await bench(server, plan(mix="sse", is_connect_storm=True, publications=5, is_rude=True))
    assert result.connect.delayed == 0
    assert result.connect.errors["1012 draining"] > 20


async def test_a_reconnect_storm_loses_nothing() -> None:
    async with running_server(settings_for()) as server:
        result = await bench(server, plan(is_reconnect_storm=True, rate_per_s=100.0, publications=100))
    assert (result.exit_code, result.faults) == (0, [])
    assert result.reconnect is not None
    assert (result.reconnect.ready, result.reconnect.errors) == (20, {})
    assert result.reconnect.last_ms is not None
    assert result.delivered.deliveries == 2_000
    assert result.order.resets == 0


# -- faults are found


FAULTS: dict[str, tuple[type[Rule], dict[str, int]]] = {
    "lost": (Lose, {"lost": 1}),
    "repeated": (Repeat, {"repeated": 1}),
    "reordered": (Swap, {"reordered": 1}),
}


def every_fault_on_every_transport() -> list[Any]:
    """Not slow are all of a WebSocket, and the loss on all."""
    return [
        pytest.param(
            transport,
            *FAULTS[name],
            id=f"{name}-{transport}",
            marks=[] if transport == "websocket" or name == "lost" else [pytest.mark.slow],
        )
        for transport in TRANSPORTS
        for name in FAULTS
    ]


@pytest.mark.parametrize(("transport", "rule", "expected"), every_fault_on_every_transport())
async def test_one_fault_at_one_client_is_found(
    transport: str, rule: Callable[[], Rule], expected: dict[str, int]
) -> None:
    async with running_server(settings_for()) as server, saboteur(server.port, rule) as port:
        # Many at once, so that polls are answered with several.
        chosen = plan(clients=5, mix=transport, publications=200, in_flight=16)
        result = await bench(server, chosen, port)
    order = result.order
    found = {"lost": order.lost, "repeated": order.repeated, "reordered": order.reordered}
    assert found == {"lost": 0, "repeated": 0, "reordered": 0, **expected}
    assert (result.exit_code, order.is_right, order.unexpected, order.incomplete_clients) == (1, False, 0, 0)
    assert len(order.examples) == 1 + (rule is Swap)  # a swap begins as a loss


async def test_the_last_publication_is_missed_too() -> None:
    """No later one shows the hole: only the heads that the publishers were told do."""
    async with running_server(settings_for()) as server, saboteur(server.port, lambda: Lose(20)) as port:
        chosen = plan(clients=5, mix="websocket", publications=20, drain_s=0.5)
        result = await bench(server, chosen, port)
    assert (result.exit_code, result.order.incomplete_clients) == (1, 1)
    assert "is at 19 of 20" in result.order.examples[0]


async def test_connections_that_are_cut_come_back_where_they_were() -> None:
    async with running_server(settings_for()) as server, Wire(server.port) as wire:
        cut = 0
        port = wire.address[1]

        def watch(record: Record) -> None:
            nonlocal cut
            if not cut and record.sent > 20:
                cut = wire.cut()

        result = await bench(server, plan(rate_per_s=60.0, publications=100), port, watch=watch)
    assert cut > 0
    assert (result.exit_code, result.faults) == (0, [])
    assert sum(result.order.cuts.values()) == 20
    assert result.reconnect is not None
    assert result.reconnect.ready == 20
    assert result.order.resets == 0


async def test_a_server_that_starts_anew_is_survived_and_its_resets_are_told() -> None:
    """Its log was in memory: whoever comes back is told that it has begun anew."""
    issuer = new_issuer()
    async with running_server(settings_for(), issuer=issuer) as server:
        has_sent = asyncio.Event()

        def watch(record: Record) -> None:
            if record.sent > 20:
                has_sent.set()

        chosen = plan(rate_per_s=40.0, publications=160, drain_s=10.0)
        running = asyncio.create_task(bench(server, chosen, watch=watch))
        await has_sent.wait()
        await server.shut_down()
        async with running_server(settings_for(), issuer=issuer, port=server.port):
            result = await running
    assert result.order.resets > 0
    assert (result.order.lost, result.order.repeated, result.order.reordered) == (0, 0, 0)
    assert result.order.incomplete_clients == 0
    assert sum(result.order.cuts.values()) >= 16


# -- refusals


async def test_clients_that_may_not_read_are_told_by_reason() -> None:
    async with running_server(settings_for()) as server:
        token = server.token("nobody", scope="hybrid:publish:*")
        chosen = plan(clients=4, mix=ONE_OF_EACH, publications=100_000)
        result = await Coordinator(chosen, target(server.port), [token]).run()
    assert (result.exit_code, result.connect.ready, result.connect.failed) == (1, 0, 4)
    assert result.connect.errors == {"3403 forbidden": 4}
    assert "4 of 4 clients never got in" in result.faults[0]


async def test_publishers_that_may_not_are_told_by_reason() -> None:
    async with running_server(settings_for()) as server:
        token = server.token("nobody", scope="hybrid:subscribe:*")
        for over in ("http", "websocket"):
            chosen = plan(clients=2, mix="sse", publications=3, publish_over=over)
            result = await Coordinator(chosen, target(server.port), [token]).run()
            assert (result.exit_code, result.delivered.refused) == (1, {"3403 forbidden": 1})
            assert "no publish was answered" in result.faults


async def test_a_server_that_is_not_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        chosen = plan(clients=2, mix="websocket", publications=0, duration_s=0.0, connect_timeout_s=1.0)
        result = await Coordinator(chosen, target(port), []).run()
    assert result.exit_code == 1
    assert set(result.connect.errors) == {"connection refused", "publisher: connection refused"}


async def test_a_pid_that_is_none() -> None:
    with pytest.raises(SettingsError, match="--pid 2147483646: there is no such process"):
        Coordinator(plan(), target(1), [], pids=[2_147_483_646])


async def test_a_load_process_that_dies_is_no_result() -> None:
    async with running_server(settings_for()) as server:
        coordinator: Coordinator
        killed: list[int] = []

        def watch(record: Record) -> None:
            if record.sent > 5 and not killed:
                process = coordinator._members[0].process
                killed.append(process.pid)
                process.kill()

        chosen = plan(rate_per_s=50.0, publications=500)
        coordinator = Coordinator(chosen, target(server.port), [server.token()], watch=watch)
        with pytest.raises(BenchFailed, match="ended with status -9"):
            await coordinator.run()


async def test_an_interruption_ends_with_what_was_measured() -> None:
    async with running_server(settings_for()) as server:
        coordinator: Coordinator

        def watch(record: Record) -> None:
            if record.sent > 20 and record.phase == "deliver":
                coordinator.interrupt()

        chosen = plan(rate_per_s=100.0, publications=100_000)
        coordinator = Coordinator(chosen, target(server.port), [server.token()], watch=watch)
        result = await coordinator.run()
    assert (result.exit_code, result.was_interrupted, result.order.is_right) == (130, True, True)
    assert result.order.is_checked_to_the_end
    assert 20 < result.delivered.answered == result.delivered.publications < 1_000
    assert result.delivered.deliveries == 20 * result.delivered.answered


@pytest.mark.slow
async def test_a_second_interruption_ends_at_once() -> None:
    async with running_server(settings_for()) as server:
        coordinator: Coordinator

        def watch(record: Record) -> None:
            if record.sent > 20:
                coordinator.interrupt()
                coordinator.interrupt()

        chosen = plan(rate_per_s=100.0, publications=100_000)
        coordinator = Coordinator(chosen, target(server.port), [server.token()], watch=watch)
        result = await coordinator.run()
    assert (result.exit_code, result.order.is_checked_to_the_end) == (130, False)
    assert any("could be checked" in fault for fault in result.faults)


async def test_the_json_is_the_result() -> None:
    async with running_server(settings_for()) as server:
        result = await bench(server, plan(clients=2, mix="websocket", publications=5))
    again = msgspec.json.decode(result.to_json(), type=Result)
    assert again == result
    raw = msgspec.json.decode(result.to_json())
    assert raw["version"] == 1
    assert raw["delivered"]["latency"].keys() == {"count", "p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms"}
    assert raw["order"]["is_right"] is True
    assert b"eyJ" not in result.to_json()  # no token


# -- what stands in front of real deployments


REFUSALS = {
    "4429 rate_limited": (
        b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 0\r\nConnection: close\r\nContent-Type: application/json\r\n"
        b'Content-Length: 38\r\n\r\n{"number": 4429, "name": "limit_rate"}\n'
    ),
    "HTTP 502": b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>",
}


@pytest.mark.parametrize("reason", REFUSALS)
async def test_refused_publishes_are_counted_and_others_go_on(reason: str) -> None:
    left = 3

    def rule(head: bytes) -> Meddling:
        nonlocal left
        if head.startswith(b"POST /v1/channels/") and left:
            left -= 1
            return Meddling(answer=REFUSALS[reason])
        return Meddling()

    async with running_server(settings_for()) as server, meddler(server.port) as proxy:
        proxy.rule = rule
        chosen = plan(clients=4, mix=ONE_OF_EACH, publications=20)
        result = await bench(server, chosen, proxy.port)
    assert (result.exit_code, result.faults) == (0, [])
    assert result.delivered.refused == {reason: 3}
    assert (result.delivered.publications, result.delivered.answered) == (20, 17)
    assert result.delivered.deliveries == 4 * 17
    assert result.order.renewed >= 16  # one request a connection is all that this proxy serves


@pytest.mark.slow
async def test_through_nginx_and_tls() -> None:
    settings = replace(settings_for(), allowed_hosts=(HOST,))
    async with running_server(settings) as server, running_nginx([server.port]) as nginx:
        where = Target(
            HOST,
            HOST,
            "",
            [(socket.AF_INET, "127.0.0.1", nginx.https_port)],
            is_secure=True,
            ca_file=str(nginx.certificate.certificate),
        )
        chosen = plan(size=2_000, in_flight=8, publications=200)
        result = await Coordinator(chosen, where, [server.token()]).run()
        assert (result.exit_code, result.faults) == (0, [])
        assert (result.connect.errors, result.delivered.refused, result.order.cuts) == ({}, {}, {})
        assert result.delivered.deliveries == 4_000
        untrusted = msgspec.structs.replace(where, ca_file="")
        chosen = plan(clients=1, mix="sse", publications=0, duration_s=0.0, publishers=0, connect_timeout_s=2.0)
        result = await Coordinator(chosen, untrusted, []).run()
        assert result.connect.ready == 0
        assert list(result.connect.errors) == ["TLS: self-signed certificate"]
        insecure = msgspec.structs.replace(untrusted, is_insecure=True)
        result = await Coordinator(chosen, insecure, [server.token()]).run()
        assert (result.exit_code, result.connect.ready) == (0, 1)
