"""nginx in front, with the project's own file: it is reloaded, and a node behind it dies."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from hybrid.auth.development import DevelopmentIssuer
from tests.faults.stage import stage
from tests.support.nginx import Change
from tests.support.redis_servers import redis_server

# httpcore2 forgets to close a socket when its TLS handshake is cancelled, as ours is when a leg takes too long.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

# All clients of a test come from one address with one agent: by the hash they would all land on one node.
SPREAD = Change('        hash "$client_network $http_user_agent" consistent;\n', "")
FAIL_TIMEOUT_S = 5.0
QUICK_END = Change("worker_shutdown_timeout 10m;", "worker_shutdown_timeout 300ms;")


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Whatever was left unclosed is found while the filter holds, and not in the next test."""
    yield
    gc.collect()


@pytest.mark.faults
async def test_nginx_is_reloaded_and_cuts_the_old_streams(issuer: DevelopmentIssuer) -> None:
    async with (
        redis_server() as redis,
        stage("nginx reload", broker=redis.url, issuer=issuer, behind_nginx=[SPREAD, QUICK_END]) as here,
    ):
        assert here.nginx is not None
        for _ in range(3):
            await here.nginx.reload()
        here.fault_ended()
        await here.healed()
        verdict = await here.judged()
        assert verdict.resets == 0


@pytest.mark.faults
async def test_a_node_behind_nginx_is_killed(issuer: DevelopmentIssuer) -> None:
    async with (
        redis_server() as redis,
        stage("kill -9 of a node behind nginx", broker=redis.url, issuer=issuer, behind_nginx=[SPREAD]) as here,
    ):
        here.nodes[0].kill()
        here.fault_ended()
        await here.healed()
        await here.nodes[0].start()
        verdict = await here.judged()
        assert verdict.resets == 0


@pytest.mark.faults
async def test_a_rolling_restart_behind_nginx(issuer: DevelopmentIssuer) -> None:
    async with (
        redis_server() as redis,
        stage("rolling restart behind nginx", broker=redis.url, issuer=issuer, behind_nginx=[SPREAD]) as here,
    ):
        assert await here.nodes.roll(FAIL_TIMEOUT_S + 1.0) == [0] * len(here.nodes)
        here.fault_ended()
        await here.healed()
        verdict = await here.judged()
        assert verdict.resets == 0
