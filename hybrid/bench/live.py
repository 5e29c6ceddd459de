"""What a person sees while it goes: a few lines that are written over on a terminal, one line a second elsewhere."""

from __future__ import annotations

import shutil
import time
from collections import deque
from typing import Final, TextIO

from hybrid.bench.record import Record
from hybrid.bench.result import Point
from hybrid.bench.words import millis, size

_BARS: Final = "▁▂▃▄▅▆▇█"
_PLAIN_EVERY_S: Final = 1.0
_REDRAW_S: Final = 0.2
_WORDS: Final = {
    "start": "starting",
    "connect": "connecting",
    "idle": "all connected, idle",
    "deliver": "delivering",
    "reconnect": "reconnect storm",
    "drain": "waiting until everything has come",
    "end": "done",
}


class Live:
    """Called with the record several times a second; `close` before anything else is written."""

    def __init__(self, stream: TextIO, *, is_terminal: bool) -> None:
        self._stream = stream
        self._is_terminal = is_terminal
        self._height = 0
        self._shown_s = 0.0
        self._phase = ""
        self._history: deque[float] = deque(maxlen=200)
        self._seen = -1.0
        self._latency = ""

    def __call__(self, record: Record) -> None:
        """Show what is new."""
        now_s = time.monotonic()
        has_changed = record.phase != self._phase
        if not has_changed and now_s - self._shown_s < (_REDRAW_S if self._is_terminal else _PLAIN_EVERY_S):
            return
        self._shown_s, self._phase = now_s, record.phase
        point = record.rates(time.monotonic_ns())
        if point is not None and point.at_s != self._seen:
            self._seen = point.at_s
            self._history.append(point.deliveries_per_s)
            self._latency = _latency(record)
        self._write(self._lines(record, point) if self._is_terminal else [self._line(record, point)])

    def close(self) -> None:
        """Leave the terminal as it should be."""
        if self._is_terminal and self._height:
            self._erase()
            self._stream.flush()
            self._height = 0

    # -- what is shown

    def _line(self, record: Record, point: Point | None) -> str:
        parts = [f"{_WORDS.get(record.phase, record.phase)}: {record.ready_count:,} of {record.plan.clients:,} clients"]
        if record.sent or record.phase in ("deliver", "reconnect", "drain"):
            parts.append(f"{_rate(point.deliveries_per_s if point else 0)} deliveries/s")
            parts.append(f"{_rate(point.publications_per_s if point else 0)} publications/s")
            parts.append(f"latency {self._latency or '-'}")
        if point is not None and point.server_cpu is not None:
            parts.append(f"server {point.server_cpu:.0%} CPU")
        if record.fault_count:
            parts.append(f"{record.fault_count:,} FAULTS")
        return ", ".join(parts)

    def _lines(self, record: Record, point: Point | None) -> list[str]:
        width = max(40, shutil.get_terminal_size((80, 24)).columns - 1)
        now_s = (time.monotonic_ns() - record.began_ns) / 1e9
        lines = [f"\x1b[1m{_WORDS.get(record.phase, record.phase)}\x1b[0m   {now_s:.0f} s{self._left(record)}"]
        share = record.ready_count / record.plan.clients if record.plan.clients else 1.0
        filled = round(24 * share)
        lines.append(
            f"clients      {'█' * filled}{'░' * (24 - filled)} {record.ready_count:,} of {record.plan.clients:,}"
        )
        if len(record.plan.mix) > 1:
            counts = ((name, sum(record.ready.get(name, {}).values())) for name in record.plan.mix)
            lines.append("             " + "  ".join(f"{name} {count:,}" for name, count in counts))
        if point is not None and (record.sent or sum(record.deliveries.values())):
            spark = _spark(list(self._history)[-max(8, width - 40) :])
            lines.append(f"deliveries   {_rate(point.deliveries_per_s):>10}/s  {spark}")
            lines.append(f"publishes    {_rate(point.publications_per_s):>10}/s  {record.answered:,} answered")
            lines.append(f"latency      {self._latency or '-'}")
        cpu = [] if point is None else [f"load {point.load_cpu:.0%} of a core"]
        if point is not None and point.server_cpu is not None:
            cpu.insert(0, f"server {point.server_cpu:.0%}")
            cpu.append(f"server's memory {size(point.server_memory_bytes or 0)}")
        if cpu:
            lines.append(f"cpu          {', '.join(cpu)}")
        faults, resets = record.fault_count, sum(record.resets.values())
        order = "\x1b[32mright so far\x1b[0m" if not faults else f"\x1b[31m{faults:,} FAULTS\x1b[0m"
        lines.append(f"order        {order}" + (f", {resets:,} resets" if resets else ""))
        troubles = record.errors + record.cuts + record.refused
        for reason, count in troubles.most_common(3):
            lines.append(f"             {count:,} x {reason}"[:width])
        return lines

    @staticmethod
    def _left(record: Record) -> str:
        began = record.at("deliver")
        if began is None or record.phase not in ("deliver", "reconnect"):
            return ""
        if record.plan.publications:
            return f", {record.sent:,} of {record.plan.publications:,} published"
        left_s = record.plan.duration_s - (time.monotonic_ns() - began) / 1e9
        return f", {max(0.0, left_s):.0f} s left"

    # -- the terminal

    def _write(self, lines: list[str]) -> None:
        if self._is_terminal:
            self._erase()
        self._stream.write("\n".join(lines) + "\n")
        self._stream.flush()
        self._height = len(lines)

    def _erase(self) -> None:
        if self._height:
            self._stream.write(f"\x1b[{self._height}A\x1b[J")


def _latency(record: Record) -> str:
    recent = record.recent
    if not recent.count:
        return ""
    words = "  ".join(
        f"{name} {millis(recent.percentile_us(share) / 1_000)}" for name, share in (("p50", 0.5), ("p99", 0.99))
    )
    words += f"  max {millis(recent.max_us / 1_000)}"
    recent.clear()
    return words


def _rate(value: float) -> str:
    return f"{value:,.0f}"


def _spark(values: list[float]) -> str:
    top = max(values, default=0.0)
    return "".join(_BARS[min(7, int(8 * value / top))] for value in values) if top else ""
