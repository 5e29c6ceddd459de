"""Who may read the metrics of a whole server, and who may not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hybrid.errors import SettingsError
from hybrid.settings import Settings
from tests.metrics.scrape import SCOPE, Scrape, ask
from tests.support.bytewise import call, connected, request
from tests.support.server import running_server, settings_for

ON = replace(settings_for(), metrics=True)
NETWORK = replace(ON, metrics_networks=("127.0.0.0/8",))


async def test_there_is_nothing_unless_a_setting_says_so() -> None:
    async with running_server(settings_for()) as server:
        assert (await ask(server, server.token(scope=SCOPE))).status == 404


async def test_without_a_network_only_a_token_with_the_scope_reads() -> None:
    async with running_server(ON) as server:
        nobody = await ask(server)
        assert (nobody.status, nobody.name) == (401, "unauthorized")
        assert nobody.headers["www-authenticate"].startswith("Bearer")
        everything = "hybrid:subscribe:* hybrid:publish:* hybrid:revoke"
        other = await ask(server, server.token(scope=everything))
        assert (other.status, other.name) == (403, "forbidden")
        assert f'scope="{SCOPE}"' in other.headers["www-authenticate"]
        expired = await ask(server, server.token(scope=SCOPE, lifetime_s=-5))  # within what clocks may differ
        assert (expired.status, expired.name) == (401, "token_expired")
        assert (await ask(server, "nonsense")).name == "token_refused"
        good = await ask(server, server.token(scope=f"other {SCOPE}"))
        assert good.status == 200
        assert good.headers["cache-control"] == "no-store"
        refused = Scrape(good.body.decode())
        assert refused.of("hybrid_refusals_total", error="unauthorized") == 1
        assert refused.of("hybrid_refusals_total", error="token_refused") == 1


async def test_a_token_reads_under_any_host_name_for_prometheus_may_know_us_by_another_one() -> None:
    async with running_server(ON) as server:
        assert (await ask(server, server.token(scope=SCOPE), Host="10.1.2.3:9")).status == 200
        assert (await ask(server, server.token(scope=SCOPE), Host="pod-7.internal")).status == 200


async def test_a_listed_network_reads_without_a_token() -> None:
    async with running_server(NETWORK) as server:
        assert (await ask(server)).status == 200
        assert (await ask(server, Host="10.1.2.3:9")).status == 200, "by its address"
    async with running_server(replace(ON, metrics_networks=("192.0.2.0/24", "::1/128"))) as server:
        assert (await ask(server)).status == 401


@pytest.mark.parametrize(
    "header",
    [
        {"X-Forwarded-For": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
        {"Via": "1.1 proxy"},
        {"X-Real-IP": "127.0.0.1"},
        {"Origin": "http://127.0.0.1"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Cookie": "a=b"},
    ],
    ids=lambda header: next(iter(header)),
)
async def test_what_came_through_a_proxy_or_from_a_browser_needs_a_token_wherever_it_comes_from(
    header: dict[str, str],
) -> None:
    for trusted in ((), ("127.0.0.1",)):
        async with running_server(replace(NETWORK, trusted_proxies=trusted)) as server:
            assert (await call(server, "GET", "/metrics", header)).status == 401
            with_token = {**header, **server.bearer(scope=SCOPE)}
            assert (await call(server, "GET", "/metrics", with_token)).status == 200


async def test_a_name_that_somebody_else_made_lead_here_reads_nothing() -> None:
    async with running_server(NETWORK) as server:
        for host in ("evil.example", "localhost.evil.example:80", "127.0.0.1.nip.example", "", "[::1"):
            async with connected(server) as connection:
                connection.send(request("GET", "/metrics", {}, host=host))
                assert (await connection.head()).status in (400, 403), host


async def test_a_wrong_token_is_not_forgiven_for_where_it_comes_from() -> None:
    async with running_server(NETWORK) as server:
        assert (await ask(server, "nonsense")).status == 401


def test_the_settings_are_checked() -> None:
    with pytest.raises(SettingsError, match=r"metrics_networks: 'everybody'"):
        Settings(metrics=True, metrics_networks=("everybody",))
    with pytest.raises(SettingsError, match=r"metrics_networks has no effect"):
        Settings(metrics_networks=("127.0.0.1",))
