"""What happens at a whole server is what its metrics say afterwards."""

from __future__ import annotations

import asyncio
import json
import subprocess
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from hybrid.engine import survey as surveys
from hybrid.engine.survey import STATES
from hybrid.engine.transport_counts import OTHER, REASONS, TRANSPORTS
from hybrid.errors import TABLE
from hybrid.limits import Limits
from hybrid.web.metrics.process import LoopLag
from tests.metrics.scrape import SCOPE, Scrape, ask, scrape
from tests.support.bytewise import JSON, Connection, call, event_stream, frame, text, until, websocket
from tests.support.processes import program
from tests.support.server import RunningServer, running_server, settings_for

ON = replace(settings_for(), metrics=True)
MARKER = "MarkerThatMustNotBeSeen"


async def attached(connection: Connection, *channels: str, **more: Any) -> dict[str, Any]:
    """Attach, and what the subscriptions' answer is."""
    wanted = [{"channel": channel, **more} for channel in channels]
    connection.send(text({"method": "attach", "attempt": 1, "confirm": True, "subscriptions": wanted}))
    while True:
        push: dict[str, Any] = await connection.push()
        if "subscribed" in push:
            return push["subscribed"]  # type: ignore[no-any-return]


async def published(server: RunningServer, channel: str, data: object = 1) -> None:
    body = json.dumps(data).encode()
    answer = await call(server, "POST", f"/v1/channels/{channel}", {**JSON, **server.bearer()}, body)
    assert answer.status == 200


async def test_two_readers_and_a_publication() -> None:
    async with running_server(ON) as server:
        async with (
            websocket(server, "/v1/stream", server.bearer()) as session,
            event_stream(server, "/v1/channels/a", server.bearer()) as plain,
        ):
            await attached(session, "a")
            await plain.event()
            await published(server, "a")
            assert "publication" in await session.push()
            assert (await plain.event())["data"] == "1"
            now = await scrape(server)
        assert now.of("hybrid_connections", transport="websocket", kind="session", state="live") == 1
        assert now.of("hybrid_connections", transport="sse", kind="channels", state="live") == 1
        assert now.sum("hybrid_connections") == 2
        assert now.of("hybrid_sessions", state="open", transport="websocket") == 1
        assert now.of("hybrid_attaches_total", transport="websocket", outcome="fresh") == 1
        assert now.of("hybrid_legs_confirmed_total", transport="websocket") == 1
        assert now.of("hybrid_subscriptions", state="live") == 2
        assert now.of("hybrid_channels", state="hot") == 1
        assert now.of("hybrid_publications_total") == 1
        assert now.of("hybrid_deliveries_total") == 2
        assert now.of("hybrid_publishes_total", outcome="appended") == 1
        assert now.of("hybrid_publish_duration_seconds_count") == 1
        assert now.of("hybrid_flush_publications_sum") == now.of("hybrid_flush_publications_count") == 1
        assert (now.of("hybrid_flush_links_count"), now.of("hybrid_flush_links_sum")) == (1, 2)
        assert now.of("hybrid_write_delay_seconds_count") == 1
        assert now.of("hybrid_flushes_total") == 1
        assert now.of("hybrid_flushed_bytes_total") > 100
        assert now.of("hybrid_recoveries_total", outcome="begun") == 2
        assert now.of("hybrid_tokens_total", outcome="accepted") >= 2
        assert now.of("hybrid_connections_max") == ON.limits.links_max
        assert now.of("process_resident_memory_bytes") > 1e7
        assert now.of("process_open_fds") > 3
        await until(lambda: not len(server.engine.open))
        after = await scrape(server)
        assert after.sum("hybrid_connections") == 0
        assert after.of("hybrid_connections_opened_total", transport="websocket", kind="session") == 1
        assert after.sum("hybrid_connections_closed_total") == 2
        assert after.of("hybrid_connections_closed_total", transport="sse", reason="client") == 1
        assert after.of("hybrid_connections_closed_total", transport="websocket", reason="lost") == 1
        assert after.of("hybrid_sessions", state="detached", transport="none") == 1


