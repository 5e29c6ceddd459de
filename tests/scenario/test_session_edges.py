"""Edges of a session's life: bursts, goodbyes with the next leg open, tokens of several legs, presence, rotation.

Each test keeps a mended fault from coming back; its text tells the fault.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from hybrid.engine import engine as engine_module
from hybrid.engine.presence import LEASE_S
from hybrid.errors import AuthError, BrokerError
from hybrid.limits import Limits
from hybrid.model import Principal
from hybrid.settings import Namespace
from tests.support.bytewise import call, text, until, websocket
from tests.support.raw import RawPolls, attach_of
from tests.support.raw import post as raw_post
from tests.support.server import running_server, settings_for
from tests.support.sessions import STREAM, asked, attach, attached, heard, post, say_goodbye
from tests.support.world import LIMITS, PIPES, Clock, Pipe, settings, world

CANDIDATE_TIMEOUT = 4411
EXPIRED = 4401
REPLACED = 4509
BURST = 100
LIFE_S = 70.0
PATIENT = replace(LIMITS, heartbeat_interval_s=3_000.0)
"""The clock jumps; a silence of so many seconds must not end a leg by itself."""
STREAMS = [pipe for pipe in PIPES if pipe.transport != "longpoll"]
WITH_PRESENCE = {"presence": True, "history_size": 100}


# -- bursts


async def test_a_burst_of_numbered_commands_is_answered_to_the_last(handoff: bool) -> None:
    """Commands beyond the replies that are kept pushed those still running out of the list, and their replies too."""
    async with world(handoff) as here, websocket(here.server, STREAM, here.server.bearer()) as socket:
        await attached(socket)
        commands = [{"method": "subscribe", "id": n, "n": n, "channel": f"c{n}"} for n in range(1, BURST + 1)]
        socket.send(b"".join(map(text, commands)))
        assert [(await heard(socket, "reply"))["id"] for _ in commands] == list(range(1, BURST + 1))


async def test_a_client_may_subscribe_to_a_hundred_channels_at_once(pipe: Pipe, handoff: bool) -> None:
    """The same burst from hybrid's own client, which waited for the lost replies for ever."""
    async with world(handoff) as here:
        client = await here.client(pipe)
        readers = await asyncio.gather(*(here.read(client, f"c{number}") for number in range(BURST)))
        for number in range(BURST):
            await here.publish(f"c{number}", number)
        await asyncio.gather(*(reader.until(1) for reader in readers))
        assert [reader.data for reader in readers] == [[number] for number in range(BURST)]


async def test_a_large_attach_may_follow_auth_at_once(handoff: bool) -> None:
    """The attach came while the token was still being checked, and was measured with the bound of strangers."""
    names = [f"channel-{number:03d}-{'x' * 100}" for number in range(120)]
    async with world(handoff) as here, websocket(here.server, STREAM) as socket:
        auth = {"method": "auth", "token": here.server.token("carol")}
        assert len(text(attach(*names))) > here.server.engine.limits.auth_frame_max_bytes
        socket.send(text(auth) + text(attach(*names)))
        await heard(socket, "attached")
        assert [item["channel"] for item in (await heard(socket, "subscribed"))["channels"]] == names


# -- goodbyes while the next leg is open already


@pytest.mark.one_node("it looks into the node")
async def test_a_session_that_goes_on_after_a_goodbye_still_ends_with_its_token(handoff: bool) -> None:
    """The goodbye closed the session, its candidate was confirmed all the same, and no deadline ended it any more."""
    clock = Clock()
    async with world(settings(handoff, limits=PATIENT), clock=clock) as here:
        server, bearer = here.server, here.server.bearer(lifetime_s=LIFE_S)
        async with websocket(server, STREAM, bearer) as former, websocket(server, STREAM, bearer) as candidate:
            session = await attached(former, "a")
            assert await attached(candidate, "a", session=session, attempt=2, confirm=False) == session
            say_goodbye(former)
            assert (await former.close_code())[0] == 1000
            await until(lambda: len(server.engine.open) == 1)
            candidate.send(text({"method": "confirm", "attempt": 2, "id": 1}))
            await heard(candidate, "subscribed")
            await here.publish("a", "heard")
            assert (await heard(candidate, "publication"))["data"] == "heard"
            clock.advance(LIFE_S + LIMITS.expiry_grace_s + 1)
            server.engine.wheel.advance(clock.monotonic_s())
            assert (await heard(candidate, "disconnect"))["code"] == EXPIRED
        await until(lambda: len(server.engine.registry) == 0)


