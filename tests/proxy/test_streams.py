"""Streams, polls and commands through nginx: nothing held back, nothing cut while it lives."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed

from hybrid.protocol.eventstream import EventStreamParser
from tests.support.nginx import HOST, Change
from tests.support.proxied import node_settings, proxied, socket_to
from tests.support.world import LIMITS, PIPES, Pipe

CHANNEL = "chat:lobby"
QUICK = replace(LIMITS, heartbeat_interval_s=0.2)
SHORT_READ = Change("    proxy_read_timeout 75s;", "    proxy_read_timeout 1s;")


@pytest.fixture(params=PIPES, ids=str)
def pipe(request: pytest.FixtureRequest) -> Pipe:
    chosen: Pipe = request.param
    return chosen


async def next_event(chunks: Any, parser: EventStreamParser, waiting: list[Any]) -> Any:
    while not waiting:
        waiting += [event for event in parser.feed(await anext(chunks)) if event.data]
    return waiting.pop(0)


@pytest.mark.parametrize("handoff", [True, False], ids=["hand-off", "asgi"])
async def test_a_session_gets_each_publication_at_once(pipe: Pipe, handoff: bool) -> None:
    """The next one is published only when the one before was read: nothing on the way waits for more."""
    async with proxied(node_settings(handoff=handoff)) as site:
        client = await site.client(pipe)
        reader = await site.read(client, CHANNEL)
        for number in range(1, 31):
            await site.publish(CHANNEL, number)
            await reader.until(number)
        reader.check()
        assert reader.data == list(range(1, 31))
        await client.publish(CHANNEL, "from the client")
        await reader.until(31)


async def test_many_publications_arrive_in_order_whatever_carries_them() -> None:
    async with proxied() as site:
        readers = [await site.read(await site.client(pipe), CHANNEL) for pipe in PIPES]
        for number in range(500):
            await site.publish(CHANNEL, "x" * (number * 7 % 2_000))
        for reader in readers:
            await reader.until(500)
            reader.check()


@pytest.mark.parametrize("http2", [False, True], ids=["http/1.1", "http/2"])
async def test_a_plain_event_stream_is_not_held_back(http2: bool) -> None:
    async with proxied() as site, site.http(http2=http2) as http:
        headers = {**site.bearer(), "Accept": "text/event-stream", "Accept-Encoding": "gzip, br"}
        async with http.stream("GET", f"/v1/channels/{CHANNEL}", **site.named(headers)) as response:
            assert response.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
            assert response.status_code == 200
            assert response.headers["content-encoding"] == "identity"
            assert response.headers["x-accel-buffering"] == "no"  # for a further proxy on the way
            chunks, parser, waiting = response.aiter_bytes(), EventStreamParser(65_536), []
            for number in range(10):
                # Published by the same connection: on HTTP/2 beside the stream.
                answer = await http.post(f"/v1/channels/{CHANNEL}", json=number, **site.named(site.bearer()))
                assert answer.json()["offset"] == number + 1
                assert (await next_event(chunks, parser, waiting)).data == str(number)


async def test_a_session_on_http2_streams_down_and_posts_up() -> None:
    """Stream, confirm and subscribe share one connection, as in a browser."""
    async with proxied() as site, site.http(http2=True) as http:
        headers = {**site.bearer(), "Accept": "text/event-stream", "Content-Type": "application/json"}
        attach = {"method": "attach", "attempt": 1, "nonce": "n1", "subscriptions": []}
        async with http.stream("POST", "/v1/stream", json=attach, **site.named(headers)) as response:
            assert response.http_version == "HTTP/2"
            chunks, parser, waiting = response.aiter_bytes(), EventStreamParser(65_536), []
            attached = json.loads((await next_event(chunks, parser, waiting)).data)["attached"]
            assert attached["nonce"] == "n1"
            for command in (
                {"method": "confirm", "id": 1, "attempt": 1},
                {"method": "subscribe", "id": 2, "channel": CHANNEL, "n": 1},
            ):
                body = {"session": attached["session"], "commands": [command]}
                answer = await http.post("/v1/command", json=body, **site.named(site.bearer()))
                assert answer.status_code == 200
                assert "error" not in answer.json()["replies"][0]
            assert "subscribed" in (await next_event(chunks, parser, waiting)).data
            for number in range(5):
                await site.publish(CHANNEL, number)
                push = json.loads((await next_event(chunks, parser, waiting)).data)
                assert push["publication"]["data"] == number


async def test_a_plain_websocket_reads_and_closes_in_form() -> None:
    async with proxied() as site:
        async with socket_to(site, f"/v1/channels/{CHANNEL}") as socket:
            for number in range(5):
                await site.publish(CHANNEL, number)
                assert json.loads(await socket.recv())["data"] == number
            await site.node.shut_down()
            with pytest.raises(ConnectionClosed, match="1012"):  # the node's own close code, not a cut by nginx
                await socket.recv()


async def test_a_long_poll_waits_and_is_answered_at_once() -> None:
    async with proxied() as site, site.http() as http:
        path = f"/v1/channels/{CHANNEL}"
        cursor = (await http.get(path, **site.named(site.bearer()))).json()["cursor"]
        asked = asyncio.ensure_future(
            http.get(path, params={"after": cursor, "wait": "20"}, **site.named(site.bearer()))
        )
        while not len(site.node.engine.open):  # noqa: ASYNC110 -- nothing tells of it
            await asyncio.sleep(0.002)
        await site.publish(CHANNEL, "now")
        answer = await asked
        assert [p["data"] for p in answer.json()["publications"]] == ["now"]
        assert answer.headers["content-length"] == str(len(answer.content))


async def is_stuck(link: Any) -> bool:
    """Whether what is in the link's buffer stays there for a tenth of a second."""
    for _ in range(50):
        if link.buffered() == 0:
            return False
        await asyncio.sleep(0.002)
    return True


