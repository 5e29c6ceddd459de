"""Tickets: short-lived stand-ins for a token, for clients that have nothing but a URL (`EventSource`).

A ticket is 256 random bits; only its SHA-256 is stored. It is bound to a principal, a purpose and an Origin.

- A *session* ticket is single use and lives 30 s; its attach travels with it.
- A *channels* ticket names exactly its channels, can be opened again with `Last-Event-ID` while its stream is open
  (the newer stream ends the older) and for 60 s after its end, until the token's `exp`.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from hybrid.model import Principal

SESSION_TICKET_S = 30.0
"""Life of a single-use ticket: one page load on a slow phone."""
REOPEN_WITHIN_S = 60.0
"""After its stream's end a channels ticket can be opened again for this long: a browser retries within seconds."""


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """What a ticket stands for. `attach` is the raw attach command of a session ticket."""

    principal: Principal
    purpose: str
    origin: str | None
    channels: tuple[str, ...] = ()
    attach: bytes = b""


class TicketStore(Protocol):
    """Where tickets are kept, under their hash; implemented beside the broker so that all nodes share it."""

    async def put(self, ticket_hash: bytes, ticket: Ticket, ttl_s: float) -> None:
        """Keep a ticket for `ttl_s` seconds. Raises BrokerError, LimitError when too many are kept."""

    async def take(self, ticket_hash: bytes) -> Ticket | None:
        """Remove and return it, atomically: of many parallel takers exactly one gets it. None when gone."""

    async def look(self, ticket_hash: bytes, ttl_s: float) -> Ticket | None:
        """Return it without removing it and keep it for `ttl_s` more seconds (never less than it had)."""
