"""One client through one animal: the whole course, and what came of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hybrid.auth.development import DevelopmentIssuer
from tests.proxy.zoo import judge
from tests.proxy.zoo.animals import Animal, Route
from tests.proxy.zoo.drivers import CLIENTS, Driven, DriverError
from tests.proxy.zoo.origin import Server, serving
from tests.proxy.zoo.records import Records, Way
from tests.proxy.zoo.switch import Switch
from tests.proxy.zoo.traffic import DOWN, UP, Publisher, read_log, traffic

_LOOK_S: Final = 0.2
"""Between two looks at what the client has seen."""
_CONNECTING_MAX_S: Final = 45.0
_HEALING_MAX_S: Final = 75.0
_DELIVERED_MAX_S: Final = 45.0
_TICK_S: Final = 0.05
_BUSY_S: Final = 0.25
"""Between publications of either end while the network changes and the server restarts."""
_QUIET_S: Final = 3.0
"""Between publications of the origin in the settled time: longer than the idle times that animals allow."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of everything. `publications` go each way, one every `every_s`; for `stay_s` nothing is done to a client
    that has just come; of `settled_s` the last `look_again_s` are those after the restart."""

    publications: int = 200
    every_s: float = 0.02
    stay_s: float = 2.0
    changes_network: bool = True
    restarts: bool = True
    look_again_s: float = 35.0  # a client that has evaded to a lesser transport looks for a better one after 30 s
    settled_s: float = 60.0


FULL: Final = Plan()
QUICK: Final = Plan(publications=50, stay_s=0.5, changes_network=False, restarts=False, settled_s=0.0)


class CourseFailed(Exception):
    """A part of the course did not come to its end; what follows makes no sense."""


@dataclass(slots=True)
class Course:
    """One client on its way through an animal. `result` is what `.zoo/results.json` keeps."""

    server: Server
    switch: Switch
    url: str
    client: Driven
    publisher: Publisher
    records: Records
    plan: Plan
    say: Callable[[str], None]
    result: dict[str, Any] = field(default_factory=dict)
    faults: list[tuple[float, float]] = field(default_factory=list)
    quiet: list[str] = field(default_factory=list)

    async def run(self) -> None:
        """All parts, in order. Raises CourseFailed, DriverError."""
        await self._connect("cold")
        await asyncio.sleep(self.plan.stay_s)
        await self._look()
        await self._connect("warm")
        await self._exchange()
        await self._settle(self.plan.settled_s - self.plan.look_again_s)
        if self.plan.restarts:
            await self._restart()
        await self._settle(min(self.plan.look_again_s, self.plan.settled_s))
        if self.plan.restarts and self.plan.settled_s:
            self.result["restart"]["later"] = self.records.transport
        self.result["transport"] = self.records.transport
        if self.plan.changes_network:  # last: what is dead would still be in the way of the others
            await self._change_network()

    async def finish(self) -> None:
        """Let everything arrive, whatever has happened, and judge it."""
        await self.publisher.rest()
        if self.records.down.streams:
            await self.client.call("hush")
            self.result["is_delivered"] = await self._is_until(self._is_delivered, _DELIVERED_MAX_S)
            await self._look()
        logs = {channel: await read_log(self.server, channel) for channel in (DOWN, UP)}
        carrier = self.result.setdefault("transport", self.records.transport)
        self.result |= {
            "verdict": judge.verdict(self.records, logs),
            "transports": judge.transports_of(self.records.trace),
            "unused": judge.unused(self.records.trace, carrier, self.faults),
            "stats": self.records.stats,
            "trace": self.records.trace,
        }

    async def _connect(self, how: str) -> None:
        self.publisher.pace(_TICK_S)
        await self.client.load()
        self.records.down.stream(f"the client, {how}")
        try:
            async with asyncio.timeout(_CONNECTING_MAX_S):
                first = await self.client.call("first", url=f"{self.url}/v1", token=self.server.token, channel=DOWN)
        except TimeoutError:
            await self._look()
            self.result[how] = {"error": f"nothing came within {_CONNECTING_MAX_S:.0f} s"}
            raise CourseFailed(f"{how}: nothing came within {_CONNECTING_MAX_S:.0f} s") from None
        await self._look()
        self.result[how] = {"ms": round(first["ms"]), "transport": first["transport"]}
        self.say(f"{how}: {first['ms']:.0f} ms, {first['transport']}")

    async def _exchange(self) -> None:
        plan = self.plan
        began_s = _now_s()
        self.publisher.pace(plan.every_s)
        await self._publish(every_s=plan.every_s, count=plan.publications)
        down = await self._sent_down(plan.publications, began_s)
        self.publisher.pace(_BUSY_S)

        def is_through() -> bool:
            up = judge.sent_since(self.records.up.asked, began_s)
            return len(up) >= plan.publications and set(up) <= set(self.records.up.arrivals()) and self._has(down)

        is_whole = await self._is_until(is_through, _DELIVERED_MAX_S)
        up = judge.sent_since(self.records.up.asked, began_s)
        figures = {
            "transport": self.records.transport,
            "down": judge.latencies(self.records.down, down),
            "up": judge.latencies(self.records.up, up),
        }
        self.result["exchange"] = figures
        for way in ("down", "up"):
            self.say(f"{way}: {figures[way]}")
        if not is_whole:
            raise CourseFailed(f"not all came within {_DELIVERED_MAX_S:.0f} s: {figures}")

    async def _change_network(self) -> None:
        before = self.records.transport
        self.publisher.pace(_BUSY_S)
        await self._publish(every_s=_BUSY_S)
        await self._is_until(lambda: False, self.plan.stay_s)
        dead = 0

        def change() -> None:
            nonlocal dead
            dead = self.switch.change()

        at_s = _now_s()
        is_told = await self.client.change_network(change)
        took_s = await self._healed("change", at_s, at_s)
        self.result["change"] = self._healing(before, took_s) | {"is_told": is_told, "connections": dead}
        self.say(f"network changed: {self.result['change']}")

    async def _restart(self) -> None:
        before = self.records.transport
        self.publisher.pace(_BUSY_S)
        await self._publish(every_s=_BUSY_S)
        stopped_s = _now_s()
        await self.server.node.restart()
        ready_s = _now_s()
        took_s = await self._healed("restart", stopped_s, ready_s)
        self.result["restart"] = self._healing(before, took_s) | {"away_s": round(ready_s - stopped_s, 2)}
        self.say(f"restarted: {self.result['restart']}")

    async def _settle(self, quiet_s: float) -> None:
        """Be quiet for so long, and watch. What it comes to is added to that of former times."""
        if quiet_s <= 0:
            return
        await self.client.call("hush")
        await self._look()
        before, began_s = self.records.transport, _now_s()
        self.publisher.pace(_QUIET_S)
        await self._is_until(lambda: False, quiet_s)
        ended_s = _now_s()
        # The first one still belongs to what was before, and the last one may be on its way.
        self.quiet += judge.sent_since(self.records.down.asked, began_s)[1:-1]
        await self._is_until(lambda: self._has(self.quiet), _DELIVERED_MAX_S)
        former = self.result.get("settled", {"seconds": 0, "changes": 0, "transports": []})
        carried = judge.transports_of(self.records.trace, began_s, ended_s)
        self.result["settled"] = {
            "seconds": former["seconds"] + round(ended_s - began_s),
            "changes": former["changes"] + len(carried) - (carried[:1] == [before]),
            "transports": [*former["transports"], [before, *carried]],
            "down": judge.latencies(self.records.down, self.quiet),
        }
        self.say(f"settled: {self.result['settled']}")

    # -- small steps

    async def _look(self) -> None:
        self.records.take(await self.client.call("take"))

    async def _is_until(self, condition: Callable[[], bool], max_s: float) -> bool:
        """Look at what the client sees until something is true, or time is up: False."""
        end_s = time.monotonic() + max_s
        while time.monotonic() < end_s:
            await self._look()
            if condition():
                return True
            await asyncio.sleep(_LOOK_S)
        return False

    async def _publish(self, *, every_s: float, count: int | None = None) -> None:
        bound = {} if count is None else {"count": count}
        await self.client.call("publish", channel=UP, prefix="up-", everyMs=1_000 * every_s, **bound)

    async def _sent_down(self, count: int, since_s: float) -> list[str]:
        """The ids of the first so many that were sent since then, when they are."""
        while len(sent := judge.sent_since(self.records.down.asked, since_s)) < count:
            await self._look()
            await asyncio.sleep(_LOOK_S)
        return sent[:count]

    async def _healed(self, what: str, began_s: float, since_s: float) -> float:
        """Seconds from `since_s` on, when nothing was in the way any more of a fault that began at `began_s`."""
        took_s: float | None = None

        def has_healed() -> bool:
            nonlocal took_s
            took_s = judge.healed_s(self.records, since_s)
            return took_s is not None and self.records.transport is not None

        is_healed = await self._is_until(has_healed, _HEALING_MAX_S)
        self.faults.append((began_s, _now_s()))
        if not is_healed or took_s is None:
            self.result[what] = {"error": f"not healed within {_HEALING_MAX_S:.0f} s"}
            raise CourseFailed(f"{what}: not healed within {_HEALING_MAX_S:.0f} s")
        return took_s

    def _healing(self, before: str | None, took_s: float) -> dict[str, Any]:
        return {"healed_s": round(took_s, 2), "before": before, "after": self.records.transport}

    def _has(self, ids: list[str]) -> bool:
        return set(ids) <= set(self.records.down.arrivals())

    def _is_delivered(self) -> bool:
        """Both ends have got what the other has published, and all that the client published is answered."""
        down, up = self.records.down, self.records.up
        is_answered = all(asked.answered or asked.refused for asked in up.asked)
        kept = {asked.id for asked in up.asked if asked.answered}
        return is_answered and kept <= set(up.arrivals()) and self._has_head(down)

    def _has_head(self, way: Way) -> bool:
        head = max((asked.answered.offset for asked in way.asked if asked.answered), default=0)
        last = way.streams[-1].last
        return last is not None and last.offset >= head


def _now_s() -> float:
    """The system's time as a page knows it, without the part of a millisecond."""
    return int(1_000 * time.time()) / 1_000


