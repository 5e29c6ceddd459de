"""Commands and publishes of one principal: counted together over all transports, refused with a time to come back."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from hybrid.engine.leg import StreamLeg
from hybrid.limits import Limits
from hybrid.settings import Namespace, Settings
from tests.support.bytewise import (
    JSON,
    Answer,
    Connection,
    bystander,
    call,
    event_stream,
    frame,
    text,
    until,
    websocket,
)
from tests.support.server import RunningServer, running_server, settings_for
from tests.support.sessions import asked, attach, attached, heard, post
from tests.support.world import Clock

STREAM, COMMAND = "/v1/stream", "/v1/command"
NAMESPACES = {
    "default": Namespace("default", presence=True),
    "slow": Namespace("slow", publishes_per_s=0.025),
    "open": Namespace("open", publish="anyone", subscribe="anyone", allow_anonymous_publish=True),
}
LIMITS = Limits(commands_per_s=0.05, publishes_per_s=0.05, rates_burst_s=80.0, heartbeat_interval_s=3_600.0)
"""Four at once, then one in 20 s of a time that passes when a test says so."""
HISTORY = {"method": "history", "id": 1, "channel": "a"}


def limited(limits: Limits = LIMITS, **more: Any) -> Settings:
    return replace(settings_for(limits=limits, namespaces=NAMESPACES), **more)


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[tuple[RunningServer, Clock]]:
    """A server in a time of the test's own, where somebody else hears the next publication at the end."""
    clock = Clock()
    async with running_server(settings, clock=clock) as server, bystander(server) as other:
        yield server, clock
        await other.still_hears()


def refusal_of(told: dict[str, Any], limit: str) -> float:
    """What a command was refused with; in how many seconds to come back."""
    error = told["error"]
    assert (error["number"], error["name"], error["limit"]) == (3429, "limit_exceeded", limit)
    assert limit in error["detail"]
    return float(error["retry_after_s"])


def problem_of(answer: Answer, limit: str) -> float:
    """What a request was refused with; in how many seconds to come back."""
    assert (answer.status, answer.name) == (429, "limit_exceeded")
    told = answer.json()
    assert told["limit"] == limit
    assert int(answer.headers["retry-after"]) == max(1, math.ceil(told["retry_after_s"]))
    return float(told["retry_after_s"])


async def posted(server: RunningServer, command: dict[str, Any], headers: dict[str, str] | None = None) -> Any:
    return (await post(server, COMMAND, {"commands": [command]}, headers)).json()["replies"][0]


# -- publishes

Way = Callable[[RunningServer, Connection], Awaitable[float]]
"""Publishes once, as alice; 0.0 when it was taken, otherwise in how many seconds to come back."""


async def by_socket(server: RunningServer, socket: Connection) -> float:
    reply = await asked(socket, {"method": "publish", "id": 5, "channel": "a", "data": 1})
    return refusal_of(reply, "publishes_per_s") if "error" in reply else 0.0


async def by_post(server: RunningServer, socket: Connection) -> float:
    reply = await posted(server, {"method": "publish", "id": 6, "channel": "a", "data": 1})
    return refusal_of(reply, "publishes_per_s") if "error" in reply else 0.0


async def by_batch(server: RunningServer, socket: Connection) -> float:
    answer = await post(server, "/v1/publish", {"publications": [{"channel": "a", "data": 1}]})
    return 0.0 if answer.status == 200 else problem_of(answer, "publishes_per_s")


async def by_channel(server: RunningServer, socket: Connection) -> float:
    answer = await post(server, "/v1/channels/a", 1)
    return 0.0 if answer.status == 200 else problem_of(answer, "publishes_per_s")


WAYS: list[Way] = [by_socket, by_post, by_batch, by_channel]


async def test_all_ways_of_publishing_count_together_and_waiting_helps() -> None:
    async with serving(limited()) as (server, clock), websocket(server, STREAM, server.bearer()) as socket:
        await attached(socket)
        assert [await way(server, socket) for way in WAYS] == [0.0] * 4
        told = [await way(server, socket) for way in WAYS]
        assert all(0.0 < wait_s <= 20.0 for wait_s in told), told
        for way in WAYS:
            clock.advance(await way(server, socket))
            assert await way(server, socket) == 0.0
            assert await way(server, socket) > 0.0
        assert (await post(server, "/v1/channels/a", 1, server.bearer("bob"))).status == 200
        assert server.engine.rates.refused["publishes_per_s"] == 4 + 2 * len(WAYS)
        assert server.engine.counts.limits["publishes_per_s"] == 4 + 2 * len(WAYS), "each once"
        history = await call(server, "GET", "/v1/history/a", server.bearer())
        assert len(history.json()["publications"]) == 4 + len(WAYS) + 1, "what was refused is not in the log"


