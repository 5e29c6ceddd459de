"""Nodes of the fault tests are real processes that die, stop, drain and come back on their port."""

from __future__ import annotations

import asyncio
import os
import tomllib
from collections.abc import Iterator

import pytest

from hybrid.auth.development import DevelopmentIssuer
from hybrid.client import Client
from tests.support.http_issuer import http_issuer
from tests.support.nodes import AUDIENCE, ask, nodes, to_toml


@pytest.fixture(scope="module")
def issuer() -> Iterator[DevelopmentIssuer]:
    with http_issuer(AUDIENCE) as made:
        yield made


def test_settings_are_written_as_toml() -> None:
    settings = {
        "secret": 'a "quoted" one',
        "hosts": ["a", "b:*"],
        "limits": {"shutdown_grace_s": 1.5},
        "issuers": [{"url": "http://a"}, {"url": "http://b"}],
        "namespaces": {"room": {"history_size": 5, "presence": True}},
    }
    assert tomllib.loads(to_toml(settings)) == settings


async def test_a_client_reads_and_publishes_with_a_token_whose_keys_are_fetched(issuer: DevelopmentIssuer) -> None:
    async with nodes(1, broker="memory:", issuer=issuer) as group:
        token = issuer.mint("anna", "hybrid:subscribe:* hybrid:publish:*")
        async with Client(AUDIENCE, lambda: token, dial=group.balancer.dial) as client:
            subscription = await client.subscribe("room:1")
            position = await client.publish("room:1", {"n": 1})
            assert (await anext(subscription)).position == position


async def test_the_balancer_leaves_out_who_is_dead_stopped_or_draining(issuer: DevelopmentIssuer) -> None:
    async with nodes(3, broker="memory:", issuer=issuer) as group:
        ports = [node.port for node in group]
        assert sorted({group.balancer.dial()[1] for _ in range(3)}) == sorted(ports)
        group[0].kill()
        await group.balancer.until_ready(2)
        group[1].freeze()
        await group.balancer.until_ready(1)
        assert {group.balancer.dial()[1] for _ in range(6)} == {ports[2]}
        group[1].thaw()
        await group[0].start()
        await group.balancer.until_ready(3)
        assert await group[2].stop() == 0
        await group.balancer.until_ready(2)
        assert await ask(ports[2], "/healthz") == 0


async def test_they_are_restarted_one_after_the_other_and_end_with_the_test(issuer: DevelopmentIssuer) -> None:
    async with nodes(2, broker="memory:", issuer=issuer) as group:
        before = [node.process.pid for node in group]
        assert await group.roll() == [0, 0]
        pids = [node.process.pid for node in group]
        assert not set(before) & set(pids)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_a_node_that_cannot_start_says_why(issuer: DevelopmentIssuer) -> None:
    with pytest.raises(RuntimeError, match="no_such_key is not a setting"):
        async with asyncio.timeout(30), nodes(1, broker="memory:", issuer=issuer, settings={"no_such_key": 1}):
            pass
