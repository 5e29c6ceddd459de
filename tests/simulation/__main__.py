"""`make simulation`: world after world, until so many publications were made. Failing seeds are printed.

    python -m tests.simulation --publications 1000000
    python -m tests.simulation --seed 4711 --count 1 --harsh       # one of them again

A third of the worlds is gentle, in a third channels are purged, in a third the store loses what it has taken.

Exit status 0 when all promises were kept, 1 when not, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import Iterator
from itertools import count, islice
from multiprocessing import Pool

from tests.simulation.world import Outcome, Plan, simulate

_PUBLICATIONS_EACH = 500
_TOLD_EVERY_S = 10.0
_WEATHERS = ("gentle", "harsh", "purging")


def main() -> int:
    options = _options()
    first = secrets.randbelow(1 << 32) if options.seed is None else options.seed
    worlds = options.count or -(-options.publications // _PUBLICATIONS_EACH)
    print(f"{worlds} worlds of {_PUBLICATIONS_EACH} publications, from seed {first} on, {options.processes} at once")
    began_s = told_s = time.monotonic()
    failed: list[Outcome] = []
    done = deliveries = resets = 0
    orders = islice(_orders(first, options.weather), worlds)
    with Pool(options.processes, initializer=_quiet) as pool:
        try:
            for outcome, weather in pool.imap_unordered(_run, orders, chunksize=4):
                done += 1
                deliveries += outcome.verdict.deliveries
                resets += outcome.verdict.resets
                if outcome.problems:
                    failed.append(outcome)
                    again = f"--seed {outcome.seed} --count 1 --{weather}"
                    print(f"FAILED: {again}\n  " + "\n  ".join(outcome.problems[:8]), flush=True)
                if time.monotonic() - told_s > _TOLD_EVERY_S:
                    told_s = time.monotonic()
                    print(f"{done} of {worlds} worlds, {len(failed)} failed, {told_s - began_s:.0f} s", flush=True)
        except KeyboardInterrupt:
            pool.terminate()
            print(f"interrupted after {done} worlds, {len(failed)} failed", file=sys.stderr)
            return 130
    print(
        f"{done * _PUBLICATIONS_EACH} publications, {deliveries} deliveries, {resets} resets told, "
        f"{len(failed)} of {done} worlds failed, {time.monotonic() - began_s:.0f} s"
    )
    return 1 if failed else 0


def _orders(first: int, weather: str | None) -> Iterator[tuple[int, str]]:
    for seed in count(first):
        yield seed, weather or _WEATHERS[seed % len(_WEATHERS)]


def _run(order: tuple[int, str]) -> tuple[Outcome, str]:
    seed, weather = order
    plan = Plan(publications=_PUBLICATIONS_EACH, is_harsh=weather == "harsh", purges=weather == "purging")
    return simulate(seed, plan), weather


def _quiet() -> None:
    logging.disable(logging.CRITICAL)  # what the nodes say of broken wires would be all there is to read
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--publications", type=_positive, default=1_000_000, help="how many in all (default: a million)"
    )
    parser.add_argument("--seed", type=int, help="the first world's; drawn where none is given")
    parser.add_argument("--count", type=_positive, help="so many worlds, instead of --publications")
    parser.add_argument("--processes", type=_positive, default=os.cpu_count() or 1)
    weather = parser.add_mutually_exclusive_group()
    told = {"harsh": "the store loses what it has taken", "purging": "channels are purged", "gentle": "neither"}
    for name, words in told.items():
        weather.add_argument(f"--{name}", action="store_const", const=name, dest="weather", help=words)
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
