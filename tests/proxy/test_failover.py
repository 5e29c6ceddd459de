"""A node that is down, or dies: the next one is asked where that is safe, and nothing that counts is sent twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from websockets.exceptions import ConnectionClosed

from tests.support.fake_node import dying_node, recording_node
from tests.support.nginx import HOST, Change
from tests.support.processes import free_port
from tests.support.proxied import behind_nginx, proxied, socket_to
from tests.support.server import new_issuer
from tests.support.world import Pipe

CHANNEL = "chat:lobby"
PATH = f"/v1/channels/{CHANNEL}"
ATTACH = {"method": "attach", "attempt": 1, "nonce": "n", "confirm": True, "subscriptions": []}


@pytest.mark.parametrize("transport", ["websocket", "sse", "longpoll"])
async def test_nobody_notices_a_node_that_is_down(transport: str) -> None:
    """Neither a new client, nor a publish by POST: nothing was sent to the node, so the next one gets it."""
    async with proxied(None, first_ports=[free_port(), free_port()]) as site, site.http() as http:
        for number in range(6):
            client = await site.client(Pipe(transport), f"user{number}")
            reader = await site.read(client, CHANNEL, history=0)
            assert [event.what for event in client.log if event.what == "ended"] == []
            answer = await http.post(PATH, json=number, **site.named(site.bearer()))
            assert answer.status_code == 200
            await reader.until(1)
        statuses = {entry["status"] for entry in await site.nginx.entries(6)}
        assert statuses <= {"200", "101", "499"}


async def test_a_node_that_is_down_is_left_alone_for_a_while() -> None:
    """After three failures it is not even tried: later requests name one node only."""
    async with proxied(None, first_ports=[free_port()]) as site, site.http() as http:
        for _ in range(20):
            assert (await http.get(PATH, **site.named(site.bearer()))).status_code == 200
        entries = await site.nginx.entries(20)
        tried = sum(", " in entry["node"] for entry in entries)
        assert 3 <= tried <= 6  # three for each of the two workers, if they did not share what they know


async def test_a_post_is_never_sent_twice() -> None:
    """The node may have done it before it died. The client repeats it with its key, which makes that safe."""
    async with dying_node() as dying, proxied(None, first_ports=[dying.port]) as site, site.http() as http:
        answers = [await http.post(PATH, json=number, **site.named(site.bearer())) for number in range(10)]
        reached = len(dying.heads)
        assert reached == 3  # then it counts as gone
        assert [answer.status_code for answer in answers].count(502) == reached
        page = await site.node.engine.broker.history(CHANNEL, limit=20, max_bytes=65_536, is_reverse=False)
        assert len(page.publications) == 10 - reached


@pytest.mark.parametrize("path", ["/v1/command", "/v1/publish", "/v1/ticket", "/v1/stream"])
async def test_no_post_at_all_is_sent_twice(path: str) -> None:
    async with dying_node() as dying, dying_node() as other:
        async with proxied(None, first_ports=[dying.port, other.port]) as site, site.http() as http:
            sent = 0
            while not (dying.heads or other.heads):
                headers = {**site.bearer(), "User-Agent": f"client {sent}"}  # the hash sends each to some node
                answer = await http.post(path, json=ATTACH, **site.named(headers))
                sent += 1
            assert answer.status_code == 502
            assert len(dying.heads) + len(other.heads) == 1


async def test_a_get_goes_on_to_the_next_node() -> None:
    """It changes nothing, and says itself from where it wants to go on."""
    async with dying_node() as dying, proxied(None, first_ports=[dying.port]) as site, site.http() as http:
        await site.publish(CHANNEL, "kept")
        for path in (f"{PATH}?after=0", f"/v1/history/{CHANNEL}"):
            for _ in range(2):
                answer = await http.get(path, **site.named(site.bearer()))
                assert answer.status_code == 200
                assert len(answer.json()["publications"]) == 1
        assert "GET" in dying.methods()


async def test_a_used_ticket_is_refused_when_the_next_node_gets_it() -> None:
    """A ticket for a session is good once. nginx repeats the GET, and that the store refuses it keeps it harmless."""
    async with proxied() as site, site.http() as http:
        wanted = {"purpose": "session", "attach": ATTACH}
        answer = await http.post("/v1/ticket", json=wanted, **site.named(site.bearer()))
        url = f"/v1/stream?ticket={answer.json()['ticket']}"
        headers = {"Accept": "text/event-stream"}
        async with http.stream("GET", url, **site.named(headers)) as response:
            assert response.status_code == 200
        answer = await http.get(url, **site.named(headers))
        assert answer.status_code == 401
        assert answer.json()["name"] == "token_refused"


async def test_hybrids_client_publishes_once_past_a_dying_node() -> None:
    """It repeats what was not answered, with its key, and the log holds everything once and in order."""
    async with dying_node() as dying, proxied(None, first_ports=[dying.port]) as site:
        client = await site.client(Pipe("longpoll"))
        for number in range(20):
            await client.publish(CHANNEL, number)
        page = await site.node.engine.broker.history(CHANNEL, limit=100, max_bytes=65_536, is_reverse=False)
        assert [bytes(publication.data) for publication in page.publications] == [b"%d" % n for n in range(20)]


async def test_a_long_silence_is_not_repeated_elsewhere() -> None:
    """A read that timed out would time out again; asking three nodes would take three times as long."""
    asked: list[bytes] = []

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(65_536))
        await reader.read()
        writer.close()

    servers = [await asyncio.start_server(mute, "127.0.0.1", 0) for _ in range(2)]
    ports = [server.sockets[0].getsockname()[1] for server in servers]
    # The file's own proportion: reads wait for longer than the search for another node goes on.
    changes = (
        Change("            proxy_read_timeout 30s;", "            proxy_read_timeout 600ms;", 2),
        Change("proxy_next_upstream_timeout 10s;", "proxy_next_upstream_timeout 300ms;"),
    )
    async with asking(ports, *changes) as get:
        assert await get(f"/v1/history/{CHANNEL}") == 504
        assert len(asked) == 1
    for server in servers:
        server.close()


async def test_a_draining_node_says_so_itself() -> None:
    """Its 503 with Retry-After is for the client, and does not make nginx give the node up."""
    async with proxied(nodes=2) as site, site.http() as http:
        draining = f"127.0.0.1:{site.node.port}"
        site.node.engine.leaving.has_begun = True
        for method, path in (("POST", "/v1/stream"), ("GET", PATH)):
            statuses = []
            for number in range(60):
                headers = {**site.bearer(), "User-Agent": f"client {number}"}  # the hash sends each to some node
                answer = await http.request(method, path, json=ATTACH, **site.named(headers))
                statuses.append(answer.status_code)
                if answer.status_code == 503:
                    assert int(answer.headers["retry-after"]) >= 1
                    assert answer.json()["name"] == "draining"
            assert statuses.count(200) >= 4
            assert statuses.count(503) >= 4  # also after the third: it does not count as a failure
        entries = await site.nginx.entries(120)
        assert all((entry["node"] == draining) == (entry["status"] == "503") for entry in entries)


async def test_a_draining_node_reaches_browsers_through_nginx() -> None:
    """What they cannot understand as a 503 comes in the form that they do; publishing goes on."""
    async with proxied() as site, site.http() as http:
        site.node.engine.leaving.has_begun = True
        answer = await http.get(PATH, **site.named({**site.bearer(), "Accept": "text/event-stream"}))
        assert answer.status_code == 200  # an EventSource would never come back after a 503
        assert answer.text.startswith("retry: ")
        async with socket_to(site, PATH) as socket:
            with pytest.raises(ConnectionClosed, match="1012"):
                await socket.recv()
        assert (await http.post(PATH, json=1, **site.named(site.bearer()))).status_code == 200


async def test_what_a_node_gets_to_see() -> None:
    """Who and how, in nginx's own words; nothing of what only concerns nginx's connection, and no cookies."""
    async with recording_node() as node, behind_nginx([node.port], new_issuer()) as site:
        async with site.http(source="127.0.0.2") as http:
            headers = {
                "X-Forwarded-For": "203.0.113.1",
                "X-Forwarded-Proto": "http",
                "X-Forwarded-Host": "stranger.example",
                "Forwarded": "for=203.0.113.1",
                "Cookie": "a=b",
                "Connection": "keep-alive, x-secret",
                "Keep-Alive": "timeout=9",
                "TE": "trailers",
                "Upgrade": "h2c",
            }
            await http.get("/v1/channels/a%2Fb?after=0&wait=1", **site.named(headers))
        head = node.heads[0].decode()
        assert head.startswith("GET /v1/channels/a%2Fb?after=0&wait=1 HTTP/1.1\r\n")
        seen = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        assert seen["host"] == HOST
        assert seen["x-forwarded-for"] == "127.0.0.2"
        assert seen["x-forwarded-proto"] == "https"
        assert not seen.keys() & {"forwarded", "x-forwarded-host", "cookie", "connection", "upgrade", "keep-alive"}


async def test_connections_to_nodes_are_kept() -> None:
    """A handshake for each publish would cost more than the publish."""
    async with recording_node() as node, behind_nginx([node.port], new_issuer()) as site, site.http() as http:
        for path in (PATH, "/v1/command", f"/v1/history/{CHANNEL}", "/v1/stream") * 10:
            answer = await http.post(path, json=1, **site.named())
            assert answer.status_code == 204
        assert len(node.heads) == 40
        assert node.connections <= 4  # two workers, two groups


@asynccontextmanager
async def asking(ports: list[int], *changes: Change) -> AsyncIterator[Callable[[str], Awaitable[int]]]:
    """nginx in front of something that is no hybrid; gives a function that asks a path and returns the status."""
    async with behind_nginx(ports, new_issuer(), *changes) as site, site.http() as http:

        async def get(path: str) -> int:
            return int((await http.get(path, **site.named())).status_code)

        yield get
