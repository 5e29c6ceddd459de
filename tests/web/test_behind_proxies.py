"""The word of a trusted proxy reaches everything that decides by it: the door, the check of Origin, the log."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any

import httpx2
import pytest
import websockets
from websockets.asyncio.client import connect
from websockets.typing import Origin

from hybrid.limits import Limits
from hybrid.links.asgi import AsgiWebSocket
from hybrid.links.handoff import HandedOffWebSocket
from hybrid.settings import Settings
from tests.support.server import RunningServer, running_server, settings_for

LIMITS = Limits(unauthenticated_per_address_max=2)
PROXIED = replace(settings_for(limits=LIMITS), trusted_proxies=("127.0.0.1",), allowed_hosts=("hybrid.example",))
DIRECT = replace(PROXIED, trusted_proxies=("192.0.2.1",))


def open_socket(server: RunningServer, forwarded_for: str, **more: Any) -> connect:
    headers = {"X-Forwarded-For": forwarded_for, "X-Forwarded-Proto": "https"}
    uri = "ws://hybrid.example/v1/stream"
    return connect(uri, host="127.0.0.1", port=server.port, additional_headers=headers, proxy=None, **more)


async def test_the_bound_per_address_counts_clients_and_not_the_proxy() -> None:
    async with running_server(PROXIED) as server:
        async with open_socket(server, "203.0.113.7"), open_socket(server, "198.51.100.1, 203.0.113.7"):
            with pytest.raises(websockets.InvalidStatus) as refused:
                await open_socket(server, "::ffff:203.0.113.7")
            assert refused.value.response.status_code == 429
            assert int(refused.value.response.headers["Retry-After"]) >= 1
            async with open_socket(server, "203.0.113.8"):
                assert server.engine.door.count == 3


async def test_nobody_gets_past_the_bound_with_a_header_of_his_own() -> None:
    async with running_server(DIRECT) as server:
        async with open_socket(server, "203.0.113.7"), open_socket(server, "203.0.113.8"):
            with pytest.raises(websockets.InvalidStatus) as refused:
                await open_socket(server, "203.0.113.9")
            assert refused.value.response.status_code == 429


@pytest.mark.parametrize(
    ("settings", "origin", "path", "expected"),
    [
        # Behind TLS the same host in the clear is another origin: anybody on the way could have written that page.
        (PROXIED, "http://hybrid.example", "/v1/channels/a", 403),
        (PROXIED, "http://hybrid.example", "/.well-known/oauth-protected-resource", 403),
        (PROXIED, "https://hybrid.example", "/v1/channels/a", 200),
        (PROXIED, "https://hybrid.example", "/.well-known/oauth-protected-resource", 200),
        # A header of a stranger makes no difference.
        (DIRECT, "http://hybrid.example", "/v1/channels/a", 200),
        (DIRECT, "http://hybrid.example", "/.well-known/oauth-protected-resource", 200),
    ],
)
async def test_the_scheme_decides_which_pages_are_our_own(
    settings: Settings, origin: str, path: str, expected: int
) -> None:
    async with running_server(settings) as server, httpx2.AsyncClient(trust_env=False) as http:
        headers = {**server.bearer(), "Host": "hybrid.example", "Origin": origin, "X-Forwarded-Proto": "https"}
        answer = await http.get(server.url + path, headers=headers)
        assert answer.status_code == expected, answer.text


async def test_the_scheme_decides_for_handshakes_too() -> None:
    async with running_server(PROXIED) as server:
        async with open_socket(server, "203.0.113.7", origin=Origin("https://hybrid.example")):
            pass
        with pytest.raises(websockets.InvalidStatus) as refused:
            await open_socket(server, "203.0.113.7", origin=Origin("http://hybrid.example"))
        assert refused.value.response.status_code == 403


@pytest.mark.parametrize("handoff", [True, False])
async def test_the_log_names_the_client_and_the_hand_off_still_works(
    handoff: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="hybrid.access"):
        async with running_server(replace(PROXIED, handoff=handoff)) as server:
            async with open_socket(server, "203.0.113.7", subprotocols=["hybrid.v1"]) as socket:
                await socket.send(json.dumps({"method": "auth", "token": server.token()}))
                await socket.send('{"method":"attach","attempt":1,"nonce":"n","confirm":true,"subscriptions":[]}')
                assert "attached" in await socket.recv()
                (stream,) = server.engine.open.streams()
                assert isinstance(stream.link, HandedOffWebSocket if handoff else AsgiWebSocket)
    (line,) = [record.getMessage() for record in caplog.records if record.name == "hybrid.access"]
    assert line.startswith("203.0.113.7 websocket ")
