"""How long answers are used, and for whom."""

from __future__ import annotations

from msgspec.structs import replace

from hybrid.auth.hooks import Verdict
from hybrid.hooks.verdicts import SETTLED_S, Verdicts, key_of
from hybrid.model import Principal
from tests.support.clock import FakeClock

ALICE = Principal(issuer="https://issuer.example", subject="alice", token_hash=b"a" * 16)
YES, NO = Verdict(True), Verdict(False, "no")


def test_an_answer_is_used_for_as_long_as_it_said() -> None:
    clock = FakeClock()
    verdicts = Verdicts(clock, 10)
    key = key_of(ALICE, "subscribe", "chat:1")
    verdicts.keep(key, ALICE, YES, 60)
    clock.advance(59.9)
    assert verdicts.find(key) is YES
    clock.advance(0.1)
    assert verdicts.find(key) is None
    assert len(verdicts) == 0
    verdicts.keep(key, ALICE, NO, 0)
    assert verdicts.find(key) is NO, "what asks at once is answered at once"
    clock.advance(SETTLED_S)
    assert verdicts.find(key) is None


def test_it_ends_with_its_token() -> None:
    clock = FakeClock()
    verdicts = Verdicts(clock, 10)
    short = replace(ALICE, expires_at_s=clock.wall_s() + 5)
    verdicts.keep(key_of(short, "subscribe", "chat:1"), short, YES, 60)
    clock.advance(5)
    assert verdicts.find(key_of(short, "subscribe", "chat:1")) is None


def test_it_is_for_one_token_one_action_and_one_channel() -> None:
    verdicts = Verdicts(FakeClock(), 10)
    verdicts.keep(key_of(ALICE, "subscribe", "chat:1"), ALICE, YES, 60)
    fresh = replace(ALICE, token_hash=b"b" * 16)
    bob = replace(ALICE, subject="bob")
    for principal, action, channel in (
        (fresh, "subscribe", "chat:1"),
        (bob, "subscribe", "chat:1"),
        (ALICE, "publish", "chat:1"),
        (ALICE, "subscribe", "chat:2"),
    ):
        assert verdicts.find(key_of(principal, action, channel)) is None  # type: ignore[arg-type]


def test_past_the_bound_the_oldest_is_forgotten() -> None:
    verdicts = Verdicts(FakeClock(), 2)
    keys = [key_of(ALICE, "subscribe", f"chat:{n}") for n in range(3)]
    verdicts.keep(keys[0], ALICE, YES, 60)
    verdicts.keep(keys[1], ALICE, YES, 60)
    verdicts.keep(keys[0], ALICE, NO, 60)
    verdicts.keep(keys[2], ALICE, YES, 60)
    assert [verdicts.find(key) for key in keys] == [NO, None, YES]


def test_many_that_were_asked_for_in_turn_are_good_together() -> None:
    clock = FakeClock()
    verdicts = Verdicts(clock, 10)
    first, last = (key_of(ALICE, "subscribe", f"chat:{number}") for number in range(2))
    verdicts.keep(first, ALICE, YES, 0)
    clock.advance(5)
    verdicts.keep(last, ALICE, YES, 60)
    for key in (first, last, key_of(ALICE, "publish", "chat:1")):
        verdicts.settle(key)
    assert verdicts.find(first) is YES
    assert len(verdicts) == 2
    clock.advance(SETTLED_S)
    assert (verdicts.find(first), verdicts.find(last)) == (None, YES)
