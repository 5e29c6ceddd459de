"""What a result says of itself: whether it was right, whether the load was the limit, and what it cannot know."""

from __future__ import annotations

import os
from typing import Final

from hybrid.bench.plan import Plan
from hybrid.bench.result import LoadSide, Result
from hybrid.bench.words import millis

TELLS_STARVED: Final = os.path.exists("/proc/self/schedstat")
"""Whether the system says for how long a process had to wait for a core."""
_BUSY_LIMIT: Final = 0.85
_BUSY_MAX_LIMIT: Final = 0.95
_STARVED_LIMIT: Final = 0.15
_LATE_LIMIT_MS: Final = 5.0
_LAG_LIMIT_MS: Final = 250.0


def limits(told: LoadSide, plan: Plan) -> list[str]:
    """Why the load side was the limit, with what to do about it; empty where it was not."""
    reasons = []
    for doing, effort in (("while clients connected, ", told.connecting), ("", told.delivering)):
        if effort is None:
            continue
        if effort.busy_share > _BUSY_LIMIT or effort.busy_share_max > _BUSY_MAX_LIMIT:
            reasons.append(
                f"{doing}a load process used {effort.busy_share:.0%} of a core ({effort.busy_share_max:.0%} in its "
                f"busiest moment); take more --processes than {plan.processes}"
            )
        if effort.starved_share is not None and effort.starved_share > _STARVED_LIMIT:
            reasons.append(
                f"{doing}a load process waited for a core for {effort.starved_share:.0%} of the time; this host has "
                "too few cores for the load and whatever else runs on it"
            )
    if told.late.p99_ms is not None and told.late.p99_ms > _LATE_LIMIT_MS:
        reasons.append(
            f"publishes were sent up to {millis(told.late.p99_ms)} (p99) later than due; lower --rate or take more "
            "--processes"
        )
    if told.lag_max_ms > _LAG_LIMIT_MS:
        reasons.append(f"a load process was held up for {millis(told.lag_max_ms)} at once")
    return reasons


def unknown(result: Result) -> list[str]:
    """What could not be known, and why."""
    found = []
    if result.server is None:
        found.append("what the server uses of CPU and memory: name its process with --pid, where it runs on this host")
    elif result.server.deliveries_per_cpu_s is None and result.delivered.deliveries:
        found.append("deliveries per CPU-second: the server used too little CPU to divide by; run it for longer")
    if result.delivered.deliveries and not result.delivered.latency.count:
        found.append("latency: nothing that came was sent by this run")
    if not TELLS_STARVED:
        found.append("whether the load's processes had to wait for a core: this system does not tell")
    return found


def faults(result: Result) -> list[str]:
    """Why the exit code is 1; empty where it is not."""
    order = result.order
    found: list[str] = []
    for count, words in (
        (order.lost, "publications lost"),
        (order.repeated, "repeated"),
        (order.reordered, "out of order"),
        (order.unexpected, "things that the protocol does not know"),
        (order.incomplete_clients, "clients that had not got everything at the end"),
    ):
        if count:
            found.append(f"{count:,} {words}")
    if not order.is_right and not found:
        found.append("publications lost, repeated or out of order")
    if not order.is_checked_to_the_end:
        found.append("not everything could be checked: a load process ended early, or did not answer")
    if result.connect.failed:
        found.append(f"{result.connect.failed:,} of {result.connect.clients:,} clients never got in")
    elif result.connect.ready < result.connect.clients and not result.was_interrupted:
        missing = result.connect.clients - result.connect.ready
        found.append(f"{missing:,} of {result.connect.clients:,} clients were not in when the time was up")
    if result.reconnect is not None and result.reconnect.failed and not result.was_interrupted:
        found.append(f"{result.reconnect.failed:,} clients that were cut did not come back")
    if result.plan.publishers and not result.delivered.answered and result.delivered.publications:
        found.append("no publish was answered")
    return found
