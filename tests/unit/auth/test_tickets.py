from __future__ import annotations

import pytest

from hybrid.auth.tickets import (
    KEEP_EVERY_S,
    REOPEN_WITHIN_S,
    SESSION_TICKET_S,
    Ticket,
    TicketOffice,
    mint,
    ticket_hash,
)
from hybrid.broker.memory_tickets import MemoryTicketStore
from hybrid.errors import AuthError
from hybrid.limits import Limits
from hybrid.model import Principal
from tests.support.revocations import nothing_revoked
from tests.support.tokens import NOW_S, HandClock

ORIGIN = "https://app.example"


def office() -> tuple[TicketOffice, HandClock]:
    clock = HandClock()
    return TicketOffice(MemoryTicketStore(clock, Limits()), clock, nothing_revoked(clock)), clock


def ticket(purpose: str = "session", origin: str | None = ORIGIN, life_s: float = 600) -> Ticket:
    principal = Principal(issuer="i", subject="alice", expires_at_s=NOW_S + life_s)
    return Ticket(principal=principal, purpose=purpose, origin=origin, channels=("news",), attach=b"{}")


def test_a_ticket_is_256_random_bits_that_need_no_encoding() -> None:
    minted = {mint() for _ in range(100)}
    assert len(minted) == 100
    assert all(len(text) == 43 and text.replace("-", "").replace("_", "").isalnum() for text in minted)
    assert {len(ticket_hash(text)) for text in minted} == {32}


async def test_a_session_ticket_is_used_once() -> None:
    desk, _ = office()
    text, life_s = await desk.issue(ticket())
    assert life_s == SESSION_TICKET_S
    assert await desk.redeem_session(text, ORIGIN) == ticket()
    with pytest.raises(AuthError):
        await desk.redeem_session(text, ORIGIN)


async def test_a_session_ticket_lives_half_a_minute() -> None:
    desk, clock = office()
    text, _ = await desk.issue(ticket())
    clock.move(SESSION_TICKET_S - 1)
    other, _ = await desk.issue(ticket())
    clock.move(1)
    with pytest.raises(AuthError):
        await desk.redeem_session(text, ORIGIN)
    assert await desk.redeem_session(other, ORIGIN)


async def test_a_channels_ticket_can_be_opened_again_until_a_while_after_its_stream() -> None:
    desk, clock = office()
    text, life_s = await desk.issue(ticket("channels", life_s=100_000))
    assert life_s == REOPEN_WITHIN_S
    clock.move(REOPEN_WITHIN_S - 1)
    assert (await desk.open_channels(text, ORIGIN)).channels == ("news",)
    for _ in range(100):  # the stream lives for almost an hour
        clock.move(KEEP_EVERY_S)
        await desk.keep(ticket_hash(text))
    clock.move(KEEP_EVERY_S - 1)  # and ends just before the next time
    clock.move(REOPEN_WITHIN_S)
    assert await desk.open_channels(text, ORIGIN)
    clock.move(KEEP_EVERY_S + REOPEN_WITHIN_S)
    with pytest.raises(AuthError):
        await desk.open_channels(text, ORIGIN)


async def test_a_channels_ticket_never_outlives_its_principals_token() -> None:
    desk, clock = office()
    text, _ = await desk.issue(ticket("channels", life_s=100))
    clock.move(50)
    await desk.open_channels(text, ORIGIN)
    clock.move(49)
    await desk.open_channels(text, ORIGIN)
    clock.move(1)
    with pytest.raises(AuthError):
        await desk.open_channels(text, ORIGIN)


async def test_what_is_left_of_the_token_bounds_the_life_of_a_new_ticket() -> None:
    desk, _ = office()
    assert (await desk.issue(ticket(life_s=7)))[1] == 7
    for life_s in (0, -5):
        with pytest.raises(AuthError) as caught:
            await desk.issue(ticket(life_s=life_s))
        assert caught.value.row.name == "token_expired"


async def test_a_ticket_of_an_anonymous_principal_has_the_whole_life() -> None:
    desk, _ = office()
    anonymous = Ticket(principal=Principal(issuer="", subject=""), purpose="channels", origin=None, channels=("a",))
    assert (await desk.issue(anonymous))[1] == REOPEN_WITHIN_S


@pytest.mark.parametrize(("bound", "shown"), [(ORIGIN, "https://evil.example"), (ORIGIN, None), (None, ORIGIN)])
@pytest.mark.parametrize("purpose", ["session", "channels"])
async def test_another_origin_burns_it(purpose: str, bound: str | None, shown: str | None) -> None:
    desk, _ = office()
    text, _ = await desk.issue(ticket(purpose, bound))
    use = desk.redeem_session if purpose == "session" else desk.open_channels
    with pytest.raises(AuthError):
        await use(text, shown)
    with pytest.raises(AuthError):
        await use(text, bound)


async def test_another_purpose_burns_it() -> None:
    desk, _ = office()
    text, _ = await desk.issue(ticket("session"))
    with pytest.raises(AuthError):
        await desk.open_channels(text, ORIGIN)
    with pytest.raises(AuthError):
        await desk.redeem_session(text, ORIGIN)
    text, _ = await desk.issue(ticket("channels"))
    with pytest.raises(AuthError):
        await desk.redeem_session(text, ORIGIN)
    with pytest.raises(AuthError):
        await desk.open_channels(text, ORIGIN)


@pytest.mark.parametrize(
    "text", ["", "a", "A" * 42, "A" * 44, "A" * 43 + "\n", "A" * 42 + "é", "A" * 42 + "\ud800", "A" * 1_000_000]
)
async def test_what_cannot_be_a_ticket_is_refused_without_asking_the_store(text: str) -> None:
    class Unasked(MemoryTicketStore):
        async def take(self, ticket_hash: bytes) -> Ticket | None:
            raise AssertionError

        async def look(self, ticket_hash: bytes, ttl_s: float) -> Ticket | None:
            raise AssertionError

    clock = HandClock()
    desk = TicketOffice(Unasked(clock, Limits()), clock, nothing_revoked(clock))
    for use in (desk.redeem_session, desk.open_channels):
        with pytest.raises(AuthError) as caught:
            await use(text, None)
        assert caught.value.row.name == "token_refused"


async def test_all_refusals_are_alike() -> None:
    desk, clock = office()
    used, _ = await desk.issue(ticket())
    await desk.redeem_session(used, ORIGIN)
    stolen, _ = await desk.issue(ticket())
    wrong, _ = await desk.issue(ticket("channels"))
    late, _ = await desk.issue(ticket(life_s=1))
    answers = set()
    for text, origin in (
        (used, ORIGIN),
        (stolen, "https://evil.example"),
        (wrong, ORIGIN),
        ("x", ORIGIN),
        (mint(), ""),
    ):
        with pytest.raises(AuthError) as caught:
            await desk.redeem_session(text, origin)
        answers.add((caught.value.row, str(caught.value), repr(caught.value), caught.value.scope))
    clock.move(1)
    with pytest.raises(AuthError) as caught:
        await desk.redeem_session(late, ORIGIN)
    answers.add((caught.value.row, str(caught.value), repr(caught.value), caught.value.scope))
    assert len(answers) == 1
