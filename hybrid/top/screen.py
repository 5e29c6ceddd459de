"""Figures and a view as lines for a terminal, or for a file. Pure: the same figures give the same lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from hybrid.protocol.management import NodeItem
from hybrid.top.figures import ChannelFigures, Count, Figures, WorkerFigures
from hybrid.top.reading import POLLS, STREAMS
from hybrid.top.table import Column, Line, Segment, clean, cut_line, table
from hybrid.top.view import View
from hybrid.top.words import lasted, rate, seconds, share, size

LAG_BAD_S: Final = 0.1
"""A loop this late is felt by clients."""
CPU_WARN, CPU_BAD = 0.7, 0.9
"""Of the one core that a process can use."""
_LABEL: Final = 13
_COUNTS_SHOWN: Final = 4
_HELP: Final = "q quit  s sort  r reverse  / filter channels  + - interval  p pause  space now"

_WORKERS: Final = (
    Column("WORKER", is_figure=False, keeps_end=True),
    Column("CLIENTS"),
    Column("DELIVERED/S", 1),
    Column("PUBLISHED/S", 2),
    Column("SLOW", 3),
    Column("LAG", 1),
    Column("CPU", 1),
    Column("MEMORY", 4),
    Column("ROOM", 6),
    Column("STATE", 5, is_figure=False),
)
_CHANNELS: Final = (
    Column("CHANNEL", is_figure=False),
    Column("SUBSCRIBERS"),
    Column("PUBLISHED/S", 1),
    Column("DELIVERED/S", 1),
)
_NODES: Final = (
    Column("NODE", is_figure=False),
    Column("STREAMS"),
    Column("SESSIONS", 2),
    Column("CHANNELS", 3),
    Column("ROOM", 4),
    Column("UP", 1),
    Column("ADDRESS", 3, is_figure=False),
    Column("VERSION", 5, is_figure=False),
    Column("STATE", 2, is_figure=False),
)


def screen(figures: Figures, view: View, width: int, height: int, note: str = "") -> list[Line]:
    """What fills a terminal: at most `height` lines of at most `width` cells. `note` stands below the title."""
    head = _head(figures, view, note)
    foot: list[Line] = [_foot(view)] if height > len(head) + 1 else []
    room = height - len(head) - len(foot)
    body = _panels(_tables(figures, view, width), room)
    lines = (head + body)[: max(0, height - len(foot))]
    return [cut_line(line, width) for line in lines + foot]


def plain(figures: Figures, view: View) -> list[Line]:
    """Everything, however long and wide that is."""
    lines = _summary(figures)
    for panel in _tables(figures, view, None):
        lines += [[], *panel.lines]
        if panel.hidden:
            lines.append([("dim", f"{panel.hidden:,}{panel.hidden_words} more")])
    return lines


def _head(figures: Figures, view: View, note: str) -> list[Line]:
    at = time.strftime("%H:%M:%S", time.localtime(figures.wall_s))
    title: Line = [("bold", "hybrid top"), ("dim", f"  {at}, every {view.interval_s:g} s, by {view.sort}")]
    if view.is_reversed:
        title.append(("dim", " reversed"))
    if view.prefix:
        title.append(("dim", f", channels {clean(view.prefix)}*"))
    if view.is_paused:
        title.append(("warn", "  paused"))
    return [title, *([[("bad", clean(note))]] if note else []), *_summary(figures), []]


def _foot(view: View) -> Line:
    if view.typed is not None:
        return [("bold", f"channels that begin with: {clean(view.typed)}_"), ("dim", "  Enter, Esc")]
    return [("dim", _HELP)]


# -- the sums


def _summary(figures: Figures) -> list[Line]:
    lines: list[Line] = []

    def add(label: str, *segments: Segment) -> None:
        lines.append([("dim", f"{label:<{_LABEL}}"), *segments])

    if figures.versions:  # otherwise no server has told its metrics
        clients = sum(figures.clients.values())
        by = ", ".join(f"{name} {figures.clients.get(name, 0):,}" for name in (*STREAMS, POLLS))
        add("clients", ("bold", f"{clients:,}"), ("", f" of {figures.room:,}: {by}; {figures.sessions:,} sessions"))
        add(
            "published",
            ("bold", f"{rate(figures.publications_per_s)}/s"),
            ("", f"  answered in {_two(figures.publish_s)}"),
        )
        sent = f"  {size(figures.bytes_per_s)}/s  written after {_two(figures.write_s)}"
        add("delivered", ("bold", f"{rate(figures.deliveries_per_s)}/s"), ("", sent))
        add("slow", *_slow(figures))
        late = "bad" if (figures.lag_s or 0) > LAG_BAD_S else ""
        add("loop lag", (late, f"p99 {seconds(figures.lag_s)}"))
        add("broker", *_broker(figures))
        add("limits hit", *_counts(figures.limits, "warn"))
        add("refused", *_counts(figures.refusals, ""))
    for trouble in figures.troubles:
        add("not told" if trouble.kind != "unreachable" else "not reached", ("warn", clean(trouble.sentence)))
    if figures.silent:
        add("not told", ("bad", f"{figures.silent} workers did not answer in time: their figures are missing"))
    return lines


def _two(times: tuple[float | None, float | None]) -> str:
    return f"p50 {seconds(times[0])}, p99 {seconds(times[1])}"


def _slow(figures: Figures) -> Iterable[Segment]:
    yield ("warn" if figures.slow else "", f"{figures.slow:,} now")
    yield ("", f", {rate(figures.lagged_per_s)}/s more; {figures.catching_up:,} catching up")
    yield ("", f"; {figures.behind:,} publications behind, {size(figures.buffered_bytes)} buffered")


def _broker(figures: Figures) -> Iterable[Segment]:
    if figures.broker == "memory":
        yield ("", "memory")
        return
    if figures.broker_down:
        yield ("bad", f"{figures.broker}: not reached by {', '.join(map(clean, figures.broker_down))}")
    else:
        yield ("good", f"{figures.broker}: up")
    yield ("", f"  answers p99 {seconds(figures.broker_answer_s)}, {figures.broker_waiting:,} waiting")
    yield ("", f" for up to {seconds(figures.broker_oldest_s)}, {rate(figures.broker_failures_per_s)}/s failures")


def _counts(counts: Sequence[Count], style: str) -> Iterable[Segment]:
    if not counts:
        yield ("", "none")
    for place, count in enumerate(counts[:_COUNTS_SHOWN]):
        yield ("", ", " if place else "")
        yield (style if count.per_s else "", f"{clean(count.name)} {rate(count.per_s)}/s ({count.total:,.0f} in all)")
    if len(counts) > _COUNTS_SHOWN:
        yield ("dim", f", {len(counts) - _COUNTS_SHOWN} more")


# -- the tables


@dataclass(frozen=True, slots=True)
class _Panel:
    """A table: its titles and its rows. `hidden` rows are not among them, because nobody has asked for them."""

    lines: list[Line]
    hidden: int = 0
    hidden_words: str = ""


def _tables(figures: Figures, view: View, width: int | None) -> list[_Panel]:
    panels = []
    if figures.workers:
        rows = map(_worker_row, ordered(figures.workers, view, WORKER_KEYS))
        panels.append(_Panel(table(_WORKERS, rows, width)))
    if figures.channels:
        rows = map(_channel_row, ordered(figures.channels, view, CHANNEL_KEYS))
        hidden = max(0, figures.channels_seen - len(figures.channels))
        panels.append(_Panel(table(_CHANNELS, rows, width), hidden, " or" if figures.has_more_channels else ""))
    if figures.nodes:
        rows = map(_node_row, ordered(figures.nodes, view, NODE_KEYS))
        panels.append(_Panel(table(_NODES, rows, width)))
    return panels


def _worker_row(worker: WorkerFigures) -> list[Segment]:
    if worker.trouble:
        return [("bad", worker.name), *[("", "-")] * 8, ("bad", worker.state)]
    cpu = worker.cpu or 0.0
    return [
        ("", worker.name),
        ("", f"{worker.clients:,}"),
        ("", rate(worker.deliveries_per_s)),
        ("", rate(worker.publications_per_s)),
        ("warn" if worker.slow else "", f"{worker.slow:,}"),
        ("bad" if (worker.lag_s or 0) > LAG_BAD_S else "", seconds(worker.lag_s)),
        ("bad" if cpu > CPU_BAD else "warn" if cpu > CPU_WARN else "", share(worker.cpu)),
        ("", size(worker.memory_bytes)),
        ("", f"{worker.room:,}"),
        ("" if worker.state == "serving" else "warn", worker.state),
    ]


def _channel_row(channel: ChannelFigures) -> list[Segment]:
    return [
        ("", channel.name),
        ("", f"{channel.subscribers:,}"),
        ("", rate(channel.publications_per_s)),
        ("", rate(channel.deliveries_per_s)),
    ]


def _node_row(node: NodeItem) -> list[Segment]:
    return [
        ("", node.node),
        ("", f"{node.streams:,}"),
        ("", f"{node.sessions:,}"),
        ("", f"{node.channels:,}"),
        ("", f"{node.room:,}"),
        ("", lasted(node.uptime_s)),
        ("", node.address),
        ("", node.version),
        ("warn" if node.draining else "", "draining" if node.draining else "serving"),
    ]


_Keys: TypeAlias = dict[str, Callable[[Any], Any]]
"""By what is sorted; the most comes first."""
WORKER_KEYS: Final[_Keys] = {
    "deliveries": lambda worker: -(worker.deliveries_per_s or 0.0),
    "publications": lambda worker: -(worker.publications_per_s or 0.0),
    "clients": lambda worker: -worker.clients,
    "lag": lambda worker: -(worker.lag_s or 0.0),
    "cpu": lambda worker: -(worker.cpu or 0.0),
    "memory": lambda worker: -worker.memory_bytes,
}
CHANNEL_KEYS: Final[_Keys] = {
    "deliveries": lambda channel: (-(channel.deliveries_per_s or 0.0), -channel.subscribers),
    "publications": lambda channel: -(channel.publications_per_s or 0.0),
    "clients": lambda channel: -channel.subscribers,
}
NODE_KEYS: Final[_Keys] = {"clients": lambda node: -node.streams}


def ordered(rows: Iterable[Any], view: View, keys: _Keys) -> list[Any]:
    """As the view says; rows that have no such column, and those that are equal in it, by their names."""
    found = sorted(rows, key=lambda row: row.node if isinstance(row, NodeItem) else row.name)
    key = keys.get(view.sort)
    if key is None and view.sort != "name":
        key = keys.get("deliveries") or keys["clients"]
    if key is not None:
        found.sort(key=key)
    return found[::-1] if view.is_reversed else found


# -- what fits


def _panels(panels: list[_Panel], room: int) -> list[Line]:
    """The tables below one another, as many as have room for a row; what is left goes to the first ones that need it,
    but leaves the others their share."""
    shown = panels[: max(0, (room + 1) // 3)]
    needs = [len(panel.lines) + bool(panel.hidden) - 2 for panel in shown]
    spare = room - (3 * len(shown) - 1)
    lines: list[Line] = []
    for place, panel in enumerate(shown):
        given = min(needs[place], max(spare // (len(shown) - place), spare - sum(needs[place + 1 :])))
        spare -= given
        lines += [*([[]] if place else []), *_shortened(panel, 2 + given)]
    return lines


def _shortened(panel: _Panel, most: int) -> list[Line]:
    if len(panel.lines) + bool(panel.hidden) <= most:
        kept, hidden = panel.lines, panel.hidden
    elif most < 3:  # rather a row than how many there are
        return panel.lines[:most]
    else:
        kept, hidden = panel.lines[: most - 1], panel.hidden + len(panel.lines) - most + 1
    return [*kept, [("dim", f"{hidden:,}{panel.hidden_words} more")]] if hidden else list(kept)
