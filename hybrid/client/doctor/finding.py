"""What the parts of an examination share: how long they wait, and how they say what they found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

TRANSPORTS: Final = ("websocket", "sse", "longpoll")
"""Best first."""
TITLES: Final = {"websocket": "WebSocket", "sse": "SSE", "longpoll": "long polling"}


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things may take. All in seconds."""

    patience_s: float = 8.0
    """For whatever should come at once: below the 10 s after which clients give a transport up."""
    wait_s: float = 5.0
    """How long the poll waits that is tried: gateways that cut waiting requests sooner are rare."""
    held_s: float = 1.0
    """What comes so much later than the head of its answer was held back: the server writes both at once."""
    gap_s: float = 1.0
    """Between two heartbeats that are asked for: no more often, says the protocol."""
    beats: int = 4
    """How many are asked for."""
    grace_s: float = 2.0
    """For the last of them, after which it counts as held back."""
    idle_s: float = 0.0
    """How long connections are held open in silence; 0 leaves it out."""
    heartbeat_s: float = 5.0
    """What others beside them ask for: the shortest interval that a server grants by default."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one thing that was tried came to.

    `name`: "server", "tls", a transport, or a transport and "-idle". `facts`: sentences, the verdict first. `flaws`:
    what a transport suffers from, as words for machines; with one it works, but badly. `figures`: numbers, whose names
    end in their unit.
    """

    name: str
    works: bool
    facts: tuple[str, ...]
    flaws: tuple[str, ...] = ()
    figures: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        told: dict[str, Any] = {"name": self.name, "works": self.works, "facts": list(self.facts)}
        if self.flaws:
            told["flaws"] = list(self.flaws)
        return {**told, **({"figures": self.figures} if self.figures else {})}


def works(name: str, *facts: str, flaws: tuple[str, ...] = (), figures: dict[str, Any] | None = None) -> Finding:
    """It does what it should, perhaps badly."""
    return Finding(name, True, facts, flaws, figures or {})


def fails(name: str, flaw: str, *facts: str) -> Finding:
    """It cannot be used here."""
    return Finding(name, False, facts, (flaw,))
