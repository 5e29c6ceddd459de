"""`docs/networks.md`: the measured matrix, out of what `.zoo/results.json` keeps, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from tests.proxy.zoo import versions
from tests.proxy.zoo.animals import Animal
from tests.proxy.zoo.direct import WAYS
from tests.proxy.zoo.drivers import CLIENTS
from tests.proxy.zoo.markdown import table
from tests.proxy.zoo.peers import report as beside
from tests.proxy.zoo.results import ROOT, Results

PAGE: Final = ROOT / "docs" / "networks.md"
_NAMES: Final = {"chromium": "Chromium", "node": "Node", "firefox": "Firefox", "webkit": "WebKit"}
_INTRODUCTION: Final = """\
# Networks

<!-- Written by `make zoo`. -->

What real networks do to a page's connections, and what the JavaScript client makes of it: measured, by driving the real
client through real proxies, inspectors, balancers and faulty lines (the *animals*) to a real server on Redis, in real
browsers and in Node. Nothing on this page is known about an animal beforehand; the client is not told which one it
meets, either.

A run is one client through one animal. It connects with an empty memory (*cold*), again as after a reload of the page
(*warm*), receives 200 publications and makes 200 of its own, has a quiet while, lives through a restart of the server,
has another quiet while, and at last its network changes: all that is open goes dead without a word. Publications go
both ways all the while, and every one is accounted for.

`make zoo` measures again; `make zoo ANIMALS="squid-default caddy" CLIENTS="node firefox"` only these rows.
"""
_CLIENTS: Final = """\
Browsers ask a proxy for a tunnel (CONNECT) for every WebSocket, also over plain http; Node, with undici, asks for it
over https only. Chromium is told of a network change (`offline`, `online`); the others are not, and have to find out.
Everything runs on one machine without delays of its own, so milliseconds are the client's and the animal's, not a
line's.
"""


def write(results: Results, path: Path = PAGE) -> None:
    """Write the page, but for its part on the others, which is written or kept as it is."""
    path.write_text(f"{page(results)}\n{beside.part_of(path, results)}")


def page(results: Results) -> str:
    """The page's text."""
    animals = [animal for animal in WAYS.values() if results.get(animal.name)]
    clients = [client for client in CLIENTS if any(client in results[animal.name] for animal in animals)]
    rows = [(animal.name, client) for animal in animals for client in clients if client in results[animal.name]]
    parts = [
        _INTRODUCTION,
        _when(results, rows),
        _CLIENTS,
        *_summary(results, rows),
        "## What carries the session, and how soon\n",
        "The transport, and milliseconds from `connect()` to the first publication, cold / warm; there is one every"
        " 50 ms. An arrow leads to the transport of the warm start, or of the quiet time, where it is another.\n",
        table(["animal", *(_NAMES[client] for client in clients)], (_carried(results, a, clients) for a in animals)),
        "## Why not the others\n",
        "What the client says of the transports that are better than the one it uses, in its own words.\n",
        table(["animal", "client", "used", "why not the better ones"], _reasons(results, rows)),
        "## What the server counted\n",
        "Legs that carried the session, by transport, before and after the server's restart; in parentheses what the"
        " client said of better transports, and how often. The server writes it to its log, for its keeper. One"
        " WebSocket is the judge's own.\n",
        table(["animal", "client", "before", "after"], _counted(results, rows)),
        "## What arrived\n",
        "Of everything that was published in the run, in both directions; and milliseconds from publishing to receipt"
        " at 50 publications a second, median / 99th percentile. *Quiet*: one publication every three seconds.\n",
        table(
            ["animal", "client", "lost", "repeated", "reordered", "received", "published", "received when quiet"],
            (_arrived(results, *row) for row in rows),
        ),
        "## What heals, and how soon\n",
        "Seconds until publications went both ways again: after a restart, counted from the server being ready again;"
        " and after a change of the network, counted from the change. *Stays*: the transport before the restart, and"
        " after it, at once and half a minute later. *Changes*: of the transport, in the quiet time.\n",
        table(
            ["animal", "client", "restart", "stays", "changes", "network change"],
            (_healed(results, *row) for row in rows),
        ),
        *_failures(results, rows),
        "## The animals\n",
        table(["animal", "what it does", "leg", "measured with"], map(_described, animals)),
    ]
    return "\n".join(parts)


