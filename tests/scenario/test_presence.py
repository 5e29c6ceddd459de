"""Who is on a channel: the snapshot, and the comings and goings that streams are told."""

from __future__ import annotations

import asyncio

import pytest

from hybrid.client import Client
from hybrid.engine.presence import LEASE_S
from hybrid.settings import Settings
from tests.support.world import PIPES, Clock, Pipe, settings, until, world

CHANNEL = "room:1"
STREAMS = [pipe for pipe in PIPES if pipe.transport != "longpoll"]


def with_presence(handoff: bool) -> Settings:
    return settings(handoff, room={"presence": True, "join_leave": True, "history_size": 100})


async def _names(client: Client) -> list[str]:
    return sorted(entry.subject for entry in await client.presence(CHANNEL))


async def test_the_snapshot_tells_who_is_there(pipe: Pipe, handoff: bool) -> None:
    async with world(with_presence(handoff)) as here:
        clients = [await here.client(pipe, subject) for subject in ("alice", "bob", "carol")]
        for client in clients[:2]:
            await here.read(client, CHANNEL)
        while await _names(clients[2]) != ["alice", "bob"]:
            pass  # who is subscribed at one node is seen at the other a moment later
        assert [entry["subject"] for entry in (await here.get("/v1/presence/room%3A1"))["entries"]] == ["alice", "bob"]


@pytest.mark.parametrize("watching", STREAMS, ids=str)
async def test_comings_and_goings_are_told_once(pipe: Pipe, handoff: bool, watching: Pipe) -> None:
    """A principal on two clients joins once, and leaves with the last of them."""
    async with world(with_presence(handoff)) as here:
        watcher = await here.read(await here.client(watching, "alice"), CHANNEL)
        bobs = [await here.client(pipe, "bob") for _ in range(2)]
        readers = [await here.read(bob, CHANNEL) for bob in bobs]
        await watcher.until(lambda: ("join", "bob") in watcher.presence)
        await here.publish(CHANNEL, 0)
        await watcher.until(1)
        assert [entry for entry in watcher.presence if entry[1] == "bob"] == [("join", "bob")]
        if pipe.transport == "longpoll":
            return  # it ends by timeout only; see below
        for server in (here.server, *here.others):
            await server.engine.presence.written()  # presence follows what was answered, a moment later
        await readers[0].subscription.unsubscribe()
        await here.publish(CHANNEL, 1)
        await watcher.until(2)
        assert ("leave", "bob") not in watcher.presence
        await readers[1].subscription.unsubscribe()
        await watcher.until(lambda: ("leave", "bob") in watcher.presence)
        assert [entry for entry in watcher.presence if entry[1] == "bob"] == [("join", "bob"), ("leave", "bob")]


async def test_a_cut_and_a_move_are_no_leave(pipe: Pipe, handoff: bool) -> None:
    async with world(with_presence(handoff)) as here:
        watcher = await here.read(await here.client(Pipe("websocket"), "alice"), CHANNEL)
        bob = await here.client(pipe, "bob")
        reader = await here.read(bob, CHANNEL)
        await watcher.until(lambda: ("join", "bob") in watcher.presence)
        here.cabling[pipe.transport].cut()
        await here.publish(CHANNEL, 0)
        await reader.until(1)
        await bob.connected()
        await bob.move_to("websocket" if pipe.transport != "websocket" else "sse")
        await here.publish(CHANNEL, 1)
        await reader.until(2)
        await watcher.until(2)
        watcher.check()
        assert [entry for entry in watcher.presence if entry[1] == "bob"] == [("join", "bob")]


@pytest.mark.memory("nobody can move the clock of Redis; leases run out there in tests/contract")
@pytest.mark.one_node("it looks into the node")
async def test_who_only_polls_is_there_until_the_lease_ends(handoff: bool) -> None:
    clock = Clock()
    async with world(with_presence(handoff), clock=clock) as here:
        watcher = await here.read(await here.client(Pipe("websocket"), "alice"), CHANNEL)
        bob = await here.client(Pipe("longpoll"), "bob")
        await here.read(bob, CHANNEL)
        await watcher.until(lambda: ("join", "bob") in watcher.presence)
        wire = here.cabling["longpoll"]
        wire.is_refusing = True
        wire.cut()
        await until(lambda: here.server.engine.hub.stats().polls_waiting == 0)
        for _ in range(4):  # in steps that renewals of the streams keep up with
            clock.advance(LEASE_S / 4)
            await asyncio.sleep(0.3)
        clock.advance(LEASE_S / 2)
        await watcher.until(lambda: ("leave", "bob") in watcher.presence)
        assert ("leave", "alice") not in watcher.presence


async def test_a_goodbye_is_a_leave_at_once() -> None:
    """On streams that were handed off only: the HTTP server keeps the code of a client's close to itself."""
    async with world(with_presence(True)) as here:
        watcher = await here.read(await here.client(Pipe("websocket"), "alice"), CHANNEL)
        async with Client(here.server.url, lambda: here.server.token("bob"), "websocket") as bob:
            await bob.subscribe(CHANNEL)
            await watcher.until(lambda: ("join", "bob") in watcher.presence)
        await watcher.until(lambda: ("leave", "bob") in watcher.presence)
