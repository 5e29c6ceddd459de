"""How much of a process one principal or one address may have: streams, connects, bad tokens, bytes."""

from __future__ import annotations

import asyncio
import json
import math
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest

from hybrid.engine.registry import RETRY_MAX_S, RETRY_MIN_S
from hybrid.limits import Limits
from hybrid.settings import Namespace, Settings
from tests.security.test_rates import serving
from tests.support.bytewise import (
    EVENTS,
    JSON,
    WEBSOCKET,
    Answer,
    Connection,
    call,
    connected,
    event_stream,
    request,
    text,
    until,
    websocket,
)
from tests.support.server import RunningServer, settings_for
from tests.support.sessions import attach, attached, heard

STREAM, PLAIN = "/v1/stream", "/v1/channels/a"
NAMESPACES = {"default": Namespace("default"), "open": Namespace("open", subscribe="anyone")}
BODY = json.dumps(attach("a")).encode()


def limited(*, handoff: bool = True, is_proxied: bool = False, **bounds: Any) -> Settings:
    proxies = ("127.0.0.1",) if is_proxied else ("192.0.2.1",)
    made = settings_for(handoff=handoff, limits=Limits(**bounds), namespaces=NAMESPACES)
    return replace(made, trusted_proxies=proxies)


def of(address: str) -> dict[str, str]:
    return {"X-Forwarded-For": address}


def told(answer: Answer, limit: str) -> float:
    """Who is too many is told which limit it was, and when to come back, in all the words that HTTP has for it."""
    assert (answer.status, answer.name) == (429, "rate_limited"), answer
    problem = answer.json()
    assert problem["limit"] == limit
    assert limit in problem["detail"]
    assert int(answer.headers["retry-after"]) == max(1, math.ceil(problem["retry_after_s"]))
    return float(problem["retry_after_s"])


async def refused_handshake(server: RunningServer, headers: dict[str, str]) -> Answer:
    return await call(server, "GET", STREAM, {**WEBSOCKET, **headers})


async def ways(server: RunningServer, headers: dict[str, str]) -> dict[str, Answer]:
    """The answers to those who ask for a stream in each of the other ways; each must be refused."""
    return {
        "plain": await call(server, "GET", PLAIN, {**WEBSOCKET, **headers}),
        "sse session": await call(server, "POST", STREAM, {**EVENTS, **headers}, BODY),
        "sse": await call(server, "GET", PLAIN, {**EVENTS, **headers}),
        "polled session": await call(server, "POST", STREAM, headers, BODY),
    }


# -- open streams


@pytest.mark.parametrize("handoff", [True, False], ids=["hand-off", "asgi"])
async def test_the_streams_of_an_address(handoff: bool) -> None:
    async with serving(limited(handoff=handoff, is_proxied=True, links_per_address_max=3)) as (server, _):
        alice, bob = server.bearer(), server.bearer("bob")
        async with (
            websocket(server, STREAM, {**alice, **of("2001:db8::1")}) as socket,
            event_stream(server, PLAIN, {**alice, **of("2001:db8::2")}),
            connected(server) as waiting,
        ):
            waiting.send(request("GET", f"{PLAIN}?after=0", {**alice, **of("2001:db8::3")}))
            await until(lambda: server.engine.open.of_address("2001:db8::ffff") == 3)
            there = {**bob, **of("2001:db8::4")}
            answers = {"session": await refused_handshake(server, there), **await ways(server, there)}
            for way, answer in answers.items():
                assert RETRY_MIN_S <= told(answer, "links_per_address_max") <= RETRY_MAX_S, way
            poll = await call(server, "GET", f"{PLAIN}?after=0", {**bob, **of("2001:db8::5")})
            told(poll, "links_per_address_max")
            assert (await call(server, "GET", PLAIN, {**bob, **of("2001:db8:0:1::1")})).status == 200
            socket.reset()
            await until(lambda: server.engine.open.of_address("2001:db8::") == 2)
            async with websocket(server, STREAM, {**alice, **of("2001:db8::6")}):
                pass
            await server.engine.publish("a", 1)
            assert (await waiting.answer()).json()["publications"], "who is there is served"
        await until(lambda: set(server.engine.open._addresses()) == {"127.0.0.1"})
        assert sum(server.engine.open._per_address._counts) == len(server.engine.open)


