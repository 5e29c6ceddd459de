from __future__ import annotations

import pytest

from hybrid.auth.tickets import Ticket, TicketStore
from hybrid.broker.memory_tickets import MemoryTicketStore
from hybrid.errors import LimitError
from hybrid.limits import Limits
from hybrid.model import Principal
from tests.support.clock import FakeClock

TICKET = Ticket(principal=Principal(issuer="i", subject="s"), purpose="session", origin=None)


def hash_of(number: int) -> bytes:
    return number.to_bytes(32, "big")


async def test_tickets_are_bounded() -> None:
    clock = FakeClock()
    made = MemoryTicketStore(clock, Limits(tickets_max=2))
    store: TicketStore = made
    await store.put(hash_of(1), TICKET, 30.0)
    await store.put(hash_of(2), TICKET, 60.0)
    with pytest.raises(LimitError) as caught:
        await store.put(hash_of(3), TICKET, 30.0)
    assert caught.value.limit == "tickets_max"
    await store.put(hash_of(2), TICKET, 60.0)
    clock.advance(30.0)
    await store.put(hash_of(3), TICKET, 30.0)
    assert await store.take(hash_of(2)) == TICKET
    await store.put(hash_of(4), TICKET, 30.0)


async def test_nothing_is_kept_of_tickets_that_are_gone() -> None:
    clock = FakeClock()
    store = MemoryTicketStore(clock, Limits())
    for number in range(1_000):
        await store.put(hash_of(number), TICKET, 30.0)
        if number % 2:
            await store.take(hash_of(number))
    clock.advance(30.0)
    assert await store.take(hash_of(0)) is None
    assert not store._tickets
    assert len(store._ends) == 0
