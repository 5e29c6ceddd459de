"""What was told at one moment: by each server named, and of the whole deployment. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hybrid.protocol.management import NodeItem
from hybrid.top.reading import Reading

Kind = Literal["unreachable", "refused", "absent"]


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why something is not told: nobody there (or not hybrid), no right to it, not offered by this server."""

    kind: Kind
    sentence: str


@dataclass(frozen=True, slots=True)
class Server:
    """One server that was named. Exactly one of `reading` and `trouble` is there. `at_s`: when it had answered."""

    name: str
    at_s: float
    reading: Reading | None = None
    trouble: Trouble | None = None


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel and its head, where that was told. `at_s`: when."""

    name: str
    subscribers: int
    at_s: float = 0.0
    epoch: str = ""
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class Channels:
    """Those with the most subscribers, of `seen`; `has_more` than were looked through."""

    items: tuple[Channel, ...]
    seen: int
    has_more: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything at one moment. Times are of a clock that only goes on, in seconds."""

    at_s: float
    wall_s: float
    servers: tuple[Server, ...]
    nodes: tuple[NodeItem, ...] | Trouble
    channels: Channels | Trouble | None
    """None where they were not asked for."""

    @property
    def troubles(self) -> tuple[Trouble, ...]:
        """What was not told, each sentence once."""
        found = [server.trouble for server in self.servers if server.trouble is not None]
        found += [part for part in (self.nodes, self.channels) if isinstance(part, Trouble)]
        return tuple(dict.fromkeys(found))

    @property
    def is_empty(self) -> bool:
        """True when nothing at all was told."""
        parts = (self.nodes, self.channels)
        return all(server.trouble for server in self.servers) and not any(
            isinstance(part, tuple | Channels) for part in parts
        )
