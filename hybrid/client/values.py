"""What the client shows to its application: publications, counters, and a log of its legs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import msgspec

from hybrid.model import Position
from hybrid.protocol.cursor import format_cursor
from hybrid.protocol.publications import data_of
from hybrid.protocol.pushes import WirePublication

ClientState: TypeAlias = Literal["disconnected", "connecting", "connected"]
_log: Final = logging.getLogger(__name__)


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
    told by the server: only those are losses. `attaches` are legs whose nonce came back, `reconnects` sessions that
    went on after a loss. `latency_s` is that of the last command answered, None before there was one.
    """

    received: int = 0
    dropped: int = 0
    gaps: int = 0
    resets: int = 0
    attaches: int = 0
    moves: int = 0
    reconnects: int = 0
    latency_s: float | None = None


@dataclass(frozen=True, slots=True)
class LegEvent:
    """One line of `Client.log`: `what` is opening, attached, current, ended, moving, waiting or refresh failed.

    `at_s` is monotonic time; `number` is the error of an end, 0 for a network failure.
    """

    at_s: float
    what: str
    transport: str
    attempt: int = 0
    number: int = 0
    detail: str = ""


class HistoryPage(list[ReceivedPublication]):
    """Publications out of the log, in the order asked for. `head` is the position of the newest one there is."""

    def __init__(self, publications: list[ReceivedPublication], head: Position) -> None:
        super().__init__(publications)
        self.head = head


class Unreachable(ConnectionError):
    """No transport worked in one round of trying; the client goes on.

    `attempts`: transport and reason of each. `is_server_there`: the server answers a plain request, so it is the
    network, or a proxy, that takes no transport of ours.
    """

    def __init__(self, attempts: dict[str, str], is_server_there: bool) -> None:
        reasons = [f"{transport}: {reason}" for transport, reason in attempts.items()]
        super().__init__("; ".join([*reasons, "the server answers" if is_server_there else "no server"]))
        self.attempts = attempts
        self.is_server_there = is_server_there


@dataclass(slots=True)
class Hooks:
    """Whom the client tells. They are called in the loop, between two steps of it; what they raise is logged."""

    on_state: Callable[[ClientState, str], None] | None = None
    on_leg: Callable[[LegEvent], None] | None = None
    on_error: Callable[[Exception], None] | None = None

    def state(self, state: ClientState, reason: str) -> None:
        """The client's state has changed."""
        self._call(self.on_state, state, reason)

    def leg(self, event: LegEvent) -> None:
        """A line was written into the log."""
        self._call(self.on_leg, event)

    def error(self, error: Exception) -> None:
        """The connection could not be made in a round of trying, or is over for good."""
        self._call(self.on_error, error)

    def _call(self, hook: Callable[..., None] | None, *arguments: object) -> None:
        if hook is None:
            return
        try:
            hook(*arguments)
        except Exception:
            _log.exception("what listens to a client failed")  # the application's fault must not end the session