@asynccontextmanager
async def _through(
    animal: Animal, folder: Path, *, redis_url: str, issuer: DevelopmentIssuer
) -> AsyncIterator[tuple[Server, Switch, Route]]:
    """An origin, the animal in front of it, and the switch in front of that."""
    switch = Switch()
    async with switch:
        serves = serving(folder / "origin", redis_url=redis_url, issuer=issuer, pages_at=[switch.port])
        async with serves as server:
            den = folder / "animal"
            den.mkdir()
            async with animal.release(server.address, den) as route:
                yield server, switch, switch.plugged(route)


async def run(
    animal: Animal,
    client: str,
    folder: Path,
    *,
    redis_url: str,
    issuer: DevelopmentIssuer,
    plan: Plan = FULL,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """The result, also of a course that failed: `error` says where. Raises Absent, and what the release raises."""
    began_s = time.monotonic()
    async with _through(animal, folder, redis_url=redis_url, issuer=issuer) as (server, switch, route):
        den = folder / "client"
        den.mkdir()
        records = Records(Way(DOWN), Way(UP))
        async with traffic(server, records) as publisher, CLIENTS[client](route, den) as driven:
            course = Course(server, switch, route.url, driven, publisher, records, plan, say)
            try:
                await course.run()
            except (CourseFailed, DriverError) as error:
                course.result["error"] = str(error)
                say(f"FAILED: {error}")
            try:
                await course.finish()
            except DriverError as error:
                course.result.setdefault("error", str(error))
            course.result |= {"version": driven.version, "seconds": round(time.monotonic() - began_s)}
    course.result["counted"] = server.counted()  # it tells at its end
    return course.result
