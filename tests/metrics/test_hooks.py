"""What becomes of webhooks at a whole server is what its metrics say afterwards."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from hybrid.hooks.backend import OUTCOMES
from hybrid.limits import Limits
from hybrid.settings import HooksSettings, Namespace
from tests.metrics.scrape import scrape
from tests.support.bytewise import JSON, call
from tests.support.receiver import SECRET, Raw, Receiver, Request, receiver, status
from tests.support.server import RunningServer, running_server, settings_for

ASKED = {"hook": Namespace("hook", subscribe="hook", publish="hook")}


def settings_of(backend: Receiver, limits: Limits | None = None, **options: Any) -> Any:
    hooks = HooksSettings(url=backend.url, secrets=(SECRET,), **options)
    made = settings_for(limits=limits)
    return replace(made, metrics=True, hooks=hooks, namespaces={**made.namespaces, **ASKED})


async def publish(server: RunningServer, channel: str, subject: str = "alice") -> int:
    answer = await call(server, "POST", f"/v1/channels/hook:{channel}", {**JSON, **server.bearer(subject)}, b"1")
    return answer.status


async def test_questions_count_by_what_became_of_them() -> None:
    gate = asyncio.Event()

    async def slow(request: Request) -> Any:
        await gate.wait()
        return {"allow": True}

    async with receiver() as backend:
        limits = Limits(lag_max_s=60.0, hook_asks_max=1)
        async with running_server(settings_of(backend, limits)) as server:
            assert await publish(server, "answered") == 200
            for channel, answer in (
                ("away", lambda request: status(503)),
                ("refused", lambda request: {"allow": "perhaps"}),
                ("broken", lambda request: Raw(b"")),
            ):
                backend.answer = answer
                assert await publish(server, channel) == 503
            backend.answer = slow
            first = asyncio.create_task(publish(server, "slow"))
            await backend.until(lambda: "hook:slow" in [item["channel"] for item in backend.asked])
            assert await publish(server, "too-many", "bob") == 503
            waiting = await scrape(server)
            gate.set()
            assert await first == 200
            now = await scrape(server)
    assert waiting.of("hybrid_hook_questions_waiting", about="decision") == 1
    told = {outcome: now.of("hybrid_hook_questions_total", about="decision", outcome=outcome) for outcome in OUTCOMES}
    ours = {"answered": 2, "away": 1, "refused": 1, "broken": 1, "too_many": 1, "unsent": 0, "late": 0, "left_alone": 0}
    assert told == ours
    assert now.of("hybrid_hook_questions_waiting", about="decision") == 0
    assert now.of("hybrid_hook_answer_seconds_count", about="decision") == 5
    assert now.of("hybrid_limits_hit_total", limit="hook_asks_max") == 1
    assert now.sum("hybrid_hook_questions_total", about="call") == 0


async def test_a_backend_that_is_left_alone_is_told_until_it_answers() -> None:
    async with receiver() as backend, running_server(settings_of(backend)) as server:
        backend.answer = lambda request: status(503)
        for number in range(6):
            assert await publish(server, f"c{number}") == 503
        now = await scrape(server)
        assert now.of("hybrid_hook_left_alone", about="decision") == 1
        assert now.of("hybrid_hook_left_alone", about="call") == 0
        assert now.of("hybrid_hook_questions_total", about="decision", outcome="left_alone") == 1


async def test_events_count_as_they_are_taken_and_dropped() -> None:
    async with receiver() as backend:
        limits = Limits(lag_max_s=60.0, hook_events_max=2, hook_batch_max=1)
        backend.take = lambda request: status(503)
        async with running_server(settings_of(backend, limits, tell=("occupied",))) as server:
            for number in range(4):
                path = f"/v1/channels/c{number}"
                assert (await call(server, "GET", path, server.bearer())).status == 200
                poll = asyncio.create_task(call(server, "GET", f"{path}?after=0&wait=0.2", server.bearer()))
                await poll
            before = await scrape(server)
            backend.take = lambda request: None
            async with asyncio.timeout(10):  # a reading counts for a second
                while (now := await scrape(server)).of("hybrid_hook_events_total") < 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
    assert before.of("hybrid_hook_events_waiting") == 2
    assert before.of("hybrid_hook_events_dropped_total") == 2
    assert before.of("hybrid_limits_hit_total", limit="hook_events_max") == 2
    assert before.of("hybrid_hook_events_total") == 0
    assert now.of("hybrid_hook_events_total") == len({event["id"] for event in backend.told}) == 2
    assert now.of("hybrid_hook_events_waiting") == 0


async def test_without_hooks_there_are_none() -> None:
    async with running_server(replace(settings_for(), metrics=True)) as server:
        assert not [name for name in (await scrape(server)).names if "hook_" in name and "limit" not in name]
