"""Channel names pass nginx as they were written: one segment of the path, whatever is encoded in it."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

import pytest

from tests.support.nginx import HOST
from tests.support.proxied import Site, proxied

NAMES = (
    "a/b",
    "a//b",
    "/a",
    "a/",
    "../x",
    "../../x",
    "../stream",
    "../publish",
    "../../healthz",
    "../../static/demo.css",
    "../history/x",
    "a/../b",
    "./x",
    "...",
    "日本",
    "é",
    "100%25",
    "100%",
    "%2F",
    "%2e%2e",
    "a?b=c&ticket=d",
    "a#b",
    "a b",
    "a+b",
    "a;b=1",
    "a:b@c",
    'a"b\\c',
    "~!$&'(),",
    "x" * 255,
)


async def raw_status(site: Site, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    token = site.bearer()["Authorization"]
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: {token}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    status, _, answer = await site.raw(head.encode() + body)
    return status, answer


async def test_what_is_published_through_nginx_is_read_under_the_same_name() -> None:
    async with proxied() as site:
        for name in NAMES:
            path = f"/v1/channels/{quote(name, safe='')}"
            status, answer = await raw_status(site, "POST", path, b'"via nginx"')
            assert status == 200, (name, answer)
            page = await site.node.engine.broker.history(name, limit=10, max_bytes=65_536, is_reverse=False)
            assert [bytes(publication.data) for publication in page.publications] == [b'"via nginx"'], name
            assert [publication.channel for publication in page.publications] == [name]


async def test_history_and_streams_take_every_name() -> None:
    async with proxied() as site:
        for name in NAMES:
            await site.publish(name, "direct")
            quoted = quote(name, safe="")
            status, answer = await raw_status(site, "GET", f"/v1/history/{quoted}")
            assert status == 200, (name, answer)
            assert b'"direct"' in answer, name
            headers = {**site.bearer(), "Accept": "text/event-stream"}
            async with asyncio.timeout(5):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", site.nginx.https_port, ssl=site.nginx.client_context(), server_hostname=HOST
                )
                lines = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
                writer.write(f"GET /v1/channels/{quoted}?history=1 HTTP/1.1\r\nHost: {HOST}\r\n{lines}\r\n".encode())
                seen = b""
                while b'data: "direct"' not in seen:
                    part = await reader.read(65_536)
                    assert part, (name, seen)
                    seen += part
                writer.transport.abort()


@pytest.mark.parametrize(
    ("segment", "number"),
    [
        ("%2e%2e", b'"number":3400'),  # the names `.` and `..` do not exist; said by hybrid, not by nginx
        ("%2E", b'"number":3400'),
        ("a//b", b'"number":3400'),  # a literal slash does not belong to a name
        ("a/b", b'"number":3400'),
        ("a%0Ab", b'"number":3400'),
        ("a%C3", b'"number":3400'),
        ("*", b'"number":3400'),
        ("", b'"number":3400'),
    ],
)
async def test_what_is_no_name_is_refused_by_hybrid(segment: str, number: bytes) -> None:
    async with proxied() as site:
        status, answer = await raw_status(site, "POST", f"/v1/channels/{segment}", b"1")
        assert status == 400, answer
        assert number in answer


@pytest.mark.parametrize(
    "path",
    [
        "/v1/channels/a%00b",  # no name of a channel has it
        "/v1/channels/a%zz",
        "/v1/channels/..%2F..%2F..%2Fx",  # a name that hybrid would take, and nginx does not: docs/nginx.md says so
    ],
)
async def test_what_nginx_itself_refuses(path: str) -> None:
    async with proxied() as site:
        status, answer = await raw_status(site, "POST", path, b"1")
        assert status == 400
        assert b"nginx" in answer
        assert b"nginx/" not in answer  # no version


@pytest.mark.parametrize(
    "path",
    [
        "/healthz",
        "/%68ealthz",
        "/./healthz",
        "/x/../healthz",
        "/x%2F..%2Fhealthz",
        "/readyz",
        "/readyz?x=1",
    ],
)
async def test_health_is_not_for_the_public(path: str) -> None:
    async with proxied() as site:
        token = site.bearer()["Authorization"]
        request = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: {token}\r\nConnection: close\r\n\r\n".encode()
        assert (await site.raw(request))[0] in (200, 404)  # from this machine itself; 404: hybrid resolves no path
        status, _, _ = await site.raw(request, source="127.0.0.2")
        assert status == 403


@pytest.mark.parametrize(
    "path", ["//healthz", "/healthz/", "/dev-issuer/token", "/", "/v2/x", "/v1x/channels/healthz", "/demo/clock"]
)
async def test_nothing_else_is_public(path: str) -> None:
    async with proxied() as site:
        request = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode()
        status, _, body = await site.raw(request, source="127.0.0.2")
        assert status == 404
        assert b"nginx" in body  # no node was asked


async def test_whose_tokens_are_accepted_is_public() -> None:
    async with proxied() as site:
        request = f"GET /.well-known/oauth-protected-resource HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
        status, headers, body = await site.raw(request.encode(), source="127.0.0.2")
        assert status == 200
        assert b'"resource"' in body
        assert headers["strict-transport-security"].startswith("max-age=")