@pytest.mark.one_node("it looks into the node")
async def test_a_candidate_that_is_left_by_a_goodbye_times_out_and_its_session_after_it(handoff: bool) -> None:
    """With its session closed, nobody looked at the candidate's deadline: it stayed open for ever, heard nothing."""
    clock = Clock()
    async with world(settings(handoff, limits=PATIENT), clock=clock) as here:
        server, bearer = here.server, here.server.bearer()
        async with websocket(server, STREAM, bearer) as former, websocket(server, STREAM, bearer) as candidate:
            session = await attached(former, "a")
            await attached(candidate, "a", session=session, attempt=2, confirm=False)
            say_goodbye(former)
            assert (await former.close_code())[0] == 1000
            await until(lambda: len(server.engine.open) == 1)
            clock.advance(LIMITS.candidate_timeout_s + 1)
            server.engine.wheel.advance(clock.monotonic_s())
            assert (await heard(candidate, "disconnect"))["code"] == CANDIDATE_TIMEOUT
        await until(lambda: len(server.engine.open) == 0)
        clock.advance(LIMITS.session_kept_s + 1)
        server.engine.wheel.advance(clock.monotonic_s())
        await until(lambda: len(server.engine.registry) == 0)


async def test_a_goodbye_behind_a_slow_refresh_leaves_nobody_present() -> None:
    """The recovery waited behind the refresh, ran when its session was over, and made it present for ever.

    Of streams that are handed off only: Hypercorn tells 1006 of every close, and a session that was cut is kept.
    """
    async with world(settings(True, room=WITH_PRESENCE)) as here:
        server = here.server
        bearer, verifier = server.bearer(), server.engine.verifier
        really_verify, gate, has_begun = verifier.verify, asyncio.Event(), asyncio.Event()

        async def verify(token: str, proven_key: str = "") -> Principal:
            has_begun.set()
            await gate.wait()
            return await really_verify(token, proven_key)

        async with websocket(server, STREAM, bearer) as first, websocket(server, STREAM, bearer) as second:
            session = await attached(first)
            (runner,) = server.engine.registry.runners()
            verifier.verify = verify  # type: ignore[method-assign]
            first.send(text({"method": "refresh", "id": 7, "token": server.token(lifetime_s=1_200)}))
            await has_begun.wait()
            second.send(text(attach("room:1", session=session, attempt=2)))
            await heard(second, "attached")
            say_goodbye(second)
            await until(lambda: len(server.engine.registry) == 0)
            gate.set()
            await until(lambda: not runner._is_working)
        assert await here.get("/v1/presence/room%3A1") == {"entries": []}
        assert not server.engine.presence._here


# -- tokens


async def test_a_leg_lives_no_longer_than_the_token_that_was_shown_on_it(handoff: bool) -> None:
    """A token with rights and little life joined a session of one with life and few rights, and got the best of both.

    Reading went on long after the token that allowed it was over.
    """
    clock = Clock()
    async with world(settings(handoff, limits=PATIENT), clock=clock) as here:
        server = here.server
        long = server.bearer(scope="hybrid:subscribe:other", lifetime_s=20 * LIFE_S)
        short = server.bearer(scope="hybrid:subscribe:x", lifetime_s=LIFE_S)
        async with websocket(server, STREAM, long) as first, websocket(server, STREAM, short) as second:
            session = await attached(first)
            second.send(text(attach("x", session=session, attempt=2)))
            assert 0 < (await heard(second, "attached"))["token_expires_in_s"] <= LIFE_S
            (item,) = (await heard(second, "subscribed"))["channels"]
            assert "error" not in item
            clock.advance(LIFE_S + LIMITS.expiry_grace_s + 1)
            server.engine.wheel.advance(clock.monotonic_s())
            await here.publish("x", "secret")
            pushes: list[Any] = []
            while "disconnect" not in (push := await second.push()):
                pushes.append(push)
            assert push["disconnect"]["code"] == EXPIRED
            assert not any("publication" in push for push in pushes)


