"""When issuers are asked again about live tokens, and what comes of it: in virtual time, with a fake that answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import msgspec
import pytest

from hybrid.auth.revocation import Key
from hybrid.engine.holders import Holder, Match
from hybrid.engine.recheck import AT_ONCE, Recheck
from hybrid.engine.tasks import Tasks
from hybrid.engine.wheel import Wheel
from hybrid.errors import AuthError, HybridError
from hybrid.limits import Limits
from hybrid.model import Grant, Principal
from tests.support.virtual_time import clock, in_virtual_time

LIMITS = Limits()
INTERVAL_S = LIMITS.recheck_interval_s
READ = (Grant("subscribe", "*"),)


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


def opaque(subject: str, *, is_introspected: bool = True) -> Principal:
    return Principal(
        issuer="i", subject=subject, grants=READ, token_hash=subject.encode(), is_introspected=is_introspected
    )


class Issuer:
    """A `Rechecker` whose answers are set by a test: a principal, None or an error; without one nothing changes."""

    def __init__(self) -> None:
        self.answers: dict[bytes, Principal | HybridError | None] = {}
        self.asked: list[tuple[float, bytes]] = []
        self.kept: set[bytes] = set()
        self.takes_s = 0.0
        self.open = 0
        self.most_open = 0

    async def recheck(self, token_hash: bytes) -> Principal | None:
        self.asked.append((clock().time(), token_hash))
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await asyncio.sleep(self.takes_s)
        finally:
            self.open -= 1
        answer = self.answers.get(token_hash, opaque(token_hash.decode()))
        if isinstance(answer, HybridError):
            raise answer
        return answer

    def keep(self, token_hashes: set[bytes]) -> None:
        self.kept = token_hashes

    def times(self, token_hash: bytes) -> list[float]:
        return [at_s for at_s, asked in self.asked if asked == token_hash]


class Open:
    """Something open; a `Holder`."""

    def __init__(self, principal: Principal) -> None:
        self.principal = principal
        self.received: list[Principal] = []

    def principals(self) -> Iterable[Principal]:
        return (self.principal,)

    def end_if(self, match: Match) -> Key | None:
        reason = match(self.principal)
        if reason is not None:
            self.principal = Principal(issuer="", subject="")
        return reason

    @property
    def is_ended(self) -> bool:
        return self.principal.is_anonymous

    def receive_again(self, principal: Principal) -> None:
        self.received.append(principal)
        self.principal = principal


@asynccontextmanager
async def rechecking(issuer: Issuer | None, *open_: Open) -> AsyncIterator[list[Holder]]:
    wheel, tasks = Wheel(clock()), Tasks()
    holders: list[Holder] = list(open_)
    made = Recheck(issuer, LIMITS, clock(), wheel, tasks, holders=lambda: list(holders))
    made.start()
    yield holders
    await tasks.close()
    wheel.close()


@in_virtual_time
async def test_each_token_is_asked_about_once_an_interval_and_others_never() -> None:
    issuer = Issuer()
    both = Open(opaque("alice")), Open(opaque("alice")), Open(opaque("jwt", is_introspected=False))
    start_s = clock().time()
    async with rechecking(issuer, *both):
        await asyncio.sleep(INTERVAL_S * 20)
        times = issuer.times(b"alice")
        assert {token_hash for _, token_hash in issuer.asked} == {b"alice"}
        gaps = [later - sooner for sooner, later in zip([start_s, *times], times, strict=False)]
        # The first: it is found by a look, and its turn begins then.
        assert INTERVAL_S / 2 <= min(gaps[1:]) <= max(gaps[1:]) <= INTERVAL_S + 1
        assert gaps[0] <= INTERVAL_S * 1.2
        assert issuer.kept == {b"alice"}
        assert [one.received for one in both] == [[], [], []], "nothing has changed"


@in_virtual_time
async def test_tokens_that_came_together_are_not_asked_about_together() -> None:
    issuer = Issuer()
    many = [Open(opaque(f"s{number}")) for number in range(200)]
    async with rechecking(issuer, *many):
        await asyncio.sleep(INTERVAL_S * 10)
        late = [at_s for at_s, _ in issuer.asked if at_s > clock().time() - INTERVAL_S * 2]
        assert len({round(at_s) for at_s in late}) > 8
        assert max(late.count(at_s) for at_s in set(late)) < 100


@in_virtual_time
async def test_questions_are_bounded() -> None:
    issuer = Issuer()
    issuer.takes_s = 7.0
    many = [Open(opaque(f"s{number}")) for number in range(150)]
    async with rechecking(issuer, *many):
        await asyncio.sleep(INTERVAL_S * 4)
        assert issuer.most_open == AT_ONCE
        assert {token_hash for _, token_hash in issuer.asked} == {one.principal.token_hash for one in many}


@in_virtual_time
async def test_a_token_that_is_not_active_any_more_ends_all_that_it_holds() -> None:
    issuer = Issuer()
    alice, again, bob = Open(opaque("alice")), Open(opaque("alice")), Open(opaque("bob"))
    async with rechecking(issuer, alice, again, bob):
        await asyncio.sleep(INTERVAL_S * 1.5)
        issuer.answers[b"alice"] = None
        issuer.answers[b"bob"] = AuthError("token_refused")
        await asyncio.sleep(INTERVAL_S * 1.2)
        assert [one.is_ended for one in (alice, again, bob)] == [True, True, True]
        asked = len(issuer.asked)
        await asyncio.sleep(INTERVAL_S * 3)
        assert len(issuer.asked) == asked, "nobody is left to be asked about"
        assert issuer.kept == set()


@pytest.mark.parametrize("error", [AuthError("keys_unavailable"), AuthError("token_expired"), HybridError("internal")])
def test_an_issuer_that_cannot_be_asked_changes_nothing_and_is_asked_again(error: HybridError) -> None:
    @in_virtual_time
    async def test() -> None:
        issuer = Issuer()
        issuer.answers[b"alice"] = error
        alice = Open(opaque("alice"))
        async with rechecking(issuer, alice):
            await asyncio.sleep(INTERVAL_S * 5)
            assert (alice.is_ended, alice.received) == (False, [])
            assert len(issuer.asked) >= 4
            issuer.answers[b"alice"] = None
            await asyncio.sleep(INTERVAL_S * 1.2)
            assert alice.is_ended

    test()


@in_virtual_time
async def test_what_has_changed_is_received_once() -> None:
    issuer = Issuer()
    alice, bob = Open(opaque("alice")), Open(opaque("bob"))
    less = msgspec.structs.replace(alice.principal, grants=())
    async with rechecking(issuer, alice, bob):
        issuer.answers[b"alice"] = less
        await asyncio.sleep(INTERVAL_S * 5)
        assert (alice.received, bob.received) == ([less], [])


@in_virtual_time
async def test_without_anybody_to_ask_nothing_is_done() -> None:
    async with rechecking(None, Open(opaque("alice"))):
        await asyncio.sleep(INTERVAL_S)