async def test_a_slow_reader_is_the_nodes_to_judge() -> None:
    """nginx takes no more for it than fits into small buffers: the node reads the log for it later, from memory."""
    data = "x" * 30_000
    async with proxied() as site:
        end = socket.socket()
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        end.setblocking(False)
        await asyncio.get_running_loop().sock_connect(end, ("127.0.0.1", site.nginx.https_port))
        reader, writer = await asyncio.open_connection(
            sock=end, ssl=site.nginx.client_context(), server_hostname=HOST, limit=4_096
        )
        token = site.bearer()["Authorization"]
        # HTTP/1.0, or chunks would have to be taken apart here.
        head = f"GET /v1/channels/{CHANNEL} HTTP/1.0\r\nHost: {HOST}\r\nAuthorization: {token}\r\n"
        writer.write(f"{head}Accept: text/event-stream\r\n\r\n".encode())
        seen = bytearray(await reader.readuntil(b"retry:"))  # and no further
        (stream,) = site.node.engine.open.streams()
        written = 0
        while not await is_stuck(stream.link):
            await site.publish(CHANNEL, data)
            written += 1
        assert written < 900  # the log has room for more: nothing is lost
        assert list((site.nginx.folder / "proxy").iterdir()) == []
        for _ in range(20):
            await site.publish(CHANNEL, data)
        last = b"-%d-" % (written + 20)
        while last not in seen[-100_000:]:
            part = await reader.read(65_536)
            assert part, "the stream was cut"
            seen += part
        writer.transport.abort()
        ids = re.findall(rb"\nid: \w+-(\d+)-", bytes(seen))
        assert [int(offset) for offset in ids] == list(range(1, written + 21))


async def test_a_client_that_leaves_is_gone_at_the_node() -> None:
    """nginx must not keep a stream, or a poll, whose client has hung up."""
    async with proxied() as site:
        async with site.http() as http:
            headers = {**site.bearer(), "Accept": "text/event-stream"}
            async with http.stream("GET", f"/v1/channels/{CHANNEL}", **site.named(headers)):
                assert len(site.node.engine.open) == 1
            cursor = (await http.get(f"/v1/channels/{CHANNEL}", **site.named(site.bearer()))).json()["cursor"]
            with pytest.raises(httpx2.ReadTimeout):
                await http.get(f"/v1/channels/{CHANNEL}?after={cursor}", timeout=0.3, **site.named(site.bearer()))
        while len(site.node.engine.open):  # noqa: ASYNC110 -- nothing tells of it
            await asyncio.sleep(0.002)


@pytest.mark.parametrize("transport", ["websocket", "sse"])
async def test_heartbeats_carry_an_idle_stream_past_nginxs_timeout(transport: str) -> None:
    """The file's own proportion, 20 s to 75 s, shortened."""
    async with proxied(node_settings(QUICK), SHORT_READ) as site:
        client = await site.client(Pipe(transport))
        reader = await site.read(client, CHANNEL)
        await asyncio.sleep(1.5)  # the passing of this time is what is tested: nginx cuts after 1 s of silence
        await site.publish(CHANNEL, "still here")
        await reader.until(1)
        assert client.stats.attaches == 1


async def test_without_heartbeats_nginx_would_cut() -> None:
    """The counterpart: the timeout of the test above is really in force."""
    async with proxied(None, SHORT_READ) as site, socket_to(site, f"/v1/channels/{CHANNEL}") as socket:
        with pytest.raises(ConnectionClosed, match="no close frame"):
            await socket.recv()


async def test_a_client_that_may_use_any_transport_takes_the_websocket() -> None:
    async with proxied() as site:
        client = await site.client(("websocket", "sse", "longpoll"))
        reader = await site.read(client, CHANNEL)
        await site.publish(CHANNEL, 1)
        await reader.until(1)
        assert client.transport == "websocket"


@pytest.mark.parametrize("upgrade", ["h2c", "websocket, h2c", "hybrid", ""])
async def test_only_a_websocket_upgrade_reaches_the_node(upgrade: str) -> None:
    """Hypercorn would answer h2c with 101, and everything behind that would pass nginx unseen."""
    async with proxied() as site:
        token = site.bearer()["Authorization"]
        request = (
            f"GET /v1/channels/{CHANNEL} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: {token}\r\n"
            f"Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: {upgrade}\r\n"
            "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n"
        )
        status, _, body = await site.raw(request.encode())
        assert status == 200, body
        assert b'"cursor"' in body
