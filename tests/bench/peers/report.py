"""What a run came to: tables for the terminal and for docs/performance.md."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.bench.peers.measures import AWAITED, CONNECT, MANY, MEMORY, ONE, RATE, Plan, Result

Round = Mapping[tuple[str, str], Result]
"""By peer and transport."""
OURS: Final = "hybrid"
BUSY: Final = 0.7


@dataclass(frozen=True)
class Line:
    """One measure. `targets`: by peer, how many times its figure hybrid's should at least be; `bounds`: by transport,
    what hybrid's own should at most be.
    """

    key: str
    label: str
    unit: str
    form: str = "{:,.0f}"
    targets: Mapping[str, float] = field(default_factory=dict)
    bounds: Mapping[str, float] = field(default_factory=dict)


_TRANSPORTS: Final = ("websocket", "sse", "plain sse")
_RATE_BOUNDS: Final = dict.fromkeys(_TRANSPORTS, 10.0)  # of 1,000 subscribers
_MEMORY_BOUNDS: Final = {"websocket": 4.0, "sse": 3.0, "plain sse": 3.0}
_CONNECT_BOUNDS: Final = dict.fromkeys(_TRANSPORTS, 500.0)
_ONE_TARGETS: Final = {"Nchan": 0.9, "Socket.IO": 1.5}
_MANY_TARGETS: Final = {"Nchan": 3.0}


def lines(plan: Plan) -> Iterator[Line]:
    """Every measure, in the order of the report."""
    for size in plan.sizes:
        for what, targets in ((ONE, _ONE_TARGETS), (MANY, _MANY_TARGETS), (AWAITED, {})):
            yield Line(f"{size}, {what}", f"{size} subscribers, {what}", "deliveries/CPU-s", targets=targets)
        for what in (AWAITED, RATE):
            for part in ("p50", "p99"):
                label = f"{size} subscribers, latency {part}, {what}"
                bounds = _RATE_BOUNDS if (size, what, part) == (1_000, RATE, "p99") else {}
                yield Line(f"{size}, {what}, {part}", label, "ms", "{:,.1f}", bounds=bounds)
    yield Line(MEMORY, "memory per idle client", "KB", "{:,.1f}", bounds=_MEMORY_BOUNDS)
    yield Line(CONNECT, "connect, authenticate, subscribe", "us of CPU", bounds=_CONNECT_BOUNDS)


@dataclass(frozen=True)
class Cell:
    """A peer's figure over the rounds, and how many times that hybrid's is, taken within each round.

    `lacking` is how many rounds it was not whole in, of `of`.
    """

    values: Sequence[float]
    ratios: Sequence[float]
    lacking: int = 0
    of: int = 0


def transports(rounds: Sequence[Round]) -> list[str]:
    """In the order in which they were measured first."""
    return list(dict.fromkeys(transport for done in rounds for _, transport in done))


def compared(rounds: Sequence[Round], transport: str, key: str) -> dict[str, Cell]:
    """By peer. Other peers' one kind of event stream is compared with both of hybrid's."""
    cells: dict[str, Cell] = {}
    for name in dict.fromkeys(name for done in rounds for name, _ in done):
        theirs = transport if name == OURS else transport.removeprefix("plain ")
        values, ratios, lacking = [], [], 0
        for done in rounds:
            lacking += is_lacking(key, done[name, theirs]) if (name, theirs) in done else 0
            figure = done[name, theirs].figures.get(key) if (name, theirs) in done else None
            if figure is None:
                continue
            values.append(figure)
            ours = done[OURS, transport].figures.get(key) if (OURS, transport) in done else None
            if ours is not None and figure > 0:
                ratios.append(ours / figure)
        if values or lacking:
            cells[name] = Cell(values, ratios, lacking, len(rounds))
    return cells


def is_lacking(key: str, result: Result) -> bool:
    """Whether what that figure is taken from was not whole: its phase, or all of which that was a part."""
    return key not in result.figures and any(key == what or key.startswith(f"{what},") for what in result.faults)


def terminal(rounds: Sequence[Round], plan: Plan) -> Iterator[str]:
    """A block for each transport and measure, with medians and, of several rounds, lowest and highest."""
    for transport in transports(rounds):
        for line in lines(plan):
            cells = compared(rounds, transport, line.key)
            if OURS not in cells:
                continue
            yield f"{transport}: {line.label} ({line.unit})"
            for name, cell in cells.items():
                figure = spread(cell.values, line.form)
                ratio = "" if name == OURS or not cell.ratios else f"hybrid/it {spread(cell.ratios, '{:.2f}x')}"
                judged = verdict(line, name, cell) or (own_verdict(line, transport, cell) if name == OURS else "")
                notes = "; ".join(filter(None, (judged, shortfall(cell))))
                yield f"  {name:<26} {figure:>34}  {ratio:<32} {notes}".rstrip()
            yield ""


def verdict(line: Line, name: str, cell: Cell) -> str:
    """The target of that line beside that peer, and whether the median meets it; empty where there is none."""
    target = line.targets.get(name)
    if target is None or not cell.ratios:
        return ""
    return f">= {target:g}x: {'met' if statistics.median(cell.ratios) >= target else 'NOT MET'}"


def own_verdict(line: Line, transport: str, ours: Cell) -> str:
    """What hybrid's own figure should be, and whether its median is; empty where there is no such bound."""
    bound = line.bounds.get(transport)
    if bound is None or not ours.values:
        return ""
    return f"<= {bound:g}: {'met' if statistics.median(ours.values) <= bound else 'NOT MET'}"


