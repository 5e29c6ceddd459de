"""Every command and every push that there is, over the wire once, and each as the published schemas say.

All scenarios are held against them as well (`tests/support/specified.py`); this one shows that none is missed.
"""

from __future__ import annotations

import asyncio
from typing import Any, get_args

from hybrid.auth.development import FULL_SCOPE
from hybrid.engine.calls import Call
from hybrid.protocol.commands import AnyCommand
from hybrid.protocol.pushes import Push
from hybrid.settings import Namespace
from tests.support.bytewise import text, websocket
from tests.support.raw import Door, RawEventStream, RawPolls, RawWebSocket, attach_of
from tests.support.server import RunningServer, running_server, settings_for
from tests.support.sessions import heard
from tests.support.specified import Recorder, as_specified  # noqa: F401

METHODS = {kind.__struct_config__.tag for kind in get_args(AnyCommand)}
NAMES = {name for name in Push.__struct_fields__ if name != "seq"}
NAMESPACES = {"default": Namespace("default", presence=True, join_leave=True)}


def door(server: RunningServer, subject: str = "alice", scope: str = FULL_SCOPE, lifetime_s: float = 900) -> Door:
    token = server.token(subject, scope, lifetime_s)
    return Door(("127.0.0.1", server.port), f"127.0.0.1:{server.port}", token)


async def greet(call: Call) -> Any:
    return {"hello": call.data}


async def on_a_websocket(server: RunningServer) -> None:
    leg = await RawWebSocket(door(server)).open(attach_of(1, "a", confirm=False))
    assert isinstance(leg, RawWebSocket)
    await leg.next("attached")
    leg.send(method="confirm", attempt=1)
    await leg.next("subscribed")
    await leg.command(method="subscribe", n=1, channel="b", history=1)
    await leg.command(method="publish", channel="a", data={"text": "hi"}, key="k", type="note")
    await leg.next("publication")
    await leg.command(method="history", channel="a", reverse=True)
    await leg.command(method="presence", channel="a")
    await leg.command(method="call", name="greet", data=["alice"])
    await leg.command(method="call", name="none")
    await leg.command(method="unsubscribe", n=2, channel="b")
    leg.send(method="heartbeat", echo=7)
    while (await leg.next("heartbeat"))["heartbeat"].get("echo") != 7:
        pass
    other = await RawWebSocket(door(server, "bob")).open(attach_of(1, "a"))
    await leg.next("join")
    await other.command(method="unsubscribe", n=1, channel="a")
    await leg.next("leave")
    other.close()
    narrow = server.token("alice", "hybrid:subscribe:b hybrid:publish:*")
    assert "error" not in await leg.command(method="refresh", n=3, token=narrow)
    await leg.next("unsubscribed")
    leg.close()


async def on_an_event_stream(server: RunningServer) -> None:
    leg = await RawEventStream(door(server)).open(attach_of(1, "a"))
    await leg.next("subscribed")
    await leg.command(method="publish", channel="a", data=1)
    better = await RawWebSocket(door(server)).open(attach_of(2, "a", session=leg.session))
    await better.next("subscribed")
    await leg.next("disconnect")
    leg.close()
    better.close()


async def with_a_token_that_ends(server: RunningServer) -> None:
    leg = await RawWebSocket(door(server, lifetime_s=4)).open(attach_of(1))
    await leg.next("expiring")  # at half of its life at the latest
    leg.close()


async def on_long_polls(server: RunningServer) -> None:
    leg = await RawPolls(door(server)).open(attach_of(1, "c"))
    assert isinstance(leg, RawPolls)
    await leg.next("subscribed")
    leg.positions["c"] = {"offset": 7, "epoch": "zzzz", "tag": "00000001"}
    await leg.next("reset")
    await leg.command(method="subscribe", channel="d", sealed=leg.sealed)
    leg.close()


async def asked_to_subscribe(server: RunningServer) -> None:
    leg = await RawWebSocket(door(server, "carol")).open(attach_of(1, "a"))
    await leg.next("subscribed")
    await server.engine.manage.subscribe(channel="e", subject="carol")
    await leg.next("subscribe")
    leg.close()


async def with_a_token_in_a_frame(server: RunningServer) -> None:
    async with websocket(server, "/v1/stream") as socket:
        socket.send(text({"method": "auth", "token": server.token()}))
        socket.send(text({"method": "attach", "attempt": 1, "confirm": True, "subscriptions": []}))
        await heard(socket, "subscribed")


async def test_every_command_and_every_push_is_as_published(as_specified: Recorder) -> None:  # noqa: F811
    settings = settings_for(namespaces=NAMESPACES)
    async with asyncio.timeout(10), running_server(settings) as server:
        server.engine.calls.register("greet", greet)
        server.engine.calls.register("none", _nothing)
        await on_a_websocket(server)
        await on_an_event_stream(server)
        await on_long_polls(server)
        await with_a_token_in_a_frame(server)
        await with_a_token_that_ends(server)
        await asked_to_subscribe(server)
    assert set(as_specified.commands) == METHODS
    assert set(as_specified.pushes) == NAMES
    assert as_specified.answers["session_stream", 200] >= 2
    assert as_specified.answers["command", 200] == 2


async def _nothing(call: Call) -> None:
    return None
