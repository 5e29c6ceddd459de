"""One `hybrid serve --workers 3` under a crowd: workers are killed, stopped and renewed, and nobody loses anything."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from hybrid.auth.development import DevelopmentIssuer
from tests.faults.stage import Stage, stage
from tests.support.crew import children, is_alive
from tests.support.nodes import Node, ask
from tests.support.redis_servers import redis_server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
WORKERS = 3
_RELOAD_MAX_S = 60.0


@asynccontextmanager
async def workers_on_stage(fault: str, issuer: DevelopmentIssuer) -> AsyncIterator[tuple[Stage, Node]]:
    """A crowd on one supervisor, all of whose workers accept."""
    arguments = ("--workers", str(WORKERS))
    async with redis_server() as redis:
        async with stage(fault, broker=redis.url, issuer=issuer, count=1, arguments=arguments) as here:
            (node,) = here.nodes
            await until_logged(node, "hybrid serves ")
            yield here, node


async def until_logged(node: Node, pattern: str) -> str:
    """Wait for a line of the supervisor or a worker; returns what the pattern found."""

    async def is_there() -> bool:
        return re.search(pattern, node.process.output()) is not None

    await node.process.until(is_there, f"to be heard saying {pattern!r}", _RELOAD_MAX_S)
    found = re.search(pattern, node.process.output())
    assert found is not None
    return found[0]


def workers_of(node: Node) -> list[int]:
    return children(node.process.pid)


class ShortRequests:
    """Asks one after the other, each over a connection of its own; counts the statuses, 0 for none."""

    def __init__(self, node: Node) -> None:
        self.statuses: Counter[int] = Counter()
        self._node = node
        self._task = asyncio.get_running_loop().create_task(self._ask())

    async def _ask(self) -> None:
        while True:
            self.statuses[await ask(self._node.port, "/healthz", 20.0)] += 1

    async def end(self) -> Counter[int]:
        self._task.cancel()
        await asyncio.wait({self._task})
        return self.statuses


@pytest.mark.faults
async def test_a_killed_worker_is_replaced(issuer: DevelopmentIssuer) -> None:
    async with workers_on_stage("kill -9 of one of three workers", issuer) as (here, node):
        victim = workers_of(node)[0]
        requests = ShortRequests(node)
        os.kill(victim, signal.SIGKILL)
        here.fault_ended()
        await here.healed()
        assert (await here.judged()).resets == 0
        statuses = await requests.end()
        assert statuses[200] > 0
        assert statuses.total() - statuses[200] <= 1, "at most what the killed one had accepted"
        assert len(workers_of(node)) == WORKERS


@pytest.mark.faults
async def test_a_stopped_worker_is_killed_and_replaced(issuer: DevelopmentIssuer) -> None:
    async with workers_on_stage("SIGSTOP of one of three workers", issuer) as (here, node):
        victim = workers_of(node)[0]
        os.kill(victim, signal.SIGSTOP)
        await until_logged(node, rf"\({victim}\) ended: SIGKILL")
        here.fault_ended()
        await here.healed()
        assert (await here.judged()).resets == 0
        assert len(workers_of(node)) == WORKERS
        assert not is_alive(victim)


@pytest.mark.faults
async def test_a_reload_fails_no_request_and_loses_nothing(issuer: DevelopmentIssuer) -> None:
    async with workers_on_stage("reload of three workers", issuer) as (here, node):
        old = workers_of(node)
        requests = ShortRequests(node)
        node.process.signal(signal.SIGHUP)
        print(await until_logged(node, r"reloaded 3 workers in [\d.]+ s"))
        statuses = await requests.end()
        here.fault_ended()
        await here.healed()
        assert (await here.judged()).resets == 0
        assert statuses[200] > 0
        assert statuses.total() == statuses[200], statuses
        assert not here.people.refusals, "no publish had to be repeated"
        assert not set(old) & set(workers_of(node))
        assert await node.stop() == 0
        assert not re.search("Traceback| aborted | ERROR ", node.process.output())
