"""What a plain channel is on the wire, to the line: for people who read it with nothing but HTTP."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import quote

import pytest

from hybrid.engine.plain import RETRY_MS
from hybrid.limits import PADDING_BYTES, Limits
from hybrid.settings import Namespace
from tests.support.bytewise import (
    EVENTS,
    JSON,
    Answer,
    call,
    connected,
    event_stream,
    request,
    text,
    until,
    websocket,
)
from tests.support.server import RunningServer, running_server, settings_for

HANDOFF = pytest.mark.parametrize("handoff", [True, False], ids=["hand-off", "asgi"])


async def publish(server: RunningServer, channel: str, body: bytes, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    target = f"/v1/channels/{quote(channel, safe='')}"
    return await call(server, "POST", target, {**server.bearer(), **JSON, **named}, body)


@HANDOFF
async def test_the_opening_of_an_event_stream(handoff: bool) -> None:
    async with running_server(settings_for(handoff=handoff)) as server:
        async with event_stream(server, "/v1/channels/news", server.bearer()) as stream:
            padding = await stream.block()
            assert padding[0].startswith(":")
            assert len(padding[0]) >= PADDING_BYTES - 2
            assert await stream.block() == [f"retry: {RETRY_MS}"]
            assert await stream.block() == ["id: 0"]
            assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert "no-store" in stream.headers["cache-control"]
            assert stream.headers["x-accel-buffering"] == "no"
            assert stream.headers["connection"] == "close"
            position = (await publish(server, "news", b'{"a": "1\\n2"}', hybrid_type="note")).json()
            cursor = f"{position['epoch']}-1-{position['tag']}"
            assert await stream.block() == [f"id: {cursor}", "event: note", 'data: {"a": "1\\n2"}']


async def test_head_tells_what_get_would_and_opens_nothing() -> None:
    async with running_server(settings_for()) as server:
        for target in ("/v1/channels/news", "/v1/history/news"):
            got = await call(server, "GET", target, server.bearer())
            head = await call(server, "HEAD", target, server.bearer())
            assert (head.status, head.body) == (200, b"")
            assert {**head.headers, "date": ""} == {**got.headers, "date": ""}
        head = await call(server, "HEAD", "/v1/channels/news", {**EVENTS, **server.bearer()})
        assert head.status == 200
        assert head.headers["content-type"].startswith("text/event-stream")
        assert not len(server.engine.open)
        assert (await call(server, "HEAD", "/v1/channels/news", EVENTS)).status == 401


async def test_head_waits_for_nothing_and_uses_no_ticket_up() -> None:
    async with running_server(settings_for()) as server:
        waiting = await call(server, "HEAD", "/v1/channels/news?after=0&wait=25", server.bearer())
        assert waiting.status == 200
        attach = {"method": "attach", "attempt": 1, "confirm": True}
        body = json.dumps({"purpose": "session", "attach": attach}).encode()
        ticket = (await call(server, "POST", "/v1/ticket", server.bearer(), body)).json()["ticket"]
        assert (await call(server, "HEAD", f"/v1/stream?ticket={ticket}", EVENTS)).status == 404
        async with event_stream(server, f"/v1/stream?ticket={ticket}", {}) as stream:
            assert "attached" in (await stream.event())["data"]
        body = json.dumps({"purpose": "channels", "channels": ["news"]}).encode()
        ticket = (await call(server, "POST", "/v1/ticket", server.bearer(), body)).json()["ticket"]
        async with event_stream(server, f"/v1/channels/news?ticket={ticket}", {}) as stream:
            assert (await stream.event())["id"] == "0"
            assert (await call(server, "HEAD", f"/v1/channels/news?ticket={ticket}", EVENTS)).status == 200
            await server.engine.publish("news", 1)
            assert (await stream.event())["data"] == "1"


@HANDOFF
async def test_heartbeats_are_comments(handoff: bool) -> None:
    limits = Limits(heartbeat_interval_s=0.1)
    async with running_server(settings_for(handoff=handoff, limits=limits)) as server:
        async with event_stream(server, "/v1/channels/news", server.bearer()) as stream:
            assert (await stream.event()) == {"id": "0"}
            for _ in range(2):
                assert await stream.block() == [":"]


async def test_heartbeats_are_pings_on_a_websocket_and_silence_ends_it() -> None:
    limits = Limits(heartbeat_interval_s=0.1)
    async with running_server(settings_for(limits=limits)) as server:
        async with websocket(server, "/v1/channels/news", server.bearer()) as socket:
            assert await socket.frame() == (9, b"")
            assert await socket.close_code() == (4409, "heartbeat_timeout")


@HANDOFF
@pytest.mark.parametrize("transport", ["sse", "websocket"])
async def test_a_stream_ends_with_its_token(handoff: bool, transport: str) -> None:
    """Not a second before: at `exp`, the next slot of the timer wheel, and then for good."""
    async with running_server(settings_for(handoff=handoff)) as server:
        short = server.bearer(lifetime_s=1.5)
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        if transport == "sse":
            async with event_stream(server, "/v1/channels/news", short) as stream:
                last = (await stream.rest())[-2:]
                why = ": 4401 token_expired: The token's time is over; come back with a new one."
                assert last == [[why], [f"retry: {RETRY_MS}"]]
                assert await stream.connection.ended() == b""
        else:
            async with websocket(server, "/v1/channels/news", short) as socket:
                assert await socket.close_code() == (4401, "token_expired")
        assert loop.time() - started_s < 10
        assert (await call(server, "GET", "/v1/channels/news", short)).name == "token_expired"
        await until(lambda: not len(server.engine.open))


async def test_a_poll_waits_no_longer_than_its_token_lives() -> None:
    async with running_server(settings_for()) as server:
        answer = await call(server, "GET", "/v1/channels/news?after=0&wait=25", server.bearer(lifetime_s=1.5))
        assert answer.json() == {"cursor": "0", "recovered": True, "publications": []}


@HANDOFF
async def test_drain_ends_every_kind_so_that_it_comes_back(handoff: bool) -> None:
    async with running_server(settings_for(handoff=handoff)) as server:
        async with (
            event_stream(server, "/v1/channels/news", server.bearer()) as stream,
            websocket(server, "/v1/channels/news", server.bearer()) as socket,
            connected(server) as poll,
            connected(server) as late,
        ):
            poll.send(request("GET", "/v1/channels/news?after=0&wait=25", server.bearer()))
            late.send(request("GET", "/healthz"))
            await late.answer()
            await until(lambda: len(server.engine.open) == 3)
            stopping = asyncio.create_task(server.shut_down())
            blocks = await stream.rest()
            assert blocks[-2][0].startswith(": 1012 draining: ")
            assert blocks[-1][0].startswith("retry: ")
            assert int(blocks[-1][0].removeprefix("retry: ")) >= RETRY_MS
            assert (await poll.answer()).json()["publications"] == []
            assert await socket.close_code() == (1012, "draining")
        await stopping


async def test_while_draining_newcomers_are_told_when_to_come_back() -> None:
    async with running_server(settings_for()) as server:
        server.engine.leaving.has_begun = True
        polled = await call(server, "GET", "/v1/channels/news", server.bearer())
        assert (polled.status, polled.name) == (503, "draining")
        assert int(polled.headers["retry-after"]) >= 1
        assert polled.headers["connection"] == "close"
        # An EventSource gives up for good on a 503.
        streamed = await call(server, "GET", "/v1/channels/news", {**EVENTS, **server.bearer()})
        assert streamed.status == 200
        assert streamed.body.startswith(b"retry: ")
        async with websocket(server, "/v1/channels/news", server.bearer()) as socket:
            assert (await socket.close_code())[0] == 1012
        async with websocket(server, "/v1/stream", server.bearer()) as socket:
            assert (await socket.push())["disconnect"].get("reconnect", True)
            assert (await socket.close_code())[0] == 1012
        ready = await call(server, "GET", "/readyz")
        assert (ready.status, ready.json()) == (503, {"status": "draining"})


async def test_publishing_answers_the_position_and_a_key_makes_repeating_safe() -> None:
    async with running_server(settings_for()) as server:
        first = await publish(server, "news", b'{"n": 1}', idempotency_key="k1")
        again = await publish(server, "news", b'{"n": 1}', idempotency_key="k1")
        assert again.json() == {**first.json(), "repeated": True}
        other = await publish(server, "news", b'{"n": 2}', idempotency_key="k1")
        assert (other.status, other.name) == (409, "key_conflict")
        assert (await publish(server, "news", b"3")).json()["offset"] == 2


@pytest.mark.parametrize("channel", ["a/b", "ü", "a b", "%", "a%2Fb", "日本", "a:b,c=d", "~", "x" * 255])
async def test_any_name_is_one_segment_of_the_path(channel: str) -> None:
    async with running_server(settings_for()) as server:
        assert (await publish(server, channel, b"1")).status == 200
        answer = await call(server, "GET", f"/v1/channels/{quote(channel, safe='')}?after=0", server.bearer())
        assert [item["channel"] for item in answer.json()["publications"]] == [channel]
        history = await call(server, "GET", f"/v1/history/{quote(channel, safe='')}", server.bearer())
        assert [item["data"] for item in history.json()["publications"]] == [1]


async def test_many_publications_in_one_request_are_answered_one_by_one() -> None:
    async with running_server(settings_for()) as server:
        items = [
            {"channel": "news", "data": {"a": [1]}, "type": "note", "key": "k"},
            {"channel": "news", "data": {"a": [1]}, "type": "note", "key": "k"},
            {"channel": "*", "data": 1},
            {"channel": "news", "data": {"base64": "AP8="}, "binary": True},
            {"channel": "news", "data": 1, "type": "error"},
            {"channel": "news"},
            {"channel": "x" * 256, "data": 1},
            7,
        ]
        body = json.dumps({"publications": items}).encode()
        answer = await call(server, "POST", "/v1/publish", server.bearer(), body)
        results = answer.json()["results"]
        assert [result.get("error", {}).get("name", "ok") for result in results] == [
            *("ok", "ok", "bad_request", "ok", "bad_request", "bad_request", "bad_request", "bad_request")
        ]
        assert results[1] == {"position": results[0]["position"], "repeated": True}
        assert all(result["error"]["detail"].endswith(".") for result in results if "error" in result)


async def test_history_pages_forwards_and_backwards() -> None:
    async with running_server(settings_for()) as server:
        for number in range(10):
            await server.engine.publish("news", number)

        async def page(query: str) -> dict[str, object]:
            answer = await call(server, "GET", f"/v1/history/news?{query}", server.bearer())
            assert answer.status == 200, answer
            made: dict[str, object] = answer.json()
            return made

        def numbers(made: dict[str, object]) -> list[int]:
            publications = made["publications"]
            assert isinstance(publications, list)
            return [item["data"] for item in publications]

        assert numbers(await page("")) == list(range(10))
        assert numbers(await page("limit=3")) == [0, 1, 2]
        assert numbers(await page("limit=3&reverse=1")) == [9, 8, 7]
        whole = await page("limit=1000000")
        assert numbers(whole) == list(range(10))
        third = whole["publications"][2]  # type: ignore[index]
        cursor = f"{third['epoch']}-{third['offset']}-{third['tag']}"
        assert numbers(await page(f"after={cursor}&limit=2")) == [3, 4]
        gone = await call(server, "GET", "/v1/history/news?after=zzzz-7-00000000", server.bearer())
        assert (gone.status, gone.name) == (410, "unrecoverable")


async def test_presence_lists_those_with_a_session() -> None:
    namespaces = {"room": Namespace("room", presence=True)}
    async with running_server(settings_for(namespaces=namespaces)) as server:
        async with websocket(server, "/v1/stream", server.bearer("bob")) as socket:
            attach = {"method": "attach", "attempt": 1, "confirm": True, "subscriptions": [{"channel": "room:1"}]}
            socket.send(text(attach))
            await socket.push()
            assert "subscribed" in await socket.push()
            await asyncio.sleep(0)
            answer = await call(server, "GET", "/v1/presence/room:1", server.bearer())
            assert answer.json() == {"entries": [{"subject": "bob", "client": "cli"}]}
        await until(lambda: not len(server.engine.open))


async def batch(server: RunningServer, key: str, *items: object) -> Answer:
    body = json.dumps({"publications": items}).encode()
    return await call(server, "POST", "/v1/publish", {**server.bearer(), **JSON, "Idempotency-Key": key}, body)


async def test_a_batch_with_a_key_takes_effect_once() -> None:
    items = {"channel": "a", "data": 1}, {"channel": "a", "data": 1}, {"channel": "b", "data": 2, "key": "own"}
    async with running_server(settings_for()) as server:
        first, again = [(await batch(server, "k", *items)).json()["results"] for _ in range(2)]
        assert [result["position"]["offset"] for result in first] == [1, 2, 1]
        assert again == [{**result, "repeated": True} for result in first]
        moved = (await batch(server, "k", *reversed(items))).json()["results"]
        assert ["repeated" in result for result in moved] == [True, True, False]  # keys go by place: `own`, k.1, k.2
        changed = (await batch(server, "k", {"channel": "a", "data": "other"})).json()["results"]
        assert changed[0]["error"]["name"] == "key_conflict"


async def test_the_key_of_a_batch_has_room_for_the_places() -> None:
    async with running_server(settings_for()) as server:
        item = {"channel": "a", "data": 1}
        assert (await batch(server, "k" * 123, *[item] * 64)).json()["results"][63]["position"]["offset"] == 64
        for key in ("k" * 124, "é" * 62, ""):
            answer = await batch(server, key, item)
            assert (answer.status, answer.name) == (400, "bad_request")
            assert "123 bytes" in answer.json()["detail"]
