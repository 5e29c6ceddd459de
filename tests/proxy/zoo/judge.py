"""What the records of a run come to: figures and counts, nothing that was not seen."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from hybrid.model import START, Position
from tests.proxy.zoo.records import Asked, Got, Records, Trace, Way
from tests.support.checker import Checker

TRANSPORTS: Final = ("websocket", "sse", "longpoll")
_FINDINGS_MAX: Final = 8
_UNTOLD: Final = ("another was first", "another move began", "the session broke", "stopped")
"""Ends of legs that say nothing about their transport."""

Log = Sequence[tuple[Position, Any]]


def verdict(records: Records, logs: Mapping[str, Log]) -> dict[str, Any]:
    """Lost, repeated and reordered publications of both ways and all readers, and in words what else is wrong."""
    total: dict[str, Any] = {"lost": 0, "repeated": 0, "reordered": 0, "refused": 0, "findings": []}
    for way in (records.down, records.up):
        for name, value in _judged(way, logs[way.channel]).items():
            total[name] += value
    total["findings"] = total["findings"][:_FINDINGS_MAX]
    return total


def _judged(way: Way, log: Log) -> dict[str, Any]:
    checker = Checker()
    for asked in way.asked:
        checker.asked(asked.id, way.channel, asked.data, asked.sent_s)
        if asked.answered is not None:
            checker.answered(asked.id, asked.answered, asked.answered_s)
    for stream in way.streams:
        checker.subscribed(stream.name, way.channel, stream.start or START)
        for item in stream.items:
            if isinstance(item, Got):
                checker.received(stream.name, way.channel, item.position, item.data, item.at_s)
            else:
                checker.was_reset(stream.name, way.channel, item)
    checker.read_log(way.channel, log)
    made = checker.verdict()
    kept = [data["id"] for _, data in log]
    head = log[-1][0].offset if log else 0
    last = way.streams[-1].last if way.streams else None
    behind = max(0, head - last.offset) if last is not None else 0
    refused = [asked for asked in way.asked if asked.refused]
    vanished = {asked.id for asked in way.asked if not asked.refused} - set(kept)
    broken = {name: count for name, count in made.broken.items() if name != "behind"}  # former readers are, by nature
    findings = list(made.findings) if broken else []
    findings += [f"{way.channel}: {made.resets} resets"] * bool(made.resets)
    findings += [f"{way.channel}: the last {behind} never came"] * bool(behind)
    findings += [f"{way.channel}: {len(vanished)} published and not in the log"] * bool(vanished)
    findings += [f"{way.channel}: {asked.id} was refused: {asked.refused}" for asked in refused]
    return {
        "lost": made.lost + behind + len(vanished),
        "repeated": made.repeated + len(made.twice),
        "reordered": made.reordered + _inversions(kept),
        "refused": len(refused),
        "findings": findings,
    }


def _inversions(ids: Iterable[str]) -> int:
    """How many stand behind one that was asked for later: the log keeps each publisher's order."""
    highest, count = -1, 0
    for number in (int(id.rpartition("-")[2]) for id in ids):
        count += number < highest
        highest = max(highest, number)
    return count


def latencies(way: Way, ids: Iterable[str]) -> dict[str, Any]:
    """Of these publications: how many were published and came, and milliseconds from sending to receipt."""
    sent = {asked.id: asked.sent_s for asked in way.asked}
    wanted = list(ids)
    arrived = way.arrivals()
    took = sorted(1_000 * max(0.0, arrived[id] - sent[id]) for id in wanted if id in arrived)
    figures: dict[str, Any] = {"sent": len(wanted), "received": len(took)}
    if took:
        figures |= {"p50_ms": round(statistics.median(took)), "p99_ms": round(took[math.ceil(0.99 * len(took)) - 1])}
    return figures


def sent_since(asked: Iterable[Asked], since_s: float) -> list[str]:
    """The ids of what was sent then or later."""
    return [one.id for one in asked if one.sent_s >= since_s]


def healed_s(records: Records, since_s: float) -> float | None:
    """Seconds until something sent since then had come down, and something published since then had been answered;
    None while it has not."""
    arrived = records.down.arrivals()
    down = [arrived[id] for id in sent_since(records.down.asked, since_s) if id in arrived]
    up = [asked.answered_s for asked in records.up.asked if asked.answered_s and asked.sent_s >= since_s]
    return max(min(down), min(up)) - since_s if down and up else None


def transports_of(trace: Trace, since_s: float = 0.0, until_s: float = math.inf) -> list[str]:
    """The transports that took over in that time, one after the other, without the repetitions."""
    carried: list[str] = []
    for at_ms, what, *details in trace:
        if what == "transport" and since_s <= at_ms / 1_000 <= until_s and carried[-1:] != [details[0]]:
            carried.append(details[0])
    return carried


def unused(trace: Trace, used: str | None, faults: Sequence[tuple[float, float]] = ()) -> dict[str, str]:
    """Why each other transport does not carry the session: the reason its legs ended with most often, and one that says
    something rather than one that does not.

    What ended during a fault of the course's own making, from one second to another, tells nothing of the network.
    """
    reasons: dict[str, Counter[str]] = {name: Counter() for name in TRANSPORTS if name != used}
    tried = set(transports_of(trace))
    for at_ms, what, *details in trace:
        if what != "leg" or any(since_s <= at_ms / 1_000 <= until_s for since_s, until_s in faults):
            continue
        transport, event, reason = details
        if event == "opened":
            tried.add(transport)
        elif event == "lost" and transport in reasons:
            reasons[transport][str(reason)] += 1
    told = {
        name: max(count, key=lambda reason: (reason not in _UNTOLD, count[reason]))
        for name, count in reasons.items()
        if count
    }
    return {name: told.get(name, "left for a better one" if name in tried else "not tried") for name in reasons}