async def test_nobody_is_another_address_by_saying_so() -> None:
    async with serving(limited(links_per_address_max=2)) as (server, _):  # the bystander is one of them
        async with websocket(server, STREAM, {**server.bearer(), **of("203.0.113.1")}):
            refused = await refused_handshake(server, {**server.bearer(), **of("203.0.113.2")})
            told(refused, "links_per_address_max")


@pytest.mark.parametrize("handoff", [True, False], ids=["hand-off", "asgi"])
async def test_the_streams_of_a_principal(handoff: bool) -> None:
    async with (
        serving(limited(handoff=handoff, is_proxied=True, links_per_principal_max=3)) as (server, _),
        AsyncExitStack() as stack,
    ):
        alice = server.bearer()
        principal = await server.engine.verifier.verify(server.token())
        # By a header, by a frame on a session, and by a frame on a plain stream.
        by_header = await stack.enter_async_context(websocket(server, STREAM, alice))
        await attached(by_header, "a")
        auth = text({"method": "auth", "token": server.token()})
        by_frame = await stack.enter_async_context(websocket(server, STREAM))
        by_frame.send(auth)
        await attached(by_frame, "a")
        plain = await stack.enter_async_context(websocket(server, "/v1/channels/open:a"))
        assert server.engine.open.of_principal(principal) == 2
        plain.send(auth)
        await until(lambda: server.engine.open.of_principal(principal) == 3)
        limit = "links_per_principal_max"
        for way, answer in (await ways(server, {**alice, **of("192.0.2.9")})).items():
            assert RETRY_MIN_S <= told(answer, limit) <= RETRY_MAX_S, way
        # What opens a session's WebSocket says only by its attach what it is; it is told on it, which a browser reads.
        for headers in (alice, {}):
            socket = await stack.enter_async_context(websocket(server, STREAM, headers))
            if not headers:
                socket.send(auth)
            socket.send(text(attach("a")))
            leave = await heard(socket, "disconnect")
            assert (leave["code"], leave.get("reconnect", True)) == (4429, True)
            assert limit in leave["reason"]
            assert RETRY_MIN_S * 1000 <= leave["delay_ms"] <= RETRY_MAX_S * 1000
            assert (await socket.close_code())[0] == 4429
            socket.reset()
        late = await stack.enter_async_context(websocket(server, PLAIN))
        late.send(auth)
        assert (await late.close_code())[0] == 4429
        late.reset()
        async with websocket(server, STREAM, server.bearer("bob")) as other:
            await attached(other, "a")
        by_frame.reset()
        await until(lambda: server.engine.open.of_principal(principal) == 2)
        assert (await call(server, "POST", STREAM, alice, BODY)).status == 200, "the last place is a poll's, too"
        async with event_stream(server, PLAIN, alice):
            pass
        await server.engine.publish("a", 1)
        assert "publication" in await by_header.push()
        for connection in (by_header, plain):
            connection.reset()
        await until(lambda: len(server.engine.open) == 1)
        assert sum(server.engine.open._per_party._counts) == 1, "the bystander's"


# -- connects

SLOWLY: dict[str, Any] = {"connects_per_s": 0.05, "connects_burst_s": 80.0}
"""Four at once, then one in 20 s of a time that passes when a test says so."""


async def test_the_connects_of_an_address() -> None:
    async with serving(limited(is_proxied=True, **SLOWLY)) as (server, clock):
        here = {**server.bearer(), **of("2001:db8::1")}
        for _ in range(2):
            async with websocket(server, STREAM, here), event_stream(server, PLAIN, here):
                pass
        there = {**server.bearer("bob"), **of("2001:db8::2")}
        answers = [await refused_handshake(server, there), *(await ways(server, there)).values()]
        waits_s = [told(answer, "connects_per_s") for answer in answers]
        assert all(0 < wait_s <= 20 for wait_s in waits_s)
        # No stream is asked for, and none is what somebody else asks for.
        assert (await call(server, "GET", PLAIN, here)).status == 200
        assert (await call(server, "GET", "/v1/history/a", here)).status == 200
        async with websocket(server, STREAM, {**server.bearer(), **of("2001:db8:0:1::1")}):
            pass
        clock.advance(waits_s[0])
        async with websocket(server, STREAM, here):
            pass
        told(await refused_handshake(server, here), "connects_per_s")


