"""`make fuzz`: every parser in turn, for so many minutes in all. Prints the seed, and each fault with its input.

    python -m tests.fuzz --minutes 30 --only "frames" --seed 4711

Exit status 1 when something came out of a parser that it does not document.
"""

from __future__ import annotations

import argparse
import logging
import random
import secrets
import sys
import time

from tests.fuzz.mutation import make_input, shrunk
from tests.fuzz.targets import TARGETS, Target

_CORPUS_MAX = 400
_FAULTS_MAX = 3  # of one parser: more of them are told, not looked for


def fuzz(target: Target, seed: int, seconds: float) -> tuple[int, list[str]]:
    """How many inputs were tried, and the faults, each with a small input that shows it.

    Inputs that are taken without an error become seeds themselves: changes add up to what is far from any seed.
    """
    dice = random.Random(f"{seed} {target.name}")
    corpus = list(target.seeds)
    found: dict[str, str] = {}
    tried = 0
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s and len(found) < _FAULTS_MAX:
        raw = make_input(dice, corpus)
        tried += 1
        try:
            target.run(raw)
        except target.raises:
            continue
        except Exception as error:
            kind = type(error)
            if kind.__name__ not in found:
                less = shrunk(raw, lambda other, kind=kind: type(target.fault(other)) is kind)
                found[kind.__name__] = f"{target.name}: {kind.__name__}: {str(error)[:200]}\n  {less!r}"
            continue
        if len(raw) < 2_000 and dice.random() < 0.02:
            if len(corpus) < _CORPUS_MAX:
                corpus.append(raw)
            else:
                corpus[dice.randrange(len(target.seeds), _CORPUS_MAX)] = raw
    return tried, list(found.values())


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="for all of them (default: 10)")
    parser.add_argument("--only", default="", help="parsers whose name holds this")
    parser.add_argument("--seed", type=int, help="drawn where none is given")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    seed = secrets.randbelow(1 << 32) if options.seed is None else options.seed
    chosen = [target for target in TARGETS if options.only in target.name]
    print(f"{len(chosen)} parsers, seed {seed}")
    faults: list[str] = []
    total = 0
    for target in chosen:
        tried, found = fuzz(target, seed, options.minutes * 60 / max(1, len(chosen)))
        total += tried
        faults += found
        print(f"{tried:>10,} inputs to {target.name}" + "".join(f"\nFAULT: {fault}" for fault in found), flush=True)
    print(f"{total:,} inputs, {len(faults)} faults")
    return 1 if faults or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