async def test_polls_and_a_poller() -> None:
    attach = {"method": "attach", "attempt": 1, "confirm": True, "subscriptions": [{"channel": "a"}]}
    async with running_server(ON) as server:
        waiting = asyncio.create_task(call(server, "GET", "/v1/channels/a?after=0&wait=20", server.bearer()))
        await until(lambda: len(server.engine.open) == 1)
        await call(server, "POST", "/v1/stream", {**JSON, **server.bearer()}, json.dumps(attach).encode())
        now = await scrape(server)
        assert now.of("hybrid_polls_waiting") == 1
        assert now.of("hybrid_sessions", state="open", transport="longpoll") == 1
        assert now.of("hybrid_attaches_total", transport="longpoll", outcome="fresh") == 1
        await published(server, "a")
        await waiting


async def test_who_comes_back_is_told_from_who_is_new_and_a_wrong_position_from_a_right_one() -> None:
    async with running_server(ON) as server:
        await published(server, "a")
        async with websocket(server, "/v1/stream", server.bearer()) as first:
            wrong = {"offset": 7, "epoch": "0123456789abcdef", "tag": "0a0b0c0d"}
            await attached(first, "a", position=wrong)
            session = server.engine.registry.runners()[0].session.id
            again = {"method": "attach", "attempt": 2, "session": session, "confirm": True, "subscriptions": []}
            async with websocket(server, "/v1/stream", server.bearer()) as second:
                second.send(text(again))
                assert "attached" in await second.push()
        again |= {"session": "unknown", "attempt": 1}
        async with websocket(server, "/v1/stream", server.bearer()) as third:
            third.send(text(again))
            assert "attached" in await third.push()
            now = await scrape(server)
        assert now.of("hybrid_recoveries_total", outcome="reset") == 1
        for outcome in ("fresh", "resumed", "rebuilt"):
            assert now.of("hybrid_attaches_total", transport="websocket", outcome=outcome) == 1


async def test_a_slow_reader_is_seen_with_what_it_is_behind_and_seen_to_catch_up() -> None:
    limits = Limits(high_water_bytes=65_536, low_water_bytes=16_384)
    async with running_server(replace(ON, limits=limits)) as server:
        async with websocket(server, "/v1/stream", server.bearer()) as reader:
            await attached(reader, "a")
            count = 0
            while not server.engine.hub.shared.tally.lagged or count % 10:  # some more that are not written to it
                count += 1
                await server.engine.publish("a", "x" * 60_000)
                await asyncio.sleep(0.005)  # a flush of its own: it is on a timer of 2 ms
            now = await scrape(server)
            assert now.of("hybrid_connections", transport="websocket", kind="session", state="slow") == 1
            assert now.of("hybrid_subscriptions", state="lagging") == 1
            assert now.of("hybrid_lag_publications") == now.of("hybrid_lag_publications_max") > 0
            assert now.of("hybrid_buffered_bytes") == now.of("hybrid_buffered_bytes_max") > 0
            assert now.of("hybrid_links_lagged_total") == 1
            for _ in range(count):
                assert "publication" in await reader.push()
            stream = server.engine.open.streams()[0]
            await until(lambda: all(s.group is not None for s in stream.feed.subscriptions))  # type: ignore[attr-defined]
            after = await scrape(server)
        assert after.of("hybrid_connections", transport="websocket", kind="session", state="live") == 1
        assert after.of("hybrid_lag_publications") == 0
        assert after.sum("hybrid_resets_total") == 0


async def test_what_is_refused_is_counted_by_why_and_by_the_limit() -> None:
    many = json.dumps({"publications": [{"channel": "a", "data": 1}] * 65}).encode()
    large = json.dumps("x" * 70_000).encode()
    async with running_server(ON) as server:
        headers = {**JSON, **server.bearer(scope="hybrid:publish:a")}
        assert (await call(server, "POST", "/v1/publish", headers, many)).status == 413
        assert (await call(server, "POST", "/v1/channels/b", headers, b"1")).status == 403
        batch = json.dumps({"publications": [{"channel": "b", "data": 1}, {"channel": "a", "data": 1}]}).encode()
        assert (await call(server, "POST", "/v1/publish", headers, batch)).status == 200
        assert (await call(server, "POST", "/v1/channels/a", headers, large)).status == 413
        now = await scrape(server)
    assert now.of("hybrid_limits_hit_total", limit="commands_per_post_max") == 1
    assert now.of("hybrid_refusals_total", error="too_large") == 2
    assert now.of("hybrid_refusals_total", error="forbidden") == 1
    assert now.of("hybrid_publishes_total", outcome="forbidden") == 1
    assert now.of("hybrid_publishes_total", outcome="appended") == 1