async def test_the_connects_of_a_principal_from_wherever() -> None:
    async with serving(limited(is_proxied=True, **SLOWLY)) as (server, clock):
        for number in range(4):
            answer = await call(server, "POST", STREAM, {**server.bearer(), **of(f"192.0.2.{number}")}, BODY)
            assert answer.status == 200
        refused = await call(server, "POST", STREAM, {**server.bearer(), **of("192.0.2.9")}, BODY)
        wait_s = told(refused, "connects_per_s")
        async with websocket(server, STREAM, {**server.bearer(), **of("192.0.2.10")}) as socket:
            socket.send(text(attach("a")))
            leave = await heard(socket, "disconnect")
            assert leave["code"] == 4429
            assert 0 < leave["delay_ms"] <= 1000 * wait_s
        clock.advance(wait_s)
        async with websocket(server, STREAM, {**server.bearer(), **of("192.0.2.11")}) as socket:
            await attached(socket, "a")


async def test_connects_are_counted_for_who_connects_and_not_for_what_it_writes() -> None:
    async with serving(limited(**SLOWLY)) as (server, _):
        for number in range(3):  # the bystander was the first
            async with websocket(server, STREAM, {**server.bearer(), **of(f"203.0.113.{number}")}):
                pass
        refused = await refused_handshake(server, {**server.bearer(), **of("203.0.113.99")})
        told(refused, "connects_per_s")


# -- bad tokens

GUESSES: dict[str, Any] = {"failed_auths_per_s": 0.05, "failed_auths_burst_s": 60.0}
"""Three, then one in 20 s."""


def bad(number: int) -> dict[str, str]:
    return {"Authorization": f"Bearer e30.e30.{number}aa"}


async def test_bad_tokens_of_an_address_and_good_ones_that_are_known() -> None:
    async with serving(limited(is_proxied=True, **GUESSES)) as (server, clock):
        known, here = server.bearer(), of("2001:db8::1")
        assert (await call(server, "GET", PLAIN, {**known, **here})).status == 200
        async with websocket(server, STREAM, here) as socket:
            socket.send(text({"method": "auth", "token": "e30.e30.aaaa"}))
            assert (await socket.close_code())[0] == 4501
        statuses = [(await call(server, "GET", PLAIN, {**bad(n), **of(f"2001:db8::{n}")})).status for n in range(3)]
        assert statuses == [401, 401, 429]
        limit = "failed_auths_per_s"
        wait_s = told(await call(server, "GET", PLAIN, {**bad(9), **here}), limit)
        assert 0 < wait_s <= 20
        # A token that nobody knows is not looked at; by a frame it is told in the words of a WebSocket.
        unknown = server.bearer("new")
        told(await call(server, "GET", PLAIN, {**unknown, **here}), limit)
        auth = text({"method": "auth", "token": server.token("newer")})
        async with websocket(server, STREAM, here) as socket:
            socket.send(auth)
            leave = await heard(socket, "disconnect")
            assert (leave["code"], leave.get("reconnect", True)) == (4429, True)
            assert limit in leave["reason"]
            assert 0 < leave["delay_ms"] <= 1000 * wait_s
        async with websocket(server, PLAIN, here) as socket:
            socket.send(auth)
            code, reason = await socket.close_code()
            assert (code, limit in reason) == (4429, True)
        assert (await call(server, "GET", PLAIN, {**known, **here})).status == 200, "its neighbours go on"
        assert (await call(server, "GET", PLAIN, {**unknown, **of("192.0.2.1")})).status == 200
        clock.advance(wait_s)
        assert (await call(server, "GET", PLAIN, {**server.bearer("newest"), **here})).status == 200


async def test_bad_tokens_of_a_refresh_count_and_are_an_answer() -> None:
    async with serving(limited(**GUESSES)) as (server, clock), websocket(server, STREAM, server.bearer()) as socket:
        await attached(socket, "a")
        errors = []
        for number in range(1, 5):
            token = server.token("alice", lifetime_s=500) if number == 4 else f"e30.e30.{number}aa"
            socket.send(text({"method": "refresh", "id": number, "n": number, "token": token}))
            errors.append((await heard(socket, "reply"))["error"])
        assert [error["name"] for error in errors] == ["token_refused"] * 3 + ["rate_limited"]
        assert errors[-1]["limit"] == "failed_auths_per_s"
        clock.advance(errors[-1]["retry_after_s"])
        socket.send(text({"method": "refresh", "id": 5, "n": 5, "token": server.token("alice", lifetime_s=500)}))
        assert "error" not in await heard(socket, "reply")


