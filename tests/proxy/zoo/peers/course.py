"""The course: what one peer is put through behind one animal, and what came of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from tests.proxy.zoo.animals import Animal, Origin
from tests.proxy.zoo.origin import tls_in_front_of
from tests.proxy.zoo.peers.servers import HOST, Server, serving
from tests.proxy.zoo.peers.setups import Setup
from tests.proxy.zoo.peers.tab import NotLoaded, Tab, opened
from tests.proxy.zoo.switch import Switch
from tests.support.certificates import make_certificate

FIRST_MAX_S: Final = 30.0
BACK_MAX_S: Final = 75.0
MESSAGES: Final = 200
SETTLED_S: Final = 15.0
_LATE_S: Final = 20.0
"""How long is waited for messages that should have come."""
_LOOK_S: Final = 0.2
_OFFLINE_S: Final = 0.5
_UNDER_WAY_MS: Final = 100.0
"""What had passed the switch before it was thrown has arrived by then."""
_AFTER_S: Final = 3.0
"""After a change, until what was caught up with is counted."""


@dataclass(frozen=True, slots=True)
class Count:
    """Of numbers that should have come, each once and in order."""

    lost: int
    repeated: int
    reordered: int

    @classmethod
    def of(cls, expected: range, came: Sequence[int]) -> Count:
        meant = [n for n in came if n in expected]
        first_times = list(dict.fromkeys(meant))
        highest, reordered = -1, 0
        for n in first_times:
            reordered += n < highest
            highest = max(highest, n)
        return cls(len(expected) - len(first_times), len(meant) - len(first_times), reordered)


async def run(animal: Animal, setup: Setup, folder: Path) -> dict[str, Any]:
    """What came of it, as JSON: with "never" when it did not connect, "failed" when it could not be measured further.

    Raises Absent where this machine does not have what it needs, and what the animal's release raises.
    """
    outcome: dict[str, Any] = {}
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(serving(setup.server, folder))
        made = make_certificate(folder / "tls", "hybrid.test")
        tls_port = await stack.enter_async_context(tls_in_front_of(server.port, made.certificate, made.key))
        switch = Switch()
        await stack.enter_async_context(switch)
        (folder / "animal").mkdir()
        origin = Origin(HOST, server.port, tls_port, Path(made.certificate))
        route = await stack.enter_async_context(animal.release(origin, folder / "animal"))
        tab = await stack.enter_async_context(opened(switch.plugged(route), setup, folder))
        try:
            await _through(tab, server, switch, outcome)
        except NotLoaded as error:
            outcome["failed"] = f"the page does not load: {error}"
    return outcome


async def _through(tab: Tab, server: Server, switch: Switch, outcome: dict[str, Any]) -> None:
    """Fills `outcome` as it goes: what was measured before a failure is kept."""
    cold_ms = await tab.start(FIRST_MAX_S)
    if cold_ms is None:
        outcome["never"] = True
        outcome["transports"] = list(dict.fromkeys(name for name, _ in (await tab.seen()).transports))
        return
    outcome["cold_ms"] = cold_ms
    outcome["warm_ms"] = await tab.start(FIRST_MAX_S)
    if outcome["warm_ms"] is None:
        return
    await _settled(tab, server, outcome)
    outcome["restart_s"] = await _restarted(tab, server)
    # The network last: what is dead would still be in the way of the others.
    outcome["told"] = await _changed(tab, switch, is_told=True)
    if outcome["told"] is not None:
        outcome["silent"] = await _changed(tab, switch, is_told=False)


async def _settled(tab: Tab, server: Server, outcome: dict[str, Any]) -> None:
    """Both ways at once, and whether the transport stays what it is."""
    began_ms = await tab.now()
    life, before, _ = (await tab.seen()).got[-1]
    expected = range(before + 1, before + 1 + MESSAGES)
    await tab.send(MESSAGES)
    await asyncio.sleep(SETTLED_S)
    await tab.until(f"course.seen().got.some(([life, n]) => life === '{life}' && n >= {expected.stop})", _LATE_S)
    ups = await _ups(server)
    seen = await tab.seen()
    outcome["down"] = asdict(Count.of(expected, [n for of, n, _ in seen.got if of == life]))
    outcome["up"] = asdict(Count.of(range(MESSAGES), ups))
    outcome["transports"] = list(dict.fromkeys(name for name, _ in seen.transports))
    outcome["taken_over"] = sum(at_ms > began_ms for _, at_ms in seen.transports)


async def _ups(server: Server) -> list[int]:
    end_s = time.monotonic() + _LATE_S
    while len(set(ups := await server.ups())) < MESSAGES and time.monotonic() < end_s:  # noqa: ASYNC110 -- it is asked over HTTP
        await asyncio.sleep(_LOOK_S)
    return ups


async def _restarted(tab: Tab, server: Server) -> float | None:
    """How long it takes from when the server is there again to the next message, in seconds; None: not in time."""
    await server.restart()
    there_ms = await tab.now()
    if not await tab.until(f"course.seen().got.at(-1)?.[2] > {there_ms}", BACK_MAX_S):
        return None
    await asyncio.sleep(_AFTER_S)
    return next(at_ms - there_ms for _, _, at_ms in (await tab.seen()).got if at_ms > there_ms) / 1_000


async def _changed(tab: Tab, switch: Switch, *, is_told: bool) -> dict[str, Any] | None:
    """How long it takes from a change of the network to the next message, and what was lost; None: not in time."""
    switch.change()
    changed_ms = await tab.now()
    if is_told:  # when the way is dead already: a client's goodbye must not get through
        await tab.offline(True)
        await asyncio.sleep(_OFFLINE_S)
        await tab.offline(False)
    after_ms = changed_ms + _UNDER_WAY_MS
    if not await tab.until(f"course.seen().got.at(-1)?.[2] > {after_ms}", BACK_MAX_S):
        return None
    await asyncio.sleep(_AFTER_S)
    got = (await tab.seen()).got
    life, before, _ = [one for one in got if one[2] <= after_ms][-1]
    back_ms = next(at_ms for _, _, at_ms in got if at_ms > after_ms)
    came = [n for of, n, at_ms in got if of == life and at_ms > after_ms]
    expected = range(before + 1, max(came, default=before) + 1)
    repeated = sum(n <= before for n in came)
    count = Count.of(expected, came)
    return {"back_s": (back_ms - changed_ms) / 1_000, **asdict(count), "repeated": count.repeated + repeated}