async def test_a_poll_waits_no_longer_than_its_own_token_lives(handoff: bool) -> None:
    """The wait was bounded by the longest-lived token of the session, not by the one that came with the poll."""
    clock = Clock()
    async with world(settings(handoff, limits=PATIENT), clock=clock) as here:
        server = here.server
        opened = await here.raw("longpoll", attach_of(1, "a"), replace(here.door(), token=server.token()))
        assert isinstance(opened, RawPolls)
        await opened.next("subscribed")
        short = replace(here.door(), token=server.token(lifetime_s=LIFE_S))
        opened.take((await raw_post(short, STREAM, opened.poll(wait_s=0))).body["pushes"][0])  # a seal for this token
        clock.advance(LIFE_S - 1)
        server.engine.wheel.advance(clock.monotonic_s())
        (warning,) = (await raw_post(short, STREAM, opened.poll(wait_s=0))).body["pushes"]
        opened.take(warning)  # acknowledged, it is no reason for an answer any more
        answer = await asyncio.wait_for(raw_post(short, STREAM, opened.poll(wait_s=20.0)), 10)
        assert (answer.status, answer.body) == (200, {"pushes": []})


async def test_no_answer_of_a_call_ends_the_leg(handoff: bool) -> None:
    """A call in the grace after a token's end, or a handler that says `token_expired` of its own, closed the stream."""
    clock = Clock()
    async with world(settings(handoff, limits=PATIENT), clock=clock) as here:
        server = here.server

        async def strict(_: object) -> None:
            raise AuthError("token_expired")

        server.engine.calls.register("strict", strict)
        async with websocket(server, STREAM, server.bearer(lifetime_s=LIFE_S)) as socket:
            await attached(socket, "a")
            asking = {"method": "call", "name": "strict"}
            assert (await asked(socket, {**asking, "id": 1}))["error"]["number"] == EXPIRED
            clock.advance(LIFE_S + 1)
            reply = await asked(socket, {**asking, "id": 2})
            assert (reply["id"], reply["error"]["number"]) == (2, EXPIRED)
            await here.publish("a", "still read")
            assert (await heard(socket, "publication"))["data"] == "still read"


@pytest.mark.one_node("it looks into the node")
@pytest.mark.memory("a plain WebSocket does not tell from when on it follows; in memory that is at once")
async def test_a_public_plain_websocket_takes_the_token_that_it_did_not_need(handoff: bool) -> None:
    """A client cannot know that a channel is public; its `auth` closed the stream, which now lives as the token."""
    clock = Clock()
    async with world(settings(handoff, limits=PATIENT, pub={"subscribe": "anyone"}), clock=clock) as here:
        async with websocket(here.server, "/v1/channels/pub%3Aa") as socket:
            (stream,) = here.server.engine.open.streams()
            socket.send(text({"method": "auth", "token": here.server.token(lifetime_s=LIFE_S)}))
            await until(lambda: stream._principal.subject == "alice")  # type: ignore[attr-defined]
            await here.publish("pub:a", 1)
            assert (await socket.push())["data"] == 1
            clock.advance(LIFE_S + LIMITS.expiry_grace_s + 1)
            here.server.engine.wheel.advance(clock.monotonic_s())
            assert (await socket.close_code())[0] == EXPIRED


# -- polls


async def test_a_confirm_that_is_repeated_keeps_the_channels(handoff: bool) -> None:
    """The answer to the confirming poll may be lost; the repeat named no channels and was told that there are none."""
    async with world(handoff) as here:
        leg = await here.raw("longpoll", attach_of(1, "a", "b", confirm=False))
        assert isinstance(leg, RawPolls)
        await leg.next("attached")
        await here.publish("a", 1)
        poll = leg.poll(confirm=True, wait_s=0)
        for _ in range(3):
            answer = await raw_post(leg.door, STREAM, poll)
            truth = answer.body["pushes"][0]["subscribed"]["channels"]
            assert [item["channel"] for item in truth] == ["a", "b"]


