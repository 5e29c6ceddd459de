"""Servers that answer a fetch of keys with hostility, and the fetcher that bounds what they can do (SSRF, floods).

The servers are real sockets on loopback; what they write is written by hand.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from hybrid.auth.fetch import FetchError, JsonFetcher
from hybrid.auth.jwt import IssuerConfig, JwtVerifier
from hybrid.errors import AuthError
from hybrid.limits import Limits
from tests.support.answering import Answer, fixed, serving
from tests.support.tokens import AUDIENCE, EC_KEY, HandClock, claims, public, sign


@asynccontextmanager
async def fetching(timeout_s: float = 5.0, max_bytes: int = 262_144) -> AsyncIterator[JsonFetcher]:
    fetcher = JsonFetcher(http_hosts=["127.0.0.1"], timeout_s=timeout_s, max_bytes=max_bytes)
    try:
        yield fetcher
    finally:
        await fetcher.close()


async def refused(answer: Answer, timeout_s: float = 5.0) -> str:
    async with serving(answer) as server, fetching(timeout_s) as fetcher:
        with pytest.raises(FetchError) as caught:
            await fetcher.get(server.url)
        return str(caught.value)


async def test_a_plain_answer_is_read_and_nothing_of_ours_is_told() -> None:
    async with serving(fixed(b'{"keys": []}')) as server, fetching() as fetcher:
        assert await fetcher.get(server.url) == {"keys": []}
        request = server.requests[0].lower()
    assert b"accept-encoding: identity" in request
    assert b"authorization" not in request
    assert b"cookie" not in request


async def test_a_redirect_is_not_followed() -> None:
    async with serving(fixed(b'{"keys": []}')) as inner:
        reason = await refused(fixed(b"", f"location: {inner.url}", status="302 Found"))
        assert inner.requests == []
    assert "status 302" in reason


@pytest.mark.parametrize("status", ["201 Created", "204 No Content", "401 Unauthorized", "404 Not Found", "500 Oops"])
async def test_only_200_is_an_answer(status: str) -> None:
    assert "status" in await refused(fixed(b'{"keys": []}', status=status))


async def test_an_endless_answer_is_cut() -> None:
    written = 0

    async def endless(writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n[")
        while True:
            writer.write(b"0," * 32_768)
            await writer.drain()
            written += 65_536

    assert "more than 262144 bytes" in await refused(endless)
    assert written < 32 * 1_048_576  # what the sockets' buffers held


@pytest.mark.parametrize(("extra", "fits"), [(0, True), (1, False)])
async def test_the_size_is_bounded_to_the_byte(extra: int, fits: bool) -> None:
    body = b'{"a": ""}'
    async with serving(fixed(body)) as server, fetching(max_bytes=len(body) - extra) as fetcher:
        if fits:
            assert await fetcher.get(server.url) == {"a": ""}
        else:
            with pytest.raises(FetchError):
                await fetcher.get(server.url)


async def test_a_dripping_answer_ends_with_the_whole_time() -> None:
    """Each drip comes well within a timeout per read; only the whole exchange is too long."""

    async def dripping(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.02)

    loop = asyncio.get_running_loop()
    start_s = loop.time()
    assert "no complete answer" in await refused(dripping, timeout_s=0.3)
    assert 0.25 < loop.time() - start_s < 3


async def test_silence_and_dripping_headers_end_too() -> None:
    async def silent(writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async def dripping_headers(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"x: y\r\n")
            await writer.drain()
            await asyncio.sleep(0.02)

    await refused(silent, timeout_s=0.2)
    await refused(dripping_headers, timeout_s=0.2)


async def test_a_gzip_bomb_is_not_opened() -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    assert len(bomb) < 100_000
    assert "compressed" in await refused(fixed(bomb, "content-encoding: gzip"))
    await refused(fixed(bomb))  # the same without saying so is just not JSON


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 200_000,
        b'{"a":' * 40_000,
        b'{"keys": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'"keys"',
        b"1" * 10_000,
        b"<html>",
    ],
)
async def test_bodies_that_are_no_json_object_or_far_too_deep(body: bytes) -> None:
    await refused(fixed(body))


async def test_garbage_instead_of_http() -> None:
    async def garbage(writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x16\x03\x01\x00 not http at all\r\n\r\n")

    async def nothing(writer: asyncio.StreamWriter) -> None:
        pass

    async def cut_short(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{}")

    for answer in (garbage, nothing, cut_short):
        await refused(answer)


async def test_nobody_listens() -> None:
    async with serving(fixed(b"{}")) as server:
        url = server.url
    async with fetching() as fetcher:
        with pytest.raises(FetchError):
            await fetcher.get(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://issuer.example/keys",
        "http://127.0.0.2/keys",
        "http://localhost/keys",
        "http://127.0.0.1.evil.example/keys",
        "http://127.0.0.1@evil.example/keys",
        "https://user:password@issuer.example/keys",
        "file:///etc/passwd",
        "ftp://127.0.0.1/keys",
        "//127.0.0.1/keys",
        "127.0.0.1/keys",
        "https:///keys",
        "https://[/keys",
        "http://127.0.0.1/\r\nhost: evil",
        "https://issuer.example/\u212a",
        "",
    ],
)
async def test_only_https_and_listed_hosts_are_asked(url: str) -> None:
    async with fetching() as fetcher:
        with pytest.raises(FetchError):
            await fetcher.get(url)
        assert fetcher._client is None  # not even tried


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(fixed(b'{"through": "proxy"}')) as proxy, serving(fixed(b'{"through": "nothing"}')) as server:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        async with fetching() as fetcher:
            assert await fetcher.get(server.url) == {"through": "nothing"}
        assert proxy.requests == []


# -- the whole way, from a token


async def test_nothing_in_a_token_leads_to_a_fetch_of_its_choice() -> None:
    """CVE-2026-32301: claims of a token that nobody had verified became part of a URL that was then fetched."""
    async with serving(fixed(json.dumps(public(EC_KEY)).encode())) as evil:
        async with serving(fixed(b"{}", status="404 Not Found")) as ours:
            checker = JwtVerifier(
                [IssuerConfig(f"http://127.0.0.1:{ours.port}", http_hosts=frozenset({"127.0.0.1"}))],
                AUDIENCE,
                HandClock(),
                Limits(),
            )
            elsewhere = f"http://127.0.0.1:{evil.port}"
            for token in (
                sign(claims(iss=elsewhere), jku=elsewhere, x5u=elsewhere),
                sign(claims(iss=f"http://127.0.0.1:{ours.port}/../{elsewhere}")),
                sign(claims(iss=f"http://127.0.0.1:{ours.port}"), jku=elsewhere, kid=elsewhere),
            ):
                with pytest.raises(AuthError):
                    await checker.verify(token)
            await checker.close()
            assert len(ours.requests) == 2  # the two places of its own metadata, once
        assert evil.requests == []


async def test_discovery_rotation_and_outage_against_a_real_server() -> None:
    clock = HandClock()
    documents: dict[str, bytes] = {}
    served: list[str] = []

    async def answer(writer: asyncio.StreamWriter) -> None:
        path = server.requests[-1].split(b" ")[1].decode()
        served.append(path)
        found = documents.get(path)
        await fixed(found or b"", status="200 OK" if found else "404 Not Found")(writer)

    async with serving(answer) as server:
        issuer = f"http://127.0.0.1:{server.port}/realm"
        documents["/realm/.well-known/openid-configuration"] = json.dumps(
            {"issuer": issuer, "jwks_uri": f"http://127.0.0.1:{server.port}/k"}
        ).encode()
        documents["/k"] = json.dumps(public(EC_KEY)).encode()
        config = IssuerConfig(issuer, http_hosts=frozenset({"127.0.0.1"}))
        checker = JwtVerifier([config], AUDIENCE, clock, Limits())
        try:
            assert await checker.warm()
            token = sign(claims(iss=issuer))
            assert (await checker.verify(token)).subject == "alice"
            assert served == [
                "/.well-known/oauth-authorization-server/realm",
                "/realm/.well-known/openid-configuration",
                "/k",
            ]
            documents.clear()
            clock.move(60)
            with pytest.raises(AuthError) as caught:
                await checker.verify(sign(claims(iss=issuer), kid="new"))
            assert caught.value.row.name == "keys_unavailable"
            assert (await checker.verify(sign(claims(iss=issuer, jti="t2")))).subject == "alice"
        finally:
            await checker.close()
