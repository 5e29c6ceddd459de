"""Two and three nodes behind nginx, with Redis between them: any node serves any request, with affinity or without."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
import pytest_asyncio

from hybrid.auth.derive import derive_key
from hybrid.auth.development import DevelopmentIssuer
from hybrid.clock import SystemClock
from hybrid.settings import Settings
from hybrid.web.issuer import ISSUER_PATH
from tests.support.nginx import HOST, Change
from tests.support.processes import Process, free_port
from tests.support.proxied import URL, Site, behind_nginx, node_settings, proxied
from tests.support.raw import Door, RawWebSocket
from tests.support.redis_servers import RedisServer, redis_server
from tests.support.server import running_server
from tests.support.world import PIPES, Pipe, Reader

CHANNEL = "chat:lobby"
HASH = '        hash "$client_network $http_user_agent" consistent;\n'
ROUND_ROBIN = (Change(HASH, ""), Change("        least_conn;\n", ""))
"""Each request to the next node, whoever sends it: the opposite of affinity."""
LEAST_CONN = (Change(HASH, "        least_conn;\n"),)
"""The way that the file names for turning affinity off."""
BALANCINGS = pytest.mark.parametrize(
    "changes", [(), ROUND_ROBIN, LEAST_CONN], ids=["consistent hash", "round robin", "least_conn"]
)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def redis() -> AsyncIterator[RedisServer]:
    """One server for all tests of this file; each has a prefix of its own in it."""
    async with redis_server() as server:
        yield server


@pytest.fixture
def settings(redis: RedisServer) -> Settings:
    return replace(
        node_settings(), broker=redis.url, secret=secrets.token_hex(32), key_prefix=f"t{secrets.token_hex(4)}"
    )


async def publish_everywhere(site: Site, readers: list[Reader], count: int) -> None:
    """From each node in turn; the readers have it all when this returns."""
    for number in range(count):
        await site.publish(CHANNEL, number, node=number % len(site.nodes))
    for reader in readers:
        await reader.until_offset(count)


@BALANCINGS
@pytest.mark.parametrize("count", [2, 3])
async def test_every_transport_reads_what_every_node_publishes(
    settings: Settings, changes: tuple[Change, ...], count: int
) -> None:
    async with proxied(settings, *changes, nodes=count) as site:
        readers = [await site.read(await site.client(pipe), CHANNEL) for pipe in PIPES]
        await publish_everywhere(site, readers, 60)
        for reader in readers:
            reader.check()
        for number, client in enumerate(site.clients):
            await client.publish("chat:other", number)  # through nginx, to any node
        page = await site.nodes[-1].engine.broker.history("chat:other", limit=9, max_bytes=65_536, is_reverse=False)
        assert [bytes(publication.data) for publication in page.publications] == [b"0", b"1", b"2", b"3"]


@BALANCINGS
async def test_commands_find_the_stream_wherever_they_land(settings: Settings, changes: tuple[Change, ...]) -> None:
    """Subscribing beside an event stream is a POST of its own, which another node may get."""
    async with proxied(settings, *changes, nodes=2) as site:
        client = await site.client(Pipe("sse"))
        readers = {f"chat:{number}": await site.read(client, f"chat:{number}") for number in range(6)}
        for channel, reader in readers.items():
            await site.publish(channel, channel, node=1)
            await reader.until(1)
            reader.check()
        assert client.stats.attaches == 1
        nodes = {entry["node"] for entry in await site.nginx.entries(6) if entry["path"] == "/v1/command"}
        if changes != LEAST_CONN:  # which depends on what else is under way
            assert len(nodes) == (2 if changes == ROUND_ROBIN else 1)


async def test_the_hash_keeps_a_client_on_a_node_and_spreads_clients(settings: Settings) -> None:
    """The key is on handshakes, streams, polls and commands alike."""
    async with proxied(settings, nodes=3) as site, site.http() as http:
        attach = {"method": "attach", "attempt": 1, "nonce": "n", "confirm": True, "subscriptions": []}
        for number in range(12):
            headers = {**site.bearer(), "User-Agent": f"Browser/{number}", "Accept": "application/json"}
            for path, body in (("/v1/stream", attach), ("/v1/command", {"commands": []}), ("/v1/stream", attach)):
                answer = await http.post(path, json=body, **site.named(headers))
                assert answer.status_code == 200, answer.text
        nodes_of: dict[str, set[str]] = defaultdict(set)
        for entry in await site.nginx.entries(36):
            nodes_of[entry["agent"]].add(entry["node"])
        assert all(len(nodes) == 1 for nodes in nodes_of.values())
        assert len(set.union(*nodes_of.values())) >= 2


@pytest.mark.parametrize("changes", [(), ROUND_ROBIN], ids=["consistent hash", "round robin"])
async def test_nodes_are_restarted_one_after_the_other(settings: Settings, changes: tuple[Change, ...]) -> None:
    """Clients of every transport read on through it: nothing lost, nothing repeated, nothing out of order."""
    async with proxied(settings, *changes, nodes=3, limit_s=90.0) as site:
        readers = [await site.read(await site.client(pipe), CHANNEL) for pipe in PIPES]
        is_over = asyncio.Event()
        written = 0

        async def publish_on() -> None:
            nonlocal written
            while not is_over.is_set():
                for server in site.nodes:
                    if not server.stopped.done() and not server.engine.leaving.has_begun:
                        await server.engine.publish(CHANNEL, written)
                        written += 1
                        break
                await asyncio.sleep(0.02)

        publishing = asyncio.create_task(publish_on())
        for place, server in enumerate(list(site.nodes)):
            await server.shut_down()
            again = running_server(settings, issuer=site.issuer, port=server.port)
            site.nodes[place] = await site.keep(again)
            newcomer = await site.client(Pipe("sse"), f"newcomer{place}")
            readers.append(await site.read(newcomer, CHANNEL, history=0))
        is_over.set()
        await publishing
        await site.publish(CHANNEL, "last")
        for reader in readers:
            await reader.until(lambda reader=reader: bool(reader.data) and reader.data[-1] == "last")
            assert reader.resets == []
            reader.check(first=reader.offsets[0])
        assert [reader.offsets[0] for reader in readers[: len(PIPES)]] == [1] * len(PIPES)


class ServeProcess:
    """A node as its users run it: `hybrid serve` in a process of its own, told everything by the environment."""

    def __init__(self, folder: Path, number: int, redis_url: str, secret: str) -> None:
        self.port = free_port()
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("HYBRID_")},
            "HYBRID_BROKER": redis_url,
            "HYBRID_SECRET": secret,
            "HYBRID_KEY_PREFIX": f"t{secret[:8]}",
            "HYBRID_PUBLIC_URL": URL,
            "HYBRID_ALLOWED_HOSTS": f"{HOST},127.0.0.1:*",
            "HYBRID_TRUSTED_PROXIES": "127.0.0.1",
            "HYBRID_DEVELOPMENT_ISSUER": "true",
            "HYBRID_NAMESPACES_DEFAULT_HISTORY_SIZE": "1000",
        }
        command = [sys.executable, "-m", "hybrid", "serve", "--port", str(self.port)]
        self.process = Process(f"node{number}", command, folder, environment)

    async def until_ready(self) -> None:
        async with httpx2.AsyncClient(trust_env=False) as http:

            async def is_ready() -> bool:
                try:
                    return (await http.get(f"http://127.0.0.1:{self.port}/readyz")).status_code == 200
                except httpx2.HTTPError:
                    return False

            await self.process.until(is_ready)


@asynccontextmanager
async def two_processes(
    redis: RedisServer, folder: Path, *changes: Change
) -> AsyncIterator[tuple[Site, list[Process]]]:
    """Two nodes behind nginx, each a process."""
    secret = secrets.token_hex(32)
    issuer = DevelopmentIssuer(URL + ISSUER_PATH, URL, SystemClock(), seed=derive_key(secret, "development issuer"))
    served = [ServeProcess(folder, number, redis.url, secret) for number in range(2)]
    try:
        for node in served:
            node.process.launch()
        for node in served:
            await node.until_ready()
        async with behind_nginx([node.port for node in served], issuer, *changes) as site:
            yield site, [node.process for node in served]
    finally:
        for node in served:
            print(node.process.report())
            await node.process.end()


async def test_a_node_is_killed(redis: RedisServer, tmp_path: Path) -> None:
    """kill -9 under its clients: they come to the other node, and everything is there once, in order.

    Publishing goes on through nginx meanwhile: a POST that the dead node had in its hands answers 502 and is repeated
    with its key. nginx's logs hold no ticket and no token afterwards.
    """
    async with two_processes(redis, tmp_path, *ROUND_ROBIN) as (site, processes), site.http() as http:
        readers = [
            await site.read(await site.client(pipe, f"user{number}"), CHANNEL) for number in range(2) for pipe in PIPES
        ]
        publisher = await site.client(Pipe("longpoll"), "publisher")
        wanted = {"purpose": "channels", "channels": [CHANNEL]}
        answer = await http.post("/v1/ticket", json=wanted, **site.named(site.bearer()))
        ticket = str(answer.json()["ticket"])
        for number in range(60):
            if number == 20:
                processes[0].kill()
            await publisher.publish(CHANNEL, number)
            await http.get(f"/v1/stream?ticket={ticket}", **site.named({"Accept": "text/event-stream"}))
        for reader in readers:
            await reader.until_offset(60)
            reader.check()
            assert reader.data == list(range(60))
        for path in site.nginx.folder.glob("*.log"):
            written = path.read_text()
            assert ticket not in written
            assert "eyJ" not in written
        assert any("502" in entry["node_status"] for entry in await site.nginx.entries(60))


async def test_who_is_told_to_leave_does_not_come_back_to_a_node_that_drains(
    redis: RedisServer, tmp_path: Path
) -> None:
    """A node that is told to stop refuses connections first, so that nginx asks another one.

    The hash would otherwise send its clients to it again, which were just told to go elsewhere, until it has ended.
    """
    attach = {"attempt": 1, "nonce": "n", "confirm": True, "subscriptions": []}
    async with two_processes(redis, tmp_path) as (site, processes), site.http() as http:

        async def attach_as(number: int) -> int:
            headers = {**site.bearer(), "User-Agent": f"client {number}"}  # the hash sends each to its own node
            return int(
                (await http.post("/v1/stream", json={"method": "attach", **attach}, **site.named(headers))).status_code
            )

        assert [await attach_as(number) for number in range(20)] == [200] * 20
        # It answers no close frame, and so keeps the node in its drain for seconds.
        deaf = RawWebSocket(Door(("127.0.0.1", int(processes[0].arguments[-1])), HOST, site.token()))
        await deaf.open(attach)
        processes[0].signal(signal.SIGTERM)
        await deaf.next("disconnect")
        statuses = [await attach_as(number) for number in range(40)]
        assert processes[0].is_running
        deaf.close()
        # What was still open between nginx and the node is used up first: four connections, two workers, two groups.
        assert statuses.count(503) <= 4
        assert statuses[-20:] == [200] * 20


async def test_tickets_are_good_at_every_node(settings: Settings) -> None:
    """Asked for at one node, used at another, and used up everywhere at once."""
    async with proxied(settings, *ROUND_ROBIN, nodes=3) as site, site.http() as http:
        headers = {"Accept": "text/event-stream"}
        wanted = {"purpose": "channels", "channels": [CHANNEL]}
        attach = {"method": "attach", "attempt": 1, "nonce": "n", "confirm": True, "subscriptions": []}
        for _ in range(6):
            answer = await http.post("/v1/ticket", json=wanted, **site.named(site.bearer()))
            url = f"/v1/channels/{CHANNEL}?ticket={answer.json()['ticket']}"
            async with http.stream("GET", url, **site.named(headers)) as response:
                assert response.status_code == 200
        answer = await http.post(
            "/v1/ticket", json={"purpose": "session", "attach": attach}, **site.named(site.bearer())
        )
        url = f"/v1/stream?ticket={answer.json()['ticket']}"
        async with http.stream("GET", url, **site.named(headers)) as response:
            assert response.status_code == 200
        for _ in range(3):
            assert (await http.get(url, **site.named(headers))).status_code == 401