async def test_nothing_that_a_client_writes_becomes_a_label() -> None:
    async with running_server(ON) as server:
        before = len((await scrape(server)).samples)
        for number in range(30):
            name = f"{MARKER}{number}"
            async with websocket(server, "/v1/stream", server.bearer(name)) as connection:
                tried = [{"transport": name, "reason": name}, {"transport": "sse", "reason": name}]
                attach = {"method": "attach", "attempt": 1, "confirm": True, "session": name, "tried": tried}
                attach["subscriptions"] = [{"channel": name}]
                connection.send(text(attach))
                assert "attached" in await connection.push()
                connection.send(text({"method": name, "id": 1}))
                connection.send(frame((3_000 + number).to_bytes(2, "big") + name.encode(), 8))
                await connection.ended()
            await call(server, "GET", f"/v1/{name}", {"X-Name": name, **server.bearer(name)})
            await published(server, name)
        await until(lambda: not len(server.engine.open))
        answer = await ask(server, server.token(scope=SCOPE))
    text_of_it = answer.body.decode()
    assert MARKER.lower() not in text_of_it.lower()
    now = Scrape(text_of_it)
    assert len(now.samples) <= before + 40
    allowed = {
        "transport": {*TRANSPORTS, "none", "unknown"},
        "better": {*TRANSPORTS, OTHER},
        "error": set(TABLE) | {OTHER},
        "outcome": {
            *("fresh", "resumed", "rebuilt", "refused", "begun", "recovered", "reset"),
            *("accepted", "remembered", "appended", "repeated", OTHER, *TABLE),
        },
    }
    reasons = {*REASONS, OTHER, "client", "lost", *TABLE, "log_differs", "log_replaced", "too_old", "unwritable"}
    for sample in now.samples:
        for label, value in sample.labels.items():
            assert value in allowed.get(label, {value}), sample
            assert label != "reason" or value in reasons, sample


async def test_a_reader_gets_the_format_that_it_takes() -> None:
    openmetrics = "application/openmetrics-text; version=1.0.0, text/plain; version=0.0.4; q=0.5"
    async with running_server(ON) as server:
        token = server.token(scope=SCOPE)
        answer = await ask(server, token, Accept=openmetrics)
        assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0; charset=utf-8")
        text_of_it = answer.body.decode()
        assert text_of_it.endswith("# EOF\n")
        families = {family.name: family for family in parse_openmetrics(text_of_it)}  # raises for what breaks the rules
        assert families["hybrid_build"].samples[0].labels["broker"] in ("memory", "redis")
        plain = await ask(server, token)
        assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_prometheus_own_linter_finds_nothing() -> None:
    promtool = program("promtool", package="prometheus")
    async with running_server(ON) as server:
        answer = await ask(server, server.token(scope=SCOPE))
    done = await asyncio.to_thread(
        subprocess.run, [promtool, "check", "metrics"], input=answer.body, capture_output=True, check=False, timeout=30
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


async def test_a_survey_leaves_turns_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surveys, "SLICE_S", 0.0)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    seen = [thing async for thing in surveys._in_slices(range(1_000))]
    beside.cancel()
    assert seen == list(range(1_000))
    assert turns >= 1_000 // surveys._AT_ONCE
    assert len(STATES) == len(set(STATES))


async def test_a_loop_that_was_held_up_is_late() -> None:
    lag = LoopLag()
    lag.start()
    lag.start()  # does nothing
    lag._due_s -= 0.5
    assert lag._timer is not None
    lag._timer.cancel()
    lag._look()
    lag.stop()
    assert lag._timer is None
    assert sum(lag.late_us.counts) == 1
    assert 250_000 <= lag.late_us.total < 5_000_000