@pytest.mark.one_node("it looks into the node")
async def test_polls_end_while_the_broker_is_away(handoff: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A poll of a channel that was not open yet waited for the broker without end, and so did its client."""
    monkeypatch.setattr(engine_module, "BROKER_PATIENCE_S", 0.1)

    async def away(*_: object) -> None:
        raise BrokerError

    async with world(handoff) as here:
        monkeypatch.setattr(here.server.engine.broker, "subscribe", away)
        plain = await call(here.server, "GET", "/v1/channels/a?wait=0", here.server.bearer())
        assert (plain.status, plain.name) == (503, BrokerError().row.name)
        assert plain.headers["retry-after"] == "1"
        polled = await post(here.server, STREAM, attach("b"))
        (item,) = polled.json()["pushes"][1]["subscribed"]["channels"]
        assert item == {"channel": "b", "error": BrokerError().row.number}
        # All channels of an attach together are waited for as long as one.
        async with asyncio.timeout(1.0):
            polled = await post(here.server, STREAM, attach(*(f"c{number}" for number in range(50))))
        items = polled.json()["pushes"][1]["subscribed"]["channels"]
        assert [item["error"] for item in items] == [BrokerError().row.number] * 50
        assert len(here.server.engine.open) == 0


# -- presence


async def test_a_late_polled_attach_keeps_the_presence_of_the_stream(handoff: bool) -> None:
    """A polled attach that lost against a newer stream took over the session's leases, and nobody renewed them."""
    clock = Clock()
    async with world(settings(handoff, limits=PATIENT, room=WITH_PRESENCE), clock=clock) as here:
        async with websocket(here.server, STREAM, here.server.bearer(lifetime_s=3_000)) as socket:
            session = await attached(socket, "room:1", attempt=5)
            late = await here.raw("longpoll", attach_of(3, "room:1", session=session))
            assert (await late.next("disconnect"))["disconnect"]["code"] == REPLACED
            step_s = LEASE_S / 3 + 1
            for _ in range(4):
                clock.advance(step_s)
                here.server.engine.wheel.advance(clock.monotonic_s())
                entries = (await here.get("/v1/presence/room%3A1"))["entries"]
                assert [entry["subject"] for entry in entries] == ["alice"]


@pytest.mark.parametrize("watching", STREAMS, ids=str)
async def test_without_join_leave_nobody_is_told_who_comes_and_goes(handoff: bool, watching: Pipe) -> None:
    """A namespace with presence and without `join_leave` pushed the joins and leaves that it had not asked for."""
    async with world(settings(handoff, room=WITH_PRESENCE)) as here:
        watcher = await here.read(await here.client(watching), "room:1")
        bob = await here.client(Pipe("websocket"), "bob")

        async def present(*subjects: str) -> None:
            while [entry.subject for entry in await bob.presence("room:1")] != list(subjects):
                pass

        reader = await here.read(bob, "room:1")
        await present("alice", "bob")
        await here.publish("room:1", 0)
        await watcher.until(1)
        await reader.subscription.unsubscribe()
        await present("alice")
        await here.publish("room:1", 1)
        await watcher.until(2)
        assert watcher.presence == []


# -- the stream's age, and the end


@pytest.mark.one_node("it looks into the node")
async def test_an_event_stream_that_is_rotated_loses_nothing(handoff: bool) -> None:
    """Gateways bound the length of an answer; the client must go on from its positions, whatever comes meanwhile."""
    clock = Clock()
    limits = replace(LIMITS, heartbeat_interval_s=10.0, stream_age_max_s=30.0)
    async with world(settings(handoff, limits=limits), clock=clock) as here:
        client = await here.client(Pipe("sse"))
        reader = await here.read(client, "chat:lobby")
        (runner,) = here.server.engine.registry.runners()
        for turn in range(3):
            former = runner.session.current
            await here.publish("chat:lobby", "before")
            clock.advance(limits.stream_age_max_s + 1)
            here.server.engine.wheel.advance(clock.monotonic_s())
            await here.publish("chat:lobby", "while nobody listens")
            await until(lambda former=former: runner.session.current not in (None, former))
            await here.publish("chat:lobby", "after")
            await reader.until(3 * turn + 3)
        reader.check()
        assert len(reader.publications) == 9
        assert client.stats.attaches == 4
        assert client.stats.resets == client.stats.gaps == 0
        assert here.server.engine.registry.runners() == [runner], "the same session all the time"


@pytest.mark.one_node("it looks into the node")
async def test_a_server_that_has_ended_leaves_no_timer_behind(handoff: bool) -> None:
    """The legs that ended last scheduled their sessions' deadlines on a wheel that had been stopped already."""
    chosen = settings_for(
        handoff=handoff, limits=Limits(close_timeout_s=0.2), namespaces={"room": Namespace("room", presence=True)}
    )
    async with running_server(chosen) as server:
        async with websocket(server, STREAM, server.bearer()) as lost, websocket(server, STREAM, server.bearer("bob")):
            await attached(lost, "room:1")
            lost.reset()
            await until(lambda: len(server.engine.open) == 1)
            assert len(server.engine.registry) == 1, "it waits for its client"
            await server.shut_down()
    assert len(server.engine.wheel) == 0
    assert server.engine.wheel._handle is None
