"""`make zoo-peers`: other systems' clients through the animals, into `.zoo/peers.json` and docs/networks.md.

Exit status 0 when every run could be made, whatever came of it: these are measurements of others, no test of ours.
1 when one could not, 130 after Ctrl-C. What was measured until then is kept.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import traceback
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tests.proxy.zoo import results as ours
from tests.proxy.zoo.animals import Absent, Animal
from tests.proxy.zoo.direct import WAYS
from tests.proxy.zoo.peers import cache, report, results
from tests.proxy.zoo.peers.course import run
from tests.proxy.zoo.peers.setups import SETUPS, Setup
from tests.proxy.zoo.report import PAGE

CORE: Final = (
    "direct",
    "squid-default",
    "squid-bump",
    "privoxy-filter",
    "mitmproxy-intercepted",
    "mitmproxy-mute-intercepted",
    "nginx-default",
    "nginx-504",
    "haproxy-blackhole",
    "varnish-hold",
    "chaos-dying-101",
    "chaos-mute-101",
    "packet-loss",
)
"""One of each kind, unless animals are named."""
_AT_ONCE: Final = 3
_RUN_MAX_S: Final = 420.0


class Visit:
    """All runs that were asked for, some at once."""

    def __init__(self, pairs: Iterable[tuple[Animal, Setup]], folder: Path) -> None:
        self.has_failed = False
        self._pairs = list(pairs)
        self._folder = folder
        self._kept = results.load()
        self._done = 0

    async def run(self, at_once: int) -> None:
        """One run after another in each of so many tasks."""
        waiting = iter(self._pairs)

        async def work() -> None:
            for animal, setup in waiting:
                await self._run(animal, setup, Path(tempfile.mkdtemp(dir=self._folder)))

        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(work())

    async def _run(self, animal: Animal, setup: Setup, folder: Path) -> None:
        try:
            async with asyncio.timeout(_RUN_MAX_S):
                result = await run(animal, setup, folder)
        except Absent as absent:
            self._say(animal, setup, f"SKIPPED: {absent}")
            return
        except Exception as error:  # whatever happens to one, the others are measured
            traceback.print_exc()
            self.has_failed = True
            self._say(animal, setup, f"FAILED: {error!r}")
            return
        result["at"] = datetime.now(UTC).isoformat(timespec="seconds")
        self._kept.setdefault(animal.name, {})[setup.name] = result
        results.store(self._kept)
        report.write(PAGE, ours.load())
        self._say(animal, setup, _summary(result))

    def _say(self, animal: Animal, setup: Setup, text: str) -> None:
        self._done += 1
        progress = f"[{self._done}/{len(self._pairs)}]"
        print(f"{datetime.now():%H:%M:%S} {progress:>8} {animal.name:>26}  {setup.name:<26}  {text}", flush=True)


def _summary(result: dict[str, Any]) -> str:
    if "never" in result:
        return "never connected"
    if "cold_ms" not in result:
        return str(result["failed"])
    texts = [f"{result['cold_ms']:.0f} ms", " -> ".join(result.get("transports", []))]
    for name in ("down", "up", "restart_s", "told", "silent", "failed"):
        if name in result:
            value = result[name]
            shown = " ".join(f"{n:g}" for n in value.values()) if isinstance(value, dict) else value
            texts.append(f"{name}: {shown}")
    return ", ".join(texts)


def chosen(animals: Sequence[str], peers: Sequence[str]) -> list[tuple[Animal, Setup]]:
    """Each pair that is to be measured. Raises SystemExit for a name that does not exist."""
    for names, there_are in ((animals, WAYS), (peers, SETUPS)):
        for name in names:
            if name not in there_are:
                raise SystemExit(f"{name} is not known; there are {', '.join(there_are)}.")
    return [(WAYS[animal], SETUPS[peer]) for animal in animals or CORE for peer in peers or SETUPS]


async def visit_all(pairs: list[tuple[Animal, Setup]], at_once: int) -> int:
    """Install and measure; the exit status."""
    wrong = await cache.install()
    for sentence in wrong:
        print(f"FAILED: {sentence}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="hybrid-peers-") as folder:
        visit = Visit(pairs, Path(folder))
        await visit.run(at_once)
    return int(visit.has_failed or bool(wrong))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.proxy.zoo.peers", description=__doc__)
    parser.add_argument("--animals", default="", help="names, separated by blanks; a core when empty")
    parser.add_argument("--peers", default="", help=f"separated by semicolons, out of {'; '.join(SETUPS)}")
    parser.add_argument("--at-once", type=int, default=_AT_ONCE, help="runs at the same time")
    parser.add_argument("--page-only", action="store_true", help="write the page from what is kept")
    options = parser.parse_args(arguments)
    if options.page_only:
        report.write(PAGE, ours.load())
        return 0
    peers = [name.strip() for name in options.peers.split(";") if name.strip()]
    with suppress(KeyboardInterrupt, asyncio.CancelledError):
        return asyncio.run(visit_all(chosen(options.animals.split(), peers), options.at_once))
    print("interrupted; what was measured is kept", file=sys.stderr)
    return 130


if __name__ == "__main__":
    sys.exit(main())