async def test_of_what_comes_together_as_many_are_taken_as_there_is_room_for() -> None:
    async with serving(limited()) as (server, _), websocket(server, STREAM, server.bearer("bob")) as socket:
        batch = {"publications": [{"channel": "a", "data": number} for number in range(6)]}
        results = (await post(server, "/v1/publish", batch)).json()["results"]
        assert ["error" in result for result in results] == [False] * 4 + [True] * 2
        assert refusal_of(results[-1], "publishes_per_s") > 0
        problem_of(await post(server, "/v1/publish", batch), "publishes_per_s")  # none: the status says so
        await attached(socket)
        commands = [json.dumps({"method": "publish", "id": n, "channel": "a", "data": n}).encode() for n in range(1, 7)]
        socket.send(frame(b"\n".join(commands)))
        replies = [await heard(socket, "reply") for _ in commands]
        assert [reply["id"] for reply in replies] == [1, 2, 3, 4, 5, 6]
        assert ["error" in reply for reply in replies] == [False] * 4 + [True] * 2


async def test_what_is_no_publication_counts_as_one_and_what_the_server_says_does_not() -> None:
    async with serving(limited()) as (server, _):
        for _ in range(4):
            refused = await call(server, "POST", "/v1/channels/a", {**JSON, **server.bearer()}, b"{")
            assert refused.name == "bad_request"
        problem_of(await post(server, "/v1/channels/a", 1), "publishes_per_s")
        for number in range(20):
            await server.engine.publish("a", number)


async def test_a_namespace_has_a_rate_of_its_own() -> None:
    async with serving(limited()) as (server, clock):
        limit = "namespaces.slow.publishes_per_s"
        statuses = [(await post(server, "/v1/channels/slow:a", 1)).status for _ in range(3)]
        assert statuses == [200, 200, 429], "80 seconds' worth of it"
        wait_s = problem_of(await post(server, "/v1/channels/slow:b", 1), limit)
        assert (await post(server, "/v1/channels/a", 1)).status == 200
        clock.advance(wait_s)
        assert (await post(server, "/v1/channels/slow:b", 1)).status == 200


async def test_somebody_anonymous_is_an_address_and_a_64_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async def publish(server: RunningServer, address: str) -> int:
        headers = {"X-Forwarded-For": address}
        return (await post(server, "/v1/channels/open:a", 1, headers)).status

    async with serving(limited(trusted_proxies=("127.0.0.1",))) as (server, _):
        of_one_64 = [f"2001:db8:0:7:{number}::1" for number in range(1, 6)]
        assert [await publish(server, address) for address in of_one_64] == [200] * 4 + [429]
        assert await publish(server, "2001:db8:0:8::1") == 200
        assert await publish(server, "192.0.2.1") == 200
        headers = {"X-Forwarded-For": "2001:db8:0:7::99"}
        async with websocket(server, STREAM, headers) as socket:
            await attached(socket)
            reply = await asked(socket, {"method": "publish", "id": 1, "channel": "open:a", "data": 1})
            refusal_of(reply, "publishes_per_s")
    async with serving(limited(trusted_proxies=("192.0.2.1",))) as (server, _):
        of_liars = [f"203.0.113.{number}" for number in range(1, 6)]
        assert [await publish(server, address) for address in of_liars] == [200] * 4 + [429]


# -- commands


