"""A backend decides over HTTP who may read, write and what calls give, whatever carries the client."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from hybrid.errors import HybridError
from hybrid.hooks.breaker import REST_MAX_S
from hybrid.hooks.verdicts import SETTLED_S
from hybrid.limits import Limits
from hybrid.settings import HooksSettings, Namespace, Settings
from tests.support.receiver import SECRET, Receiver, Request, receiver, status
from tests.support.world import LIMITS, Clock, Pipe, settings, until, world


def settings_of(here: Receiver, handoff: bool, limits: Limits = LIMITS, **options: Any) -> Settings:
    made = settings(handoff, limits=limits)
    hook = Namespace("hook", subscribe="hook", publish="hook", presence=True)
    hooks = HooksSettings(url=here.url, secrets=(SECRET,), **options)
    return replace(made, hooks=hooks, namespaces={**made.namespaces, "hook": hook})


def refusal(request: Request) -> dict[str, Any]:
    return {"allow": not request.json["channel"].endswith("closed"), "reason": "members only", "cache_s": 60}


async def test_the_backend_decides_who_reads_and_writes(pipe: Pipe, handoff: bool) -> None:
    async with receiver() as backend, world(settings_of(backend, handoff)) as here:
        backend.answer = refusal
        client = await here.client(pipe, scope="")  # whatever the token says, and it says nothing
        reader = await here.read(client, "hook:open")
        await client.publish("hook:open", 1)
        await reader.until(1)
        for what in (client.subscribe("hook:closed"), client.publish("hook:closed", 1)):
            with pytest.raises(HybridError) as caught:
                await what
            assert caught.value.row.name == "forbidden"
        assert [entry.subject for entry in await client.presence("hook:open")] == ["alice"]
        await client.publish("hook:open", 2)
        await reader.until(2)
        reader.check()
        asked = {(item["ask"], item["channel"], item["principal"]["subject"]) for item in backend.asked}
        assert asked == {
            (ask, f"hook:{name}", "alice") for ask in ("subscribe", "publish") for name in ("open", "closed")
        }
        nodes = 1 + len(here.others)
        assert len(backend.asked) <= 4 * nodes, "answers are used for as long as they say"


async def test_a_backend_that_is_away_is_waited_for(pipe: Pipe) -> None:
    """A client that comes meanwhile is not turned away for good: it is let in when the backend is back."""
    async with receiver() as backend, world(settings_of(backend, True)) as here:
        client = await here.client(pipe, scope="")
        await backend.stop()
        subscribing = asyncio.create_task(here.read(client, "hook:open"))
        with pytest.raises(HybridError) as caught:
            await client.publish("hook:open", 0)
        assert caught.value.row.name == "keys_unavailable"
        assert not subscribing.done()
        await backend.start()
        reader = await subscribing
        await here.publish("hook:open", 1)
        await reader.until(1)


async def test_calls_that_no_handler_has_are_answered_by_the_backend(pipe: Pipe, handoff: bool) -> None:
    def answer(request: Request) -> Any:
        if request.json["name"] == "shop.fail":
            return {"error": "sold out"}
        return {"result": {"echo": request.json.get("data"), "for": request.json["principal"]["subject"]}}

    async with receiver() as backend, world(settings_of(backend, handoff, calls=("shop.*", "add"))) as here:
        backend.answer = answer

        async def own(call: Any) -> Any:
            return "in process"

        for server in (here.server, *here.others):
            server.engine.calls.register("add", own)
        client = await here.client(pipe)
        assert await client.call("shop.buy", [1, "é"], key="k1") == {"echo": [1, "é"], "for": "alice"}
        assert await client.call("shop.buy", [1, "é"], key="k1") == {"echo": [1, "é"], "for": "alice"}
        assert [item["key"] for item in backend.of("call")] == ["k1"], "carried out once"
        assert await client.call("add") == "in process"
        for name, error, detail in (("shop.fail", "call_failed", "sold out"), ("other", "not_found", "no such call")):
            with pytest.raises(HybridError, match=detail) as caught:
                await client.call(name)
            assert caught.value.row.name == error


async def test_a_fresh_token_is_asked_about_anew_and_what_it_may_not_read_ends(pipe: Pipe) -> None:
    async with receiver() as backend, world(settings_of(backend, True)) as here:
        backend.answer = refusal
        client = await here.client(pipe, scope="")
        kept, lost = await here.read(client, "hook:open"), await here.read(client, "hook:other")
        backend.answer = lambda request: {"allow": request.json["channel"] == "hook:open"}
        await client.refresh()
        await lost.task
        assert lost.error is not None
        assert lost.error.row.name == "forbidden"
        await here.publish("hook:open", 1)
        await kept.until(1)
        kept.check()


async def test_a_live_subscription_outlives_the_answer_and_a_backend_that_is_away(pipe: Pipe) -> None:
    clock = Clock()
    async with receiver() as backend, world(settings_of(backend, True), clock=clock) as here:
        client = await here.client(pipe, scope="")
        reader = await here.read(client, "hook:open")
        await backend.stop()
        clock.advance(SETTLED_S + 1)
        await here.publish("hook:open", 1)
        await reader.until(1)
        await client.refresh()  # nobody can be asked about this token yet
        await here.publish("hook:open", 2)
        if pipe.transport == "longpoll":  # whose list of channels was sealed for the former token
            await backend.start()
            clock.advance(REST_MAX_S)
        await reader.until(2)
        reader.check()


async def test_a_call_that_was_not_sent_may_be_repeated_with_its_key(pipe: Pipe) -> None:
    limits = Limits(hook_asks_max=1, reconnect_delay_max_ms=50)
    gate = asyncio.Event()

    async def wait(request: Request) -> Any:
        await gate.wait()
        return {"result": request.json.get("key")}

    async with receiver() as backend, world(settings_of(backend, True, limits, calls=("*",))) as here:
        backend.answer = wait
        client = await here.client(pipe)
        first = asyncio.create_task(client.call("slow", key="a"))
        await backend.until(lambda: len(backend.asked) == 1)
        with pytest.raises(HybridError) as caught:
            await client.call("slow", key="b")
        assert caught.value.row.name == "limit_exceeded"
        assert caught.value.retry_after_s
        gate.set()
        assert await first == "a"
        await until(lambda: not here.server.engine.calls._open)
        assert await client.call("slow", key="b") == "b"


async def test_a_call_that_may_have_been_heard_is_of_unknown_outcome(pipe: Pipe) -> None:
    limits = Limits(hook_ask_timeout_s=0.5, reconnect_delay_max_ms=50)

    async def never(request: Request) -> Any:
        await asyncio.Event().wait()

    async with receiver() as backend, world(settings_of(backend, True, limits, calls=("*",))) as here:
        client = await here.client(pipe)
        for answer, error in ((never, "outcome_unknown"), (lambda request: status(500), "call_failed")):
            backend.answer = answer
            before = len(backend.requests)
            with pytest.raises(HybridError) as caught:
                await client.call("pay", 1, key=error)
            assert caught.value.row.name == error
            with pytest.raises(HybridError) as caught:
                await client.call("pay", 1, key=error)
            assert caught.value.row.name == error
            assert len(backend.requests) == before + 1, "asked once"


async def test_made_up_channels_of_one_client_leave_room_for_others(pipe: Pipe) -> None:
    limits = Limits(hook_asks_max=3, hook_asks_per_principal_max=2, reconnect_delay_max_ms=50)
    gate = asyncio.Event()

    async def slow(request: Request) -> Any:
        if request.json["channel"].startswith("hook:made-up"):
            await gate.wait()
        return {"allow": True}

    async with receiver() as backend, world(settings_of(backend, True, limits)) as here:
        backend.answer = slow
        flood = [await here.client(pipe) for _ in range(3)]
        bystander = await here.client(pipe, "bob")
        first = [asyncio.create_task(client.publish(f"hook:made-up{n}", n)) for n, client in enumerate(flood[:2])]
        await backend.until(lambda: len(backend.asked) == 2)
        with pytest.raises(HybridError, match="hook_asks_per_principal_max") as caught:
            await flood[2].publish("hook:made-up2", 2)
        assert caught.value.row.name == "keys_unavailable"
        assert caught.value.retry_after_s
        assert here.server.engine.counts.limits["hook_asks_per_principal_max"] >= 1
        await bystander.publish("hook:open", 1)
        gate.set()
        await asyncio.gather(*first)
