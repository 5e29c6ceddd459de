"""How a leg writes: what answers an attach leaves in one write, unless a part of it has to be waited for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, cast

import msgspec
import pytest

from hybrid.auth.verifier import TokenVerifier
from hybrid.broker.base import PresenceStore
from hybrid.broker.memory import MemoryBroker
from hybrid.broker.memory_nodes import MemoryNodes
from hybrid.broker.memory_proofs import MemoryProofStore
from hybrid.broker.memory_revocations import MemoryRevocationStore
from hybrid.broker.memory_tickets import MemoryTicketStore
from hybrid.engine.engine import Engine
from hybrid.engine.heartbeat import interval_s
from hybrid.engine.leg import StreamLeg
from hybrid.engine.plain import PlainStream
from hybrid.engine.reply import ReplyTo
from hybrid.engine.session_effects import Shown
from hybrid.engine.wire import WEBSOCKET_JSON
from hybrid.errors import ProtocolError
from hybrid.limits import Limits
from hybrid.model import Principal
from hybrid.protocol.codec import MSGPACK
from hybrid.protocol.commands import Attach
from hybrid.protocol.pushes import Push, Reply
from hybrid.settings import Namespace
from tests.support.clock import FakeClock
from tests.support.faulty_broker import FaultyBroker
from tests.support.links import FakeLink, items

ALICE = Principal(issuer="i", subject="alice", token_hash=b"1")
TURNS = 50


class _NoTokens:
    """A verifier that is never asked: the legs of these tests come with their principal."""

    async def close(self) -> None:
        pass


async def opened(broker: Any, clock: FakeClock) -> tuple[Engine, StreamLeg, FakeLink]:
    alone = MemoryNodes(clock)
    engine = Engine(
        node_store=alone,
        call_store=alone,
        broker=broker,
        presence_store=cast(PresenceStore, broker),
        ticket_store=MemoryTicketStore(clock, Limits()),
        revocation_store=MemoryRevocationStore(clock, Limits()),
        proof_store=MemoryProofStore(clock, Limits()),
        verifier=cast(TokenVerifier, _NoTokens()),
        namespace_for=lambda channel: Namespace("default", subscribe="token"),
        allows_anonymous=False,
        limits=Limits(),
        clock=clock,
    )
    await engine.start()
    link = FakeLink(items, is_fast=True)
    leg = StreamLeg(engine, WEBSOCKET_JSON, ALICE, None)
    leg.opened(cast(Any, link))
    return engine, leg, link


def attach(*channels: str, **more: Any) -> bytes:
    named = [{"channel": channel} for channel in channels]
    return json.dumps({"method": "attach", "attempt": 1, "confirm": True, "subscriptions": named, **more}).encode()


def writes(link: FakeLink) -> list[list[str]]:
    """The names of the pushes in each write."""
    return [[next(iter(json.loads(payload))) for payload in segment] for segment in cast(Any, link.segments)]


async def turns(until: Callable[[], bool] = lambda: False) -> None:
    """Let everybody else go on, for a bounded number of turns of the loop."""
    for _ in range(TURNS):
        if until():
            return
        await asyncio.sleep(0)


async def test_attached_and_subscribed_leave_in_one_write() -> None:
    """Two writes are two packets and two calls of the kernel, for each of a hundred thousand who come back at once."""
    clock = FakeClock()
    engine, leg, link = await opened(MemoryBroker(clock, Limits()), clock)
    leg.link_received(attach(), True)
    await turns()
    assert writes(link) == [["attached", "subscribed"]]
    other = FakeLink(items, is_fast=True)
    second = StreamLeg(engine, WEBSOCKET_JSON, ALICE, None)
    second.opened(cast(Any, other))
    await engine.hub.locate("news", None, 0)  # the channel is open here already, as nearly always
    second.link_received(attach("news"), True)
    await turns()
    assert writes(other) == [["attached", "subscribed"]]
    await engine.close()


async def test_attached_does_not_wait_for_a_channel_that_is_cold() -> None:
    """Its nonce is what the client waits for before it trusts the leg; a slow broker must not hold it back."""
    broker, clock = FaultyBroker(), FakeClock()
    engine, leg, link = await opened(broker, clock)
    broker.holding = asyncio.Event()
    leg.link_received(attach("news"), True)
    await turns()
    assert writes(link) == [["attached"]]
    broker.holding.set()
    await turns(lambda: len(link.segments) == 2)
    assert writes(link) == [["attached"], ["subscribed"]]
    await engine.close()


async def test_what_is_written_while_corked_keeps_its_order() -> None:
    clock = FakeClock()
    engine, leg, link = await opened(MemoryBroker(clock, Limits()), clock)
    leg.cork()
    for number in range(1, 4):
        leg.reply(Reply(id=number))
    assert link.segments == []
    leg.uncork()
    leg.uncork()
    leg.push(Push(reply=Reply(id=4)))
    assert [[json.loads(raw)["reply"]["id"] for raw in segment] for segment in cast(Any, link.segments)] == [
        [1, 2, 3],
        [4],
    ]
    await engine.close()


async def test_an_end_while_corked_says_everything_before_it() -> None:
    """The goodbye does not overtake what was gathered, and nothing of that is lost."""
    clock = FakeClock()
    engine, leg, link = await opened(MemoryBroker(clock, Limits()), clock)
    leg.cork()
    leg.reply(Reply(id=1))
    leg.end("draining")
    assert [name for write in writes(link) for name in write] == ["reply", "disconnect"]
    assert link.is_closed
    await engine.close()


async def test_who_was_revoked_while_its_link_was_opened_is_ended_then() -> None:
    """The door let it in, and the pass went by before there was anything to end."""
    clock = FakeClock()
    engine, _, link = await opened(MemoryBroker(clock, Limits()), clock)
    assert link.code == 0
    await engine.revoke(issuer="i", subject="alice")
    assert link.code == 4503
    late, plain = FakeLink(items, is_fast=True), FakeLink(items, is_fast=True)
    StreamLeg(engine, WEBSOCKET_JSON, ALICE, None).opened(cast(Any, late))
    PlainStream(engine, ("news",), {}, 0, ALICE, None).opened(cast(Any, plain), answers_probes=False)
    assert [one.code for one in (late, plain)] == [4503, 4503]
    await engine.close()


async def test_a_refresh_that_waited_while_its_token_was_revoked_is_refused() -> None:
    """Its token was checked at the door, of another node perhaps, and it stood behind others since."""
    clock = FakeClock()
    engine, leg, _ = await opened(MemoryBroker(clock, Limits()), clock)
    leg.link_received(attach(), True)
    await turns(lambda: leg.runner is not None)
    assert leg.runner is not None
    shown = msgspec.structs.replace(ALICE, token_id="t2", token_hash=b"2")
    replies: list[Reply] = []
    leg.runner.command(Shown(id=7, n=1, principal=shown), ReplyTo(replies.append, 7))
    await engine.revoke(issuer="i", jti="t2")
    await turns(lambda: bool(replies))
    assert replies[0].error is not None
    assert replies[0].error.number == 4501
    assert leg.runner.session.principal == ALICE
    await engine.close()


def beats(link: FakeLink) -> list[int]:
    return [json.loads(payload)["heartbeat"]["at_ms"] for payload in link.payloads if b'"heartbeat"' in payload]


async def test_a_heartbeat_that_asks_for_one_is_answered_at_once_and_many_are_answered_together() -> None:
    """A client in a loop costs two heartbeats a second, and still learns that the leg lives after its last question."""
    clock = FakeClock()
    engine, leg, link = await opened(MemoryBroker(clock, Limits()), clock)
    leg.link_received(b'{"method":"heartbeat","echo":7}', True)
    assert beats(link) == []  # not attached: there is no session to be alive for
    leg.link_received(attach(), True)
    await turns()
    leg.link_received(b'{"method":"heartbeat"}', True)
    assert beats(link) == []
    for number in range(1, 1_001):
        leg.link_received(b'{"method":"heartbeat","echo":%d}' % number, True)
    first_ms = int(clock.wall_s() * 1000)
    assert beats(link) == [first_ms]
    clock.advance(0.25)
    engine.wheel.advance(clock.monotonic_s())
    assert beats(link) == [first_ms]
    clock.advance(0.5)
    engine.wheel.advance(clock.monotonic_s())
    assert beats(link) == [first_ms, first_ms + 750]
    assert [b'"echo":1}' in link.payloads[-2], b'"echo":1000}' in link.payloads[-1]] == [True, True]
    clock.advance(1.0)
    engine.wheel.advance(clock.monotonic_s())
    assert len(beats(link)) == 2
    leg.link_received(b'{"method":"heartbeat","echo":7}', True)
    assert beats(link)[2:] == [first_ms + 1_750]
    await engine.close()


async def test_who_reads_nothing_is_owed_one_heartbeat_however_often_it_asks() -> None:
    clock = FakeClock()
    engine, leg, link = await opened(MemoryBroker(clock, Limits()), clock)
    leg.link_received(attach(), True)
    await turns()
    leg.link_paused()
    for _ in range(10):
        leg.link_received(b'{"method":"heartbeat","echo":7}', True)
        clock.advance(1.0)
        engine.wheel.advance(clock.monotonic_s())
    assert beats(link) == []
    leg.link_resumed()
    clock.advance(1.0)
    engine.wheel.advance(clock.monotonic_s())
    assert beats(link) == [int(clock.wall_s() * 1000)]
    await engine.close()


async def test_an_ended_leg_answers_nothing_any_more() -> None:
    clock = FakeClock()
    engine, leg, link = await opened(MemoryBroker(clock, Limits()), clock)
    leg.link_received(attach(), True)
    await turns()
    for _ in range(2):
        leg.link_received(b'{"method":"heartbeat","echo":7}', True)
    leg.end("draining")
    clock.advance(1.0)
    engine.wheel.advance(clock.monotonic_s())
    assert len(beats(link)) == 1
    await engine.close()


@pytest.mark.parametrize(
    ("asked_s", "given_s"),
    [
        *((None, 20.0), (0.0, 5.0), (4.9, 5.0), (5.0, 5.0), (7.0, 7.0), (20.0, 20.0), (20.1, 20.0), (3_600.0, 20.0)),
        *((float("nan"), 5.0), (float("inf"), 20.0)),
    ],
)
def test_a_leg_gets_the_heartbeats_it_asks_for_within_bounds(asked_s: float | None, given_s: float) -> None:
    assert interval_s(asked_s, Limits()) == given_s


def test_a_server_with_heartbeats_below_the_least_gives_its_own() -> None:
    assert interval_s(1.0, Limits(heartbeat_interval_s=2.0)) == 2.0


def test_an_interval_that_is_no_number_is_no_way_in() -> None:
    """JSON cannot say NaN, MessagePack can."""
    packed = msgspec.msgpack.encode({"method": "attach", "heartbeat_s": float("nan")})
    try:
        command = MSGPACK.decode_command(packed, 1_000)
    except ProtocolError:
        return
    assert isinstance(command, Attach)
    assert interval_s(command.heartbeat_s, Limits()) == 5.0


def ticks(engine: Engine, clock: FakeClock, seconds: float) -> None:
    for _ in range(round(seconds / 0.25)):
        clock.advance(0.25)
        engine.wheel.advance(clock.monotonic_s())


async def test_each_leg_of_a_session_has_heartbeats_and_patience_of_its_own() -> None:
    """A candidate over a hasty proxy does not make the current leg hasty, nor is it as patient as that one."""
    clock = FakeClock()
    engine, first, link = await opened(MemoryBroker(clock, Limits()), clock)
    start_s = link.last_received_s = clock.monotonic_s()
    first.link_received(attach(), True)
    await turns()
    assert first.runner is not None
    (answer, _) = (json.loads(payload) for payload in link.payloads)
    assert answer["attached"]["heartbeat_interval_s"] == 20.0
    other = FakeLink(items, is_fast=True)
    other.last_received_s = start_s
    second = StreamLeg(engine, WEBSOCKET_JSON, ALICE, None)
    second.opened(cast(Any, other))
    second.link_received(attach(attempt=2, confirm=False, session=first.runner.session.id, heartbeat_s=6), True)
    await turns()
    assert json.loads(other.payloads[0])["attached"]["heartbeat_interval_s"] == 6.0
    ticks(engine, clock, 7.0)
    assert (len(beats(link)), len(beats(other))) == (0, 1)
    second.link_received(b'{"method":"confirm","attempt":2}', True)
    await turns()
    other.last_received_s = clock.monotonic_s()
    ticks(engine, clock, 14.0)  # 2.5 intervals are 15 s
    assert (len(beats(other)), other.code) == (3, 0)
    ticks(engine, clock, 8.0)
    assert other.code == 4409
    assert clock.monotonic_s() - start_s == 29.0
    await engine.close()


async def test_a_leg_that_asks_for_nothing_is_as_patient_as_the_server() -> None:
    clock = FakeClock()
    engine, leg, link = await opened(MemoryBroker(clock, Limits()), clock)
    link.last_received_s = clock.monotonic_s()
    leg.link_received(attach(), True)
    await turns()
    ticks(engine, clock, 50.0)
    assert (len(beats(link)), link.code) == (2, 0)
    ticks(engine, clock, 11.0)
    assert link.code == 4409
    await engine.close()