async def test_commands_over_all_transports_count_together() -> None:
    async with serving(limited()) as (server, clock), websocket(server, STREAM, server.bearer()) as socket:
        await attached(socket)  # is one
        assert "error" not in await asked(socket, HISTORY)
        assert "error" not in await posted(server, HISTORY)
        assert (await call(server, "GET", "/v1/presence/a", server.bearer())).status == 200
        limit = "commands_per_s"
        call_of = {"method": "call", "id": 3, "name": "nothing"}
        for command in (HISTORY, {"method": "presence", "id": 2, "channel": "a"}, call_of):
            refusal_of(await asked(socket, command), limit)
            refusal_of(await posted(server, command), limit)
        for target in ("/v1/history/a", "/v1/presence/a"):
            problem_of(await call(server, "GET", target, server.bearer()), limit)
        ticket = {"purpose": "channels", "channels": ["a"]}
        wait_s = problem_of(await post(server, "/v1/ticket", ticket), limit)
        clock.advance(wait_s)
        assert (await post(server, "/v1/ticket", ticket)).status == 201
        clock.advance(refusal_of(await asked(socket, HISTORY), limit))
        assert "error" not in await asked(socket, HISTORY)
        assert "error" not in await posted(server, HISTORY, server.bearer("bob"))


async def test_a_refused_subscribe_leaves_no_hole_and_what_must_be_heard_is() -> None:
    """Numbered commands have their turn one after another, and a refused one has had it."""
    async with serving(limited()) as (server, clock), websocket(server, STREAM, server.bearer()) as socket:
        await attached(socket)
        for number in range(1, 4):
            command = {"method": "subscribe", "id": number, "n": number, "channel": f"c{number}"}
            assert "error" not in await asked(socket, command)
        refused = await asked(socket, {"method": "subscribe", "id": 4, "n": 4, "channel": "c4"})
        wait_s = refusal_of(refused, "commands_per_s")
        assert refused["n"] == 4
        assert "error" not in await asked(socket, {"method": "unsubscribe", "id": 5, "n": 5, "channel": "c1"})
        refresh = {"method": "refresh", "id": 6, "n": 6, "token": server.token()}
        assert "error" not in await asked(socket, refresh)
        again = await asked(socket, {"method": "subscribe", "id": 4, "n": 4, "channel": "c4"})
        assert "error" in again, "the kept answer"
        clock.advance(wait_s)
        assert "error" not in await asked(socket, {"method": "subscribe", "id": 7, "n": 7, "channel": "c4"})


async def test_a_subscribe_of_a_polled_session() -> None:
    async with serving(limited()) as (server, clock):
        bearer = server.bearer()  # what is sealed is for one token
        pushes = (await post(server, STREAM, attach("a"), bearer)).json()["pushes"]
        session, sealed = pushes[0]["attached"]["session"], pushes[1]["subscribed"]["sealed"]

        async def subscribe(number: int) -> dict[str, Any]:
            nonlocal sealed
            command = {"method": "subscribe", "id": number, "channel": f"c{number}", "sealed": sealed}
            answer = await post(server, COMMAND, {"session": session, "commands": [command]}, bearer)
            reply: dict[str, Any] = answer.json()["replies"][0]
            sealed = reply.get("sealed", sealed)
            return reply

        assert ["error" in await subscribe(number) for number in range(4)] == [False] * 4
        clock.advance(refusal_of(await subscribe(4), "commands_per_s"))
        assert "error" not in await subscribe(4)


async def test_behind_a_long_command_no_other_is_read_until_it_is_carried_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """`inbox_max` of the longest would be 9 MB for each client that a broker keeps waiting."""
    async with (
        running_server(settings_for()) as server,
        websocket(server, STREAM, server.bearer()) as socket,
    ):
        await attached(socket)
        append, free = server.engine.broker.append, asyncio.Event()
        begun: list[int] = []

        async def slowly(appends: Any) -> Any:
            begun.append(len(appends))
            await free.wait()
            return await append(appends)

        monkeypatch.setattr(server.engine.broker, "append", slowly)
        (leg,) = server.engine.open.streams()
        assert isinstance(leg, StreamLeg)
        long = text({"method": "publish", "id": 1, "channel": "a", "data": "x" * 60_000})
        socket.send(long)
        await until(lambda: begun == [1])
        for _ in range(100):
            socket.send(long)
        await until(lambda: not leg.is_listening)
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(leg._inbox or ()) < 10, "what came in one read"
        free.set()
        for _ in range(101):
            assert "error" not in await heard(socket, "reply")
        assert leg.is_listening
        assert sum(begun) == 101


# -- floods

FLOOD = replace(LIMITS, commands_per_s=0.001, rates_burst_s=1.0, refusals_per_s=0.05, refusals_burst_s=100.0)
"""Five refusals, and that was that."""
BAD = {"method": "history", "id": 1}


