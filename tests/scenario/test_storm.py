"""More clients than can be let in at once: who is told to come later, how, and that all of them get in."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest

from hybrid.broker.memory_tickets import MemoryTicketStore
from hybrid.broker.redis.tickets import RedisTicketStore
from hybrid.errors import BrokerError
from tests.support.bytewise import EVENTS, Answer, call, event_stream, text, websocket
from tests.support.raw import Ended, RawLeg, attach_of
from tests.support.server import RunningServer
from tests.support.sessions import STREAM, attach, attached, heard, post
from tests.support.wire import TRANSPORTS
from tests.support.world import LIMITS, Clock, Pipe, World, settings, world

CHANNEL = "chat:lobby"
BUSY = 1012
ONE = replace(LIMITS, accepts_per_s=0.5, admissions_per_s=0.5, admissions_burst_s=1.0)
"""One attach, and the next one a second later."""


async def refusal(here: World, transport: str, subject: str, **more: Any) -> int:
    """Attach, and return how many milliseconds to wait."""
    if transport == "websocket":
        leg = await here.raw(transport, attach_of(1, CHANNEL, **more), here.door(subject=subject))
        told = (await leg.next("disconnect"))["disconnect"]
        assert (told["code"], told.get("reconnect", True)) == (BUSY, True)
        assert "admissions_per_s" in told["reason"]
        with pytest.raises(Ended) as caught:
            await leg.next("attached")
        assert caught.value.code == BUSY
        return int(told["delay_ms"])
    answer = await posted(here.server, transport, subject, **more)
    assert (answer.status, answer.name) == (503, "draining")
    assert "connection" not in answer.headers, "the one who comes back is expected at this process"
    delay_s = answer.json()["retry_after_s"]
    assert delay_s <= int(answer.headers["retry-after"]) < delay_s + 1
    return round(delay_s * 1000)


async def posted(server: RunningServer, transport: str, subject: str, **more: Any) -> Answer:
    headers = {**server.bearer(subject), **(EVENTS if transport == "sse" else {})}
    return await call(server, "POST", STREAM, headers, json.dumps(attach(CHANNEL, **more)).encode())


async def let_in(here: World, transport: str, subject: str, **more: Any) -> RawLeg:
    leg = await here.raw(transport, attach_of(1, CHANNEL, **more), here.door(subject=subject))
    await leg.next("subscribed")
    return leg


@pytest.mark.one_node("each has a rate of its own")
async def test_whoever_is_too_many_is_told_when_to_come_and_gets_in_then(transport: str, handoff: bool) -> None:
    clock = Clock()
    async with world(settings(handoff, limits=ONE), clock=clock) as here:
        first = await let_in(here, transport, "alice")
        delays_ms = [await refusal(here, transport, name) for name in ("bob", "carol")]
        assert 0 < delays_ms[0] <= 1_000
        assert 1_000 < delays_ms[1] <= 3_000
        await here.publish(CHANNEL, 1)
        assert await first.publications(1) == [1], "who is in notices nothing; its polls and commands are no attaches"
        assert "error" not in await first.command(method="history", channel=CHANNEL)
        clock.advance(1.0)
        assert await refusal(here, transport, "dave") > 3_000
        await let_in(here, transport, "bob")
        clock.advance(2.0)
        await let_in(here, transport, "carol")
        assert len(here.server.engine.intake.arrivals) == 1


@pytest.mark.one_node("each has a rate of its own")
async def test_a_session_that_comes_back_counts_and_keeps_its_place(transport: str, handoff: bool) -> None:
    clock = Clock()
    async with world(settings(handoff, limits=ONE), clock=clock) as here:
        first = await let_in(here, transport, "alice")
        first.close()
        session = first.session
        delays_ms = [await refusal(here, transport, "alice", session=session) for _ in range(5)]
        assert delays_ms == sorted(delays_ms, reverse=True), "one place, however often it asks"
        assert len(here.server.engine.intake.arrivals) == 1
        clock.advance(1.0)
        leg = await here.raw(transport, attach_of(2, CHANNEL, session=session), here.door())
        assert (await leg.next("attached"))["attached"]["is_resumed"]


@pytest.mark.one_node("each has a rate of its own")
async def test_a_ticket_for_a_session_is_its_admission(handoff: bool) -> None:
    """An `EventSource` can be told nothing at its stream: a refusal would have used the ticket up."""
    async with world(settings(handoff, limits=ONE), clock=Clock()) as here:
        wanted = {"purpose": "session", "attach": attach(CHANNEL)}
        ticket = (await post(here.server, "/v1/ticket", wanted)).json()["ticket"]
        refused = await post(here.server, "/v1/ticket", wanted)
        assert (refused.status, refused.name) == (503, "draining")
        assert await refusal(here, "sse", "bob") > 0
        async with event_stream(here.server, f"{STREAM}?ticket={ticket}", {}) as stream:
            assert "attached" in json.loads((await stream.event())["data"])
        for_channels = {"purpose": "channels", "channels": [CHANNEL]}
        assert (await post(here.server, "/v1/ticket", for_channels)).status == 201


@pytest.mark.one_node("its broker is taken away")
async def test_those_whom_a_broker_that_is_away_keeps_out_do_not_come_back_together(
    handoff: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = BrokerError(retry_after_s=1.0)

    async def away(*_: object) -> None:
        raise same

    wanted = {"purpose": "session", "attach": attach(CHANNEL)}
    async with world(handoff) as here:
        ticket = (await post(here.server, "/v1/ticket", wanted)).json()["ticket"]
        for store in (MemoryTicketStore, RedisTicketStore):
            monkeypatch.setattr(store, "put", away)
            monkeypatch.setattr(store, "take", away)
        answers = [await post(here.server, "/v1/ticket", wanted) for _ in range(5)]
        answers += [await call(here.server, "GET", f"{STREAM}?ticket={ticket}", {}) for _ in range(5)]
    assert {(answer.status, answer.name) for answer in answers} == {(503, "broker_unavailable")}
    told = [answer.json()["retry_after_s"] for answer in answers]
    assert len(set(told)) > 5, "of 10; they are told in whole milliseconds, two of which may be the same"
    assert all(1.0 <= delay_s <= 5.0 for delay_s in told)


@pytest.mark.one_node("each has a rate of its own")
async def test_tickets_that_were_kept_are_no_way_past_the_others(handoff: bool) -> None:
    clock = Clock()
    async with world(settings(handoff, limits=ONE), clock=clock) as here, AsyncExitStack() as stack:
        tickets = []
        for _ in range(4):
            wanted = {"purpose": "session", "attach": attach(CHANNEL)}
            tickets.append((await post(here.server, "/v1/ticket", wanted)).json()["ticket"])
            clock.advance(2.0)
        for ticket in tickets:
            stream = await stack.enter_async_context(event_stream(here.server, f"{STREAM}?ticket={ticket}", {}))
            assert "attached" in json.loads((await stream.event())["data"])
        assert await refusal(here, "longpoll", "bob") > 4_000


@pytest.mark.one_node("each has a rate of its own")
async def test_who_is_no_client_takes_no_place(handoff: bool) -> None:
    """Neither whoever shows no token, or a bad one, nor an attach that is refused anyway."""
    async with world(settings(handoff, limits=ONE), clock=Clock()) as here:
        server = here.server
        bad = {"Authorization": "Bearer x.y.z"}
        for headers in ({}, bad, {**EVENTS, **bad}):
            assert (await call(server, "POST", STREAM, headers, json.dumps(attach()).encode())).status == 401
        async with websocket(server, STREAM) as socket:
            socket.send(text({"method": "auth", "token": "x.y.z"}) + text(attach()))
            assert (await heard(socket, "disconnect"))["code"] == 4501
        late = server.bearer(lifetime_s=-28)  # which clocks that differ may explain, but no session lives that long
        for headers in ({}, EVENTS):
            body = json.dumps(attach()).encode()
            assert (await call(server, "POST", STREAM, {**late, **headers}, body)).name == "token_expired"
        async with websocket(server, STREAM, late) as socket:
            socket.send(text(attach()))
            assert (await heard(socket, "disconnect"))["code"] == 4401
        wanted = json.dumps({"purpose": "session", "attach": attach()}).encode()
        assert (await call(server, "POST", "/v1/ticket", late, wanted)).name == "token_expired"
        ended = server.bearer(lifetime_s=-5)
        assert (await call(server, "POST", "/v1/ticket", ended, wanted)).name == "token_expired"
        twice = json.dumps(attach(CHANNEL, CHANNEL)).encode()
        for headers in ({}, EVENTS):
            assert (await call(server, "POST", STREAM, {**server.bearer(), **headers}, twice)).status == 400
        async with websocket(server, STREAM, server.bearer()) as socket:
            await attached(socket, CHANNEL)
        assert len(server.engine.intake.arrivals) == 0


@pytest.mark.one_node("each has a rate of its own")
async def test_a_poll_that_begins_anew_is_an_attach_and_one_that_goes_on_is_free(handoff: bool) -> None:
    """Or whoever makes up sessions would get past the others."""
    clock = Clock()
    async with world(settings(handoff, limits=ONE), clock=clock) as here:
        server = here.server
        answer = (await posted(server, "longpoll", "alice")).json()
        session, sealed = answer["pushes"][0]["attached"]["session"], answer["pushes"][1]["subscribed"]["sealed"]

        async def poll(session: str, subject: str, **more: Any) -> Answer:
            body = {"method": "poll", "session": session, "attempt": 1, "last_seq": 0, "wait_s": 0, **more}
            return await call(server, "POST", STREAM, server.bearer(subject), json.dumps(body).encode())

        refused = [await poll(f"made-up-{number}", "mallory", positions=[]) for number in range(3)]
        assert {(answer.status, answer.name) for answer in refused} == {(503, "draining")}
        assert all(answer.json()["retry_after_s"] > 0 for answer in refused)
        assert len(server.engine.registry) == 1
        position = {"channel": CHANNEL, "position": answer["pushes"][1]["subscribed"]["channels"][0]["position"]}
        for _ in range(3):
            going_on = await poll(session, "alice", positions=[position], sealed=sealed)
            assert going_on.status == 200
            assert not any("attached" in push for push in going_on.json()["pushes"])
        refusal = await poll("forgotten", "bob", positions=[position])
        clock.advance(refusal.json()["retry_after_s"])
        assert "attached" in (await poll("forgotten", "bob", positions=[position])).json()["pushes"][0]
        assert server.engine.transport_counts.legs == {"longpoll": 1}, "it was counted where it began"


@pytest.mark.parametrize("carried", [*map(Pipe, TRANSPORTS), TRANSPORTS], ids=str)
async def test_all_clients_of_a_storm_get_in(carried: Pipe | tuple[str, ...], handoff: bool) -> None:
    """hybrid's own: each comes when it was told, and gets in; over two nodes that depends on luck."""
    limits = replace(LIMITS, accepts_per_s=20.0, admissions_per_s=20.0, admissions_burst_s=0.25)
    async with world(settings(handoff, limits=limits)) as here:
        clients = await asyncio.gather(*(here.client(carried, f"user-{number}") for number in range(30)))
        refusals = [
            number
            for number, client in enumerate(clients)
            for event in client.log
            if (event.what, event.number) == ("ended", BUSY)
        ]
        readers = [await here.read(client, CHANNEL) for client in clients]
        await here.publish(CHANNEL, 1)
        await asyncio.gather(*(reader.until(1) for reader in readers))
        if not here.others:
            assert len(refusals) > 10
            if isinstance(carried, Pipe):  # who races its transports may be refused on each of them
                assert len(set(refusals)) == len(refusals)