def _when(results: Results, rows: Sequence[tuple[str, str]]) -> str:
    runs = [results[animal][client] for animal, client in rows]
    if not runs:
        return "Nothing was measured yet.\n"
    days = sorted({run["at"][:10] for run in runs})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    programs = sorted({run["version"] for run in runs if "version" in run})
    return f"Measured {when} on {versions.of_machine()}, with {'; '.join(programs)}.\n"


def _summary(results: Results, rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    judged = [results[animal][client]["verdict"] for animal, client in rows if "verdict" in results[animal][client]]
    counts = ", ".join(f"{sum(one[what] for one in judged)} {what}" for what in ("lost", "repeated", "reordered"))
    failed = sum("error" in results[animal][client] for animal, client in rows)
    yield f"**{len(rows)} runs: {counts}; {failed} did not come to their end.**\n"


def _carried(results: Results, animal: Animal, clients: Sequence[str]) -> list[str]:
    cells = [f"`{animal.name}`"]
    for client in clients:
        run = results[animal.name].get(client)
        cells.append("" if run is None else _carries(run))
    return cells


def _carries(run: dict[str, Any]) -> str:
    if "warm" not in run or "ms" not in run["warm"]:
        return f"cold {run['cold']['ms']} ms, then failed" if "ms" in run.get("cold", {}) else "**failed**"
    carriers = [run["cold"]["transport"], run["warm"]["transport"], run.get("transport")]
    one_after_another = (name for name, _ in groupby(filter(None, carriers)))
    return f"{' → '.join(one_after_another)} {run['cold']['ms']} / {run['warm']['ms']}"


def _reasons(results: Results, rows: Iterable[tuple[str, str]]) -> Iterator[list[Any]]:
    order = ("websocket", "sse", "longpoll")
    for animal, client in rows:
        run = results[animal][client]
        used = run.get("transport")
        better = order[: order.index(used)] if used in order else order
        told = [f"{name}: {run['unused'][name]}" for name in better if name in run.get("unused", {})]
        if told:
            yield [f"`{animal}`", _NAMES[client], used or "none", "; ".join(told)]


def _counted(results: Results, rows: Iterable[tuple[str, str]]) -> Iterator[list[Any]]:
    for animal, client in rows:
        if told := results[animal][client].get("counted"):
            yield [f"`{animal}`", _NAMES[client], *[*told, ""][:2]]


def _arrived(results: Results, animal: str, client: str) -> list[Any]:
    run = results[animal][client]
    judged, exchanged = run.get("verdict", {}), run.get("exchange", {})
    return [
        f"`{animal}`",
        _NAMES[client],
        *(judged.get(what, "-") for what in ("lost", "repeated", "reordered")),
        _latency(exchanged.get("down", {})),
        _latency(exchanged.get("up", {})),
        _latency(run.get("settled", {}).get("down", {})),
    ]


def _latency(figures: dict[str, Any]) -> str:
    if "p50_ms" not in figures:
        return "-"
    missing = figures["sent"] - figures["received"]
    return f"{figures['p50_ms']} / {figures['p99_ms']}" + (f", {missing} too late" if missing else "")


def _healed(results: Results, animal: str, client: str) -> list[Any]:
    run = results[animal][client]
    restart, change, settled = run.get("restart", {}), run.get("change", {}), run.get("settled", {})
    way = [restart[name] for name in ("before", "after", "later") if restart.get(name)]
    stays = way[0] if len(set(way)) == 1 else " → ".join(way)
    return [
        f"`{animal}`",
        _NAMES[client],
        _seconds(restart),
        stays or "-",
        f"{settled['changes']} in {settled['seconds']} s" if settled else "-",
        _seconds(change) + (f", {change['after']}" if change.get("after") != change.get("before") else ""),
    ]


def _seconds(figures: dict[str, Any]) -> str:
    if "healed_s" in figures:
        return f"{figures['healed_s']:.1f} s"
    return f"**{figures['error']}**" if "error" in figures else "-"


def _failures(results: Results, rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    found = []
    for animal, client in rows:
        run = results[animal][client]
        said = list(filter(None, (run.get("error"), *run.get("verdict", {}).get("findings", ()))))
        if said:
            found.append([f"`{animal}`", _NAMES[client], "; ".join(said)])
    if found:
        yield "## What went wrong\n"
        yield table(["animal", "client", "what was seen"], found)


def _described(animal: Animal) -> list[str]:
    return [f"`{animal.name}`", animal.says, animal.leg, versions.of_animal(animal)]