@pytest.mark.parametrize("command", [HISTORY, BAD], ids=["refused", "unreadable"])
async def test_a_flood_that_goes_on_ends_the_connection_and_no_other_one(command: dict[str, Any]) -> None:
    async with (
        serving(limited(FLOOD)) as (server, clock),
        websocket(server, STREAM, server.bearer()) as socket,
        websocket(server, STREAM, server.bearer()) as other,
    ):
        await attached(other)
        await attached(socket)  # refused as a command, and heard all the same: the first of the five
        for _ in range(4):
            assert "error" in await asked(socket, command)
        clock.advance(20.0)
        assert "error" in await asked(socket, command), "it had time to learn"
        socket.send(text(command))
        told = await heard(socket, "disconnect")
        assert (told["code"], told.get("reconnect", True), told["delay_ms"]) == (4429, True, 100_000)
        assert "refusals_per_s" in told["reason"]
        assert (await socket.close_code())[0] == 4429
        assert "error" in await asked(other, HISTORY), "it is the sender who is ended, not the principal"


async def test_a_flood_of_what_is_never_refused() -> None:
    async with serving(limited(FLOOD)) as (server, _), websocket(server, STREAM, server.bearer()) as socket:
        await attached(socket)
        socket.send(text({"method": "heartbeat"}) * 20)
        assert (await socket.close_code())[0] == 4429


async def test_a_flood_of_publishes() -> None:
    limits = replace(FLOOD, commands_per_s=1_000.0, publishes_per_s=0.001)
    async with serving(limited(limits)) as (server, _), websocket(server, STREAM, server.bearer()) as socket:
        await attached(socket)
        socket.send(text({"method": "publish", "id": 1, "channel": "a", "data": 1}) * 8)
        assert (await socket.close_code())[0] == 4429


async def test_a_flood_of_subscribes() -> None:
    async with serving(limited(FLOOD)) as (server, _), websocket(server, STREAM, server.bearer()) as socket:
        await attached(socket)
        for number in range(1, 9):
            socket.send(text({"method": "subscribe", "id": number, "n": number, "channel": f"c{number}"}))
        assert (await socket.close_code())[0] == 4429


async def test_a_flood_of_posted_commands_is_refused_whole() -> None:
    async with serving(limited(FLOOD)) as (server, clock):
        body = {"commands": [HISTORY] * 6}
        replies = (await post(server, COMMAND, body)).json()["replies"]
        assert ["error" in reply for reply in replies] == [False] + [True] * 5
        refused = await post(server, COMMAND, body)
        assert (refused.status, refused.name, refused.json()["limit"]) == (429, "rate_limited", "refusals_per_s")
        clock.advance(refused.json()["retry_after_s"])
        assert (await post(server, COMMAND, body)).status == 200


@pytest.mark.parametrize("pipe", ["sse", "longpoll", "none"])
async def test_a_flood_of_posted_subscribes_is_refused_whole(pipe: str) -> None:
    async with serving(limited(FLOOD)) as (server, clock), AsyncExitStack() as stack:
        alice = server.bearer()
        commands = [{"method": "subscribe", "id": n, "n": n, "channel": f"c{n}"} for n in range(1, 8)]
        if pipe == "sse":
            opening = json.dumps(attach("a")).encode()
            headers = {**JSON, **alice}
            stream = await stack.enter_async_context(event_stream(server, STREAM, headers, method="POST", body=opening))
            pushes = [json.loads((await stream.event())["data"]) for _ in range(2)]
        elif pipe == "none":
            pushes = [{"attached": {"session": "nobodys"}}]
        else:
            pushes = (await post(server, STREAM, attach("a"), alice)).json()["pushes"]
            commands = [{**command, "sealed": pushes[1]["subscribed"]["sealed"]} for command in commands]
        body = {"session": pushes[0]["attached"]["session"], "commands": commands}
        replies = (await post(server, COMMAND, body, alice)).json()["replies"]
        assert ["error" in reply for reply in replies] == [pipe == "none"] + [True] * 6
        refused = await post(server, COMMAND, body, alice)
        assert (refused.status, refused.name, refused.json()["limit"]) == (429, "rate_limited", "refusals_per_s")
        clock.advance(refused.json()["retry_after_s"])
        assert (await post(server, COMMAND, body, alice)).status == 200
