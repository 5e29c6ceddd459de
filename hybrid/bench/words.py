"""A result in words, for a terminal; and the pieces of text that the report shares with it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from hybrid.bench.plan import Plan
from hybrid.bench.result import Connects, Delivered, Latency, Order, Result

_WIDTH = 10


def text(result: Result) -> str:
    """The whole summary, lines for a terminal."""
    lines = [f"{result.url}: {planned(result.plan)}", ""]
    if result.was_interrupted:
        lines += ["interrupted: these are the figures until then", ""]
    for name, words in rows(result):
        first, *rest = words.split("\n")
        lines.append(f"{name:<{_WIDTH}} {first}")
        lines += [f"{'':<{_WIDTH}} {line}" for line in rest]
    return "\n".join(lines) + "\n"


def planned(plan: Plan) -> str:
    """What was to be run, in one line."""
    transports = ", ".join(f"{count:,} {name}" for name, count in plan.mix.items())
    parts = [f"{plan.clients:,} clients ({transports})" if plan.clients else "no clients"]
    channels = "1 channel" if plan.channels == 1 else f"{plan.channels:,} channels"
    if plan.clients and plan.channels > 1:
        channels += f" with {plan.clients_per_channel:,.4g} clients each"
    parts.append(channels)
    if plan.publishers and plan.duration_s:
        pace = f"{plan.rate_per_s:,g}/s" if plan.rate_per_s else "as fast as they are answered"
        over = "HTTP" if plan.publish_over == "http" else "WebSocket"
        flying = plan.publishers * plan.in_flight
        parts.append(f"publications of {plan.size} bytes over {over}, {pace}, {flying} in flight at most")
    storms = [
        name for name, is_one in (("connect", plan.is_connect_storm), ("reconnect", plan.is_reconnect_storm)) if is_one
    ]
    if storms:
        parts.append(f"storm: {' and '.join(storms)}")
    return "; ".join(parts)


def rows(result: Result) -> Iterator[tuple[str, str]]:
    """Each figure with its name; further lines of a figure stand behind line breaks."""
    if result.plan.clients:
        yield "connect", connected(result.connect)
    if result.reconnect is not None:
        yield "reconnect", connected(result.reconnect)
    delivered = result.delivered
    if delivered.publications or delivered.deliveries:
        yield "delivered", "\n".join(_delivered(delivered))
        yield "latency", "\n".join(_latencies(result))
        yield "answered", f"publishes {percentiles(delivered.answer)}"
    if result.server is not None:
        yield "server", "\n".join(_server(result))
    yield "load", load_side(result)
    yield "order", checked(result.order, result)
    for words in result.unknown:
        yield "unknown", words
    for words in result.faults:
        yield "FAULT", words


def _delivered(delivered: Delivered) -> Iterator[str]:
    yield (
        f"{delivered.deliveries:,} in {seconds(delivered.duration_s)}: {delivered.deliveries_per_s:,.0f}/s; "
        f"{delivered.publications:,} published: {delivered.publications_per_s:,.0f}/s"
    )
    if delivered.unsent:
        yield f"{delivered.unsent:,} more were due, and could not be sent before others were answered"
    if delivered.refused:
        yield f"publishes refused: {reasons(delivered.refused)}"


def connected(connects: Connects) -> str:
    """How clients got in, or came back."""
    words = f"{connects.ready:,} of {connects.clients:,}"
    if connects.first_ms is not None:
        words += f": the first after {millis(connects.first_ms)}, the last after {millis(connects.last_ms)}"
        words += f"\neach {percentiles(connects.each)}"
    if connects.delayed:
        words += f"\n{connects.delayed:,} times told to come later, and came then"
    if connects.errors:
        words += f"\nattempts that failed: {reasons(connects.errors)}"
    return words


def _latencies(result: Result) -> Iterator[str]:
    delivered = result.delivered
    yield f"{percentiles(delivered.latency)}, from send to receipt"
    if len(delivered.transports) > 1:
        for name, part in delivered.transports.items():
            yield f"{name:<9} {percentiles(part.latency)}"


def _server(result: Result) -> Iterator[str]:
    server = result.server
    assert server is not None
    count = "1 process" if server.processes == 1 else f"{server.processes} processes"
    if result.delivered.deliveries:
        per = server.deliveries_per_cpu_s
        words = f"{count}: {server.cpu_s:.2f} s of CPU ({server.cpu_share:.0%} of a core)"
        yield words + (f", {per:,.0f} deliveries per CPU-second" if per is not None else "")
    memory = f"{size(server.memory_idle_bytes)} with the clients idle"
    if server.memory_per_client_bytes is not None:
        memory += f", {size(server.memory_per_client_bytes)} for each client"
    yield f"{memory}; {size(server.memory_end_bytes)} at the end"
    if server.connect_cpu_us is not None:
        yield f"{server.connect_cpu_us:,.0f} us of CPU for each connect"


def load_side(result: Result) -> str:
    """Whether the load itself was the limit."""
    told = result.load_side
    count = "1 process" if told.processes == 1 else f"{told.processes} processes"
    words = count
    effort = told.delivering or told.connecting
    if effort is not None:
        words += f", the busiest at {effort.busy_share:.0%} of a core"
        if effort.starved_share is not None:
            words += f", waiting for one {effort.starved_share:.0%} of the time"
    if told.late.p99_ms is not None:
        words += f"; sent late by {millis(told.late.p99_ms)} (p99)"
    if not told.is_limit:
        return words
    return "\n".join(["THE LOAD SIDE IS THE LIMIT, figures are its own:", *told.reasons, words])


def checked(order: Order, result: Result) -> str:
    """What was looked at, and whether it was right."""
    if not result.plan.clients:
        return "nobody listened"
    if order.is_right:
        words = "right" if order.is_checked_to_the_end else "right as far as it could be checked"
    else:
        words = "WRONG"
    words += (
        f": every offset of all {result.delivered.deliveries:,} deliveries to all clients was checked; "
        f"{order.lost:,} lost, {order.repeated:,} repeated, {order.reordered:,} out of order"
    )
    if order.incomplete_clients:
        words += f"; {order.incomplete_clients:,} clients had not got everything"
    words += f"\n{order.resets:,} resets"
    if order.resets:
        words += " (losses that clients were told of: history did not reach back to where they were)"
    if order.cuts:
        words += f"\nconnections that ended in use: {reasons(order.cuts)}"
    for example in order.examples:
        words += f"\n{example}"
    return words


def percentiles(latency: Latency) -> str:
    """On one line."""
    if not latency.count:
        return "none"
    named = (
        ("p50", latency.p50_ms),
        ("p90", latency.p90_ms),
        ("p99", latency.p99_ms),
        ("p99.9", latency.p999_ms),
        ("max", latency.max_ms),
    )
    return "  ".join(f"{name} {millis(value)}" for name, value in named)


def reasons(counts: dict[str, int], most: int = 6) -> str:
    """Numbers by reason."""
    items = sorted(counts.items(), key=lambda item: -item[1])
    words = [f"{count:,} x {reason}" for reason, count in items[:most]]
    rest = sum(count for _, count in items[most:])
    return "; ".join([*words, *([f"{rest:,} x other reasons"] if rest else [])])


def millis(value: float | None) -> str:
    """A time, with three digits that mean something."""
    if value is None or math.isnan(value):
        return "-"
    if value >= 9_999.5:
        return f"{value / 1_000:.1f} s"
    if value >= 999.5:
        return f"{value / 1_000:.2f} s"
    return f"{value:.0f} ms" if value >= 99.5 else f"{value:.1f} ms" if value >= 9.95 else f"{value:.2f} ms"


def seconds(value: float) -> str:
    """A span of time."""
    return f"{value:.1f} s" if value < 100 else f"{value:,.0f} s"


def size(value: float) -> str:
    """Bytes, as people say them."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if abs(value) >= factor:
            return f"{value / factor:.1f} {unit}"
    return f"{value:.0f} bytes"
