"""A backend is told who came and went, and which channels are read, over all nodes and transports."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hybrid.limits import Limits
from hybrid.settings import HooksSettings, Namespace, Settings
from tests.support.receiver import SECRET, Receiver, receiver
from tests.support.world import Pipe, settings, world

LIMITS = Limits(
    channel_linger_s=0.5, session_kept_s=0.5, poll_wait_max_s=0.5, reconnect_delay_max_ms=50, shutdown_grace_s=5.0
)
ALL = ("connected", "disconnected", "occupied", "vacated")


def settings_of(here: Receiver, handoff: bool, *tell: str, limits: Limits = LIMITS, **options: Any) -> Settings:
    made = settings(handoff, limits=limits)
    hooks = HooksSettings(tell_url=here.url, secrets=(SECRET,), tell=tell or ALL, **options)
    return replace(made, hooks=hooks, namespaces={**made.namespaces, "quiet": Namespace("quiet")})


def types(backend: Receiver) -> list[str]:
    return [event["type"] for event in backend.told]


def of(backend: Receiver, type_: str) -> list[Any]:
    return [event for event in backend.told if event["type"] == type_]


async def test_a_client_s_whole_story(pipe: Pipe, handoff: bool) -> None:
    async with receiver() as backend, world(settings_of(backend, handoff, tell_namespaces=("default",))) as here:
        client = await here.client(pipe)
        await here.read(client, "chat:lobby")
        await here.read(client, "quiet:1")
        await backend.until(lambda: {"connected", "occupied"} <= set(types(backend)))
        await client.__aexit__(None, None, None)
        await backend.until(lambda: {"disconnected", "vacated"} <= set(types(backend)))
        came, went = of(backend, "connected"), of(backend, "disconnected")
        assert (came[0]["principal"]["subject"], came[0]["transport"]) == ("alice", pipe.transport)
        assert {event["session"] for event in went} <= {event["session"] for event in came}
        is_said = pipe.transport == "websocket" and handoff  # plain ASGI does not tell a goodbye from a cut
        assert went[-1]["reason"] in (("left",) if is_said else ("left", "lost", "heartbeat_timeout"))
        assert {event["channel"] for event in of(backend, "occupied")} == {"chat:lobby"}, "quiet:1 is not told about"
        assert (len(of(backend, "occupied")), len(of(backend, "vacated"))) == (1, 1)
        assert of(backend, "occupied")[0]["at_ms"] < of(backend, "vacated")[0]["at_ms"]
        assert len({event["id"] for event in backend.told}) == len(backend.told)


async def test_a_reload_is_no_event_of_the_channel(pipe: Pipe, handoff: bool) -> None:
    async with receiver() as backend, world(settings_of(backend, handoff, "occupied", "vacated")) as here:
        for subject in ("alice", "bob"):
            client = await here.client(pipe, subject)
            await here.read(client, "chat:lobby")
            await client.__aexit__(None, None, None)
        last = await here.client(pipe, "carol")
        await here.read(last, "chat:lobby")
        await here.read(last, "chat:other")
        await backend.until(lambda: len(backend.told) == 2)
        assert [event["channel"] for event in backend.told] == ["chat:lobby", "chat:other"]


async def test_a_node_that_ends_says_so_and_its_channels_go_on_elsewhere(pipe: Pipe) -> None:
    async with receiver() as backend, world(settings_of(backend, True)) as here:
        client = await here.client(pipe)
        await here.read(client, "chat:lobby")
        await backend.until(lambda: {"connected", "occupied"} <= set(types(backend)))
        await here.server.shut_down()
        assert of(backend, "disconnected")[-1]["reason"] == "draining"
        assert [event["channel"] for event in of(backend, "vacated")] == ["chat:lobby"], "nobody else is there"


async def test_who_is_sent_away_for_good(pipe: Pipe) -> None:
    async with receiver() as backend, world(settings_of(backend, True, "disconnected")) as here:
        client = await here.client(pipe)
        await here.read(client, "chat:lobby")
        await here.server.engine.revoke(issuer=here.server.issuer.issuer, subject="alice")
        await backend.until(lambda: bool(backend.told))
        assert [event["reason"] for event in backend.told] == ["forbidden_or_revoked"]


async def test_a_change_of_transport_is_no_event() -> None:
    async with receiver() as backend, world(settings_of(backend, True, "connected", "disconnected")) as here:
        client = await here.client(("sse", "websocket"))
        await here.read(client, "chat:lobby")
        await client.move_to("websocket" if client.transport == "sse" else "sse")
        other = await here.client(Pipe("websocket"), "bob")
        await here.read(other, "chat:lobby")
        await backend.until(lambda: len(backend.told) == 2)
        assert [event["principal"]["subject"] for event in backend.told] == ["alice", "bob"]


async def test_a_receiver_that_is_away_costs_nobody_anything_but_its_events() -> None:
    limits = replace(LIMITS, hook_events_max=3, hook_batch_max=2)
    async with receiver() as backend, world(settings_of(backend, True, "connected", limits=limits)) as here:
        await backend.stop()
        clients = [await here.client(Pipe("websocket"), f"s{number}") for number in range(6)]
        reader = await here.read(clients[0], "chat:lobby")
        await here.publish("chat:lobby", 1)
        await reader.until(1)
        await backend.start()
        await backend.until(lambda: len(backend.told) == 3)
        assert sum(batch["dropped"] for batch in backend.batches) == 3
        assert [event["principal"]["subject"] for event in backend.told] == ["s0", "s1", "s2"]