async def test_a_token_whose_time_is_over_was_good() -> None:
    async with serving(limited(**GUESSES)) as (server, _):
        for number in range(6):
            over = server.bearer(lifetime_s=-100 - number)
            assert (await call(server, "GET", PLAIN, over)).name == "token_expired"


# -- bytes


async def half_sent(server: RunningServer, stack: AsyncExitStack, headers: dict[str, str], size: int) -> Connection:
    """A body of which so much has come, and no more comes."""
    connection = await stack.enter_async_context(connected(server))
    head = {**JSON, **headers, "Content-Length": "60000"}
    connection.send(request("POST", "/v1/publish", head, b" " * size))
    return connection


async def test_bodies_on_their_way() -> None:
    bounds = {
        "body_max_bytes": 70_000,
        "bodies_per_address_max_bytes": 100_000,
        "bodies_max_bytes": 150_000,
        "command_max_bytes": 69_632,
        "attach_max_bytes": 65_536,
    }
    async with serving(limited(is_proxied=True, **bounds)) as (server, _), AsyncExitStack() as stack:
        bodies = server.engine.bodies
        one, other = {**server.bearer(), **of("192.0.2.1")}, {**server.bearer(), **of("192.0.2.2")}
        first = await half_sent(server, stack, one, 50_000)
        await until(lambda: bodies.held_bytes == 50_000)
        await half_sent(server, stack, one, 40_000)
        await until(lambda: bodies.held_bytes == 90_000)
        refused = await (await half_sent(server, stack, one, 30_000)).answer()
        assert told(refused, "bodies_per_address_max_bytes") == 2.0
        await half_sent(server, stack, other, 50_000)
        await until(lambda: bodies.held_bytes == 140_000)
        refused = await (await half_sent(server, stack, {**server.bearer(), **of("192.0.2.3")}, 30_000)).answer()
        assert told(refused, "bodies_max_bytes") == 2.0
        # What is whole takes none of it.
        assert (await call(server, "POST", "/v1/channels/a", {**JSON, **one}, b"1")).status == 200
        first.send(b" " * 9_985 + b'{"publications":[]}'[:15])
        assert (await first.answer()).name == "bad_request"
        await until(lambda: bodies.held_bytes == 90_000)
        await stack.aclose()
        await until(lambda: bodies.held_bytes == 0)


@pytest.mark.parametrize("handoff", [True, False], ids=["hand-off", "asgi"])
@pytest.mark.parametrize("target", [STREAM, PLAIN])
async def test_who_has_not_read_for_longest_is_cut_when_too_much_is_buffered(handoff: bool, target: str) -> None:
    bounds: dict[str, Any] = {"high_water_bytes": 65_536, "buffered_max_bytes": 400_000, "command_max_bytes": 69_632}
    async with serving(limited(handoff=handoff, **bounds)) as (server, _), AsyncExitStack() as stack:

        async def hang(subject: str) -> Connection:
            """Connect, read what is said first, and read no more; when it is full, its link is slow."""
            before = len(server.engine.slow)
            connection = await stack.enter_async_context(websocket(server, target, server.bearer(subject)))
            if target == STREAM:
                await attached(connection, "a")
            transport = connection.writer.transport
            assert hasattr(transport, "pause_reading")
            transport.pause_reading()
            while len(server.engine.slow) == before and not server.engine.slow.cut:
                await server.engine.publish("a", "x" * 60_000)
                await asyncio.sleep(0)
            return connection

        hung = [await hang("first"), await hang("second")]
        assert server.engine.slow.cut == 0
        while not server.engine.slow.cut:
            hung.append(await hang("one more"))
        await until(lambda: len(server.engine.open) == len(hung) + 1 - server.engine.slow.cut)
        assert server.engine.slow.held_bytes <= 400_000
        hung[0].writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert (await hung[0].close_code())[0] == 1006, "the first of them"
        for connection in hung:
            connection.reset()
        await until(lambda: len(server.engine.slow) == 0)
        assert server.engine.slow.held_bytes == 0