def shortfall(cell: Cell) -> str:
    """In how many rounds it was not whole; empty for none."""
    return f"NOT WHOLE in {cell.lacking} of {cell.of}" if cell.lacking else ""


def spread(values: Sequence[float], form: str) -> str:
    """The median; with several values, lowest and highest as well; without any, a dash."""
    if not values:
        return "-"
    text = form.format(statistics.median(values))
    return text if len(values) == 1 else f"{text} ({form.format(min(values))}-{form.format(max(values))})"


def markdown(rounds: Sequence[Round], plan: Plan) -> Iterator[str]:
    """For the documentation: for each transport, a row for each measure; ratios, and hybrid's own figures."""
    for transport in transports(rounds):
        names = list(dict.fromkeys(name for line in lines(plan) for name in compared(rounds, transport, line.key)))
        others = [name for name in names if name != OURS]
        if OURS not in names or not others:
            continue
        yield f"| {transport} | {OURS} | " + " | ".join(f"{OURS} / {name}" for name in others) + " |"
        yield "| --- " * (len(others) + 2) + "|"
        for line in lines(plan):
            cells = compared(rounds, transport, line.key)
            if OURS not in cells:
                continue
            own = (spread(cells[OURS].values, line.form), own_verdict(line, transport, cells[OURS]))
            row = [f"{line.label}, {line.unit}", "; ".join(filter(None, own))]
            for name in others:
                cell = cells.get(name)
                notes = (spread(cell.ratios, "{:.2f}x"), verdict(line, name, cell), shortfall(cell)) if cell else ("-",)
                row.append("; ".join(filter(None, notes)))
            yield "| " + " | ".join(row) + " |"
        yield ""


def idle(rounds: Sequence[Round], plan: Plan) -> Iterator[str]:
    """Whose core was not kept busy with publications in flight: the figures in flight of those say less."""
    shares: dict[str, list[float]] = {}
    for done in rounds:
        for (name, transport), result in done.items():
            share = result.figures.get(f"{plan.sizes[0]}, {MANY}, core used")
            if share is not None:
                shares.setdefault(f"{name} {transport}", []).append(share)
    low = [f"{who} {statistics.median(of):.2f}" for who, of in shares.items() if statistics.median(of) < BUSY]
    if low:
        yield (
            f"BUSY MACHINE, or the load was the limit: with {MANY}, of its core used only {', '.join(low)}. Fewer"
            " publications then wait at once, and what gathers them gains less. Run it on a machine at rest"
        )


def not_whole(rounds: Sequence[Round]) -> Iterator[str]:
    """What was lost, repeated, out of order or not possible at all, with the figures that do not count."""
    told: dict[tuple[str, str, str], int] = {}
    apart: dict[tuple[str, str, str], list[float]] = {}
    for done in rounds:
        for (name, transport), result in done.items():
            for fault in (f"{key}: {text}" for key, texts in result.faults.items() for text in texts):
                told[name, transport, fault] = told.get((name, transport, fault), 0) + 1
            for key, value in result.apart.items():
                apart.setdefault((name, transport, key), []).append(value)
    for (name, transport, fault), count in told.items():
        yield f"NOT WHOLE: {name}, {transport}, {fault}" + (f" (in {count} rounds)" if count > 1 else "")
    for (name, transport, key), values in apart.items():
        yield f"kept apart: {name}, {transport}, {key}: {spread(values, '{:,.1f}')}"
