"""A server whose event loop is late, and one that refuses for a rate: who is there goes on, who waits gets through."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hybrid.client.ending import error_of_wire
from hybrid.engine.engine import Engine
from hybrid.engine.lag import LOOKS_GOOD, LOOKS_LATE
from hybrid.engine.rates import Who
from hybrid.engine.registry import RETRY_MAX_S, RETRY_MIN_S
from hybrid.errors import LimitError
from hybrid.protocol.pushes import WireError
from tests.scenario.test_storm import let_in, posted
from tests.support.bytewise import EVENTS, call, websocket
from tests.support.raw import attach_of
from tests.support.world import LIMITS, Clock, Pipe, settings, world

CHANNEL = "chat:lobby"


def be_late(engine: Engine) -> None:
    """As if the loop had been; the probe looks no more, so the test alone says how it is."""
    engine.lag.close()
    for _ in range(LOOKS_LATE):
        engine.lag.seen(2 * engine.limits.lag_max_s)


def be_in_time(engine: Engine) -> None:
    for _ in range(LOOKS_GOOD):
        engine.lag.seen(0.0)


def refuse_some(engine: Engine, count: int) -> list[Who]:
    """Refuse the first commands of an engine; who was. A real rate would depend on how fast the machine is."""
    refused: list[Who] = []
    allow = engine.rates.command

    def command(who: Who) -> LimitError | None:
        if len(refused) >= count:
            return allow(who)
        refused.append(who)
        return LimitError("commands_per_s", retry_after_s=0.01)

    engine.rates.command = command  # type: ignore[method-assign]
    return refused


@pytest.mark.one_node("it is this one that is late")
async def test_a_late_server_takes_nobody_new_and_serves_who_is_there(transport: str, handoff: bool) -> None:
    async with world(handoff, clock=Clock()) as here:
        leg = await let_in(here, transport, "alice")
        engine = here.server.engine
        be_late(engine)
        leave = None
        if transport == "websocket":
            other = await here.raw(transport, attach_of(1, CHANNEL), here.door(subject="bob"))
            leave = (await other.next("disconnect"))["disconnect"]
            assert (leave["code"], leave.get("reconnect", True)) == (1012, True)
            assert "lag_max_s" in leave["reason"]
            assert RETRY_MIN_S * 1000 <= leave["delay_ms"] <= RETRY_MAX_S * 1000
        else:
            answer = await posted(here.server, transport, "bob")
            assert (answer.status, answer.name, answer.json()["limit"]) == (503, "draining", "lag_max_s")
            assert RETRY_MIN_S <= answer.json()["retry_after_s"] <= int(answer.headers["retry-after"])
            assert answer.headers["connection"] == "close", "another process may be in time"
        await here.publish(CHANNEL, 1)
        assert await leg.publications(1) == [1]
        assert "error" not in await leg.command(method="history", channel=CHANNEL)
        leg.close()
        again = await here.raw(transport, attach_of(2, CHANNEL, session=leg.session), here.door())
        assert (await again.next("attached"))["attached"]["is_resumed"], "who was there comes back"
        be_in_time(engine)
        await let_in(here, transport, "bob")


@pytest.mark.one_node("it is this one that is late")
async def test_plain_streams_of_a_late_server(handoff: bool) -> None:
    async with world(handoff) as here:
        server = here.server
        path = "/v1/channels/chat%3Alobby"
        be_late(server.engine)
        browser = await call(server, "GET", path, {**EVENTS, **server.bearer()})
        assert (browser.status, browser.body[:6]) == (200, b"retry:"), "a browser would give up on a 503"
        async with websocket(server, path, server.bearer()) as socket:
            code, reason = await socket.close_code()
            assert code == 1012
            assert "lag_max_s" in reason
        assert (await call(server, "GET", path, server.bearer())).status == 200, "polls go on"
        assert server.engine.rates.refused["lag_max_s"] == 2


async def test_a_client_joins_all_its_channels_though_they_are_too_many_at_once(pipe: Pipe, handoff: bool) -> None:
    async with world(handoff) as here:
        refused = [refuse_some(node.engine, 6) for node in (here.server, *here.others)]
        client = await here.client(pipe)
        readers = [await here.read(client, f"chat:{number}") for number in range(12)]
        for number, reader in enumerate(readers):
            await here.publish(f"chat:{number}", number)
            await reader.until(1)
            reader.check()
        assert sum(map(len, refused)) >= 6


async def test_a_publisher_is_told_the_limit_and_when_and_gets_through_then(pipe: Pipe, handoff: bool) -> None:
    clock = Clock()
    limits = replace(LIMITS, publishes_per_s=0.1, rates_burst_s=30.0)
    async with world(settings(handoff, limits=limits), clock=clock) as here:
        client = await here.client(pipe)
        refused: LimitError | None = None
        taken = 0
        while refused is None:
            try:
                await client.publish(CHANNEL, taken)
                taken += 1
            except LimitError as error:
                refused = error
        assert 3 <= taken <= 3 * (1 + len(here.others)), "each node counts for itself"
        assert (refused.row.name, refused.limit) == ("limit_exceeded", "publishes_per_s")
        assert refused.retry_after_s is not None
        assert 0 < refused.retry_after_s <= 10.0
        clock.advance(refused.retry_after_s)
        await client.publish(CHANNEL, taken)


def test_a_limit_that_a_server_does_not_name_is_told_by_the_error() -> None:
    error = error_of_wire(WireError(3429, "limit_exceeded", "Too many.", 1.5))
    assert isinstance(error, LimitError)
    assert (error.limit, error.retry_after_s) == ("limit_exceeded", 1.5)
