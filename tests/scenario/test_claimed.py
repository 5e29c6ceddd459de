"""Channels that a token names: its sessions are told to be on them, whatever carries them, once, and as it changes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from time import time
from typing import Any

import pytest

from hybrid.auth.development import FULL_SCOPE
from hybrid.broker.base import Broker
from hybrid.engine.claimed import follow_claim
from hybrid.errors import BrokerError
from hybrid.model import Position
from tests.support.raw import Door, Ended, RawLeg, RawPolls, attach_of
from tests.support.server import AUDIENCE, ISSUER, RunningServer
from tests.support.tokens import sign
from tests.support.world import LIMITS, Pipe, Reader, World, settings, until, world

NEWS, LOBBY, ROOM = "chat:news", "chat:lobby", "chat:room"
BAD_REQUEST, FORBIDDEN, UNSUBSCRIBED, LIMIT, REFUSED = 3400, 3403, 3417, 3429, 4501


def token_of(server: RunningServer, channels: Any, scope: str = "hybrid:publish:*") -> str:
    """A token of its own at every call, whose scope reads nothing."""
    now_s = int(time())
    [key] = server.issuer._signing.active.keys
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "client_id": "app", "iat": now_s - 20, "scope": scope}
    token_of.count = count = getattr(token_of, "count", 0) + 1  # type: ignore[attr-defined]
    return sign({**claims, "exp": now_s + 600, "jti": f"t{count}", "channels": channels}, key)


class Accepting:
    """A client of hybrid's own whose application takes what the server asks it to subscribe to."""

    def __init__(self, here: World, channels: list[str], scope: str = "hybrid:publish:*") -> None:
        self.channels = channels
        self.here = here
        self.scope = scope
        self.told: list[str] = []
        self.readers: dict[str, Reader] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def connect(self, pipe: Pipe) -> None:
        self.client = await self.here.client(pipe, get_token=self._token, is_connected=False)
        self.client._session._on_subscribe = self._invited
        await self.client.connected()

    def _token(self) -> str:
        return token_of(self.here.server, self.channels, self.scope)

    def _invited(self, channel: str, position: Position) -> None:
        self.told.append(channel)
        self._tasks.append(asyncio.get_running_loop().create_task(self._read(channel, position)))

    async def _read(self, channel: str, position: Position) -> None:
        self.readers[channel] = await self.here.read(self.client, channel, position)

    async def on(self, *channels: str) -> list[Reader]:
        await until(lambda: all(channel in self.readers for channel in channels))
        return [self.readers[channel] for channel in channels]


async def raw_of(here: World, transport: str, attach: dict[str, Any], channels: Any, scope: str = "") -> RawLeg:
    door = Door(
        ("127.0.0.1", here.server.port), f"127.0.0.1:{here.server.port}", token_of(here.server, channels, scope)
    )
    return await here.raw(transport, attach, door)


async def test_a_session_begins_with_the_channels_of_its_token(pipe: Pipe, handoff: bool) -> None:
    async with world(handoff) as here:
        await here.publish(NEWS, 0)
        alice = Accepting(here, [NEWS, LOBBY])
        await alice.connect(pipe)
        news, lobby = await alice.on(NEWS, LOBBY)
        await here.publish(NEWS, 1)
        await here.publish(LOBBY, 1)
        await asyncio.gather(news.until(1), lobby.until(1))
        here.cabling[pipe.transport].cut()
        await here.publish(NEWS, 2)
        await here.publish(LOBBY, 2)
        await asyncio.gather(news.until(2), lobby.until(2))
        news.check(2)
        lobby.check()
        assert sorted(alice.told) == [LOBBY, NEWS], "a resume names them, and nobody is told twice"


async def test_what_is_published_before_the_client_subscribes_is_not_lost(transport: str, handoff: bool) -> None:
    async with world(handoff) as here:
        before = await here.publish(NEWS, 0)
        leg = await raw_of(here, transport, attach_of(1), [NEWS])
        push = await leg.next("subscribe")
        assert push["seq"] == 1
        assert push["subscribe"]["channel"] == NEWS
        assert push["subscribe"]["position"]["offset"] == before.offset
        await here.publish(NEWS, 1)
        if isinstance(leg, RawPolls):
            reply = await leg.command(method="subscribe", **push["subscribe"], sealed=leg.sealed)
            leg.sealed, leg.positions = reply["sealed"], {NEWS: reply["position"]}
        else:
            reply = await leg.command(method="subscribe", **push["subscribe"], n=1)
        assert "error" not in reply
        assert await leg.publications(1) == [2]


