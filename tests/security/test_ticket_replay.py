"""A single-use ticket is used once, however many try at the same moment."""

from __future__ import annotations

import asyncio

from hybrid.auth.tickets import Ticket, TicketOffice
from hybrid.broker.memory_tickets import MemoryTicketStore
from hybrid.errors import AuthError
from hybrid.limits import Limits
from hybrid.model import Principal
from tests.support.revocations import nothing_revoked
from tests.support.tokens import NOW_S, HandClock

TICKETS = 50
TAKERS = 20


async def test_of_twenty_parallel_takers_of_each_of_fifty_tickets_exactly_one_wins() -> None:
    clock = HandClock()
    store = MemoryTicketStore(clock, Limits())
    # As of twenty nodes on one store.
    offices = [TicketOffice(store, clock, nothing_revoked(clock)) for _ in range(TAKERS)]
    alice = Principal(issuer="i", subject="alice", expires_at_s=NOW_S + 600)
    texts = [
        (await offices[0].issue(Ticket(principal=alice, purpose="session", origin=None, attach=str(n).encode())))[0]
        for n in range(TICKETS)
    ]
    outcomes = await asyncio.gather(
        *(office.redeem_session(text, None) for office in offices for text in texts), return_exceptions=True
    )
    won = [outcome for outcome in outcomes if isinstance(outcome, Ticket)]
    lost = [outcome for outcome in outcomes if isinstance(outcome, AuthError)]
    assert sorted(int(ticket.attach) for ticket in won) == list(range(TICKETS))
    assert len(lost) == TICKETS * (TAKERS - 1)
