"""Who is there, after a node's death and after a thaw: each leave is told once, and nobody is missed who is there.

The nodes are of a version whose leases are shorter, so that a test need not wait for a minute and a half.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hybrid.auth.development import FULL_SCOPE, DevelopmentIssuer
from hybrid.client import Client
from hybrid.client.endpoint import Dial
from tests.faults.stage import SETTINGS
from tests.support.crowd import TIMING
from tests.support.nodes import AUDIENCE, Nodes, changed_tree, nodes
from tests.support.redis_servers import redis_server

CHANNEL = "seen:room"
LEASE_S = 9.0
NODE_LEASE_S = 6.0
CHANGES = (
    ("engine/presence.py", "LEASE_S = 90.0", f"LEASE_S = {LEASE_S}"),
    ("engine/presence.py", "_RENEW_S = 30.0", f"_RENEW_S = {LEASE_S / 3}"),
    ("engine/nodes.py", "LEASE_S: Final = 15.0", f"LEASE_S: Final = {NODE_LEASE_S}"),
    ("engine/nodes.py", "_RENEW_S: Final = 5.0", f"_RENEW_S: Final = {NODE_LEASE_S / 3}"),
)
LOOKED_FOR_S = 4.0
"""Leases that ran out are looked for every 2 s; and this machine has other things to do."""


class Party:
    """Clients on the channel, and what the watchers saw of them."""

    def __init__(self, group: Nodes, issuer: DevelopmentIssuer, stack: AsyncExitStack) -> None:
        self.group = group
        self.seen: dict[str, list[tuple[str, str]]] = {}
        self._issuer = issuer
        self._stack = stack

    def at(self, number: int) -> Dial:
        """Only this node."""
        return "127.0.0.1", self.group[number].port

    async def come(self, subject: str, dial: Dial, transport: str = "websocket") -> Client:
        """A client on the channel; it notes what it sees of the others."""
        token = self._issuer.mint(subject, FULL_SCOPE)
        client = Client(AUDIENCE, lambda: token, transport, dial=dial, timing=TIMING)
        await self._stack.enter_async_context(client)
        subscription = await client.subscribe(CHANNEL)
        seen = self.seen[subject] = []
        subscription.on_presence = lambda what, entry: seen.append((what, entry.subject))
        return client

    async def until(self, is_true: Callable[[], bool], max_s: float, what: str) -> None:
        end_s = time.monotonic() + max_s
        while not is_true():
            assert time.monotonic() < end_s, f"not within {max_s:g} s: {what}; {self.seen}"
            await asyncio.sleep(0.02)

    def told(self, watcher: str, what: str) -> Counter[str]:
        """Of whom a watcher was told this, and how often."""
        return Counter(subject for kind, subject in self.seen[watcher] if kind == what)


@asynccontextmanager
async def party(tmp_path: Path, issuer: DevelopmentIssuer, limits: Mapping[str, Any]) -> AsyncIterator[Party]:
    tree = changed_tree(tmp_path / "short-leases", CHANGES)
    settings = {**SETTINGS, "limits": {**SETTINGS["limits"], **limits}}
    async with (
        redis_server() as redis,
        nodes(3, broker=redis.url, issuer=issuer, settings=settings, tree=tree) as group,
        AsyncExitStack() as stack,
    ):
        yield Party(group, issuer, stack)


@pytest.mark.faults
async def test_the_clients_of_a_node_that_dies_leave_once_and_those_that_come_back_do_not(
    issuer: DevelopmentIssuer, tmp_path: Path
) -> None:
    async with party(tmp_path, issuer, {}) as here:
        watchers = ["watcher-1", "watcher-2"]
        for number, name in enumerate(watchers, 1):
            await here.come(name, here.at(number))
        dead = here.group[0].port
        gone = [f"gone-{number}" for number in range(6)]
        stay = [f"stay-{number}" for number in range(6)]
        for number, name in enumerate(gone):
            await here.come(name, here.at(0), ("websocket", "sse")[number % 2])
        places: dict[str, Dial] = dict.fromkeys(stay, here.at(0))
        for number, name in enumerate(stay):
            await here.come(
                name, lambda transport, name=name: places[name], ("websocket", "sse", "longpoll")[number % 3]
            )
        for name in watchers:
            await here.until(lambda name=name: here.told(name, "join") >= Counter([*gone, *stay]), 5.0, "all have come")
        here.group[0].kill()
        killed_s = time.monotonic()
        places |= dict.fromkeys(stay, here.at(1))
        assert dead not in [place[1] for place in places.values()]
        for name in watchers:
            await here.until(
                lambda name=name: here.told(name, "leave") >= Counter(gone),
                LEASE_S + LOOKED_FOR_S,
                "the gone have left",
            )
        assert time.monotonic() - killed_s >= LEASE_S / 3, "not before a lease can have run out"
        await asyncio.sleep(LEASE_S / 2)  # whatever might be told twice would be told by now
        for name in watchers:
            assert here.told(name, "leave") == Counter(gone), "each once, and nobody else"
            assert here.told(name, "join") - Counter(watchers) == Counter([*gone, *stay]), "nobody came twice"
        asker = await here.come("asker", here.at(2))
        assert sorted(entry.subject for entry in await asker.presence(CHANNEL)) == sorted([*stay, *watchers, "asker"])


@pytest.mark.faults
async def test_a_node_that_thaws_after_its_lease_brings_its_clients_back(
    issuer: DevelopmentIssuer, tmp_path: Path
) -> None:
    """Its clients have a long breath and do not notice: they were taken for gone, and are there again at once."""
    async with party(tmp_path, issuer, {"heartbeat_interval_s": 60.0, "poll_wait_max_s": 3.0}) as here:
        await here.come("watcher", here.at(1))
        held = [f"held-{number}" for number in range(6)]
        clients = [await here.come(name, here.at(0), ("websocket", "sse")[n % 2]) for n, name in enumerate(held)]
        await here.until(lambda: here.told("watcher", "join") >= Counter(held), 5.0, "all have come")
        attaches = [client.stats.attaches for client in clients]
        here.group[0].freeze()
        await here.until(
            lambda: here.told("watcher", "leave") >= Counter(held), LEASE_S + LOOKED_FOR_S, "taken for gone"
        )
        here.group[0].thaw()
        await here.until(lambda: here.told("watcher", "join") >= Counter(held * 2), LEASE_S, "there again")
        await asyncio.sleep(LEASE_S + LOOKED_FOR_S)  # their new leases are renewed
        assert here.told("watcher", "leave") == Counter(held), "each once"
        assert here.told("watcher", "join") - Counter(["watcher"]) == Counter(held * 2)
        assert [client.stats.attaches for client in clients] == attaches, "they never noticed"
        assert sorted(entry.subject for entry in await clients[0].presence(CHANNEL)) == sorted([*held, "watcher"])
