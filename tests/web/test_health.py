"""What machines ask: alive, ready, whose tokens; and what pages of other origins may read."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from hybrid.limits import Limits
from tests.support.bytewise import EVENTS, WEBSOCKET, call, event_stream, websocket
from tests.support.server import AUDIENCE, RunningServer, running_server, settings_for

APP = "https://app.example"
PATHS = ["/v1/ping", "/v1/channels/news", "/v1/history/news", "/v1/nothing", "/v1/channels/%"]


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with running_server(replace(settings_for(), allowed_origins=(APP,))) as running:
        yield running


@pytest.mark.parametrize(("path", "status"), [("/healthz", "alive"), ("/readyz", "ready")])
async def test_health_needs_no_credential_and_no_known_host(server: RunningServer, path: str, status: str) -> None:
    """A load balancer asks by address."""
    answer = await call(server, "GET", path, host="10.0.0.7:8000")
    assert (answer.status, answer.json()) == (200, {"status": status})
    assert (await call(server, "HEAD", path)).status == 200
    assert (await call(server, "POST", path)).status == 405


async def test_the_resource_metadata_leads_from_a_401_to_the_issuer(server: RunningServer) -> None:
    refused = await call(server, "GET", "/v1/channels/news")
    challenge = refused.headers["www-authenticate"]
    url = f"{AUDIENCE}/.well-known/oauth-protected-resource"
    assert challenge == f'Bearer resource_metadata="{url}"'
    answer = await call(server, "GET", url.removeprefix(AUDIENCE))
    assert answer.json()["resource"] == AUDIENCE
    assert answer.json()["bearer_methods_supported"] == ["header"]


async def test_a_refused_token_says_so_in_the_challenge(server: RunningServer) -> None:
    refused = await call(server, "GET", "/v1/channels/news", {"Authorization": "Bearer x.y.z"})
    assert (refused.status, refused.name) == (401, "token_refused")
    assert 'error="invalid_token"' in refused.headers["www-authenticate"]
    poor = server.bearer(scope="hybrid:subscribe:other")
    forbidden = await call(server, "GET", "/v1/channels/news", poor)
    assert (forbidden.status, forbidden.name) == (403, "forbidden")
    assert 'error="insufficient_scope"' in forbidden.headers["www-authenticate"]


@pytest.mark.parametrize("path", PATHS)
async def test_a_listed_page_reads_every_answer_errors_included(server: RunningServer, path: str) -> None:
    for headers in ({}, server.bearer(), {"Authorization": "Bearer x"}):
        answer = await call(server, "GET", path, {"Origin": APP, **headers})
        assert answer.headers["access-control-allow-origin"] == APP
        assert answer.headers["vary"] == "Origin"
        assert answer.headers["access-control-expose-headers"] == "Retry-After, WWW-Authenticate"
        assert "access-control-allow-credentials" not in answer.headers


async def test_a_listed_page_reads_a_stream(server: RunningServer) -> None:
    async with event_stream(server, "/v1/channels/news", {"Origin": APP, **server.bearer()}) as stream:
        assert stream.headers["access-control-allow-origin"] == APP


@pytest.mark.parametrize("path", [*PATHS, "/v1/stream", "/v1/command", "/v1/publish", "/v1/ticket"])
async def test_the_preflight(server: RunningServer, path: str) -> None:
    asked = {"Origin": APP, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    answer = await call(server, "OPTIONS", path, asked)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == APP
    assert answer.headers["access-control-allow-methods"] == "GET, POST"
    allowed = answer.headers["access-control-allow-headers"].split(", ")
    assert allowed == ["Authorization", "DPoP", "Content-Type", "Last-Event-ID", "Idempotency-Key", "Hybrid-Type"]
    assert answer.headers["access-control-max-age"] == "7200"
    foreign = await call(server, "OPTIONS", path, {**asked, "Origin": "https://evil.example"})
    assert (foreign.status, foreign.name) == (403, "origin_refused")
    assert "access-control-allow-origin" not in foreign.headers


@pytest.mark.parametrize("headers", [{}, EVENTS])
async def test_nobody_caches_or_sniffs(server: RunningServer, headers: dict[str, str]) -> None:
    for credential in ({}, server.bearer()):
        if headers and credential:
            async with event_stream(server, "/v1/channels/news", credential) as stream:
                found = stream.headers
        else:
            found = (await call(server, "GET", "/v1/channels/news", {**headers, **credential})).headers
        assert "no-store" in found["cache-control"]
        assert found["x-content-type-options"] == "nosniff"
        assert found["referrer-policy"] == "no-referrer"


async def test_a_ping_says_that_somebody_is_here(server: RunningServer) -> None:
    """By it a client tells a dead server from a network that spoils its streams."""
    answer = await call(server, "GET", "/v1/ping?t=1", {"Origin": APP})
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
    assert set(answer.json()) == {"at_ms"}
    assert abs(answer.json()["at_ms"] / 1000 - time.time()) < 60
    assert (await call(server, "HEAD", "/v1/ping")).body == b""
    posted = await call(server, "POST", "/v1/ping")
    assert (posted.status, posted.name) == (404, "not_found")
    assert "GET only" in posted.json()["detail"]
    assert (await call(server, "GET", "/v1/ping/more")).status == 404


async def test_a_ping_asks_for_no_token_and_believes_none(server: RunningServer) -> None:
    assert (await call(server, "GET", "/v1/ping", {"Authorization": "Bearer x.y.z"})).status == 200
    in_the_url = await call(server, "GET", "/v1/ping?access_token=x")
    assert (in_the_url.status, in_the_url.name) == (400, "bad_request")


async def test_a_ping_is_answered_where_nobody_else_is_let_in() -> None:
    limits = Limits(links_max=1, unauthenticated_max=1, unauthenticated_per_address_max=1, auth_timeout_s=30.0)
    async with running_server(settings_for(limits=limits)) as server, websocket(server, "/v1/stream"):
        assert (await call(server, "GET", "/v1/stream", WEBSOCKET)).status == 429
        assert (await call(server, "GET", "/v1/channels/news", server.bearer())).status == 429
        assert (await call(server, "GET", "/v1/ping")).status == 200
        server.engine.leaving.has_begun = True
        leaving = await call(server, "GET", "/v1/ping")
        assert (leaving.status, leaving.name) == (503, "draining")
