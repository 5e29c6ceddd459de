"""No ticket and no token reaches a log of nginx: not in use, not when misused, not when a node fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from tests.support.fake_node import dying_node
from tests.support.nginx import HOST, Change
from tests.support.processes import free_port
from tests.support.proxied import Site, proxied

CHANNEL = "chat:lobby"
OPEN_ERRORS = Change(
    "        # for as long as that takes: tickets that are written meanwhile are good for a minute at most.\n"
    "        error_log {folder}/error.log emerg;",
    "        error_log {folder}/error.log error;",
)
EVENTS = {"Accept": "text/event-stream"}


async def ticket_for(site: Site) -> str:
    """From the node itself, whatever stands in front of it."""
    wanted = {"purpose": "channels", "channels": [CHANNEL]}
    async with httpx2.AsyncClient(trust_env=False) as http:
        answer = await http.post(f"{site.node.url}/v1/ticket", json=wanted, headers=site.bearer())
    assert answer.status_code == 201, answer.text
    return str(answer.json()["ticket"])


async def misuse(site: Site, http: httpx2.AsyncClient, ticket: str) -> None:
    """Everything that puts a secret where nginx could log it."""
    token = site.token()
    for path in (
        f"/v1/stream?ticket={ticket}",
        f"/v1/channels/{CHANNEL}?%74icket={ticket}",
        f"/v1/channels/{CHANNEL}?access_token={token}",
        f"/v1/history/{CHANNEL}?ticket={ticket}",
        f"/static/missing.js?ticket={ticket}",
        f"/nowhere?ticket={ticket}",
        f"/healthz?ticket={ticket}",
    ):
        headers = {**EVENTS, "Referer": f"https://{HOST}/?ticket={ticket}&token={token}", "Cookie": f"t={ticket}"}
        await http.get(path, **site.named(headers))
    await http.post("/v1/publish?ticket=" + ticket, content=b" " * 1_048_577, **site.named())
    await http.request("BREW", f"/v1/stream?ticket={ticket}", **site.named())
    head = f"GET /v1/stream?ticket={ticket} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n"
    await site.raw(f"{head}X: {'x' * 13_000}\r\n\r\n".encode())  # too large
    await site.raw(f"{head}Host: {HOST}\r\n\r\n".encode())  # malformed
    await site.raw(f"{head}Transfer-Encoding: {ticket}\r\n\r\n".encode())
    await site.raw(
        f"GET https://{HOST}/v1/stream?ticket={ticket} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    )
    await site.raw(f"GET /v1/stream?ticket={ticket} HTTP/9.9\r\n\r\n".encode())
    await site.raw(
        f"GET /?ticket={ticket} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode(), is_secure=False
    )
    await site.raw(f"GET /?ticket={ticket} HTTP/1.1\r\nHost: stranger.example\r\n\r\n".encode(), is_secure=False)


def secrets(site: Site, ticket: str) -> list[str]:
    return [ticket, site.token()[:20], "eyJ", "icket=", "token="]


def check(site: Site, ticket: str) -> None:
    for path in site.nginx.folder.glob("*.log"):
        written = path.read_text(errors="replace")
        for secret in secrets(site, ticket):
            assert secret not in written, path.name


@asynccontextmanager
async def opened(site: Site, http: httpx2.AsyncClient, ticket: str) -> AsyncIterator[Any]:
    url = f"/v1/channels/{CHANNEL}?ticket={ticket}"
    async with http.stream("GET", url, **site.named(EVENTS)) as response:
        yield response


async def test_nothing_secret_is_logged_while_all_is_well() -> None:
    async with proxied() as site, site.http() as http, site.http(http2=True) as http2:
        ticket = await ticket_for(site)
        for client in (http, http2):
            async with opened(site, client, ticket) as response:
                assert response.status_code == 200
        await misuse(site, http, ticket)
        entries = await site.nginx.entries(12)
        assert f"/v1/channels/{CHANNEL}?" in {entry["path"] for entry in entries}  # it was asked, and told so
        check(site, ticket)


async def test_nothing_secret_is_logged_when_nodes_fail() -> None:
    """Refused connections, a node that dies with the request in its hands, and one that dies in the stream."""
    async with dying_node() as dying:
        async with proxied(None, first_ports=[dying.port, free_port()]) as site, site.http() as http:
            ticket = await ticket_for(site)
            for _ in range(4):
                async with opened(site, http, ticket) as response:
                    assert response.status_code == 200
            async with opened(site, http, ticket) as response:
                await site.node.shut_down()
                async for _ in response.aiter_bytes():
                    pass
            for _ in range(4):
                answer = await http.get(f"/v1/channels/{CHANNEL}?ticket={ticket}", **site.named(EVENTS))
                assert answer.status_code == 502
            await misuse(site, http, ticket)
            entries = await site.nginx.entries(20)
            assert any(entry["node_status"].startswith("502") for entry in entries)  # what failed is told here
            check(site, ticket)


async def test_the_level_is_what_keeps_tickets_out() -> None:
    """The counterpart: with the level that is usual, the ticket stands in the log, twice in one line."""
    async with proxied(None, first_ports=[free_port()]) as site:
        ticket = await ticket_for(site)
        change = Change(*(text.format(folder=site.nginx.folder) for text in (OPEN_ERRORS.old, OPEN_ERRORS.new)))
        site.nginx.configure([change])
        await site.nginx.reload()
        await site.node.shut_down()
        async with site.http() as http:
            await http.get(f"/v1/channels/{CHANNEL}?ticket={ticket}", **site.named(EVENTS))
        assert f"ticket={ticket}" in site.nginx.log("error")
        assert "failed (111: " in site.nginx.log("error")


async def test_the_log_tells_who_was_refused_and_which_node_failed() -> None:
    dead = free_port()
    async with proxied(None, first_ports=[dead]) as site, site.http() as http:
        for _ in range(2):
            assert (await http.get(f"/v1/channels/{CHANNEL}", **site.named(site.bearer()))).status_code == 200
        entries = await site.nginx.entries(2)
        repeated = [entry for entry in entries if ", " in entry["node"]]
        assert repeated
        assert repeated[0]["node"].split(", ") == [f"127.0.0.1:{dead}", f"127.0.0.1:{site.node.port}"]
        assert repeated[0]["node_status"] == "502, 200"
        assert {entry["client"] for entry in entries} == {"127.0.0.1"}
        assert all(entry["port"].isdigit() for entry in entries)


async def test_nobody_writes_lines_of_his_own() -> None:
    """Line breaks, quotes and escapes of a client stay inside their field."""
    async with proxied() as site, site.http() as http:
        agent = 'a"}\\n{"status":"200\x1b[2J'
        raw = f'GET /v1/x"y%0A%22{{ HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\nUser-Agent: {agent}\r\n\r\n'
        await site.raw(raw.encode())
        await http.get("/v1/channels/a", **site.named(site.bearer()))
        first = (await site.nginx.entries(2))[0]
        assert first["path"] == '/v1/x"y%0A%22{'
        assert first["agent"] == agent
