"""`make autobahn`: every case of the Autobahn|Testsuite, against hybrid's links and the websockets library.

    python -m tests.autobahn --servers "hand-off" --cases "6.* 7.*"

Prints a table, and each case that was not passed. Exit status 1 when hybrid failed one that it should pass.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from typing import Final

from tests.autobahn.echo import SERVERS
from tests.autobahn.run import Case, run

DECLINED: Final = ("13.3.", "13.4.", "13.5.", "13.6.")
"""Each offers permessage-deflate only with a bound for the server's window, which is declined (`links/deflate.py`)."""
_COMPRESSION: Final = ("12.*", "13.*")
_FIRST: Final = ("12.2.2", "13.2.2")  # of the sections that ASGI declines as a whole, enough to see it
_SECTIONS: Final = {
    "1": "framing",
    "2": "pings and pongs",
    "3": "reserved bits",
    "4": "opcodes",
    "5": "fragmentation",
    "6": "UTF-8",
    "7": "closing",
    "9": "limits and load",
    "10": "automatic fragmentation",
    "12": "compression",
    "13": "its parameters",
}


def should_pass(server: str, case: Case) -> bool:
    """Whether anything but a pass is a fault of hybrid."""
    is_compressed = case.id.startswith(("12.", "13."))
    return not (case.id.startswith(DECLINED) or (server == "asgi" and is_compressed))


def faults(server: str, cases: list[Case]) -> list[Case]:
    """Those that were not passed and should have been; a declined offer has to be seen as one."""
    return [
        case for case in cases if not case.is_good and (should_pass(server, case) or case.verdict != "UNIMPLEMENTED")
    ]


async def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.autobahn", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--servers", default=" ".join(SERVERS), help=f"some of: {' '.join(SERVERS)}")
    parser.add_argument("--cases", default="*", help="numbers or globs with spaces between (default: all)")
    options = parser.parse_args()
    done: dict[str, list[Case]] = {}
    status = 0
    for server in options.servers.split():
        began_s = time.monotonic()
        include, exclude = options.cases.split(), ()
        if server == "asgi" and include == ["*"]:
            include, exclude = ["*", *_FIRST], _COMPRESSION
        done[server] = await run(server, include, exclude)
        if exclude:
            done[server] += await run(server, _FIRST)
        print(f"{server}: {len(done[server])} cases in {time.monotonic() - began_s:.0f} s", flush=True)
        for case in faults(server, done[server]):
            print(f"  {case.id}: {case.verdict}: {case.reason}", flush=True)
            status |= server != "websockets"
    print(table(done))
    return int(status)


def table(done: dict[str, list[Case]]) -> str:
    """The counts as Markdown: passed of all, and how many were declined."""
    lines = [f"| section | {' | '.join(done)} |", "| --- |" + " --- |" * len(done)]
    for number, title in _SECTIONS.items():
        cells = []
        for cases in done.values():
            counts = Counter(case.verdict for case in cases if case.id.split(".")[0] == number)
            passed = sum(count for verdict, count in counts.items() if verdict in ("OK", "NON-STRICT", "INFORMATIONAL"))
            declined = counts["UNIMPLEMENTED"]
            cell = f"{passed} of {counts.total() - declined}" if counts.total() - declined else ""
            cells.append(", ".join([*filter(None, [cell]), *([f"{declined} declined"] if declined else [])]) or "-")
        lines.append(f"| {number} {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
