"""What the coordinator and its load processes tell each other: one JSON object a line, over pipes."""

from __future__ import annotations

from typing import Final

import msgspec

from hybrid.bench.plan import Plan

TICK_NS: Final = 250_000_000
"""Processes tell what has happened when their common clock passes a multiple of this."""


class Target(msgspec.Struct, frozen=True):
    """The server as every process dials it: resolved once. `netloc` is for the Host header, `host` for TLS."""

    host: str
    netloc: str
    path: str
    addresses: list[tuple[int, str, int]]
    """Address family, address, port."""
    is_secure: bool = False
    ca_file: str = ""
    is_insecure: bool = False
    local_addresses: list[str] = []

    @property
    def url(self) -> str:
        """As people write it."""
        return f"{'https' if self.is_secure else 'http'}://{self.netloc}{self.path}"


class Order(msgspec.Struct, frozen=True):
    """What one load process is to do: its clients are those whose number leaves `index` when divided by all."""

    plan: Plan
    target: Target
    index: int
    tokens: list[str]

    def __repr__(self) -> str:
        return f"Order(index={self.index}, tokens={len(self.tokens)})"  # never the tokens


class Say(msgspec.Struct, frozen=True, omit_defaults=True):
    """From the coordinator: `open`, `publish`, `storm`, `stop` (publishing), `finish` (with the heads) or `leave`."""

    do: str
    heads: dict[str, tuple[str, int, int]] = {}
    at_ns: int = 0


class Tally(msgspec.Struct):
    """What was wrong with what the clients got; all 0 is right. `resets` were told, and are no fault.

    `unexpected` is whatever has no place in the protocol. `incomplete` are clients that had not got everything at the
    end.
    """

    lost: int = 0
    repeated: int = 0
    reordered: int = 0
    unexpected: int = 0
    incomplete: int = 0
    resets: int = 0
    examples: list[str] = []

    @property
    def is_right(self) -> bool:
        """Whether nothing was lost, repeated or out of order."""
        return not (self.lost or self.repeated or self.reordered or self.unexpected or self.incomplete)


class Counted(msgspec.Struct):
    """One transport's share of a tick."""

    ready: int = 0
    """Now."""
    deliveries: int = 0
    latency: list[tuple[int, int]] = []
    latency_max_us: int = 0
    last_ns: int = 0
    """When the last of the deliveries came; 0 without any."""


class Tick(msgspec.Struct, tag="tick"):
    """What has happened at one load process since its last tick; every number is a difference but where it says so."""

    at_ns: int
    transports: dict[str, Counted] = {}
    sent: int = 0
    answered: int = 0
    is_mute: bool = False
    """Now: no publisher of this process can go on."""
    answering: list[tuple[int, int]] = []
    """Buckets of the times from sending a publish to its answer."""
    answering_max_us: int = 0
    refused: dict[str, int] = {}
    """Publishes that were not answered well, by reason."""
    errors: dict[str, int] = {}
    """Attempts to connect that failed, by reason."""
    delayed: int = 0
    """Attempts that were told to come later, and came when they were told."""
    cuts: dict[str, int] = {}
    """Connections that ended while they were in use, by reason."""
    renewed: int = 0
    """Connections of polls and publishes that the server ended in an orderly way behind an answer."""
    connects: list[tuple[int, int, int]] = []
    """For each client that was subscribed: microseconds since all began, since it was to connect, and since its last
    attempt."""
    reconnects: list[tuple[int, int, int]] = []
    """The same for those that came back."""
    faults: int = 0
    """In all until now, as `resets`."""
    resets: int = 0
    received_bytes: int = 0
    busy_us: int = 0
    wall_us: int = 0
    starved_us: int = 0
    """Ready to run, and waiting for a core."""
    lag_max_us: int = 0
    """The longest turn of the loop."""
    late: list[tuple[int, int]] = []
    """Buckets of how much later than due publishes were sent though one could have been sent."""
    late_max_us: int = 0


class Ready(msgspec.Struct, tag="ready"):
    """The process has started and can begin."""


class Opened(msgspec.Struct, tag="opened"):
    """All clients and publishers are there, or have given up (`failed`)."""

    failed: int = 0


class Stopped(msgspec.Struct, tag="stopped"):
    """Publishing is over; `heads` are the last positions answered: epoch, offset, and when.

    `unsent` publications were due, and were waiting for the answers of others.
    """

    heads: dict[str, tuple[str, int, int]] = {}
    unsent: int = 0


class Done(msgspec.Struct, tag="done"):
    """Everything has come, or the time is up."""

    tally: Tally


class Failed(msgspec.Struct, tag="failed"):
    """The process cannot go on."""

    detail: str


Told = Tick | Ready | Opened | Stopped | Done | Failed
