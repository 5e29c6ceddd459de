"""Who is refused, and who is not: every kind of revocation against every kind of token."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hybrid.auth.policy import Policy
from hybrid.auth.revocation import (
    RETRY_MAX_S,
    RETRY_MIN_S,
    Kind,
    Revocation,
    Revocations,
    RevocationVerifier,
    holds_already,
)
from hybrid.auth.tickets import Ticket, TicketOffice
from hybrid.broker.memory_tickets import MemoryTicketStore
from hybrid.errors import AuthError
from hybrid.limits import Limits
from hybrid.model import ANONYMOUS, Principal
from hybrid.settings import Namespace
from tests.support.revocations import nothing_revoked
from tests.support.tokens import NOW_S, HandClock

KEPT_S = 1_000.0
LIMITS = replace(Limits(), revocation_kept_s=KEPT_S)
ISSUER = "https://issuer.test"


def principal(**changes: Any) -> Principal:
    values: dict[str, Any] = {
        "issuer": ISSUER,
        "subject": "alice",
        "client": "app",
        "token_id": "t1",
        "sign_in": "s1",
        "issued_at_s": NOW_S - 60,
        "expires_at_s": NOW_S + 600,
        **changes,
    }
    return Principal(**values)


def revocations(*made: Revocation, clock: HandClock | None = None) -> Revocations:
    known = Revocations(LIMITS, clock or HandClock(), draw=max)
    known.is_known = True
    for revocation in made:
        assert known.add(revocation)
    return known


def of(kind: Kind, value: str, at_s: float = NOW_S, issuer: str = ISSUER) -> Revocation:
    return Revocation(kind, issuer, value, at_s)


@pytest.mark.parametrize(
    ("revocation", "changes", "is_revoked"),
    [
        (of("jti", "t1"), {}, True),
        (of("jti", "t1"), {"issued_at_s": NOW_S + 900}, True),
        (of("jti", "t1"), {"token_id": "t2"}, False),
        (of("jti", "t1"), {"token_id": "", "subject": "t1", "client": "t1", "sign_in": "t1"}, False),
        (of("jti", "t1"), {"issuer": "https://other.test"}, False),
        (of("sid", "s1"), {}, True),
        (of("sid", "s1"), {"token_id": "t2", "issued_at_s": NOW_S + 900}, True),
        (of("sid", "s1"), {"sign_in": "s2"}, False),
        (of("sid", "s1"), {"sign_in": ""}, False),
        (of("subject", "alice"), {}, True),
        (of("subject", "alice"), {"issuer": "https://other.test"}, False),
        (of("subject", "alice"), {"subject": "bob"}, False),
        (of("subject", "alice"), {"subject": "Alice"}, False),
        (of("subject", "alice"), {"subject": "bob", "client": "alice"}, False),
        (of("client", "app"), {}, True),
        (of("client", "app"), {"client": "other"}, False),
        (of("client", "app"), {"client": "", "subject": "app"}, False),
    ],
)
def test_what_each_kind_concerns(revocation: Revocation, changes: dict[str, Any], is_revoked: bool) -> None:
    assert revocations(revocation).is_revoked(principal(**changes)) is is_revoked


@pytest.mark.parametrize("kind", ["subject", "client"])
@pytest.mark.parametrize(
    ("issued_at_s", "is_revoked"),
    [
        (NOW_S - 1, True),
        (NOW_S, True),  # `iat` counts whole seconds: it may have been issued a moment before, or a moment after
        (NOW_S + 0.9, True),
        (NOW_S + 1, False),
        (0.0, True),  # it does not say
    ],
)
def test_tokens_issued_until_then_are_refused_and_later_ones_are_not(
    kind: Kind, issued_at_s: float, is_revoked: bool
) -> None:
    known = revocations(of(kind, {"subject": "alice", "client": "app"}[kind], at_s=NOW_S + 0.4))
    assert known.is_revoked(principal(issued_at_s=issued_at_s)) is is_revoked


def test_one_that_has_not_been_revoked_since_may_be_of_a_client_that_was() -> None:
    known = revocations(of("subject", "alice", at_s=NOW_S - 100), of("client", "app", at_s=NOW_S))
    assert known.match(principal()) == ("client", ISSUER, "app")
    assert known.match(principal(issued_at_s=NOW_S - 200)) == ("subject", ISSUER, "alice")


def test_nobody_anonymous_is_revoked() -> None:
    assert not revocations(of("subject", "", issuer=""), of("client", "", issuer="")).is_revoked(ANONYMOUS)


def test_the_later_time_holds() -> None:
    known = revocations(of("subject", "alice", at_s=NOW_S))
    assert not known.add(of("subject", "alice", at_s=NOW_S - 10))
    assert not known.add(of("subject", "alice", at_s=NOW_S))
    assert known.find("subject", ISSUER, "alice") == of("subject", "alice", at_s=NOW_S)
    assert known.add(of("subject", "alice", at_s=NOW_S + 10))
    assert known.is_revoked(principal(issued_at_s=NOW_S + 5))
    assert len(known) == 1


def test_each_is_forgotten_in_its_time() -> None:
    clock = HandClock()
    known = revocations(of("jti", "t1"), of("jti", "t2"), clock=clock)
    clock.move(10)
    assert known.add(of("jti", "t1", at_s=NOW_S + 10)), "again"
    clock.move(KEPT_S - 10)
    known.expire()
    assert [revocation.value for revocation in known.all()] == ["t1"]
    clock.move(10)
    known.expire()
    assert len(known) == 0
    assert not known.add(of("jti", "t1")), "it was over before it came"


@pytest.mark.parametrize(
    ("kind", "age_s", "is_held"),
    [
        ("jti", 0.5, True),
        ("jti", KEPT_S / 2 - 1, True),
        ("sid", KEPT_S / 2 + 1, False),
        ("subject", 0.0, True),
        ("subject", 1.0, False),
        ("subject", -5.0, False),  # our clock is behind the store's: nobody can say that it is the same moment
        ("client", 1.0, False),
    ],
)
def test_what_need_not_be_told_again(kind: Kind, age_s: float, is_held: bool) -> None:
    assert holds_already(of(kind, "x", at_s=NOW_S), NOW_S + age_s, KEPT_S) is is_held


# -- where it is asked


class Verifier:
    """Accepts everything."""

    def __init__(self) -> None:
        self.asked = 0

    def cached(self, token: str, proven_key: str = "") -> Principal | None:
        return principal() if token == "cached" else None

    async def verify(self, token: str, proven_key: str = "") -> Principal:
        self.asked += 1
        return principal()

    async def close(self) -> None:
        self.asked = -1


async def test_a_revoked_token_is_refused_though_it_is_remembered() -> None:
    known = revocations()
    verifier = RevocationVerifier(Verifier(), known)
    assert verifier.cached("cached") == await verifier.verify("x") == principal()
    known.add(of("jti", "t1"))
    assert verifier.cached("cached") is None
    for token in ("cached", "x"):
        with pytest.raises(AuthError) as refused:
            await verifier.verify(token)
        assert refused.value.row.name == "token_refused"


def test_all_who_come_too_soon_are_told_moments_of_their_own() -> None:
    known = Revocations(LIMITS, HandClock())
    told = set()
    for _ in range(20):
        with pytest.raises(AuthError) as refused:
            known.check_known()
        told.add(refused.value.retry_after_s)
    assert len(told) > 10, "of 20; they are told in whole milliseconds, two of which may be the same"
    assert all(delay_s is not None and RETRY_MIN_S <= delay_s <= RETRY_MAX_S for delay_s in told)


async def test_as_long_as_nothing_is_known_no_token_is_accepted_and_none_looked_at() -> None:
    known = revocations()
    known.is_known = False
    inner = Verifier()
    verifier = RevocationVerifier(inner, known)
    assert verifier.cached("cached") is None
    with pytest.raises(AuthError) as refused:
        await verifier.verify("x")
    assert (refused.value.row.http_status, refused.value.retry_after_s) == (503, RETRY_MAX_S)
    assert inner.asked == 0
    await verifier.close()
    assert inner.asked == -1


@pytest.mark.parametrize("purpose", ["session", "channels"])
async def test_a_ticket_of_a_revoked_token_is_refused_for_good(purpose: str) -> None:
    clock = HandClock()
    known = nothing_revoked(clock)
    office = TicketOffice(MemoryTicketStore(clock, Limits()), clock, known)
    ticket = Ticket(principal=principal(), purpose=purpose, origin=None, channels=("news",))
    text, _ = await office.issue(ticket)
    use = office.redeem_session if purpose == "session" else office.open_channels
    known.is_known = False
    with pytest.raises(AuthError) as refused:
        await use(text, None)
    assert refused.value.row.name == "keys_unavailable", "and the ticket is not used up by that"
    known.is_known = True
    known.add(of("sid", "s1"))
    for _ in range(2):
        with pytest.raises(AuthError) as refused:
            await use(text, None)
        assert refused.value.row.name == "token_refused"


@pytest.mark.parametrize("rule", ["scope", "token", "anyone"])
def test_no_rule_and_no_hook_lets_a_revoked_principal_pass(rule: str) -> None:
    known = revocations()
    policy = Policy(lambda channel: Namespace("n", subscribe=rule), lambda *asked: True, known)
    policy.authorise(principal(), "subscribe", "n:1")
    known.add(of("client", "app"))
    with pytest.raises(AuthError) as refused:
        policy.authorise(principal(), "subscribe", "n:1")
    assert refused.value.row.name == "forbidden_or_revoked"
    assert not policy.is_authorised(principal(), "subscribe", "n:1")
