"""What a delivery costs the server as clients, channels and kept history grow."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tests.bench.shapes.shapes import ROOM, Plan, open_halves
from tests.bench.shapes.stage import Cast, Stage, staged

ROUNDS: Final = 3
LISTENERS: Final = 200
ALONE: Final = 1_500
"""Publications for a point of the curve whose publications have one reader each."""
_STEPS: Final = {
    "clients": (100, 300, 1_000, 3_000, 7_500, 15_000),
    "channels": (1, 10, 100, 1_000, 10_000),
    "history": (0, 100, 1_000, 10_000, 100_000),
}


@dataclass
class Point:
    """`values` in us of the server's CPU for each delivery, of each round."""

    at: int
    values: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclass
class Curve:
    """`title` says what grows; `note` what else there is to know about the figures."""

    key: str
    title: str
    note: str
    points: list[Point]
    faults: list[str]


def curves(cast: Cast, plan: Plan) -> Iterator[Curve]:
    """Measure one after the other."""
    for name, measure in (("clients", _clients), ("channels", _channels), ("history", _history)):
        most = {"clients": plan.clients, "channels": plan.channels, "history": plan.history}[name]
        yield measure(cast, plan, [step for step in _STEPS[name] if step <= most])


def _clients(cast: Cast, plan: Plan, steps: Sequence[int]) -> Curve:
    points = []
    with staged(cast) as stage:
        for before, clients in zip((0, *steps), steps, strict=False):
            open_halves(stage, clients, lambda _: [ROOM], first=before)
            rounds = [[ROOM]] * max(5, plan.deliveries // 4 // clients)
            points.append(Point(clients, _measured(stage, rounds)))
        note = "one channel; each publication awaited by all"
        return Curve("clients", "clients of a channel", note, points, stage.faults)


def _channels(cast: Cast, plan: Plan, steps: Sequence[int]) -> Curve:
    points = []
    names = [f"bench:{number}" for number in range(steps[-1])]
    with staged(cast) as stage:
        for before, channels in zip((0, *steps), steps, strict=False):
            open_halves(stage, channels, lambda n: [names[n]], first=before)
            chosen = [names[n * channels // ALONE % channels] for n in range(ALONE)]
            points.append(Point(channels, _measured(stage, [[name] for name in chosen])))
        note = "one client each, so that every delivery has a publish and a flush of its own"
        return Curve("channels", "channels", note, points, stage.faults)


def _history(cast: Cast, plan: Plan, steps: Sequence[int]) -> Curve:
    points = []
    namespaces = {f"kept-{size}": {"history_size": size, "history_ttl_s": 3_600.0} for size in steps}
    with staged(cast, namespaces=namespaces) as stage:
        for size in steps:
            channel = f"kept-{size}:room"
            stage.publisher.publish([channel] * size, 128)
            open_halves(stage, LISTENERS, lambda _, name=channel: [name])  # type: ignore[misc]
            points.append(Point(size, _measured(stage, [[channel]] * max(20, plan.deliveries // 4 // LISTENERS))))
            stage.close_all()
        note = f"{LISTENERS} clients; each publication awaited by all"
        return Curve("history", "publications kept", note, points, stage.faults)


def _measured(stage: Stage, rounds: Sequence[Sequence[str]]) -> list[float]:
    stage.measure(rounds[: max(2, len(rounds) // 10)])  # warm
    return [stage.measure(rounds).cpu_us for _ in range(ROUNDS)]
