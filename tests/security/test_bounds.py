"""Each bound on how many, crossed by one: a numbered answer for who crossed it, nothing for anybody else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from hybrid.engine.registry import RETRY_MAX_S, RETRY_MIN_S
from hybrid.limits import Limits
from tests.support.bytewise import (
    EVENTS,
    WEBSOCKET,
    Connection,
    bystander,
    call,
    connected,
    event_stream,
    request,
    text,
    until,
    websocket,
)
from tests.support.server import RunningServer, running_server, settings_for


@asynccontextmanager
async def limited(**bounds: Any) -> AsyncIterator[RunningServer]:
    """A server with these bounds, where somebody else hears the next publication at the end."""
    async with running_server(settings_for(limits=Limits(**bounds))) as server, bystander(server) as other:
        yield server
        await other.still_hears()


def attach(*channels: str, **fields: Any) -> dict[str, Any]:
    subscriptions = [{"channel": channel} for channel in channels]
    return {"method": "attach", "attempt": 1, "confirm": True, "subscriptions": subscriptions, **fields}


async def replied(socket: Connection, command: dict[str, Any]) -> dict[str, Any]:
    socket.send(text(command))
    while "reply" not in (push := await socket.push()):
        pass
    reply: dict[str, Any] = push["reply"]
    return reply


async def test_channels_of_a_session() -> None:
    async with limited(channels_per_session_max=3, channels_per_request_max=3) as server:
        four = attach("a", "b", "c", "d")
        answer = await call(server, "POST", "/v1/stream", server.bearer(), json.dumps(four).encode())
        assert (answer.status, answer.name) == (429, "limit_exceeded")
        assert "at most 3 channels" in answer.json()["detail"]
        async with websocket(server, "/v1/stream", server.bearer()) as socket:
            assert (await replied(socket, {**four, "id": 1}))["error"]["name"] == "limit_exceeded"
            socket.send(text({**attach("a", "b", "c"), "confirm": False}))
            await socket.push()
            too_many = {"method": "confirm", "id": 2, "attempt": 1, "subscriptions": four["subscriptions"]}
            assert (await replied(socket, too_many))["error"]["name"] == "limit_exceeded"
            socket.send(text({"method": "confirm", "id": 3, "attempt": 1}))
            assert "subscribed" in await socket.push()
            assert (await replied(socket, {"method": "subscribe", "id": 4, "channel": "d"}))["error"]["name"] == (
                "limit_exceeded"
            )


async def test_channels_of_a_polled_session() -> None:
    async with limited(channels_per_session_max=3, channels_per_request_max=3) as server:
        bearer = server.bearer()

        async def posted(target: str, body: dict[str, Any]) -> Any:
            return await call(server, "POST", target, bearer, json.dumps(body).encode())

        pushes = (await posted("/v1/stream", attach("a", "b", "c"))).json()["pushes"]
        session, sealed = pushes[0]["attached"]["session"], pushes[1]["subscribed"]["sealed"]
        command = {"method": "subscribe", "id": 1, "channel": "d", "sealed": sealed}
        answer = await posted("/v1/command", {"session": session, "commands": [command]})
        assert answer.json()["replies"][0]["error"]["name"] == "limit_exceeded"
        positions = [{"channel": channel, "position": {"offset": 0}} for channel in "abcd"]
        for known in (session, "A" * 22):
            poll = {"method": "poll", "session": known, "attempt": 1, "positions": positions, "wait_s": 0}
            answer = await posted("/v1/stream", poll)
            assert (answer.status, answer.name) == (429, "limit_exceeded")


async def test_commands_and_publications_of_a_request() -> None:
    async with limited(commands_per_post_max=3) as server:
        for target, field, item in (
            ("/v1/command", "commands", {"method": "history", "id": 1, "channel": "a"}),
            ("/v1/publish", "publications", {"channel": "a", "data": 1}),
        ):
            fits = await call(server, "POST", target, server.bearer(), json.dumps({field: [item] * 3}).encode())
            assert fits.status == 200
            over = await call(server, "POST", target, server.bearer(), json.dumps({field: [item] * 4}).encode())
            assert (over.status, over.name) == (413, "too_large")


async def test_a_command_in_a_post_is_bounded_as_a_frame_is() -> None:
    async with limited(command_max_bytes=70_000) as server:
        command = {"method": "publish", "id": 7, "channel": "a", "data": 1, "filling": "x" * 70_000}
        body = json.dumps({"commands": [command, {"method": "history", "id": 8, "channel": "a"}]}).encode()
        replies = (await call(server, "POST", "/v1/command", server.bearer(), body)).json()["replies"]
        assert (replies[0]["id"], replies[0]["error"]["name"]) == (7, "too_large")
        assert "error" not in replies[1]


async def test_a_page_of_history() -> None:
    async with limited(history_page_max=3) as server:
        for number in range(5):
            await server.engine.publish("a", number)
        for query in ("limit=5", "limit=1000", "limit=5&reverse=1"):
            answer = await call(server, "GET", f"/v1/history/a?{query}", server.bearer())
            assert len(answer.json()["publications"]) == 3
        polled = await call(server, "GET", "/v1/channels/a?history=5", server.bearer())
        assert [item["data"] for item in polled.json()["publications"]] == [2, 3, 4]


async def test_strangers_of_one_address() -> None:
    async with limited(unauthenticated_per_address_max=3, auth_timeout_s=30.0) as server, AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(websocket(server, "/v1/stream")) for _ in range(2)]
        sockets.append(await stack.enter_async_context(websocket(server, "/v1/channels/a")))
        for target in ("/v1/stream", "/v1/channels/a"):
            refused = await call(server, "GET", target, WEBSOCKET)
            assert (refused.status, refused.name) == (429, "rate_limited")
            assert int(refused.headers["retry-after"]) >= 1
        # A token that was never seen has to be checked, and waits in the same doorway; one that was seen does not.
        unseen = await call(server, "GET", "/v1/channels/a", server.bearer("somebody new"))
        assert (unseen.status, unseen.name) == (429, "rate_limited")
        sockets[0].send(text({"method": "auth", "token": server.token()}))
        await until(lambda: server.engine.door.count == 2)
        assert (await call(server, "GET", "/v1/channels/a", server.bearer("somebody new"))).status == 200
        sockets[1].reset()
        await until(lambda: server.engine.door.count == 1)


async def test_strangers_in_all() -> None:
    bounds = {"unauthenticated_per_address_max": 3, "unauthenticated_max": 3, "auth_timeout_s": 30.0}
    async with limited(**bounds) as server, AsyncExitStack() as stack:
        others = [server.engine.door.enter(f"192.0.2.{number}") for number in range(3)]
        refused = await call(server, "GET", "/v1/stream", WEBSOCKET)
        assert (refused.status, refused.name) == (429, "rate_limited")
        assert refused.headers["retry-after"] == "30"
        others[0].leave()
        await stack.enter_async_context(websocket(server, "/v1/stream"))


async def test_open_streams_and_polls() -> None:
    async with limited(links_max=4) as server:
        async with (
            websocket(server, "/v1/stream", server.bearer()),
            event_stream(server, "/v1/channels/a", server.bearer()),
            connected(server) as waiting,
        ):
            waiting.send(request("GET", "/v1/channels/a?after=0", server.bearer()))
            await until(lambda: len(server.engine.open) == 4)
            body = json.dumps(attach()).encode()
            for method, target, headers, sent in (
                ("GET", "/v1/channels/a", {}, b""),
                ("POST", "/v1/stream", {}, body),
                ("POST", "/v1/stream", EVENTS, body),
            ):
                refused = await call(server, method, target, {**headers, **server.bearer()}, sent)
                assert (refused.status, refused.name) == (503, "draining")
                assert int(refused.headers["retry-after"]) >= 1
            browser = await call(server, "GET", "/v1/channels/a", {**EVENTS, **server.bearer()})
            assert (browser.status, browser.body[:6]) == (200, b"retry:")
            async with websocket(server, "/v1/channels/a", server.bearer()) as socket:
                assert (await socket.close_code())[0] == 1012
            # What needs no place is answered.
            assert (await call(server, "GET", "/v1/history/a", server.bearer())).status == 200
            await server.engine.publish("a", 1)
            assert (await waiting.answer()).json()["publications"]
        await until(lambda: len(server.engine.open) == 1)
        assert (await call(server, "GET", "/v1/channels/a", server.bearer())).status == 200


@pytest.mark.parametrize("bound", ["links_max", "sessions_max"])
async def test_those_who_come_together_to_a_full_server_do_not_come_together_again(bound: str) -> None:
    async with limited(**{bound: 1}) as server, websocket(server, "/v1/stream", server.bearer("a")) as first:
        first.send(text(attach()))
        await first.push()
        told = []
        for number in range(12):
            body = json.dumps(attach()).encode()
            refused = await call(server, "POST", "/v1/stream", server.bearer(f"user-{number}"), body)
            assert refused.name == ("draining" if bound == "links_max" else "rate_limited")
            told.append(refused.json()["retry_after_s"])
            assert told[-1] <= int(refused.headers["retry-after"]) < told[-1] + 1
    assert len(set(told)) > 6, "of 12; they are told in whole milliseconds, two of which may be the same"
    assert all(RETRY_MIN_S <= delay_s <= RETRY_MAX_S for delay_s in told)


async def test_sessions() -> None:
    async with limited(sessions_max=2) as server, AsyncExitStack() as stack:
        sockets = []
        for name in ("a", "b"):
            socket = await stack.enter_async_context(websocket(server, "/v1/stream", server.bearer(name)))
            socket.send(text(attach("x")))
            assert "attached" in await socket.push()
            assert "subscribed" in await socket.push()
            sockets.append(socket)
        async with websocket(server, "/v1/stream", server.bearer("c")) as third:
            third.send(text({**attach("x"), "id": 1}))
            refused = (await third.push())["disconnect"]
            assert (refused["code"], refused.get("reconnect", True)) == (4429, True)
            assert (await third.close_code())[0] == 4429
        sockets[0].reset()  # detached: its place can be had
        await until(lambda: len(server.engine.open) == 2)
        async with websocket(server, "/v1/stream", server.bearer("c")) as third:
            third.send(text(attach("x")))
            assert "attached" in await third.push()
        await server.engine.publish("x", 1)
        assert "publication" in await sockets[1].push()


async def test_candidates_of_a_session() -> None:
    async with limited() as server, AsyncExitStack() as stack:
        first = await stack.enter_async_context(websocket(server, "/v1/stream", server.bearer()))
        first.send(text(attach("a")))
        session = (await first.push())["attached"]["session"]
        assert "subscribed" in await first.push()
        candidates = []
        for attempt in (2, 3, 4):
            socket = await stack.enter_async_context(websocket(server, "/v1/stream", server.bearer()))
            socket.send(text({**attach("a"), "attempt": attempt, "session": session, "confirm": False}))
            assert (await socket.push())["attached"]["is_resumed"]
            candidates.append(socket)
        assert (await candidates[0].push())["disconnect"]["code"] in (4411, 4509)
        await server.engine.publish("a", 1)
        assert "publication" in await first.push()


async def test_what_is_sent_on_an_event_stream() -> None:
    async with limited() as server:
        async with event_stream(server, "/v1/channels/a", server.bearer()) as stream:
            stream.connection.send(b"x" * (Limits().discarded_max_bytes + 1))
            async with asyncio.timeout(20):
                await stream.rest()
        await until(lambda: len(server.engine.open) == 1)


@pytest.mark.parametrize("handoff", [True, False], ids=["hand-off", "asgi"])
async def test_the_attach_of_an_event_stream_is_bounded_before_its_head(handoff: bool) -> None:
    """A reader of event streams sees nothing of a body that says why; a status it does see."""
    async with running_server(
        settings_for(handoff=handoff, limits=Limits(channels_per_session_max=1, channels_per_request_max=1))
    ) as server:
        body = json.dumps(attach("a", "b")).encode()
        refused = await call(server, "POST", "/v1/stream", {**EVENTS, **server.bearer()}, body)
        assert (refused.status, refused.name) == (429, "limit_exceeded")
