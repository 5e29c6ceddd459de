"""What the client shows to its application: publications, counters, and a log of its legs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from hybrid.model import Position
from hybrid.protocol.cursor import format_cursor
from hybrid.protocol.publications import data_of
from hybrid.protocol.pushes import WirePublication


class ReceivedPublication(msgspec.Struct, frozen=True, gc=False):
    """One publication as its reader gets it. `data` is what was published: a JSON value, or bytes."""

    channel: str
    position: Position
    data: Any
    type: str | None = None

    @property
    def offset(self) -> int:
        """Its number in the channel: rises by exactly one, from 1, within one epoch."""
        return self.position.offset

    @property
    def cursor(self) -> str:
        """Its position as text, for `after` and for storing."""
        return format_cursor(self.position)

    @property
    def is_binary(self) -> bool:
        """True when bytes were published."""
        return isinstance(self.data, bytes)


def received(wire: WirePublication) -> ReceivedPublication:
    """A publication off the wire. Raises ValueError, KeyError or TypeError where binary data is not Base64."""
    return ReceivedPublication(wire.channel, Position(wire.offset, wire.epoch, wire.tag), data_of(wire), wire.type)


@dataclass(slots=True)
class Stats:
    """Counters since the client was made.

    `received` publications went to the application; `dropped` came from the wire but were repeats or came while a
    subscription was catching up, and are read again where they matter; `gaps` were found and healed; `resets` were
    told by the server: only those are losses.
    """

    received: int = 0
    dropped: int = 0
    gaps: int = 0
    resets: int = 0
    attaches: int = 0
    moves: int = 0


@dataclass(frozen=True, slots=True)
class LegEvent:
    """One line of `Client.log`: `what` is opening, attached, current, ended, moving or waiting.

    `at_s` is monotonic time; `number` is the error of an end, 0 for a network failure.
    """

    at_s: float
    what: str
    transport: str
    attempt: int = 0
    number: int = 0
    detail: str = ""
