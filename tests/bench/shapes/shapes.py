"""The shapes: each opens a server and its load, and adds rows to the table."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from tests.bench.shapes.crowd import RESET_BY_KERNEL
from tests.bench.shapes.stage import SIZE, Cast, Outcome, Stage, staged
from tests.bench.shapes.wire import KINDS

ROOM: Final = "bench:room"
LARGE: Final = 100_000
MISSED: Final = 20
_SLOW_SIZE: Final = 1_024
_LONG: Final = 100_000
_SLOW_BUFFER_BYTES: Final = 4_096


@dataclass(frozen=True)
class Plan:
    """How large everything is."""

    clients: int
    channels: int
    many: int
    each: int
    large: int
    readers: int
    storm: int
    history: int
    deliveries: int


FULL: Final = Plan(
    clients=15_000,
    channels=10_000,
    many=500,
    each=20,
    large=50,
    readers=500,
    storm=10_000,
    history=100_000,
    deliveries=200_000,
)
QUICK: Final = Plan(
    clients=1_000,
    channels=500,
    many=100,
    each=20,
    large=10,
    readers=100,
    storm=500,
    history=10_000,
    deliveries=20_000,
)


@dataclass
class Row:
    """A line of the table."""

    shape: str
    outcome: Outcome
    more: str = ""


Rows = Iterator[Row]
Shape = Callable[[Cast, Plan], Rows]


def open_halves(stage: Stage, count: int, channels: Callable[[int], list[str]], *, first: int = 0) -> None:
    """The clients from the first up to so many, in turn over WebSocket and over event streams."""
    tokens = stage.cast.tokens(count)
    for place, kind in enumerate(KINDS):
        numbers = range(first + place, count, len(KINDS))
        if numbers:
            stage.open(kind, kind, [tokens[n] for n in numbers], [channels(n) for n in numbers])


def one_channel(cast: Cast, plan: Plan) -> Rows:
    with staged(cast) as stage:
        before, cpu_s = stage.served.stats()["rss"], stage.served.cpu_s()
        open_halves(stage, plan.clients, lambda _: [ROOM])
        stage.served.quiet()
        cpu_us = (stage.served.cpu_s() - cpu_s) / plan.clients * 1e6
        memory_kb = (stage.served.stats()["rss"] - before) / plan.clients / 1024
        count = max(3, plan.deliveries // plan.clients)
        name = f"1 channel x {plan.clients:,} clients"
        told = f"a client: {cpu_us:.0f} us of CPU to connect, {memory_kb:.1f} KB"
        yield Row(f"{name}, one after the other", stage.measure([[ROOM]] * count), told)
        rounds = [[ROOM] * 64] * max(1, count // 16)
        yield Row(f"{name}, 64 in flight", stage.measure(rounds, awaited=False))


def many_channels(cast: Cast, plan: Plan) -> Rows:
    names = [f"bench:{number}" for number in range(plan.channels)]
    with staged(cast) as stage:
        open_halves(stage, plan.channels, lambda n: [names[n]])
        outcome = stage.measure([names[start : start + 64] for start in range(0, len(names), 64)] * 2)
        yield Row(f"{plan.channels:,} channels x 1 client, 64 publishes at a time", outcome)


def twenty_each(cast: Cast, plan: Plan) -> Rows:
    names = [f"bench:{number}" for number in range(plan.many)]
    with staged(cast) as stage:
        wanted = [[names[(n + k) % plan.many] for k in range(plan.each)] for n in range(plan.many)]
        open_halves(stage, plan.many, lambda n: wanted[n])
        rounds = [names[start : start + 50] for start in range(0, len(names), 50)]
        outcome = stage.measure(rounds * max(1, plan.deliveries // (plan.many * plan.each)))
        yield Row(f"{plan.many} clients x {plan.each} channels each, of {plan.many}", outcome)


def large_payloads(cast: Cast, plan: Plan) -> Rows:
    limits = {"data_max_bytes": LARGE + 1_000, "command_max_bytes": LARGE + 5_000}
    with staged(cast, limits=limits) as stage:
        open_halves(stage, plan.large, lambda _: [ROOM])
        outcome = stage.measure([[ROOM]] * 40, LARGE)
        rate = outcome.deliveries * LARGE / outcome.cpu_s / 1e6
        yield Row(f"payloads of 100 KB, {plan.large} clients", outcome, f"{rate:,.0f} MB/CPU-s")


def slow_readers(cast: Cast, plan: Plan) -> Rows:
    for share, history in ((0.0, _LONG), (0.1, _LONG), (0.5, _LONG), (0.5, 10)):
        yield _slow_readers(cast, plan, share, history)


def _slow_readers(cast: Cast, plan: Plan, share: float, history: int) -> Row:
    fast, slow = plan.readers, int(plan.readers * share)
    is_short = history < _LONG
    limits = {"ring_max_bytes": 65_536} if is_short else {}
    with staged(cast, limits=limits, namespaces={"bench": {"history_size": history}}) as stage:
        tokens = cast.tokens(fast + slow)
        published = 0

        def publish(count: int, at_once: int = 1) -> Outcome:
            nonlocal published
            published += count * at_once
            return stage.measure([[ROOM] * at_once] * count, _SLOW_SIZE)

        for place, kind in enumerate(KINDS):
            stage.open(f"fast {kind}", kind, tokens[place:fast:2], [[ROOM]] * len(tokens[place:fast:2]))
            if slow:
                some = tokens[fast + place :: 2]
                stage.open(f"slow {kind}", kind, some, [[ROOM]] * len(some), receive_bytes=_SLOW_BUFFER_BYTES)
        publish(5)  # all know where they are
        before = stage.served.stats()
        for kind in KINDS if slow else ():
            stage.pause(f"slow {kind}")
        while stage.served.stats()["live_links"] > fast:  # the kernel takes a part for those who do not read
            publish(5, at_once=20)
        outcome = publish(max(20, plan.deliveries // fast))
        grown_mb = (stage.served.stats()["rss"] - before["rss"]) / 2**20
        name = f"{fast} readers, and {slow} that do not read" + (f", {history} kept" if is_short else "")
        if not slow:
            return Row(name, outcome)
        cpu_s, began_s = stage.served.cpu_s(), time.monotonic()
        stage.crowds.all(do="start")
        back = [answer for kind in KINDS for answer in stage.resume(f"slow {kind}", published)]
        seconds, cpu_s = time.monotonic() - began_s, stage.served.cpu_s() - cpu_s
        told = sum(answer["told"] for answer in back)
        wrong = sum(report["wrong"] for report in stage.crowds.all(do="report"))
        if wrong:
            stage.faults.append(f"slow readers: {wrong} wrong")
        if told != (slow if is_short else 0):
            stage.faults.append(f"{told} of {slow} slow readers were told of a reset")
        outcome.faults = stage.faults
        what = "were told of a reset" if is_short else f"had all {published:,}"
        more = (
            f"the server grew by {grown_mb:.0f} MB; {seconds:.1f} s after they read on, "
            f"with {cpu_s:.1f} s of CPU, the slow {what}"
        )
        return Row(name, outcome, more)


def storms(cast: Cast, plan: Plan) -> Rows:
    for kind in KINDS:
        for per_s, words in ((1_000.0, "by default, 1,000/s let in"), (1e6, "all let in")):
            yield _storm(cast, plan.storm, kind, per_s, words)


def _storm(cast: Cast, clients: int, kind: str, per_s: float, words: str) -> Row:
    with staged(cast, limits={"admissions_per_s": per_s}) as stage:
        tokens = cast.tokens(clients)
        stage.open("all", kind, tokens, [[ROOM]] * clients)
        stage.measure([[ROOM]] * 2)
        stage.crowds.all(do="leave", group="all")
        for _ in range(MISSED):
            stage.publisher.publish([ROOM], SIZE)
        stage.crowds.all(do="start")
        stage.served.quiet()
        cpu_s, began_s = stage.served.cpu_s(), time.monotonic()
        back = stage.crowds.all(do="back", group="all", offset=2 + MISSED)
        seconds = time.monotonic() - began_s
        stage.served.quiet()
        outcome = Outcome(MISSED, clients * MISSED, stage.served.cpu_s() - cpu_s, seconds)
        stage.judge(outcome)
        outcome.p50_ms = outcome.p99_ms = 0.0  # what was missed was published before they came
        half_s, last_s = (max(answer["times_s"][place] for answer in back) for place in (0, 2))
        refused = sum(answer["refused"] for answer in back)
        broken = sum((Counter(answer["broken"]) for answer in back), Counter[str]())
        # The kernel's, where more connect than may wait (net.core.somaxconn): no answer of the server is among them.
        reset = broken.pop(RESET_BY_KERNEL, 0)
        outcome.faults += [f"{count} times: {what}" for what, count in broken.items()]
        more = (
            f"half had all {MISSED} after {half_s:.1f} s, the last one after {last_s:.1f} s; {refused:,} were told to "
            f"come later, {reset:,} were reset by the kernel and tried again; "
            f"{outcome.cpu_s / clients * 1e6:.0f} us of CPU each"
        )
        return Row(f"{clients:,} come back at once over {kind}, {words}", outcome, more)


SHAPES: Final[dict[str, Shape]] = {
    "one-channel": one_channel,
    "many-channels": many_channels,
    "twenty-each": twenty_each,
    "large": large_payloads,
    "slow": slow_readers,
    "storm": storms,
}
