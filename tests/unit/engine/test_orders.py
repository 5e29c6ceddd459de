"""Orders between nodes, and how what several of them list becomes one page."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.broker.memory_nodes import MemoryNodes
from hybrid.engine.farewells import KEPT_MAX, KEPT_S, Farewells
from hybrid.engine.nodes import NodeInfo, Nodes
from hybrid.engine.orders import Orders, pages
from hybrid.engine.polled import PolledLeg
from hybrid.engine.tasks import Tasks
from hybrid.engine.wheel import Wheel
from hybrid.errors import BrokerError, HybridError, LimitError, ProtocolError
from hybrid.limits import Limits
from hybrid.model import ANONYMOUS, Principal
from hybrid.protocol.control import CONTROL_KEY_BYTES, ControlCodec, Order, Outcome
from hybrid.protocol.orders import CountChannel, ListChannels, Target
from tests.support.clock import FakeClock
from tests.support.virtual_time import clock, in_virtual_time, settle

ALICE = Principal(issuer="i", subject="alice", client="web")
ORDER = CountChannel("a")


class Node:
    """A node with nothing but orders, on a store that all share."""

    def __init__(self, name: str, store: MemoryNodes, limits: Limits | None = None) -> None:
        self.name = name
        self.store = store
        self.codec = ControlCodec(b"k" * CONTROL_KEY_BYTES, name)
        self.tasks = Tasks()
        self.wheel = Wheel(clock())
        self.nodes = Nodes(
            name,
            store,
            self.wheel,
            self.tasks,
            describe=lambda: NodeInfo(id=name),
            heard=self.heard,
            lost=lambda: None,
        )
        self.orders = Orders(self.nodes, limits or Limits(), self.tasks, self.tell)
        self.orders.carry_out = self.carry_out
        self.asked: list[Any] = []
        self.answer: Any = 1
        self.is_deaf = False

    async def tell(self, node: str, message: Any) -> bool:
        return await self.store.tell(node, self.codec.seal(node, message))

    def heard(self, sealed: bytes) -> None:
        opened = self.codec.open(sealed)
        assert opened is not None
        sender, message = opened
        assert isinstance(message, Order | Outcome)
        if not self.is_deaf:
            self.orders.heard(sender, message)

    async def carry_out(self, order: Any) -> Any:
        self.asked.append(order)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


async def three(limits: Limits | None = None) -> list[Node]:
    store = MemoryNodes(clock())
    made = [Node(name, store, limits) for name in "abc"]
    for node in made:
        await node.nodes.start()
    return made


async def close(made: list[Node]) -> None:
    for node in made:
        await node.tasks.close()
        node.wheel.close()


@in_virtual_time
async def test_each_node_carries_it_out_once_and_is_asked_though_it_came_a_moment_ago() -> None:
    made = await three()
    gathered = await made[0].orders.give_all(ORDER, int)
    assert (gathered.answers, gathered.unanswered) == ([1, 1, 1], [])
    assert [node.asked for node in made] == [[ORDER]] * 3
    assert await made[2].orders.give("b", ORDER, int) == 1
    assert await made[2].orders.give("c", ORDER, int) == 1
    await close(made)


@in_virtual_time
async def test_who_is_silent_refuses_fails_or_answers_nonsense_is_named() -> None:
    for answer, is_deaf in ((1, True), (LimitError("x"), False), (RuntimeError("bug"), False), ("one", False)):
        made = await three()
        made[1].answer, made[1].is_deaf = answer, is_deaf
        gathered = await made[0].orders.give_all(ORDER, int)
        assert (gathered.answers, gathered.unanswered) == ([1, 1], ["b"]), answer
        with pytest.raises(HybridError):
            await made[0].orders.give("b", ORDER, int)
        await close(made)


@in_virtual_time
async def test_who_is_gone_is_not_named() -> None:
    made = await three()
    del made[0].store._heard["b"]
    gathered = await made[0].orders.give_all(ORDER, int)
    assert (gathered.answers, gathered.unanswered) == ([1, 1], [])
    for gone in ("b", "nobody"):
        with pytest.raises(ProtocolError, match="no such node"):
            await made[0].orders.give(gone, ORDER, int)
    await close(made)


@in_virtual_time
async def test_what_we_refuse_ourselves_is_raised() -> None:
    made = await three()
    made[0].answer = ProtocolError("bad_request")
    with pytest.raises(ProtocolError):
        await made[0].orders.give_all(ORDER, int)
    await close(made)


@in_virtual_time
async def test_an_order_of_a_later_version_is_not_answered() -> None:
    made = await three()
    unknown = msgspec.msgpack.encode({"type": "unheard-of"})
    await made[0].tell("b", Order(7, unknown))
    await made[0].tell("b", Outcome(99, b""))  # nobody waits for it
    await settle()
    assert made[1].asked == []
    await close(made)


@in_virtual_time
async def test_orders_under_way_are_bounded_on_both_sides() -> None:
    made = await three(Limits(carried_max=1))
    waits = asyncio.Event()

    async def slow(order: Any) -> int:
        await waits.wait()
        return 2

    made[1].orders.carry_out = slow
    first = asyncio.create_task(made[0].orders.give("b", ORDER, int))
    await settle()
    with pytest.raises(LimitError, match="carried_max"):
        await made[0].orders.give("b", ORDER, int)
    with pytest.raises(HybridError, match="carried_max"):
        await made[2].orders.give("b", ORDER, int)
    waits.set()
    assert await first == 2
    await close(made)


@in_virtual_time
async def test_without_the_broker_nothing_is_done() -> None:
    made = await three()

    async def away(*arguments: Any) -> Any:
        raise BrokerError

    made[0].store.keep = away  # type: ignore[method-assign]
    with pytest.raises(BrokerError):
        await made[0].orders.give_all(ORDER, int)
    assert [node.asked for node in made] == [[], [], []]
    await close(made)


@given(
    st.lists(st.sets(st.integers(0, 60).map(lambda number: f"{number:02}")), min_size=1, max_size=4),
    st.integers(1, 7),
)
def test_pages_of_several_nodes_hold_each_name_once_and_in_order(listed: list[set[str]], limit: int) -> None:
    after, got, has_more = "", list[str](), True
    while has_more:
        parts = []
        for names in listed:
            rest = sorted(name for name in names if name > after)
            parts.append((rest[:limit], len(rest) > limit))
        page, has_more = pages(parts, limit)
        assert len(page) <= limit
        for name in page:  # what is in a page is in the part of every node that has it, so it is counted whole
            for names, (part, _) in zip(listed, parts, strict=True):
                assert (name in names) == (name in part)
        got += page
        after = page[-1] if page else after
        assert page or not has_more
    assert got == sorted(set[str]().union(*listed))


def test_whom_a_target_means() -> None:
    assert Target(subject="alice").matches(ALICE)
    assert Target(subject="alice", issuer="i").matches(ALICE)
    assert not Target(subject="alice", issuer="j").matches(ALICE)
    assert Target(client="web").matches(ALICE)
    assert not Target(client="web").matches(ANONYMOUS)
    assert Target(session="s", issuer="j").matches(ANONYMOUS, "s")
    assert not Target(session="s").matches(ALICE, "t")
    for wrong in (Target(), Target(subject="a", session="b"), Target(client=""), Target(subject="x" * 256)):
        with pytest.raises(ProtocolError):
            wrong.check()


def test_which_channels_a_list_has() -> None:
    order = ListChannels(["chat:*", "news"], 10, prefix="chat:a", after="chat:ab")
    assert [name for name in ("chat:aa", "chat:ab", "chat:ac", "chat:b", "news") if order.matches(name)] == ["chat:ac"]
    assert ListChannels(["news"], 10).matches("news")
    assert not ListChannels(["news"], 10).matches("news2")
    assert not ListChannels([], 10).matches("news")


def test_farewells_are_for_one_party_and_bounded_in_time_and_number() -> None:
    time = FakeClock()
    farewells, leg = Farewells(time), PolledLeg(ALICE)
    farewells.keep("s", leg)
    assert farewells.of("s", ALICE) is leg
    assert farewells.of("s", Principal(issuer="i", subject="bob")) is None
    assert farewells.of("t", ALICE) is None
    time.advance(KEPT_S + 1)
    assert farewells.of("s", ALICE) is None
    for number in range(KEPT_MAX + 1):
        farewells.keep(f"s{number}", leg)
    assert len(farewells) == KEPT_MAX
    assert farewells.of("s0", ALICE) is None
    assert farewells.of(f"s{KEPT_MAX}", ALICE) is leg
