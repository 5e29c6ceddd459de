"""The report: one HTML file that loads nothing, in light and dark, for wide screens and phones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import TypeAlias

from hybrid.bench import words
from hybrid.bench.chart import Chart, Line
from hybrid.bench.result import Connects, Latency, Point, Result

_Drawn: TypeAlias = tuple[str, str, Callable[[Point], float | None]]
"""A line over time: its name, its class, and what of a step it shows."""
_PHASES = {"deliver": "publishing", "reconnect": "storm", "drain": "end"}
_NINES = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999)


def report(result: Result) -> str:
    """The whole page."""
    template = Template((files("hybrid.bench") / "report.html").read_text("utf-8"))
    return template.substitute(
        host=escape(result.url.partition("://")[2]),
        url=escape(result.url),
        planned=escape(words.planned(result.plan)),
        when=escape(
            f"{result.started_at.replace('T', ' ').replace('+00:00', ' UTC')}, hybrid {result.hybrid}; "
            f"load on {result.system}, {result.cores} cores"
        ),
        verdicts="".join(_verdicts(result)),
        figures="".join(_figures(result)),
        charts="".join(_charts(result)),
        tables="".join(_tables(result)),
    )


def _verdicts(result: Result) -> Iterator[str]:
    if result.was_interrupted:
        yield _verdict("warn", "Interrupted: these are the figures until then", [])
    if result.faults:
        yield _verdict("bad", "Not everything was right", [*result.faults, *result.order.examples])
    elif result.plan.clients and result.delivered.deliveries:
        first = words.checked(result.order, result).partition("\n")[0].removeprefix("right: ")
        yield _verdict("good", "Everything was delivered, once and in order", [first])
    elif result.plan.clients:
        yield _verdict("good", "All clients got in", [])
    if result.load_side.is_limit:
        yield _verdict("warn", "The load side is the limit: these figures are its own", result.load_side.reasons)
    if result.order.resets:
        yield _verdict(
            "warn",
            f"{result.order.resets:,} resets",
            ["Losses that clients were told of: the history did not reach back to where they were."],
        )


def _verdict(kind: str, title: str, details: Iterable[str]) -> str:
    details = [text[:1].upper() + text[1:] for text in details]
    return f'<div class="verdict {kind}">{escape(title)}{"".join(f"<p>{escape(text)}</p>" for text in details)}</div>'


def _figures(result: Result) -> Iterator[str]:
    delivered, server = result.delivered, result.server
    if delivered.deliveries:
        yield _figure("Deliveries", f"{delivered.deliveries_per_s:,.0f}", "/s")
        yield _figure("Latency, p50", *_split(delivered.latency.p50_ms))
        yield _figure("Latency, p99", *_split(delivered.latency.p99_ms))
    if delivered.publications:
        yield _figure("Publications", f"{delivered.publications_per_s:,.0f}", "/s")
    if server is not None and server.deliveries_per_cpu_s is not None:
        yield _figure("Deliveries per CPU-second", f"{server.deliveries_per_cpu_s:,.0f}")
    if server is not None and server.memory_per_client_bytes is not None:
        number, unit = words.size(server.memory_per_client_bytes).split(" ")
        yield _figure("Memory for a client", number, unit)
    if result.plan.clients:
        yield _figure("Clients in", f"{result.connect.ready:,}", f"of {result.connect.clients:,}")
    if result.reconnect is not None and result.reconnect.is_storm:
        yield _figure("Storm: the last back", *_split(result.reconnect.last_ms))


def _split(value: float | None) -> tuple[str, str]:
    number, _, unit = words.millis(value).partition(" ")
    return number, unit


def _figure(name: str, value: str, *unit: str) -> str:
    return f"<div><dt>{escape(name)}</dt><dd>{escape(value)} <small>{escape(' '.join(unit))}</small></dd></div>"


# -- charts


def _charts(result: Result) -> Iterator[str]:
    if result.delivered.deliveries or result.delivered.publications:
        deliveries = _over_time(result, [("deliveries/s", "blue", lambda point: point.deliveries_per_s)], _count)
        yield _section("Deliveries a second", "All clients together, over the time of the run.", deliveries)
        latencies: list[_Drawn] = [
            ("p50", "blue", lambda point: point.p50_ms),
            ("p99", "orange", lambda point: point.p99_ms),
            ("max", "violet", lambda point: point.max_ms),
        ]
        over_time = _over_time(result, latencies, words.millis, is_log=True)
        yield _section("Latency over time", "From send to receipt, in each step of time; logarithmic.", over_time)
        note = "How long the given share of all deliveries took at most; logarithmic."
        yield _section("Latency by share", note, _shares(result))
        published = _over_time(result, [("publications/s", "teal", lambda point: point.publications_per_s)], _count)
        yield _section("Publications a second", "Sent by the publishers.", published)
    cores: list[_Drawn] = [("load, its busiest process", "orange", lambda point: point.load_cpu)]
    if result.server is not None:
        cores.insert(0, ("server", "blue", lambda point: point.server_cpu))
    cpu = _over_time(result, cores, lambda value: f"{value:.0%}")
    yield _section("CPU", "Cores in use: 100 % is one.", cpu)
    for title, connects in (("Clients that got in", result.connect), ("Clients that came back", result.reconnect)):
        if connects is not None and len(connects.curve) > 1:
            yield _section(title, "How many were in, since they were to connect.", _connecting(connects))


def _over_time(result: Result, lines: Sequence[_Drawn], say_y: Callable[[float], str], *, is_log: bool = False) -> str:
    first = {_PHASES[name]: at_s for name, at_s in reversed(result.phases) if name in _PHASES}
    marks = [(at_s, name) for name, at_s in first.items()]
    drawn = [
        Line(name, kind, [(point.at_s + point.seconds / 2, value(point)) for point in result.series], len(lines) == 1)
        for name, kind, value in lines
    ]
    label = "over time: " + ", ".join(line.name for line in drawn)
    say_tick = _round_time if is_log else None
    return Chart(
        label, drawn, lambda value: f"{value:g} s", say_y, marks, is_log=is_log, floor=0.01, say_tick=say_tick
    ).svg()


def _shares(result: Result) -> str:
    total = sum(count for _, count in result.latency_us)
    points: list[tuple[float, float | None]] = []
    seen = 0
    for low_us, count in result.latency_us:
        seen += count
        share = min(seen / total, 1 - 1 / (10 * total)) if total else 0.0
        points.append((_nines(share), max(low_us, 1) / 1_000))
    ticks = [(_nines(share), f"{share * 100:g} %") for share in _NINES]
    return Chart(
        "latency by share",
        [Line("latency", "blue", _thinned(points), True)],
        lambda value: f"{(1 - 10**-value) * 100:.5g} %",
        words.millis,
        ticks_x=ticks,
        is_log=True,
        floor=0.01,
        say_tick=_round_time,
    ).svg()


def _nines(share: float) -> float:
    return -math.log10(max(1e-9, 1 - share))


def _thinned(points: list[tuple[float, float | None]], most: int = 160) -> list[tuple[float, float | None]]:
    step = max(1, len(points) // most)
    return [*points[::step], points[-1]] if points else []


def _connecting(connects: Connects) -> str:
    points: list[tuple[float, float | None]] = [(at_ms, float(count)) for at_ms, count in connects.curve]
    return Chart("clients over time", [Line("clients", "teal", points, True)], words.millis, _count).svg()


def _round_time(value_ms: float) -> str:
    return f"{value_ms / 1_000:g} s" if value_ms >= 1_000 else f"{value_ms:g} ms"


def _count(value: float) -> str:
    for unit, factor in (("M", 1e6), ("k", 1e3)):
        if value >= factor * 10 or (value >= factor and value % factor == 0):
            return f"{value / factor:.4g}{unit}"
    return f"{value:,.4g}"


def _section(title: str, note: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2><p>{escape(note)}</p>{content}</section>"


# -- tables


def _tables(result: Result) -> Iterator[str]:
    rows = list(_latency_rows(result))
    if rows:
        head = "".join(f"<th>{name}</th>" for name in ("", "count", "p50", "p90", "p99", "p99.9", "max"))
        body = "".join(rows)
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        yield f'<section class="wide"><h2>Times</h2>{table}</section>'
    yield f'<section><h2>In words</h2><dl class="facts">{"".join(_facts(result))}</dl></section>'


def _latency_rows(result: Result) -> Iterator[str]:
    delivered = result.delivered
    yield from _row("send to receipt", delivered.latency)
    if len(delivered.transports) > 1:
        for name, part in delivered.transports.items():
            yield from _row(f"over {name}", part.latency)
    yield from _row("publish to answer", delivered.answer)
    yield from _row("to connect", result.connect.each)
    if result.reconnect is not None:
        yield from _row("to come back", result.reconnect.each)
    yield from _row("sent later than due", result.load_side.late)


def _row(name: str, latency: Latency) -> Iterator[str]:
    if latency.count:
        values = (latency.p50_ms, latency.p90_ms, latency.p99_ms, latency.p999_ms, latency.max_ms)
        cells = "".join(f"<td>{escape(words.millis(value))}</td>" for value in values)
        yield f"<tr><th>{escape(name)}</th><td>{latency.count:,}</td>{cells}</tr>"


def _facts(result: Result) -> Iterator[str]:
    for name, text in words.rows(result):
        yield f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>"
