"""Tickets: short-lived stand-ins for a token, for clients that have nothing but a URL (`EventSource`).

A ticket is 256 random bits; only its SHA-256 is stored. It is bound to a principal, a purpose and an Origin; used for
another purpose or from another Origin it is burned, for then it has leaked. All refusals are alike, and no ticket
appears in an error, a log or a `repr`.

A ticket whose principal was revoked meanwhile is refused like any other that is not accepted.

- A *session* ticket is single use and lives 30 s; its attach travels with it.
- A *channels* ticket names exactly its channels, can be opened again with `Last-Event-ID` while its stream is open
  (the newer stream ends the older) and for 60 s after its end, until the token's `exp`.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Final, NamedTuple, Protocol

import msgspec
from msgspec.structs import replace

from hybrid.auth.introspection import UNSEEN_MAX_S
from hybrid.auth.revocation import Revocations
from hybrid.clock import Clock
from hybrid.errors import AuthError
from hybrid.model import Principal

SESSION_PURPOSE: Final = "session"
CHANNELS_PURPOSE: Final = "channels"

SESSION_TICKET_S = 30.0
"""Life of a single-use ticket: one page load on a slow phone."""
REOPEN_WITHIN_S = 60.0
"""After its stream's end a channels ticket can be opened again for this long: a browser retries within seconds."""
KEEP_EVERY_S = 30.0
"""While its stream is open a channels ticket is kept alive at least this often (above the heartbeat's 20 s)."""

_TICKET: Final = re.compile(r"[A-Za-z0-9_-]{43}")


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """What a ticket stands for. `attach` is the raw attach command of a session ticket."""

    principal: Principal
    purpose: str
    origin: str | None
    channels: tuple[str, ...] = ()
    attach: bytes = b""


class Claim(NamedTuple):
    """That the stream of a channels ticket is open here: where it was before (empty: nowhere), and the how many-th."""

    ticket_hash: bytes
    former: str
    number: int


class TicketStore(Protocol):
    """Where tickets are kept, under their hash; implemented beside the broker so that all nodes share it."""

    async def put(self, ticket_hash: bytes, ticket: Ticket, ttl_s: float) -> None:
        """Keep a ticket for `ttl_s` seconds. Raises BrokerError, LimitError when too many are kept."""

    async def take(self, ticket_hash: bytes) -> Ticket | None:
        """Remove and return it, atomically: of many parallel takers exactly one gets it. None when gone."""

    async def look(self, ticket_hash: bytes, ttl_s: float) -> Ticket | None:
        """Return it without removing it and keep it for `ttl_s` more seconds (never less than it had)."""

    async def claim(self, ticket_hash: bytes, node: str) -> Claim | None:
        """Its stream is at this node from now on; atomic. None when it is gone."""


def mint() -> str:
    """A new ticket: 256 random bits in 43 characters that need no encoding in a URL."""
    return secrets.token_urlsafe(32)


def ticket_hash(text: str) -> bytes:
    """Under what a ticket is kept and, for a stream opened with it, remembered: its SHA-256."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


class TicketOffice:
    """Issues tickets and takes them back. All state is in the store, so any node redeems what another issued."""

    def __init__(self, store: TicketStore, clock: Clock, revocations: Revocations) -> None:
        self._store = store
        self._clock = clock
        self._revocations = revocations

    def check_issuable(self, principal: Principal) -> None:
        """Raises AuthError for one who gets no ticket: its token has ended, or was revoked since it was shown."""
        self._revocations.check(principal)
        if principal.expires_at_s <= self._clock.wall_s():
            raise AuthError("token_expired")

    async def issue(self, ticket: Ticket) -> tuple[str, float]:
        """Keep a ticket; return its text, which is nowhere else, and for how many seconds it can be used first.

        Raises AuthError `token_expired` if its principal's time is over; BrokerError and LimitError from the store.
        """
        life_s = SESSION_TICKET_S if ticket.purpose == SESSION_PURPOSE else REOPEN_WITHIN_S
        now_s = self._clock.wall_s()
        if ticket.principal.is_introspected:
            # Whoever redeems it may not know the token, and so cannot ask its issuer again.
            end_s = min(ticket.principal.expires_at_s, now_s + UNSEEN_MAX_S)
            ticket = replace(ticket, principal=replace(ticket.principal, expires_at_s=end_s))
        life_s = min(life_s, ticket.principal.expires_at_s - now_s)
        if life_s <= 0:
            raise AuthError("token_expired")
        text = mint()
        await self._store.put(ticket_hash(text), ticket, life_s)
        return text, life_s

    async def redeem_session(self, text: str, origin: str | None) -> Ticket:
        """Use up a session ticket. `origin` is the request's Origin header, None without one.

        Raises AuthError `token_refused`, always in the same words; `keys_unavailable` while it is not known what was
        revoked; BrokerError from the store. If it is cancelled the ticket may be used up.
        """
        self._revocations.check_known()
        ticket = await self._store.take(_checked_hash(text))
        if ticket is None or not self._is_good(ticket, SESSION_PURPOSE, origin):
            raise _refused()
        return ticket

    async def open_channels(self, text: str, origin: str | None) -> Ticket:
        """Open, or open again, a channels ticket. Raises as `redeem_session` does. Cancel-safe.

        While the stream lives, `keep` has to be called every `KEEP_EVERY_S` seconds.
        """
        self._revocations.check_known()
        key = _checked_hash(text)
        ticket = await self._store.look(key, REOPEN_WITHIN_S + KEEP_EVERY_S)
        if ticket is None:
            raise _refused()
        if not self._is_good(ticket, CHANNELS_PURPOSE, origin):
            await self._store.take(key)
            raise _refused()
        return ticket

    async def claim(self, key: bytes, node: str) -> Claim:
        """Say that the stream of a channels ticket (its `ticket_hash`) is opened at this node.

        Raises AuthError `token_refused` when the ticket has ended meanwhile; BrokerError.
        """
        claim = await self._store.claim(key, node)
        if claim is None:
            raise _refused()
        return claim

    async def keep(self, key: bytes) -> None:
        """Let a channels ticket (its `ticket_hash`), whose stream is open, be opened again for a while longer.

        It never outlives its principal's token: what is past that is refused when it is opened. Raises BrokerError.
        """
        await self._store.look(key, REOPEN_WITHIN_S + KEEP_EVERY_S)

    def _is_good(self, ticket: Ticket, purpose: str, origin: str | None) -> bool:
        return (
            ticket.purpose == purpose
            and ticket.origin == origin
            and ticket.principal.expires_at_s > self._clock.wall_s()
            and not self._revocations.is_revoked(ticket.principal)
        )


def _checked_hash(text: str) -> bytes:
    # What cannot be a ticket is not worth a question to the store.
    if not _TICKET.fullmatch(text):
        raise _refused()
    return ticket_hash(text)


def _refused() -> AuthError:
    return AuthError("token_refused", "The ticket is not accepted here; ask for a new one.")
