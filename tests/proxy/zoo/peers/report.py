"""The part of `docs/networks.md` on the other systems, out of what `.zoo/peers.json` keeps, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from tests.proxy.zoo.direct import DIRECT, WAYS
from tests.proxy.zoo.markdown import table
from tests.proxy.zoo.peers import results
from tests.proxy.zoo.peers.course import BACK_MAX_S, FIRST_MAX_S
from tests.proxy.zoo.peers.results import Results
from tests.proxy.zoo.peers.setups import NOT_RUN, SETUPS, versions

HEADING: Final = "## Beside the others\n"
_INTRODUCTION: Final = f"""\
<!-- Written by `make zoo-peers`. -->

Other systems' clients through the same animals, in Chromium, each to its own server, set up as its documentation says;
`make zoo-peers` installs and measures them. The server sends a message every 50 ms, all its life long. The page
connects with an empty memory (*cold*) and is loaded again (*warm*); while it receives 200 of those messages it sends
200 of its own, one every 20 ms, none of which waits for the answer to the one before; the server is restarted; and at
last the network changes twice: once Chromium is told (`offline`, `online`), as in the runs above, and once nobody is.
Either way the idle connections that Chromium keeps for requests are dead, too, and it does not know: whoever comes back
with a request meets them first. (A change that the system itself reports would have Chromium close them.)

What is asked is less than what hybrid is asked above: messages are counted in the 200 each way and over the changes of
the network, not over the restart, which empties the memory that the servers here keep their history in; and *back*
means that messages come down again, whether or not any go up. *Lost* is what had not come 20 seconds later; Socket.IO
and Centrifugo tell the page when they could not catch up with what it missed, and it then has to load its state anew.
Milliseconds are those of one run on a busy machine.
`{DIRECT.name}` is no animal at all.
"""
_SETTINGS: Final = """\
Nothing else was changed from the defaults but ports, origins and anonymous access. The client is the build for browsers
from its npm package.
"""


def part_of(page: Path, ours: Results) -> str:
    """The part, which ends the page: written anew, or as it stands there where nothing is kept to write it from."""
    peers = results.load()
    if peers:
        return "\n".join(section(peers, ours))
    _, heading, text = _parted(page)
    return heading + text


def write(page: Path, ours: Results) -> None:
    """Write the part into the page and leave the rest as it is."""
    before, _, _ = _parted(page)
    page.write_text(f"{before.rstrip()}\n\n{part_of(page, ours)}")


def _parted(page: Path) -> tuple[str, str, str]:
    return (page.read_text() if page.exists() else "").partition(HEADING)


def section(peers: Results, ours: Results) -> Iterator[str]:
    """Its paragraphs. `ours` is what `.zoo/results.json` keeps."""
    animals = [name for name in WAYS if peers.get(name)]
    names = [name for name in SETUPS if any(name in peers[animal] for animal in animals)]
    yield HEADING
    yield _INTRODUCTION
    yield f"Measured {_days(peers)}, with {_with_versions()}.\n"
    yield "### How each was set up\n"
    yield "".join(f"- **{name}**: {SETUPS[name].says}.\n" for name in names)
    yield _SETTINGS
    yield "Not measured:\n"
    yield "".join(f"- **{name}**: {why}.\n" for name, why in NOT_RUN.items())
    yield "### What connects, and how soon\n"
    yield (
        "The transports that connected, in the order of their first use, and milliseconds from connecting to the first"
        " message, cold / warm."
        f" *Never*: not within {FIRST_MAX_S:.0f} s. hybrid's figures are those of Chromium above.\n"
    )
    head = ["animal", "hybrid", *names]
    yield table(
        head, ([f"`{a}`", _ours(ours.get(a, {})), *(_connects(peers[a].get(n)) for n in names)] for a in animals)
    )
    yield "### What arrives, and what heals\n"
    yield (
        "Of those that connected: lost, repeated and reordered of 200 messages each way; how often another connection"
        " took over meanwhile, of another transport or the same; seconds until messages came again: after a restart,"
        " counted from the server being ready, and after a change of the network, with what was lost over it. What is"
        f" left out is 0; *no* is not within {BACK_MAX_S:.0f} s.\n"
    )
    head = ["animal", "client", "down", "up", "taken over", "restart", "network change", "silent change"]
    yield table(head, (_fares(animal, name, peers[animal][name]) for animal, name in _connected(peers, animals, names)))


def _days(peers: Results) -> str:
    days = sorted({run["at"][:10] for of_animal in peers.values() for run in of_animal.values()})
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def _with_versions() -> str:
    return ", ".join(f"{name} {version}" for name, version in versions().items())


def _ours(run_of: Mapping[str, dict[str, Any]]) -> str:
    run = run_of.get("chromium", {})
    if "ms" not in run.get("cold", {}):
        return "**never**" if run else ""
    warm = run.get("warm", {})
    return f"{run.get('transport') or warm.get('transport')} {run['cold']['ms']} / {warm.get('ms', '-')}"


def _connects(run: dict[str, Any] | None) -> str:
    if run is None:
        return ""
    if "cold_ms" not in run:
        return run.get("failed") or "**never**"
    transports = " → ".join(run.get("transports", []))
    return f"{transports} {_ms(run['cold_ms'])} / {_ms(run.get('warm_ms'))}".strip()


def _ms(value: float | None) -> str:
    return "never" if value is None else f"{value:.0f}"


def _connected(peers: Results, animals: Iterable[str], names: Iterable[str]) -> Iterator[tuple[str, str]]:
    for animal in animals:
        for name in names:
            if "down" in peers[animal].get(name, {}):
                yield animal, name


def _fares(animal: str, name: str, run: dict[str, Any]) -> list[Any]:
    restart = f"{run['restart_s']:.1f}" if run.get("restart_s") is not None else _missing(run, "restart_s")
    # Whoever does not come back from a change that is told does not from one that is not.
    silent = "no" if run.get("told", "") is None else _change(run, "silent")
    return [
        f"`{animal}`",
        name,
        _counts(run["down"]),
        _counts(run["up"]),
        run["taken_over"],
        restart,
        _change(run, "told"),
        silent,
    ]


def _change(run: dict[str, Any], what: str) -> str:
    change = run.get(what)
    if change is None:
        return _missing(run, what)
    counts = _counts(change)
    return f"{change['back_s']:.1f}" + ("" if counts == "0" else f", {counts}")


def _missing(run: dict[str, Any], what: str) -> str:
    return "no" if what in run else "-"


def _counts(counted: Mapping[str, Any]) -> str:
    return ", ".join(f"{counted[n]} {n}" for n in ("lost", "repeated", "reordered") if counted[n]) or "0"
