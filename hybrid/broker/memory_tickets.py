"""Tickets of one process. Where several nodes share a broker, the store beside that broker is used instead."""

from __future__ import annotations

from hybrid.auth.tickets import Claim, Ticket
from hybrid.broker.deadlines import Deadlines
from hybrid.clock import Clock
from hybrid.errors import LimitError
from hybrid.limits import Limits


class MemoryTicketStore:
    """Implements `TicketStore`. Not thread-safe: one event loop. Nothing is awaited inside, so all of it is atomic."""

    def __init__(self, clock: Clock, limits: Limits) -> None:
        self._clock = clock
        self._limits = limits
        self._tickets: dict[bytes, tuple[Ticket, float]] = {}
        self._claims: dict[bytes, tuple[str, int]] = {}
        self._ends: Deadlines[bytes] = Deadlines()

    async def put(self, ticket_hash: bytes, ticket: Ticket, ttl_s: float) -> None:
        """See `TicketStore.put`."""
        self._forget_ended()
        if len(self._tickets) >= self._limits.tickets_max and ticket_hash not in self._tickets:
            raise LimitError("tickets_max")
        self._keep(ticket_hash, ticket, self._clock.monotonic_s() + ttl_s)

    async def take(self, ticket_hash: bytes) -> Ticket | None:
        """See `TicketStore.take`."""
        self._forget_ended()
        kept = self._tickets.pop(ticket_hash, None)
        self._claims.pop(ticket_hash, None)
        self._ends.drop(ticket_hash)
        return kept[0] if kept is not None else None

    async def look(self, ticket_hash: bytes, ttl_s: float) -> Ticket | None:
        """See `TicketStore.look`."""
        self._forget_ended()
        kept = self._tickets.get(ticket_hash)
        if kept is None:
            return None
        ticket, end_s = kept
        self._keep(ticket_hash, ticket, max(end_s, self._clock.monotonic_s() + ttl_s))
        return ticket

    async def claim(self, ticket_hash: bytes, node: str) -> Claim | None:
        """See `TicketStore.claim`."""
        self._forget_ended()
        if ticket_hash not in self._tickets:
            return None
        former, number = self._claims.get(ticket_hash, ("", 0))
        self._claims[ticket_hash] = node, number + 1
        return Claim(ticket_hash, former, number + 1)

    def _keep(self, ticket_hash: bytes, ticket: Ticket, end_s: float) -> None:
        self._tickets[ticket_hash] = (ticket, end_s)
        self._ends.set(ticket_hash, end_s)

    def _forget_ended(self) -> None:
        now_s = self._clock.monotonic_s()
        while (ticket_hash := self._ends.pop(now_s)) is not None:
            del self._tickets[ticket_hash]
            self._claims.pop(ticket_hash, None)
