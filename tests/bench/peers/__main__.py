"""`make bench-peers`: hybrid beside the systems that its users would take instead, the same work on the same core.

Exit status 0 when all that are there delivered everything, once and in order; 1 when one did not or could not be
measured; 130 after Ctrl-C, with what was measured until then. A peer that is not there is a loud line and no failure.
Whether a target is met is printed and never fails: times of a shared machine are no test.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from tests.bench.peers import report
from tests.bench.peers.base import Absent, Peer
from tests.bench.peers.centrifugo import Centrifugo
from tests.bench.peers.install import INSTALLERS
from tests.bench.peers.measures import FULL, QUICK, SIZE, Bench, Plan
from tests.bench.peers.mercure import Mercure, MercureOnBolt
from tests.bench.peers.nchan import Nchan
from tests.bench.peers.ours import Hybrid, Textbook
from tests.bench.peers.python_socketio import PythonSocketIo
from tests.bench.peers.report import Round
from tests.bench.peers.socketio import SocketIo, SocketIoOnUws

KINDS: Final[tuple[type[Peer], ...]] = (
    Hybrid,
    Textbook,
    PythonSocketIo,
    SocketIo,
    SocketIoOnUws,
    Nchan,
    Centrifugo,
    Mercure,
    MercureOnBolt,
)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def present(kinds: Sequence[type[Peer]]) -> tuple[dict[Peer, str], dict[str, str]]:
    """Install and make those peers: which are there, with their versions, and why each of the others is not."""
    there: dict[Peer, str] = {}
    missing: dict[str, str] = {}
    for kind in kinds:
        installer = INSTALLERS.get(kind.name)
        if installer is not None and not installer():
            say(f"{kind.name} could not be installed; what is there already is used")
        peer = kind()
        try:
            there[peer] = peer.version()
        except Absent as absent:
            missing[kind.name] = str(absent)
            say(f"SKIPPED: {kind.name}: {absent}")
        else:
            say(f"{kind.name}: {there[peer]}")
    return there, missing


def run(peers: Sequence[Peer], plan: Plan, folder: Path, rounds: list[Round]) -> None:
    """Measure in turn, every other round backwards, into `rounds`, where they are while they are under way, too."""
    say("minting tokens")
    bench = Bench(list(peers), plan, folder)
    pairs = [(peer, dialect) for peer in peers for dialect in peer.dialects]
    for number in range(plan.rounds):
        done: dict[tuple[str, str], Any] = {}
        rounds.append(done)
        for place, (peer, dialect) in enumerate(pairs if number % 2 == 0 else reversed(pairs), start=1):
            started_s = time.monotonic()
            result = done[peer.name, dialect.name] = bench.measure(peer, dialect)
            where = f"round {number + 1} of {plan.rounds}, {place} of {len(pairs)}: {peer.name} {dialect.name}"
            say(f"{where}, {time.monotonic() - started_s:.0f} s" + (", NOT WHOLE" if result.faults else ""))


def setting(there: dict[Peer, str], missing: dict[str, str], plan: Plan) -> dict[str, Any]:
    """What the figures depend on, for the JSON."""
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "peers": {peer.name: {"version": version, "says": peer.says} for peer, version in there.items()},
        "missing": missing,
        "plan": asdict(plan),
        "load_average": os.getloadavg(),
    }


def print_report(rounds: Sequence[Round], there: dict[Peer, str], missing: dict[str, str], plan: Plan) -> None:
    print(
        f"{SIZE} bytes, one channel, plain TCP; memory with {plan.idle} idle clients; server and load on a core each;"
        f" {len(rounds)} rounds; load average {os.getloadavg()[0]:.1f}\n"
    )
    print("\n".join(report.terminal(rounds, plan)))
    for peer in there:
        if peer.cannot:
            print(f"{peer.name}: {peer.cannot}")
    for name, why in missing.items():
        print(f"SKIPPED: {name}: {why}")
    for line in (*report.idle(rounds, plan), *report.not_whole(rounds)):
        print(line)


def chosen(names: str) -> list[type[Peer]]:
    """Those named, and hybrid, which everything is compared with. Raises SystemExit for a name that does not exist."""
    wanted = [name.strip() for name in names.split(";") if name.strip()]
    for name in wanted:
        if name not in [kind.name for kind in KINDS]:
            raise SystemExit(f"{name} is not known; there are {'; '.join(kind.name for kind in KINDS)}.")
    return [kind for kind in KINDS if not wanted or kind.name in wanted or kind is Hybrid]


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.peers", description=__doc__)
    parser.add_argument("--only", default="", metavar="NAMES", help="peers beside hybrid, separated by semicolons")
    parser.add_argument("--quick", action="store_true", help="one short round of 500 subscribers")
    parser.add_argument("--rounds", type=int, help=f"how often each is measured ({FULL.rounds})")
    parser.add_argument("--seconds", type=float, help=f"how long each phase of publishing lasts ({FULL.seconds:g})")
    parser.add_argument("--json", metavar="PATH", help="write every single figure to this file")
    parser.add_argument("--markdown", metavar="PATH", help="write the table of docs/performance.md to this file")
    options = parser.parse_args(arguments)
    if options.rounds is not None and not 1 <= options.rounds <= 100:
        parser.error("--rounds is from 1 to 100")
    if options.seconds is not None and not 0.1 <= options.seconds <= 60:
        parser.error("--seconds is from 0.1 to 60")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit status."""
    options = options_of(arguments)
    kinds = chosen(options.only)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536) if hard > 0 else 65_536, hard))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends what runs as Ctrl-C does
    plan = QUICK if options.quick else FULL
    plan = replace(plan, rounds=options.rounds or plan.rounds, seconds=options.seconds or plan.seconds)
    rounds: list[Round] = []
    there: dict[Peer, str] = {}
    missing: dict[str, str] = {}
    is_interrupted = False
    try:
        there, missing = present(kinds)
        with tempfile.TemporaryDirectory(prefix="hybrid-bench-") as folder:
            run(list(there), plan, Path(folder), rounds)
    except KeyboardInterrupt:
        say("interrupted")
        is_interrupted = True
    if not rounds:
        return 130
    print_report(rounds, there, missing, plan)
    if options.json:
        told = [{f"{name}, {transport}": asdict(of) for (name, transport), of in done.items()} for done in rounds]
        Path(options.json).write_text(json.dumps({"setting": setting(there, missing, plan), "rounds": told}, indent=2))
    if options.markdown:
        Path(options.markdown).write_text("\n".join(report.markdown(rounds, plan)))
    if is_interrupted:
        return 130
    return int(any(result.faults for done in rounds for result in done.values()))


if __name__ == "__main__":
    sys.exit(main())