async def test_it_grants_these_and_no_other(transport: str, handoff: bool) -> None:
    async with world(handoff) as here:
        leg = await raw_of(here, transport, attach_of(1, NEWS, ROOM), [NEWS])
        channels = (await leg.next("subscribed"))["subscribed"]["channels"]
        assert [item.get("error", 0) for item in channels] == [0, FORBIDDEN]
        for server in (here.server, *here.others):
            for runner in server.engine.registry.runners():
                assert runner.session.backlog is not None
                assert runner.session.backlog.unacknowledged() == [], (
                    "it was named by the client itself: nobody has to be told"
                )


async def test_more_than_there_is_room_for_are_refused_by_name(transport: str, handoff: bool) -> None:
    bounded = replace(LIMITS, channels_per_session_max=3, channels_per_request_max=3)
    async with world(settings(handoff, limits=bounded)) as here:
        leg = await raw_of(here, transport, attach_of(1, LOBBY), [LOBBY, NEWS, ROOM, "chat:fourth", "."])
        told = [await leg.next("subscribe", "unsubscribed") for _ in range(4)]
        assert [push["subscribe"]["channel"] for push in told[:2]] == [NEWS, ROOM]
        assert [push["unsubscribed"] for push in told[2:]] == [
            {"channel": "chat:fourth", "error": LIMIT},
            {"channel": ".", "error": BAD_REQUEST},
        ]
        assert [push["seq"] for push in told] == [1, 2, 3, 4]


async def test_many_are_told_though_they_are_more_than_pushes_are_kept(transport: str, handoff: bool) -> None:
    channels = [f"chat:{number}" for number in range(2 * LIMITS.pushes_kept_max)]
    async with world(handoff) as here:
        leg = await raw_of(here, transport, attach_of(1), channels)
        assert [(await leg.next("subscribe"))["subscribe"]["channel"] for _ in channels] == channels


async def test_the_channels_follow_the_token(pipe: Pipe, handoff: bool) -> None:
    await followed(pipe, handoff, "hybrid:publish:*", FORBIDDEN)


@pytest.mark.one_node("what a former token named is known where it was shown")
async def test_what_a_scope_permits_as_well_ends_with_the_claim(pipe: Pipe, handoff: bool) -> None:
    await followed(pipe, handoff, FULL_SCOPE, UNSUBSCRIBED)


async def followed(pipe: Pipe, handoff: bool, scope: str, error: int) -> None:
    async with world(handoff) as here:
        alice = Accepting(here, [NEWS, LOBBY], scope)
        await alice.connect(pipe)
        news, lobby = await alice.on(NEWS, LOBBY)
        alice.channels = [LOBBY, ROOM]
        await alice.client.refresh()
        [room] = await alice.on(ROOM)
        await news.until(lambda: news.error is not None)
        assert news.error is not None
        assert news.error.row.number == error
        await here.publish(ROOM, 1)
        await here.publish(LOBBY, 1)
        await asyncio.gather(room.until(1), lobby.until(1))
        lobby.check()
        assert sorted(alice.told) == [LOBBY, NEWS, ROOM]


@pytest.mark.one_node("it looks into the node")
async def test_a_broker_that_is_away_puts_it_off(
    transport: str, handoff: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(handoff) as here:
        broker: Broker = here.server.engine.broker
        heads, is_away = broker.heads, True

        async def away(channels: Any) -> list[Position]:
            if is_away and NEWS in channels:
                raise BrokerError
            return await heads(channels)

        monkeypatch.setattr(broker, "heads", away)
        leg = await raw_of(here, transport, attach_of(1), [NEWS])
        await leg.next("subscribed")
        (runner,) = here.server.engine.registry.runners()
        await until(lambda: runner.session.claimed == ())
        is_away = False
        await follow_claim(here.server.engine, runner)
        assert (await leg.next("subscribe"))["subscribe"]["channel"] == NEWS
        await follow_claim(here.server.engine, runner)
        assert len(runner.session.backlog.unacknowledged()) <= 1  # type: ignore[union-attr]


@pytest.mark.parametrize("channels", ["chat:news", ["chat:*"], [7], [""], ["x"] * 257])
async def test_a_claim_that_cannot_be_read_refuses_the_token(handoff: bool, channels: Any) -> None:
    async with world(handoff) as here:
        with pytest.raises(Ended) as refused:
            await raw_of(here, "longpoll", attach_of(1), channels)
        assert refused.value.code == REFUSED
        await raw_of(here, "longpoll", attach_of(1), [NEWS])
