"""The logical session against a server that does exactly what each test tells it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from hybrid.client import Client, Subscription, Timing
from hybrid.errors import AuthError, ChannelError, HybridError, LimitError, ProtocolError
from hybrid.model import Position
from tests.support.scripted import (
    PATIENCE_S,
    Scripted,
    WebSocketLeg,
    at,
    attached,
    position,
    publication,
    subscribed,
)

QUICK = Timing(backoff_base_s=0.01, backoff_max_s=0.02, head_start_s=0.05, connect_timeout_s=2.0)


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    async with Scripted().running() as running:
        yield running


@asynccontextmanager
async def connecting(server: Scripted, transport: str | tuple[str, ...], **options: Any) -> AsyncIterator[Client]:
    options.setdefault("timing", QUICK)
    async with Client(server.url, options.pop("get_token", None), transport, dial=server.dial, **options) as client:
        yield client


async def subscribing(client: Client, leg: WebSocketLeg, start: int = 0, channel: str = "news") -> Subscription:
    """Subscribe on a leg that is current, the server answering with a start."""
    task = asyncio.create_task(client.subscribe(channel))
    command = await leg.receive()
    assert command["method"] == "subscribe"
    await leg.reply(command, position=position(start), recovered=True)
    return await task


async def read(subscription: Subscription, count: int) -> list[int]:
    async with asyncio.timeout(PATIENCE_S):
        return [(await anext(subscription)).offset for _ in range(count)]


async def until(is_true: Any) -> None:
    """Let the loop run until something that the client does by itself has happened."""
    async with asyncio.timeout(PATIENCE_S):
        while not is_true():  # noqa: ASYNC110 -- what is waited for has no event: it is the absence of more
            await asyncio.sleep(0.001)


# -- attach and come back


async def test_an_attach_names_what_is_wanted_and_the_next_one_goes_on_after_what_was_received(
    server: Scripted,
) -> None:
    async with connecting(server, "websocket", get_token=lambda: "secret") as client:
        wanted = asyncio.create_task(client.subscribe("news", Position(7, "k", "00000007")))
        leg = await server.websocket()
        assert leg.headers["Authorization"] == "Bearer secret"
        attach = await leg.open(at(7))
        assert attach["subscriptions"] == [{"channel": "news", "position": position(7)}]
        assert (attach["attempt"], attach["confirm"]) == (1, True)
        subscription = await wanted
        await leg.publish(8, 9)
        assert await read(subscription, 1) == [8]
        await until(lambda: subscription.buffered == 1)
        leg.cut()
        leg = await server.websocket()
        attach = await leg.open(at(9), is_resumed=True)
        assert attach["subscriptions"] == [{"channel": "news", "position": position(9)}]
        assert (attach["attempt"], attach["session"]) == (2, "s1")
        await leg.publish(10)
        assert await read(subscription, 2) == [9, 10]
        assert (client.stats.received, client.stats.dropped, client.stats.attaches) == (3, 0, 2)


async def test_a_new_subscriber_without_a_position_takes_the_one_it_is_told(server: Scripted) -> None:
    async with connecting(server, "websocket") as client:
        wanted = asyncio.create_task(client.subscribe("news", history=5))
        leg = await server.websocket()
        attach = await leg.open(at(3))
        assert attach["subscriptions"] == [{"channel": "news", "history": 5}]
        subscription = await wanted
        await leg.publish(4)
        assert await read(subscription, 1) == [4]
        leg.cut()
        attach = await (await server.websocket()).open(at(4))
        assert attach["subscriptions"] == [{"channel": "news", "position": position(4)}]


async def test_repeats_are_dropped(server: Scripted) -> None:
    async with connecting(server, "websocket") as client:
        leg = await server.websocket()
        await leg.open()
        subscription = await subscribing(client, leg)
        await leg.publish(1, 2, 1, 2, 3)
        assert await read(subscription, 3) == [1, 2, 3]
        assert (client.stats.received, client.stats.dropped, client.stats.gaps) == (3, 2, 0)


async def test_a_gap_is_healed_by_joining_again_after_the_last_that_was_received(server: Scripted) -> None:
    async with connecting(server, "websocket") as client:
        leg = await server.websocket()
        await leg.open()
        subscription = await subscribing(client, leg)
        await leg.publish(1, 3, 4)
        leave = await leg.receive()
        assert (leave["method"], leave["channel"], leave["n"]) == ("unsubscribe", "news", 2)
        await leg.reply(leave)
        join = await leg.receive()
        assert (join["method"], join["n"], join["position"]) == ("subscribe", 3, position(1))
        await leg.reply(join, position=position(1), recovered=True)
        await leg.publish(2, 3, 4)
        assert await read(subscription, 4) == [1, 2, 3, 4]
        assert (client.stats.gaps, client.stats.resets) == (1, 0)


async def test_a_reset_is_told_in_its_place(server: Scripted) -> None:
    async with connecting(server, "websocket") as client:
        leg = await server.websocket()
        await leg.open()
        subscription = await subscribing(client, leg)
        told: list[Position] = []
        subscription.on_reset = told.append
        await leg.publish(1)
        await leg.send({"reset": {"channel": "news", "position": position(8, "new")}})
        await leg.send({"publication": publication(9, epoch="new")})
        assert await read(subscription, 1) == [1]
        assert told == []
        assert await read(subscription, 1) == [9]
        assert told == [Position(8, "new", "00000008")]
        assert client.stats.resets == 1


async def test_an_attach_that_was_not_recovered_is_a_reset(server: Scripted) -> None:
    async with connecting(server, "websocket") as client:
        leg = await server.websocket()
        await leg.open()
        subscription = await subscribing(client, leg)
        told: list[Position] = []
        subscription.on_reset = told.append
        leg.cut()
        leg = await server.websocket()
        await leg.open(at(50, recovered=False))
        await leg.publish(51)
        assert await read(subscription, 1) == [51]
        assert [at.offset for at in told] == [50]


async def test_a_channel_that_the_server_refuses_or_leaves_out_has_ended(server: Scripted) -> None:
    async with connecting(server, "websocket") as client:
        wanted = [asyncio.create_task(client.subscribe(name)) for name in ("a", "b", "c")]
        leg = await server.websocket()
        await leg.open(at(0, "a"), {"channel": "b", "error": 3403})
        assert (await wanted[0]).channel == "a"
        with pytest.raises(ChannelError):
            await wanted[1]
        with pytest.raises(ChannelError) as caught:
            await wanted[2]
        assert caught.value.row.name == "not_subscribed"


async def test_a_slow_reader_loses_nothing_and_holds_little(server: Scripted) -> None:
    async with connecting(server, "websocket", buffer_max=4) as client:
        leg = await server.websocket()
        await leg.open()
        subscription = await subscribing(client, leg)
        await leg.publish(1, 2, 3, 4, 5, 6)
        leave = await leg.receive()
        assert leave["method"] == "unsubscribe"
        await leg.reply(leave)
        await until(lambda: client.stats.dropped == 2)
        assert subscription.buffered == 4
        assert await read(subscription, 2) == [1, 2]
        join = await leg.receive()
        assert join["position"] == position(4)
        await leg.reply(join, position=position(4), recovered=True)
        await leg.publish(5, 6)
        assert await read(subscription, 4) == [3, 4, 5, 6]
        assert (client.stats.gaps, client.stats.resets) == (0, 0)


async def test_a_channel_given_up_is_not_named_again(server: Scripted) -> None:
    async with connecting(server, "websocket") as client:
        leg = await server.websocket()
        await leg.open()
        subscription = await subscribing(client, leg)
        leaving = asyncio.create_task(subscription.unsubscribe())
        await leg.reply(await leg.receive())
        await leaving
        assert [item async for item in subscription] == []
        leg.cut()
        attach = await (await server.websocket()).open()
        assert attach.get("subscriptions", []) == []


async def test_a_channel_that_cannot_be_continued_is_not_asked_for_in_a_loop(server: Scripted) -> None:
    async with connecting(server, "websocket") as client:
        leg = await server.websocket()
        await leg.open()
        await subscribing(client, leg)
        await leg.publish(2)
        for _ in range(2):
            await leg.reply(await leg.receive())
            before_s = asyncio.get_running_loop().time()
            join = await leg.receive()
            waited_s = asyncio.get_running_loop().time() - before_s
            await leg.reply(join, position=position(0), recovered=True)
            await leg.publish(2)
        assert waited_s >= 0.3, "the second time in a row it waits"
        await until(lambda: client.stats.gaps == 3)


async def test_a_second_subscription_of_a_channel_is_refused(server: Scripted) -> None:
    async with connecting(server, "websocket") as client:
        leg = await server.websocket()
        await leg.open()
        await subscribing(client, leg)
        with pytest.raises(ChannelError) as caught:
            await client.subscribe("news")
        assert caught.value.row.name == "already_subscribed"


async def test_giving_up_while_subscribing_takes_the_channel_out_again(server: Scripted) -> None:
    async with connecting(server, "websocket") as client:
        leg = await server.websocket()
        await leg.open()
        task = asyncio.create_task(client.subscribe("news"))
        join = await leg.receive()
        task.cancel()
        leave = await leg.receive()
        assert (leave["method"], leave["n"]) == ("unsubscribe", 2)
        await leg.reply(join, position=position(0), recovered=True)
        await leg.reply(leave)
        await until(lambda: not client._session._subscriptions)
        await subscribing(client, leg)


async def test_numbered_pushes_are_taken_once_and_acknowledged(server: Scripted) -> None:
    async with connecting(server, "websocket") as client:
        leg = await server.websocket()
        await leg.open()
        subscription = await subscribing(client, leg)
        await leg.send({"unsubscribed": {"channel": "news", "error": 3403}, "seq": 1})
        with pytest.raises(ChannelError):
            await read(subscription, 1)
        again = await subscribing(client, leg)
        await leg.send({"unsubscribed": {"channel": "news", "error": 3403}, "seq": 1})
        await leg.publish(1)
        assert await read(again, 1) == [1]
        leg.cut()
        attach = await (await server.websocket()).open(at(1))
        assert attach["last_seq"] == 1


# -- commands


async def test_unanswered_numbered_commands_come_again_unchanged_in_the_same_session(server: Scripted) -> None:
    async with connecting(server, "websocket") as client:
        leg = await server.websocket()
        await leg.open()
        task = asyncio.create_task(client.subscribe("news"))
        first = await leg.receive()
        leg.cut()
        leg = await server.websocket()
        attach = await leg.open(at(4), is_resumed=True)
        assert [item["channel"] for item in attach["subscriptions"]] == ["news"]
        subscription = await task
        assert await leg.receive() == first
        await leg.reply(first, error={"number": 3411, "name": "already_subscribed"})
        await leg.publish(5)
        assert await read(subscription, 1) == [5]


async def test_in_another_session_they_do_not_and_numbers_begin_anew(server: Scripted) -> None:
    async with connecting(server, "websocket") as client:
        leg = await server.websocket()
        await leg.open()
        task = asyncio.create_task(client.subscribe("news"))
        assert (await leg.receive())["n"] == 1
        leg.cut()
        leg = await server.websocket()
        await leg.open(at(4), session="s2")
        await task
        other = asyncio.create_task(client.subscribe("other"))
        command = await leg.receive()
        assert (command["channel"], command["n"]) == ("other", 1)
        await leg.reply(command, position=position(0))
        await other


async def test_a_publish_is_repeated_with_its_key_until_it_is_answered(server: Scripted) -> None:
    async with connecting(server, "websocket") as client:
        leg = await server.websocket()
        await leg.open()
        task = asyncio.create_task(client.publish("news", {"a": 1}, type="t"))
        first = await leg.receive()
        assert (first["data"], first["type"]) == ({"a": 1}, "t")
        assert len(first["key"]) >= 16
        leg.cut()
        leg = await server.websocket()
        await leg.open()
        assert await leg.receive() == first
        await leg.reply(first, position=position(3))
        assert await task == Position(3, "k", "00000003")


async def test_a_refused_command_raises_what_the_table_says(server: Scripted) -> None:
    async with connecting(server, "websocket") as client:
        leg = await server.websocket()
        await leg.open()
        task = asyncio.create_task(client.presence("news"))
        error = {"number": 3429, "name": "limit_exceeded", "detail": "Too many.", "retry_after_s": 2.0}
        await leg.reply(await leg.receive(), error=error)
        with pytest.raises(LimitError, match="Too many") as caught:
            await task
        assert caught.value.retry_after_s == 2.0


async def test_history_and_presence(server: Scripted) -> None:
    async with connecting(server, "websocket") as client:
        leg = await server.websocket()
        await leg.open()
        asked = asyncio.create_task(client.history("news", Position(1, "k", "00000001"), limit=2))
        command = await leg.receive()
        assert (command["after"], command["limit"]) == (position(1), 2)
        await leg.reply(command, publications=[publication(2), publication(3, data={"base64": "AP8="}, binary=True)])
        found = await asked
        assert [(item.offset, item.data) for item in found] == [(2, 2), (3, b"\x00\xff")]
        who = asyncio.create_task(client.presence("news"))
        await leg.reply(await leg.receive(), entries=[{"subject": "ada", "client": "c"}])
        assert [(entry.subject, entry.client) for entry in await who] == [("ada", "c")]


@pytest.mark.parametrize("data", [object(), 1j, "\ud800", [[[]]] * 3 + [object()]])
async def test_data_that_is_no_json_is_refused_before_it_is_sent(server: Scripted, data: Any) -> None:
    async with connecting(server, "websocket") as client:
        leg = await server.websocket()
        await leg.open()
        with pytest.raises(ProtocolError):
            await client.publish("news", data)


async def test_messagepack_carries_the_same(server: Scripted) -> None:
    async with connecting(server, "websocket", encoding="msgpack") as client:
        leg = await server.websocket()
        await leg.open()
        subscription = await subscribing(client, leg)
        task = asyncio.create_task(client.publish("news", b"\x00\xff"))
        command = await leg.receive()
        assert command["data"] == b"\x00\xff"
        await leg.reply(command, position=position(1))
        await task
        await leg.send({"publication": publication(1, data=b"\x00\xff", binary=True)})
        async with asyncio.timeout(PATIENCE_S):
            assert (await anext(subscription)).data == b"\x00\xff"


# -- ends


async def test_stay_away_ends_everything_with_its_error(server: Scripted) -> None:
    async with connecting(server, "websocket") as client:
        leg = await server.websocket()
        await leg.open()
        subscription = await subscribing(client, leg)
        asked = asyncio.create_task(client.presence("news"))
        await leg.receive()
        await leg.close(4503, "forbidden_or_revoked")
        with pytest.raises(AuthError):
            await read(subscription, 1)
        with pytest.raises(AuthError):
            await asked
        with pytest.raises(AuthError):
            await client.connected()
        with pytest.raises(AuthError):
            await client.subscribe("other")
        assert server.is_quiet


@pytest.mark.parametrize("code", [1001, 1011, 1012, 4409, 4410, 4412, 4450])
async def test_come_back_comes_back(server: Scripted, code: int) -> None:
    async with connecting(server, "websocket"):
        leg = await server.websocket()
        await leg.open()
        await leg.close(code)
        assert (await (await server.websocket()).open())["session"] == "s1"


async def test_who_is_replaced_without_having_moved_lives_on_as_another_session(server: Scripted) -> None:
    async with connecting(server, "websocket"):
        leg = await server.websocket()
        await leg.open()
        await leg.close(4509, "replaced")
        attach = await (await server.websocket()).open(session="s2")
        assert attach.get("session", "") == ""


async def test_the_delay_of_a_disconnect_is_honoured(server: Scripted) -> None:
    async with connecting(server, "websocket") as client:
        leg = await server.websocket()
        await leg.open()
        await leg.send({"disconnect": {"code": 1012, "reason": "draining", "reconnect": True, "delay_ms": 70}})
        before = asyncio.get_running_loop().time()
        leg.done.set()
        await (await server.websocket()).open()
        assert asyncio.get_running_loop().time() - before >= 0.06
        assert [event.detail for event in client.log if event.what == "waiting"] == ["0.070 s"]


async def test_an_expired_token_is_replaced_by_a_new_one_once(server: Scripted) -> None:
    tokens = iter(["one", "two", "three"])
    async with connecting(server, "websocket", get_token=lambda: next(tokens)) as client:
        leg = await server.websocket()
        assert leg.headers["Authorization"] == "Bearer one"
        await leg.close(4401)
        leg = await server.websocket()
        assert leg.headers["Authorization"] == "Bearer two"
        await leg.open()
        await client.connected()
        leg.cut()
        leg = await server.websocket()
        assert leg.headers["Authorization"] == "Bearer two"


async def test_two_fresh_tokens_refused_are_the_end(server: Scripted) -> None:
    async with connecting(server, "websocket", get_token=lambda: "t") as client:
        for _ in range(2):
            await (await server.websocket()).close(4401)
        with pytest.raises(AuthError):
            await client.connected()


async def test_a_token_that_cannot_be_had_is_tried_again(server: Scripted) -> None:
    answers: list[Any] = [OSError("no issuer"), "good"]

    async def get_token() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, str)
        return answer

    async with connecting(server, "websocket", get_token=get_token) as client:
        leg = await server.websocket()
        assert leg.headers["Authorization"] == "Bearer good"
        await leg.open()
        await client.connected()
        assert any("no issuer" in event.detail for event in client.log)


async def test_a_hybrid_error_of_get_token_is_the_end(server: Scripted) -> None:
    def get_token() -> str:
        raise AuthError("token_refused", "Sign in again.")

    async with connecting(server, "websocket", get_token=get_token) as client:
        with pytest.raises(AuthError, match="Sign in again"):
            await client.connected()


async def test_an_expiring_token_is_refreshed_in_the_connection(server: Scripted) -> None:
    tokens = iter(["one", "two"])
    async with connecting(server, "websocket", get_token=lambda: next(tokens)):
        leg = await server.websocket()
        await leg.open()
        await leg.send({"expiring": {"in_s": 30.0}, "seq": 1})
        command = await leg.receive()
        assert (command["method"], command["token"], command["n"]) == ("refresh", "two", 1)


async def test_a_refresh_that_fails_is_no_end(server: Scripted) -> None:
    answers: list[Any] = ["one", OSError("no issuer"), OSError("still none")]

    def get_token() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, str)
        return answer

    async with connecting(server, "websocket", get_token=get_token) as client:
        leg = await server.websocket()
        await leg.open()
        await leg.send({"expiring": {"in_s": 30.0}, "seq": 1})
        await until(lambda: client.log[-1].what == "refresh failed")
        with pytest.raises(OSError, match="still none"):
            await client.refresh()
        subscription = await subscribing(client, leg)
        await leg.publish(1)
        assert await read(subscription, 1) == [1]


async def test_a_silent_leg_is_dropped(server: Scripted) -> None:
    async with connecting(server, "websocket") as client:
        leg = await server.websocket()
        await leg.open(heartbeat_interval_s=0.03)
        await (await server.websocket()).open()
        await client.connected()
        assert any("nothing was heard" in event.detail for event in client.log)
        assert leg.done


async def test_heartbeats_are_sent_and_acknowledge(server: Scripted) -> None:
    async with connecting(server, "websocket"):
        leg = await server.websocket()
        await leg.open(heartbeat_interval_s=0.05)
        await leg.send({"unsubscribed": {"channel": "gone"}, "seq": 6})
        async with asyncio.timeout(PATIENCE_S):
            while True:
                frame = await leg.socket.recv()
                await leg.send({"heartbeat": {"at_ms": 1}})
                if b'"last_seq":6' in (frame if isinstance(frame, bytes) else frame.encode()):
                    return


async def test_what_cannot_be_read_ends_the_leg_and_not_the_client(server: Scripted) -> None:
    for garbage in ('{"publication": 3}', "not json", '{"reset": {"channel": "news", "position": {"offset": 3}}}'):
        async with connecting(server, "websocket") as client:
            leg = await server.websocket()
            await leg.open()
            await subscribing(client, leg)
            await leg.socket.send(garbage)
            await (await server.websocket()).open(at(0))
            await client.connected()
            assert any("cannot be read" in event.detail for event in client.log)


async def test_leaving_says_goodbye(server: Scripted) -> None:
    async with connecting(server, "websocket") as client:
        leg = await server.websocket()
        await leg.open()
        await client.connected()
        closed = asyncio.create_task(leg.closed_with())
        await asyncio.sleep(0)
    assert await closed == 1000


async def test_leaving_ends_readers_and_fails_what_waits(server: Scripted) -> None:
    async with connecting(server, "websocket") as client:
        leg = await server.websocket()
        await leg.open()
        subscription = await subscribing(client, leg)
        asked = asyncio.create_task(client.presence("news"))
        await leg.receive()
        leg.done.set()
    assert [item async for item in subscription] == []
    with pytest.raises(HybridError):
        await asked
    with pytest.raises(HybridError):
        await client.publish("news", 1)


async def test_an_error_in_the_block_comes_out_as_it_is(server: Scripted) -> None:
    with pytest.raises(ZeroDivisionError):
        async with connecting(server, "websocket"):
            raise ZeroDivisionError


# -- choosing a transport


async def test_a_mute_websocket_loses_to_an_event_stream_after_its_head_start(server: Scripted) -> None:
    async with connecting(server, ("websocket", "sse")) as client:
        leg = await server.websocket()
        attach = await leg.receive()
        assert attach.get("confirm", False) is False
        request = await server.request()
        assert request.path == "/v1/stream"
        assert request.headers["accept"] == "text/event-stream"
        await request.begin_stream(attached(request.json))
        confirm = await server.request()
        assert confirm.path == "/v1/command"
        assert confirm.json["session"] == "s1"
        assert confirm.commands[0] == {"method": "confirm", "attempt": request.json["attempt"], "subscriptions": []}
        await confirm.reply()
        await request.event(subscribed())
        await client.connected()
        assert client.transport == "sse"
        assert await leg.closed_with() is None
        request.cut()
        retried = await server.request()
        assert retried.headers["accept"] == "text/event-stream", "what worked last is tried first"


async def test_a_refused_upgrade_is_no_reason_to_wait(server: Scripted) -> None:
    server.refuse_websockets = True
    async with connecting(server, ("websocket", "longpoll"), timing=Timing(head_start_s=60.0)) as client:
        request = await server.request()
        assert request.headers["accept"] == "application/json"
        await request.push(attached(request.json))
        poll = await server.request()
        assert (poll.json["method"], poll.json["confirm"]) == ("poll", True)
        await poll.push(subscribed(sealed="x"))
        await client.connected()
        assert client.transport == "longpoll"
        assert any("426" in event.detail for event in client.log)


async def test_what_the_server_itself_says_demotes_nobody(server: Scripted) -> None:
    async with connecting(server, ("sse", "longpoll"), timing=Timing(head_start_s=60.0)) as client:
        await (await server.request()).refuse(4429, 429, retry_after_s=0.01)
        request = await server.request()
        assert request.headers["accept"] == "text/event-stream"
        await request.begin_stream(attached(request.json))
        await (await server.request()).reply()
        await request.event(subscribed())
        await client.connected()
        assert client.transport == "sse"


async def test_a_leg_that_is_not_let_in_does_not_end_one_that_was(server: Scripted) -> None:
    """In a storm the server answers late, so a second transport is tried; that is one more who wants to be let in."""
    async with connecting(server, ("websocket", "sse")) as client:
        leg = await server.websocket()
        attach = await leg.receive()
        await (await server.request()).refuse(1012, 503, retry_after_s=5.0)
        while not any(event.number == 1012 for event in client.log):  # noqa: ASYNC110 -- nothing tells of it
            await asyncio.sleep(0.002)
        await leg.send(attached(attach))
        confirm = await leg.receive()
        assert (confirm["method"], confirm["attempt"]) == ("confirm", attach["attempt"])
        await leg.send(subscribed())
        await client.connected()
        assert client.transport == "websocket"


async def test_who_waits_for_a_leg_in_vain_comes_when_it_was_told(server: Scripted) -> None:
    async with connecting(server, ("websocket", "sse")) as client:
        leg = await server.websocket()
        await leg.receive()
        await (await server.request()).refuse(1012, 503, retry_after_s=0.2)
        assert await leg.closed_with() is None
        again = await server.websocket()
        attach = await again.receive()
        waiting = [float(event.detail.removesuffix(" s")) for event in client.log if event.what == "waiting"]
        assert waiting == [0.0], "the time for the other leg was the time to wait"
        await again.send(attached(attach))
        await again.receive()
        await again.send(subscribed())
        await client.connected()


async def test_a_nonce_that_does_not_fit_proves_nothing(server: Scripted) -> None:
    async with connecting(server, "websocket") as client:
        leg = await server.websocket()
        attach = await leg.receive()
        await leg.send(attached({**attach, "nonce": "another"}), subscribed())
        leg = await server.websocket()
        await leg.open()
        await client.connected()
        assert client.log[-1].attempt == 2


# -- moving


async def test_a_move_takes_publications_from_the_old_leg_until_the_confirm_and_then_from_the_new(
    server: Scripted,
) -> None:
    timing = replace(QUICK, head_start_s=60.0)  # or a busy machine has the second one begin by itself
    async with connecting(server, ("websocket", "sse"), timing=timing) as client:
        old = await server.websocket()
        await old.send(attached(await old.receive()))
        assert (await old.receive())["method"] == "confirm"
        await old.send(subscribed())
        subscription = await subscribing(client, old)
        moving = asyncio.create_task(client.move_to("sse"))
        stream = await server.request()
        assert stream.json.get("confirm", False) is False
        assert (stream.json["session"], stream.json["attempt"]) == ("s1", 2)
        await old.publish(1)
        assert await read(subscription, 1) == [1]
        await stream.begin_stream(attached(stream.json, is_resumed=True), {"publication": publication(2)})
        confirm = await server.request()
        assert confirm.commands[0]["subscriptions"] == [{"channel": "news", "position": position(1)}]
        await old.publish(2, 3)  # still on its way when the confirm was sent: not looked at
        await confirm.reply()
        await stream.event(subscribed(at(1)), {"publication": publication(2)})
        await moving
        assert await read(subscription, 1) == [2]
        assert (client.transport, client.stats.moves, client.stats.gaps) == ("sse", 1, 0)
        assert await old.closed_with() is None


async def test_on_a_lesser_transport_a_better_one_is_looked_for(server: Scripted) -> None:
    server.refuse_websockets = True
    timing = Timing(backoff_base_s=0.01, head_start_s=60.0, probe_interval_s=0.05, probation_s=0.01)
    async with connecting(server, ("websocket", "sse"), timing=timing) as client:
        stream = await server.request()
        await stream.begin_stream(attached(stream.json))
        await (await server.request()).reply()
        await stream.event(subscribed())
        await until(lambda: sum("426" in event.detail for event in client.log) >= 2)
        server.refuse_websockets = False
        leg = await server.websocket()
        await leg.send(attached(await leg.receive(), is_resumed=True))
        assert (await leg.receive())["method"] == "confirm"
        await leg.send(subscribed())
        await until(lambda: client.transport == "websocket")
        assert client.stats.moves == 1


async def test_a_move_that_fails_changes_nothing(server: Scripted) -> None:
    async with connecting(server, ("websocket", "sse")) as client:
        leg = await server.websocket()
        await leg.send(attached(await leg.receive()))
        await leg.receive()
        await leg.send(subscribed())
        subscription = await subscribing(client, leg)
        moving = asyncio.create_task(client.move_to("sse"))
        await (await server.request()).respond(b"held back by a proxy", 504)
        with pytest.raises(ConnectionError, match="sse: HTTP 504"):
            await moving
        await leg.publish(1)
        assert await read(subscription, 1) == [1]
        assert client.transport == "websocket"


async def test_commands_in_flight_are_answered_again_on_the_leg_moved_to(server: Scripted) -> None:
    async with connecting(server, ("websocket", "sse")) as client:
        old = await server.websocket()
        await old.send(attached(await old.receive()))
        await old.receive()
        await old.send(subscribed())
        await client.connected()
        publishing = asyncio.create_task(client.publish("news", 1))
        first = await old.receive()
        moving = asyncio.create_task(client.move_to("sse"))
        stream = await server.request()
        await stream.begin_stream(attached(stream.json, is_resumed=True))
        await (await server.request()).reply()
        await stream.event(subscribed())
        await moving
        again = await server.request()
        assert again.commands == [first]
        await again.reply(position=position(1))
        assert (await publishing).offset == 1


# -- event streams


async def test_over_an_event_stream_commands_are_posted_and_repeated_until_answered(server: Scripted) -> None:
    async with connecting(server, "sse", get_token=lambda: "t") as client:
        stream = await server.request()
        assert stream.headers["authorization"] == "Bearer t"
        assert stream.json["confirm"] is True
        await stream.begin_stream(attached(stream.json), subscribed())
        task = asyncio.create_task(client.subscribe("news"))
        post = await server.request()
        assert (post.commands[0]["method"], post.commands[0]["n"]) == ("subscribe", 1)
        post.cut()
        again = await server.request()
        assert again.commands == post.commands
        await stream.event({"publication": publication(1)})  # overtakes the answer
        await again.reply(position=position(0), recovered=True)
        subscription = await task
        assert await read(subscription, 1) == [1]


async def test_a_post_refused_for_its_token_brings_a_new_one(server: Scripted) -> None:
    tokens = iter(["one", "two"])
    async with connecting(server, "sse", get_token=lambda: next(tokens)) as client:
        stream = await server.request()
        await stream.begin_stream(attached(stream.json), subscribed())
        task = asyncio.create_task(client.publish("news", 1))
        await (await server.request()).refuse(4401, 401)
        again = await server.request()
        assert again.headers["authorization"] == "Bearer two"
        await again.reply(position=position(1))
        await task


async def test_a_refresh_over_an_event_stream_shows_its_token_in_the_header(server: Scripted) -> None:
    tokens = iter(["one", "two"])
    async with connecting(server, "sse", get_token=lambda: next(tokens)) as client:
        stream = await server.request()
        await stream.begin_stream(attached(stream.json), subscribed())
        await client.connected()
        refreshing = asyncio.create_task(client.refresh())
        post = await server.request()
        assert post.headers["authorization"] == "Bearer two"
        assert post.commands[0]["method"] == "refresh"
        assert "token" not in post.commands[0]
        await post.reply(token_expires_in_s=900.0)
        await refreshing


async def test_an_event_stream_in_pieces(server: Scripted) -> None:
    async with connecting(server, "sse") as client:
        stream = await server.request()
        await stream.begin_stream(attached(stream.json), subscribed())
        task = asyncio.create_task(client.subscribe("news"))
        await (await server.request()).reply(position=position(0))
        subscription = await task
        for piece in (": beat\r\n\r", '\ndata: {"publicat', 'ion": {"channel":"news","offset":1,"epoch":"k",'):
            await stream.raw(piece)
        await stream.raw('"tag":"00000001","data":1}}\n\n')
        assert await read(subscription, 1) == [1]


# -- long polls


async def test_polls_bring_positions_and_the_seal_and_lose_nothing_with_a_lost_answer(server: Scripted) -> None:
    async with connecting(server, "longpoll") as client:
        wanted = asyncio.create_task(client.subscribe("news", Position(4, "k", "00000004")))
        attach = await server.request()
        assert attach.json["confirm"] is True
        await attach.push(attached(attach.json), subscribed(at(4), sealed="one"))
        subscription = await wanted
        poll = await server.request()
        assert poll.json["positions"] == [{"channel": "news", "position": position(4)}]
        assert (poll.json["sealed"], poll.json["session"], poll.json["attempt"]) == ("one", "s1", 1)
        await poll.push({"publication": publication(5)}, {"publication": publication(6)})
        lost = await server.request()
        assert lost.json["positions"] == [{"channel": "news", "position": position(6)}]
        lost.cut()
        attach = await server.request()
        assert attach.json["subscriptions"] == [{"channel": "news", "position": position(6)}]
        await attach.push(attached(attach.json), subscribed(at(6), sealed="two"))
        await (await server.request()).push({"publication": publication(7)})
        assert await read(subscription, 3) == [5, 6, 7]


async def test_a_polled_session_subscribes_with_its_seal_and_polls_again_with_the_new_one(server: Scripted) -> None:
    async with connecting(server, "longpoll") as client:
        attach = await server.request()
        await attach.push(attached(attach.json), subscribed(sealed="one"))
        poll = await server.request()
        assert poll.json["sealed"] == "one"
        tasks = [asyncio.create_task(client.subscribe(name)) for name in ("a", "b")]
        post = await server.request()
        assert [(c["channel"], c["sealed"], c.get("n", 0)) for c in post.commands] == [("a", "one", 0)]
        await post.reply(position=position(0), sealed="two")
        post = await server.request()
        while post.path != "/v1/command":  # the poll that was begun in between
            post = await server.request()
        assert [(c["channel"], c["sealed"]) for c in post.commands] == [("b", "two")]
        await post.reply(position=position(0), sealed="three")
        await asyncio.gather(*tasks)
        poll = await server.request()
        while poll.json["sealed"] != "three":
            poll = await server.request()
        assert [item["channel"] for item in poll.json["positions"]] == ["a", "b"]


async def test_a_gateway_that_gives_up_early_halves_the_wait(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    async with connecting(server, "longpoll") as client:
        attach = await server.request()
        await attach.push(attached(attach.json), subscribed(sealed="one"))
        poll = await server.request()
        assert poll.json.get("wait_s", 25.0) == 25.0
        session = client._session
        session.poll_wait_s = 12.0
        poll.cut()
        attach = await server.request()
        await attach.push(attached(attach.json), subscribed(sealed="one"))
        poll = await server.request()
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        monkeypatch.setattr(loop, "time", lambda: began_s + 4.0)
        await poll.respond(b"", 504)
        poll = await server.request()
        monkeypatch.undo()
        assert poll.json["wait_s"] == 6.0
        assert client.stats.attaches == 2, "the transport was not given up"


async def test_a_poll_refused_for_its_token_is_repeated_with_a_new_one(server: Scripted) -> None:
    tokens = iter(["one", "two"])
    async with connecting(server, "longpoll", get_token=lambda: next(tokens)):
        attach = await server.request()
        await attach.push(attached(attach.json), subscribed(sealed="one"))
        await (await server.request()).refuse(4401, 401)
        poll = await server.request()
        assert (poll.json["method"], poll.headers["authorization"]) == ("poll", "Bearer two")


async def test_a_poll_answered_by_another_node_is_another_session(server: Scripted) -> None:
    async with connecting(server, "longpoll") as client:
        wanted = asyncio.create_task(client.subscribe("news"))
        attach = await server.request()
        await attach.push(attached(attach.json), subscribed(at(2), sealed="one"))
        subscription = await wanted
        poll = await server.request()
        again = {"attempt": 1, "nonce": ""}
        await poll.push(attached(again, session="s2"), subscribed(at(2), sealed="two"), {"publication": publication(3)})
        poll = await server.request()
        assert (poll.json["session"], poll.json["sealed"]) == ("s2", "two")
        assert poll.json["positions"] == [{"channel": "news", "position": position(3)}]
        assert await read(subscription, 1) == [3]
        assert client.stats.attaches == 1


async def test_a_subscribe_on_its_way_is_not_taken_for_answered_when_a_poll_begins_another_session(
    server: Scripted,
) -> None:
    """A poll that landed on a node which did not know the session took the answer away from a subscribe that was being
    sent elsewhere: `subscribe` never returned, and the channel stayed silent."""
    async with connecting(server, "longpoll") as client:
        wanted = asyncio.create_task(client.subscribe("news"))
        attach = await server.request()
        await attach.push(attached(attach.json), subscribed(at(2), sealed="one"))
        await wanted
        poll = await server.request()
        more = asyncio.create_task(client.subscribe("more"))
        command = await server.request()
        assert command.commands[0]["sealed"] == "one"
        again = {"attempt": 1, "nonce": ""}
        await poll.push(attached(again, session="s2"), subscribed(at(2), sealed="two"))
        poll = await server.request()
        assert poll.json["session"] == "s2"
        await command.reply(position=position(0), recovered=True, sealed="three")
        assert (await asyncio.wait_for(more, PATIENCE_S)).channel == "more"
        poll = await server.request()
        assert poll.json["sealed"] == "three"
        assert {item["channel"] for item in poll.json["positions"]} == {"news", "more"}


async def test_what_the_server_cannot_say_now_is_asked_again_and_ends_nothing(server: Scripted) -> None:
    """While the broker was away a poll was told so for each channel, and the client took its channels for refused."""
    unavailable = {"number": 3503, "name": "broker_unavailable", "retry_after_s": 0.01}
    async with connecting(server, "longpoll") as client:
        wanted = asyncio.create_task(client.subscribe("news"))
        attach = await server.request()
        await attach.push(attached(attach.json), subscribed(at(2), sealed="one"))
        subscription = await wanted
        (await server.request()).cut()
        attach = await server.request()
        assert attach.json["method"] == "attach"
        await attach.push(attached(attach.json), subscribed({"channel": "news", "error": 3503}, sealed="none"))
        poll = await server.request()
        assert (poll.json["method"], poll.json.get("positions", [])) == ("poll", [])
        for _ in range(2):
            command = await server.request()
            (asked,) = command.commands
            assert (asked["method"], asked["channel"], asked["position"]) == ("subscribe", "news", position(2))
            await command.reply(error=unavailable)
        command = await server.request()
        await command.reply(position=position(2), recovered=True, sealed="two")
        poll = await server.request()
        assert (poll.json["sealed"], len(poll.json["positions"])) == ("two", 1)
        await poll.push({"publication": publication(3)})
        assert await read(subscription, 1) == [3]
        assert client.stats.resets == 0


async def test_a_subscribe_waits_while_the_server_cannot_say(server: Scripted) -> None:
    async with connecting(server, "websocket") as client:
        leg = await server.websocket()
        await leg.open()
        wanted = asyncio.create_task(client.subscribe("news"))
        command = await leg.receive()
        await leg.reply(command, error={"number": 3503, "name": "broker_unavailable", "retry_after_s": 0.01})
        command = await leg.receive()
        assert command["n"] == 2
        await leg.reply(command, position=position(0), recovered=True)
        assert (await wanted).channel == "news"


async def test_from_a_stream_with_an_unanswered_number_a_poll_begins_a_new_session(server: Scripted) -> None:
    server.refuse_websockets = False
    async with connecting(server, ("websocket", "longpoll")) as client:
        leg = await server.websocket()
        await leg.send(attached(await leg.receive()))
        await leg.receive()
        await leg.send(subscribed())
        await client.connected()
        joining = asyncio.create_task(client.subscribe("news"))
        await leg.receive()
        server.refuse_websockets = True
        leg.cut()
        attach = await server.request()
        assert attach.json.get("session", "") == ""
        await attach.push(attached(attach.json, session="s2"))
        poll = await server.request()
        assert poll.json["confirm"] is True
        await poll.push(subscribed(at(0), sealed="one"))
        assert (await joining).channel == "news"
