"""What was seen of one run, with the times of it: seconds of the system's clock, which all ends share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from hybrid.model import START, Position

Trace: TypeAlias = list[list[Any]]
"""What the client told of itself: [milliseconds, what, details...], what being state, transport, leg, channel, error or
subscribe."""


@dataclass(slots=True)
class Asked:
    """A publication that one end wants to be made. `sent_s`: when it was sent last, before it was answered."""

    id: str
    data: Any
    sent_s: float
    answered: Position | None = None
    answered_s: float = 0.0
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Got:
    """A publication that a reader's application was given."""

    position: Position
    data: Any
    at_s: float
    transport: str = ""


@dataclass(slots=True)
class Stream:
    """One reader of one channel, from its start on; a position among the items is a reset."""

    name: str
    start: Position | None = None
    items: list[Got | Position] = field(default_factory=list)

    @property
    def got(self) -> list[Got]:
        return [item for item in self.items if isinstance(item, Got)]

    @property
    def last(self) -> Position | None:
        """Where its application is."""
        if not self.items:
            return self.start
        return self.items[-1].position if isinstance(self.items[-1], Got) else self.items[-1]


@dataclass(slots=True)
class Way:
    """One direction: one channel, what was published in it, and its readers."""

    channel: str
    asked: list[Asked] = field(default_factory=list)
    streams: list[Stream] = field(default_factory=list)

    def stream(self, name: str, start: Position | None = None) -> Stream:
        """A new reader."""
        self.streams.append(Stream(name, start))
        return self.streams[-1]

    def arrivals(self) -> dict[str, float]:
        """When each publication first came to the latest reader, by its id."""
        first: dict[str, float] = {}
        for got in self.streams[-1].got if self.streams else ():
            first.setdefault(got.data["id"], got.at_s)
        return first


@dataclass(slots=True)
class Records:
    """Everything of one run. The latest stream of `down` is the client's."""

    down: Way
    up: Way
    trace: Trace = field(default_factory=list)
    transport: str | None = None
    stats: dict[str, Any] = field(default_factory=dict)
    _open: dict[str, Asked] = field(default_factory=dict)

    def take(self, seen: Mapping[str, Any]) -> None:
        """What `course.take()` gave."""
        self.trace += seen["trace"]
        self.transport = seen.get("transport")
        self.stats = seen["stats"]
        for event in seen["published"]:
            self._take_published(event)
        stream = self.down.streams[-1]
        if seen["starts"] and stream.start is None:
            stream.start = position_of(seen["starts"][0])
        resets = {reset["after"]: position_of(reset["position"]) for reset in seen["resets"]}
        for place, got in enumerate(seen["got"]):
            if place in resets:
                stream.items.append(resets.pop(place))
            position = position_of(got["position"])
            stream.items.append(Got(position, got["data"], got["atMs"] / 1_000, got["transport"]))
        stream.items += resets.values()

    def _take_published(self, event: Mapping[str, Any]) -> None:
        id, at_s = event["id"], event["atMs"] / 1_000
        if event["event"] == "asked":
            self._open[id] = Asked(id, event["data"], at_s)
            self.up.asked.append(self._open[id])
            return
        asked = self._open.pop(id)
        if event["event"] == "answered":
            asked.answered, asked.answered_s = position_of(event["position"]), at_s
        else:
            asked.refused = event["reason"]


def position_of(value: Mapping[str, Any]) -> Position:
    """A position off the wire."""
    return Position(value["offset"], value.get("epoch", ""), value.get("tag", "")) if value["offset"] else START
