"""What `TicketStore` promises, held against every store."""

from __future__ import annotations

import asyncio

from hybrid.auth.tickets import Claim, Ticket, TicketStore
from hybrid.model import Grant, Principal
from tests.support.clock import FakeClock

ALICE = Principal(
    issuer="https://issuer.test",
    subject="alice",
    client="app",
    grants=(Grant("subscribe", "chat:*"),),
    expires_at_s=1_800_003_600.0,
    token_id="t1",
    token_hash=b"\x00\xff" * 8,
)
SESSION = Ticket(principal=ALICE, purpose="session", origin="https://page.test", attach=b'{"method":"attach"}')
CHANNELS = Ticket(principal=ALICE, purpose="channels", origin=None, channels=("chat:1", "日本"))
HASH = bytes(range(32))


async def test_ticket_comes_back_as_it_was(tickets: TicketStore) -> None:
    await tickets.put(HASH, SESSION, 30.0)
    await tickets.put(HASH[::-1], CHANNELS, 30.0)
    assert await tickets.take(HASH) == SESSION
    assert await tickets.take(HASH[::-1]) == CHANNELS


async def test_ticket_is_taken_once(tickets: TicketStore) -> None:
    await tickets.put(HASH, SESSION, 30.0)
    taken = await asyncio.gather(*[tickets.take(HASH) for _ in range(5)])
    assert [ticket for ticket in taken if ticket is not None] == [SESSION]
    assert await tickets.look(HASH, 30.0) is None


async def test_unknown_ticket(tickets: TicketStore) -> None:
    assert await tickets.take(HASH) is None
    assert await tickets.look(HASH, 30.0) is None
    assert await tickets.take(HASH) is None


async def test_ticket_ends(tickets: TicketStore, clock: FakeClock) -> None:
    await tickets.put(HASH, SESSION, 30.0)
    clock.advance(29)
    assert await tickets.look(HASH, 0.0) == SESSION
    clock.advance(2)
    assert await tickets.take(HASH) is None


async def test_looking_prolongs(tickets: TicketStore, clock: FakeClock) -> None:
    await tickets.put(HASH, CHANNELS, 30.0)
    for _ in range(3):
        clock.advance(29)
        assert await tickets.look(HASH, 30.0) == CHANNELS
    clock.advance(31)
    assert await tickets.look(HASH, 30.0) is None


async def test_looking_never_shortens(tickets: TicketStore, clock: FakeClock) -> None:
    await tickets.put(HASH, CHANNELS, 60.0)
    await tickets.look(HASH, 1.0)
    clock.advance(59)
    assert await tickets.look(HASH, 1.0) == CHANNELS


async def test_taken_ticket_does_not_end_its_successor(tickets: TicketStore, clock: FakeClock) -> None:
    await tickets.put(HASH, SESSION, 30.0)
    await tickets.take(HASH)
    await tickets.put(HASH, CHANNELS, 60.0)
    clock.advance(31)
    assert await tickets.take(HASH) == CHANNELS


async def test_of_twenty_parallel_takers_of_each_of_fifty_tickets_exactly_one_wins(tickets: TicketStore) -> None:
    hashes = [bytes((number,)) * 32 for number in range(50)]
    for number, key in enumerate(hashes):
        await tickets.put(key, Ticket(principal=ALICE, purpose="session", origin=None, attach=b"%d" % number), 30.0)
    takers = [key for _ in range(20) for key in hashes]
    taken = await asyncio.gather(*map(tickets.take, takers))
    won = sorted(int(ticket.attach) for ticket in taken if ticket is not None)
    assert won == list(range(50))
    assert len(taken) == 1_000


async def test_a_look_and_a_take_at_the_same_moment_leave_nothing_behind(tickets: TicketStore) -> None:
    """A look prolongs: it must not bring back what somebody took meanwhile."""
    for _ in range(20):
        await tickets.put(HASH, CHANNELS, 30.0)
        await asyncio.gather(tickets.look(HASH, 60.0), tickets.take(HASH), tickets.look(HASH, 60.0))
        assert await tickets.look(HASH, 1.0) is None


async def test_a_claim_tells_where_the_stream_was_and_how_often_it_was_opened(tickets: TicketStore) -> None:
    assert await tickets.claim(HASH, "one") is None
    await tickets.put(HASH, CHANNELS, 30.0)
    assert await tickets.claim(HASH, "one") == Claim(HASH, "", 1)
    assert await tickets.claim(HASH, "two") == Claim(HASH, "one", 2)
    assert await tickets.claim(HASH, "two") == Claim(HASH, "two", 3)
    assert await tickets.look(HASH, 30.0) == CHANNELS
    await tickets.take(HASH)
    assert await tickets.claim(HASH, "one") is None


async def test_of_many_claims_at_once_each_knows_the_one_before_it(tickets: TicketStore) -> None:
    await tickets.put(HASH, CHANNELS, 30.0)
    claims = [claim for claim in await asyncio.gather(*[tickets.claim(HASH, f"n{n}") for n in range(20)]) if claim]
    by_number = {claim.number: claim for claim in claims}
    assert sorted(by_number) == list(range(1, 21))
    assert len({claim.former for claim in claims}) == 20


async def test_what_is_claimed_ends_all_the_same(tickets: TicketStore, clock: FakeClock) -> None:
    await tickets.put(HASH, CHANNELS, 30.0)
    await tickets.claim(HASH, "one")
    clock.advance(31)
    assert await tickets.look(HASH, 0.0) is None
    await tickets.put(HASH, CHANNELS, 30.0)
    assert await tickets.claim(HASH, "two") == Claim(HASH, "", 1)
