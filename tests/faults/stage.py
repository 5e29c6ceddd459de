"""Where faults happen: nodes on a broker, a crowd of clients on them, and the table of how it went.

    async with stage("kill -9 of a node", broker=redis.url, issuer=issuer) as here:
        here.nodes[0].kill()
        here.fault_ended()
        await here.healed()
        (await here.judged()).check()

`TEST_FAULT_CLIENTS` sets how many clients there are: 45 in the subset that `make test` runs, 300 in `make faults`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hybrid.auth.development import DevelopmentIssuer
from hybrid.client.endpoint import Dial
from tests.support.checker import Verdict
from tests.support.crowd import Crowd, crowd
from tests.support.nginx import HOST, Change, Nginx, running_nginx
from tests.support.nodes import ROOT, Nodes, nodes

CLIENTS: Final = int(os.environ.get("TEST_FAULT_CLIENTS", "45"))
LOAD_S: Final = CLIENTS / 200
"""How long everything goes on as usual before a fault, and after it."""
_HEAL_MAX_S: Final = 40.0

SETTINGS: Final[dict[str, Any]] = {
    "log_level": "info",
    "trusted_proxies": ["127.0.0.1"],
    "limits": {
        # Sooner than by default, so that a fault is noticed within seconds: the rules are the same.
        "heartbeat_interval_s": 2.0,
        "poll_wait_max_s": 3.0,
        "reconnect_delay_max_ms": 500,
        "shutdown_grace_s": 5.0,
        "worker_silence_s": 3.0,
    },
    # All is kept: whatever is lost was lost by a fault, and never by the bounds of history.
    "namespaces": {
        "room": {"history_size": 1_000_000, "history_ttl_s": 3_600.0},
        "seen": {"history_size": 1_000, "presence": True, "join_leave": True},
    },
}


@dataclass(frozen=True, slots=True)
class Row:
    """One fault in the table."""

    fault: str
    clients: int
    excused: int
    verdict: Verdict
    counts: Mapping[str, int]
    heals_s: Sequence[float]

    @property
    def cells(self) -> list[str]:
        told = self.verdict
        healed = ", ".join(f"{heal_s:.1f} s" for heal_s in self.heals_s)
        numbers = [self.clients, told.deliveries, told.answered, told.lost + told.forked, told.repeated]
        numbers += [told.reordered + told.silent_epochs, told.resets, self.excused, len(told.twice)]
        return [self.fault, *map(str, numbers), str(self.counts["attaches"] - self.clients), healed]


HEADINGS: Final = (
    *("fault", "clients", "deliveries", "answered", "lost", "repeated", "out of order", "resets told"),
    *("lost by Redis", "twice in the log", "came back", "healed in"),
)
ROWS: Final[list[Row]] = []
"""Of this run, in order; `conftest.py` prints them."""


def table() -> str:
    """The rows as Markdown."""
    lines = [HEADINGS, ("---",) * len(HEADINGS), *(row.cells for row in ROWS)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


class Stage:
    """See the module's text."""

    def __init__(self, fault: str, group: Nodes, people: Crowd, clients: int, nginx: Nginx | None) -> None:
        self.fault = fault
        self.nginx = nginx
        self.nodes = group
        self.people = people
        self.clients = clients
        self._heals_s: list[float] = []

    def fault_ended(self) -> None:
        """The time to heal begins here; the last call counts."""
        self.people.fault_ended()

    async def healed(self, max_s: float = _HEAL_MAX_S) -> float:
        """Wait until every stream has got something that was published after the fault; the seconds it took."""
        await self.people.until_healed(max_s)
        heal_s = self.people.checker.heal_s
        assert heal_s is not None
        self._heals_s.append(heal_s)
        return heal_s

    async def judged(self, *, may_miss: Iterable[str] = ()) -> Verdict:
        """Let all become quiet, and check every promise. `may_miss`: answered publications that Redis itself lost."""
        await asyncio.sleep(LOAD_S)
        verdict = await self.people.settle()
        excused = {answer.id for answer in verdict.missing} & set(may_miss)
        ROWS.append(Row(self.fault, self.clients, len(excused), verdict, self.people.counts(), self._heals_s))
        verdict.check(may_miss=may_miss)
        assert self._heals_s, "the fault never ended"
        return verdict


@asynccontextmanager
async def stage(
    fault: str,
    *,
    broker: str,
    issuer: DevelopmentIssuer,
    count: int = 3,
    clients: int = CLIENTS,
    behind_nginx: Sequence[Change] | None = None,
    arguments: Sequence[str] = (),
    tree: Path = ROOT,
) -> AsyncIterator[Stage]:
    """So many nodes on this broker, and a crowd that reads and publishes all the time. `arguments` are for each node.

    `behind_nginx`: the crowd knows nothing but an nginx with the project's own nginx.conf, changed so. `tree`: where
    the nodes' package is.
    """
    async with AsyncExitStack() as stack:
        group = await stack.enter_async_context(
            nodes(count, broker=broker, issuer=issuer, settings=SETTINGS, arguments=arguments, tree=tree)
        )
        nginx: Nginx | None = None
        dial: Dial = group.balancer.dial
        more: dict[str, Any] = {}
        if behind_nginx is not None:
            ports = [node.port for node in group]
            nginx = await stack.enter_async_context(running_nginx(ports, *behind_nginx))
            dial = ("127.0.0.1", nginx.https_port)
            more = {"url": f"https://{HOST}", "tls": nginx.client_context()}
        async with crowd(dial, issuer, clients, **more) as people:
            here = Stage(fault, group, people, clients, nginx)
            # Everybody has read something before anything happens.
            here.fault_ended()
            await people.until_healed(_HEAL_MAX_S)
            await asyncio.sleep(LOAD_S)
            yield here
