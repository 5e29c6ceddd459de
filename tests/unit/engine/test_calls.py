"""Calls are carried out at most once for each key, by registered handlers only, and bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from hybrid.broker.memory_nodes import MemoryNodes
from hybrid.engine.calls import Call, Calls
from hybrid.engine.tasks import Tasks
from hybrid.errors import BrokerError, ChannelError, HybridError, LimitError
from hybrid.limits import Limits
from hybrid.model import ANONYMOUS, Principal
from tests.support.clock import FakeClock

ALICE = Principal(issuer="i", subject="alice")
BOB = Principal(issuer="i", subject="bob")
LIMITS = Limits(calls_max=2, call_results_max=2, call_timeout_s=0.01)


class Handler:
    """Counts its calls; answers when it is let."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, call: Call) -> Any:
        self.calls.append(call)
        await self.gate.wait()
        return {"n": len(self.calls), "data": call.data}


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    owner = Tasks()
    yield owner
    await owner.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(clock: FakeClock) -> MemoryNodes:
    return MemoryNodes(clock)


class Everybody:
    """Implements what calls need to know of the nodes."""

    def __init__(self, node: str = "here", there: set[str] | None = None) -> None:
        self.id = node
        self.there = there if there is not None else {node}
        self.joining: set[str] = set()

    def is_there(self, node: str) -> bool:
        return node in self.there

    async def tell(self) -> None:
        self.there |= self.joining


@pytest.fixture
def calls(tasks: Tasks, clock: FakeClock, store: MemoryNodes) -> Calls:
    return Calls(replace(LIMITS, call_timeout_s=30.0), clock, tasks, store, Everybody())


async def refused(calls: Calls, *arguments: Any) -> str:
    with pytest.raises(HybridError) as caught:
        await calls.call(*arguments)
    return caught.value.row.name


async def test_a_handler_answers_with_json(calls: Calls) -> None:
    calls.register("echo", Handler())
    assert await calls.call(ALICE, "echo", b'{"a": 1}', None) == b'{"n":1,"data":{"a":1}}'
    assert await calls.call(ALICE, "echo", b"", None) == b'{"n":2,"data":null}'


async def test_only_what_is_registered_can_be_called_and_only_with_a_token(calls: Calls, clock: FakeClock) -> None:
    calls.register("echo", Handler())
    calls.register("open", Handler(), allow_anonymous=True)
    assert await refused(calls, ALICE, "other", b"", None) == "not_found"
    assert await refused(calls, ANONYMOUS, "echo", b"", None) == "unauthorized"
    assert await calls.call(ANONYMOUS, "open", b"", None)
    gone = Principal(issuer="i", subject="alice", expires_at_s=clock.wall_s())
    assert await refused(calls, gone, "echo", b"", None) == "token_expired"
    with pytest.raises(ValueError, match="registered already"):
        calls.register("echo", Handler())


async def test_a_repeat_waits_for_the_first_and_gets_its_result(calls: Calls) -> None:
    handler = Handler()
    handler.gate.clear()
    calls.register("echo", handler)
    first = asyncio.ensure_future(calls.call(ALICE, "echo", b"1", "k"))
    await asyncio.sleep(0)
    repeat = asyncio.ensure_future(calls.call(ALICE, "echo", b"1", "k"))
    await asyncio.sleep(0)
    first.cancel()  # its leg is gone; the call goes on
    handler.gate.set()
    assert await repeat == b'{"n":1,"data":1}'
    assert await calls.call(ALICE, "echo", b"1", "k") == b'{"n":1,"data":1}'
    assert len(handler.calls) == 1


async def test_a_key_belongs_to_its_principal_and_its_body(calls: Calls) -> None:
    handler = Handler()
    calls.register("echo", handler)
    await calls.call(ALICE, "echo", b"1", "k")
    assert await refused(calls, ALICE, "echo", b"2", "k") == "key_conflict"
    assert await calls.call(BOB, "echo", b"2", "k") == b'{"n":2,"data":2}'


async def test_results_are_forgotten_after_the_window(calls: Calls, clock: FakeClock) -> None:
    handler = Handler()
    calls.register("echo", handler)
    await calls.call(ALICE, "echo", b"1", "k")
    clock.advance(LIMITS.idempotency_window_s)
    assert await calls.call(ALICE, "echo", b"1", "k") == b'{"n":2,"data":1}'


