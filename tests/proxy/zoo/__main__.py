"""`make zoo`: the clients through the animals, line by line, into `.zoo/results.json` and `docs/networks.md`.

Exit status 0 when every run came to its end with nothing lost, repeated or reordered, 1 when not, 2 without Redis, 130
after Ctrl-C: what was measured until then is kept.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from hybrid.auth.development import DevelopmentIssuer
from tests.proxy.zoo import report, results
from tests.proxy.zoo.animals import Absent, Animal
from tests.proxy.zoo.direct import WAYS
from tests.proxy.zoo.drivers import CLIENTS
from tests.proxy.zoo.run import FULL, Plan, run
from tests.support.http_issuer import http_issuer
from tests.support.nodes import AUDIENCE
from tests.support.redis_servers import RedisServer

EVERYWHERE: Final = ("chromium", "node")
"""These go through every animal, the others through the core only, unless animals are named."""
CORE: Final = frozenset(
    (
        "direct",
        "squid-default",
        "squid-bump",
        "squid-connect",
        "privoxy-filter",
        "mitmproxy-intercepted",
        "mitmproxy-mute-intercepted",
        "nginx-hold",
        "nginx-504",
        "haproxy",
        "haproxy-1s",
        "haproxy-blackhole",
        "hybrid-nginx-tls",
        "chaos-dying-101",
        "chaos-mute-101",
        "chaos-one-behind",
        "chaos-idle-10s-silent",
    )
)
_AT_ONCE: Final = 2
_RUN_MAX_S: Final = 420.0


class Zoo:
    """All runs that were asked for, some at once."""

    def __init__(self, plan: Plan, folder: Path, redis_url: str, issuer: DevelopmentIssuer) -> None:
        self.plan = plan
        self.has_failed = False
        self._folder = folder
        self._reaches: dict[str, Any] = {"redis_url": redis_url, "issuer": issuer}
        self._results = results.load()
        self._number = 0

    async def visit(self, pairs: Iterable[tuple[Animal, str]], at_once: int) -> None:
        """One run after another in each of so many tasks."""
        waiting = iter(list(pairs))

        async def work() -> None:
            for animal, client in waiting:
                await self._visit(animal, client)

        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(work())

    async def _visit(self, animal: Animal, client: str) -> None:
        def say(text: str) -> None:
            print(f"{datetime.now():%H:%M:%S} {animal.name:>26} {client:<8} {text}", flush=True)

        self._number += 1
        folder = self._folder / str(self._number)
        folder.mkdir()
        began_s = time.monotonic()
        try:
            async with asyncio.timeout(_RUN_MAX_S):
                result = await run(animal, client, folder, plan=self.plan, say=say, **self._reaches)
        except (Absent, pytest.skip.Exception) as absent:  # the tests' own helpers skip
            say(f"SKIPPED: {absent}")
            return
        except Exception as error:  # whatever an animal does, the others are visited
            traceback.print_exc()
            result = {"error": _sentence(error)}
        result["at"] = datetime.now(UTC).isoformat(timespec="seconds")
        verdict = result.get("verdict", {})
        is_clean = "error" not in result and not any(verdict[what] for what in ("lost", "repeated", "reordered"))
        self.has_failed |= not is_clean
        counts = {what: verdict.get(what) for what in ("lost", "repeated", "reordered")}
        say(f"{'done' if is_clean else 'FAILED'} in {time.monotonic() - began_s:.0f} s: {result.get('error', counts)}")
        self._results.setdefault(animal.name, {})[client] = result
        results.store(self._results)
        report.write(self._results)


def _sentence(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'without a word'}"


def chosen(animals: Sequence[str], clients: Sequence[str]) -> Iterator[tuple[Animal, str]]:
    """Each pair that is to be measured. Raises SystemExit for a name that does not exist."""
    for names, known in ((animals, WAYS), (clients, CLIENTS)):
        for name in names:
            if name not in known:
                raise SystemExit(f"{name} is not known; there are {', '.join(known)}.")
    for name in animals or WAYS:
        for client in clients or CLIENTS:
            if animals or client in EVERYWHERE or name in CORE:
                yield WAYS[name], client


async def visit_all(pairs: list[tuple[Animal, str]], plan: Plan, at_once: int) -> int:
    """Measure them; the exit status. Raises CancelledError after Ctrl-C and SIGTERM, when everything has ended."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    with http_issuer(AUDIENCE) as issuer, tempfile.TemporaryDirectory(prefix="hybrid-zoo-") as folder:
        redis = RedisServer()
        try:
            await redis.start()
            zoo = Zoo(plan, Path(folder), redis.url, issuer)
            await zoo.visit(pairs, at_once)
        finally:
            await redis.close()
    return int(zoo.has_failed)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.proxy.zoo", description=__doc__)
    parser.add_argument("--animals", default="", help="names, separated by blanks; all when empty")
    parser.add_argument("--clients", default="", help=f"out of {', '.join(CLIENTS)}")
    parser.add_argument("--settled", type=float, default=FULL.settled_s, help="seconds of quiet")
    parser.add_argument("--at-once", type=int, default=_AT_ONCE, help="runs at the same time")
    parser.add_argument("--page-only", action="store_true", help="write the page from what is kept")
    options = parser.parse_args(arguments)
    if options.page_only:
        report.write(results.load())
        return 0
    pairs = list(chosen(options.animals.split(), options.clients.split()))
    try:
        return asyncio.run(visit_all(pairs, replace(FULL, settled_s=options.settled), options.at_once))
    except asyncio.CancelledError:
        print("interrupted; what was measured is kept", file=sys.stderr)
        return 130
    except pytest.skip.Exception as absent:
        print(absent, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