async def test_bounds_of_running_calls_and_of_kept_results(calls: Calls) -> None:
    handler = Handler()
    handler.gate.clear()
    calls.register("echo", handler)
    running = [asyncio.ensure_future(calls.call(ALICE, "echo", b"1", None)) for _ in range(LIMITS.calls_max)]
    await asyncio.sleep(0)
    assert await refused(calls, ALICE, "echo", b"1", None) == "limit_exceeded"
    handler.gate.set()
    await asyncio.gather(*running)
    for key in "ab":
        await calls.call(ALICE, "echo", b"1", key)
    assert await refused(calls, ALICE, "echo", b"1", "c") == "limit_exceeded"


async def test_what_goes_wrong_in_a_handler_stays_there(calls: Calls, caplog: pytest.LogCaptureFixture) -> None:
    async def fail(call: Call) -> None:
        raise RuntimeError("secret detail")

    async def refuse(call: Call) -> None:
        raise ChannelError("forbidden", "Not you.")

    async def strange(call: Call) -> object:
        return object()

    calls.register("fail", fail)
    calls.register("refuse", refuse)
    calls.register("strange", strange)
    assert await refused(calls, ALICE, "fail", b"", None) == "call_failed"
    assert "secret detail" in caplog.text
    assert await refused(calls, ALICE, "refuse", b"", None) == "forbidden"
    assert await refused(calls, ALICE, "strange", b"", None) == "call_failed"


async def test_a_handler_that_takes_too_long_is_ended(tasks: Tasks, clock: FakeClock) -> None:
    calls = Calls(LIMITS, clock, tasks, MemoryNodes(clock), Everybody())
    handler = Handler()
    handler.gate.clear()
    calls.register("echo", handler)
    assert await refused(calls, ALICE, "echo", b"", None) == "outcome_unknown"


async def test_a_call_that_runs_at_a_node_that_has_just_joined_is_waited_for(
    tasks: Tasks, clock: FakeClock, store: MemoryNodes
) -> None:
    """It was `outcome_unknown` at once, and stayed so for five minutes, although the call had ended well."""
    limits, nodes = replace(LIMITS, call_timeout_s=30.0), Everybody("old")
    handler = Handler()
    handler.gate.clear()
    young = Calls(limits, clock, tasks, store, Everybody("young"))
    old = Calls(limits, clock, tasks, store, nodes)
    for calls in (young, old):
        calls.register("add", handler)
    first = asyncio.create_task(young.call(ALICE, "add", b"1", "k"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert handler.calls
    assert await refused(old, ALICE, "add", b"1", "k") == "outcome_unknown"  # it is in no list
    nodes.joining.add("young")
    again = asyncio.create_task(old.call(ALICE, "add", b"1", "k"))
    await asyncio.sleep(0)
    handler.gate.set()
    assert await again == await first
    assert len(handler.calls) == 1


async def test_what_is_done_once_for_a_key_gives_every_repeat_the_first_answer(
    tasks: Tasks, clock: FakeClock, store: MemoryNodes
) -> None:
    here = Calls(LIMITS, clock, tasks, store, Everybody())
    there = Calls(LIMITS, clock, tasks, store, Everybody("there", {"there", "here"}))
    handler = Handler()
    first = await here.once(ALICE, "POST /x", b'{"a": 1}', "k", handler)
    for calls in (here, there):
        assert await calls.once(ALICE, "POST /x", b'{"a": 1}', "k", handler) == first
        with pytest.raises(HybridError, match="another body"):
            await calls.once(ALICE, "POST /x", b'{"a": 2}', "k", handler)
    assert len(handler.calls) == 1
    await here.once(BOB, "POST /x", b'{"a": 1}', "k", handler)  # another one's key
    assert len(handler.calls) == 2


async def test_what_the_broker_has_kept_from_being_done_may_be_asked_for_again(
    tasks: Tasks, clock: FakeClock, store: MemoryNodes
) -> None:
    here = Calls(LIMITS, clock, tasks, store, Everybody())
    there = Calls(LIMITS, clock, tasks, store, Everybody("there", {"there", "here"}))
    failures: list[HybridError] = [BrokerError(), LimitError("x"), ChannelError("forbidden")]

    async def act(call: Call) -> int:
        if failures:
            raise failures.pop(0)
        return 1

    for calls, name in ((here, "broker_unavailable"), (there, "limit_exceeded"), (here, "forbidden")):
        with pytest.raises(HybridError) as refused:
            await calls.once(ALICE, "POST /x", b"{}", "k", act)
        assert refused.value.row.name == name
        clock.advance(0.01)
    with pytest.raises(HybridError, match="may not do that"):  # this one is an answer
        await there.once(ALICE, "POST /x", b"{}", "k", act)
    assert not failures
