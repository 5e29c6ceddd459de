"""The rules by which legs come, replace one another and go."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.limits import Limits
from hybrid.model import Principal
from hybrid.protocol.commands import Attach, AttachSubscription, Subscribe
from hybrid.protocol.pushes import Reply
from hybrid.protocol.session import (
    Close,
    Effect,
    EndLeg,
    Execute,
    Recover,
    SendPush,
    SendReply,
    Session,
    SessionLeg,
)
from hybrid.protocol.states import LegState, SessionState

LIMITS = Limits()
ALICE = Principal(issuer="https://issuer.example", subject="alice", token_hash=b"1")


def session() -> Session:
    return Session("s1", ALICE, LIMITS)


def attach(
    session: Session, attempt: int, *, confirm: bool = False, now_s: float = 0.0, last_seq: int = 0
) -> SessionLeg:
    leg = SessionLeg()
    wanted = [AttachSubscription("news")]
    session.receive_attach(
        leg, Attach(attempt=attempt, confirm=confirm, last_seq=last_seq, subscriptions=wanted), now_s
    )
    return leg


def ended(effects: list[Effect]) -> list[tuple[int, str]]:
    return [(effect.leg.attempt, effect.error) for effect in effects if isinstance(effect, EndLeg)]


def test_a_candidate_recovers_nothing_and_replaces_nothing() -> None:
    s = session()
    first = attach(s, 1, confirm=True)
    s.effects()
    attach(s, 2)
    assert s.effects() == []
    assert s.current is first


def test_a_confirm_recovers_on_the_new_leg_and_ends_the_former() -> None:
    s = session()
    attach(s, 1, confirm=True)
    s.effects()
    second = attach(s, 2)
    s.receive_confirm(second, None, 1.0)
    effects = s.effects()
    assert ended(effects) == [(1, "replaced")]
    assert [effect.leg.attempt for effect in effects if isinstance(effect, Recover)] == [2]
    assert (s.current, second.state) == (second, LegState.CURRENT)


def test_a_lower_attempt_never_replaces_a_higher_one() -> None:
    s = session()
    attach(s, 7, confirm=True)
    s.effects()
    late = attach(s, 6, confirm=True)
    assert ended(s.effects()) == [(6, "replaced")]
    assert late.state is LegState.ENDED
    assert s.current is not None
    assert s.current.attempt == 7


@given(st.permutations([1, 2, 3]), st.lists(st.integers(0, 2), max_size=3))
def test_whatever_the_order_the_highest_confirmed_attempt_stays(order: list[int], extra: list[int]) -> None:
    """Attaches that race, confirms that repeat: in the end one leg carries the session, the newest one confirmed."""
    s = session()
    legs = [attach(s, attempt, confirm=True) for attempt in order]
    for index in extra:
        s.receive_confirm(legs[index], None, 1.0)
    effects = s.effects()
    assert s.current is not None
    assert s.current.attempt == 3
    assert sorted(attempt for attempt, _ in ended(effects)) == [1, 2]


def test_a_candidate_that_nobody_confirms_ends() -> None:
    s = session()
    attach(s, 1)
    assert s.next_deadline_s() == LIMITS.candidate_timeout_s
    s.tick(LIMITS.candidate_timeout_s)
    effects = s.effects()
    assert ended(effects) == [(1, "candidate_timeout")]
    assert Close() in effects


def test_a_third_candidate_costs_the_oldest_its_place() -> None:
    s = session()
    attach(s, 1, confirm=True)
    s.effects()
    for attempt in (2, 3, 4):
        attach(s, attempt)
    assert ended(s.effects()) == [(2, "candidate_timeout")]
    assert len(s.candidates) == LIMITS.candidates_max


def test_a_session_without_a_leg_is_kept_for_a_while() -> None:
    s = session()
    leg = attach(s, 1, confirm=True)
    s.receive_leg_lost(leg, 10.0)
    assert s.state is SessionState.DETACHED
    assert s.next_deadline_s() == 10.0 + LIMITS.session_kept_s
    s.tick(10.0 + LIMITS.session_kept_s - 0.1)
    assert s.state is SessionState.DETACHED
    s.tick(10.0 + LIMITS.session_kept_s)
    assert s.state is SessionState.CLOSED
    assert Close() in s.effects()


def test_a_goodbye_ends_the_session_at_once() -> None:
    s = session()
    leg = attach(s, 1, confirm=True)
    s.receive_leg_lost(leg, 10.0, is_goodbye=True)
    assert Close() in s.effects()


def test_a_replaced_leg_that_goes_does_not_detach_the_session() -> None:
    s = session()
    first = attach(s, 1, confirm=True)
    attach(s, 2, confirm=True)
    s.receive_leg_lost(first, 1.0)
    assert s.state is SessionState.OPEN


def test_a_push_lost_with_its_leg_comes_again_until_acknowledged() -> None:
    """A push that was written to a dead socket is not received: the next leg repeats it, in order."""
    s = session()
    first = attach(s, 1, confirm=True)
    s.effects()
    s.push_unsubscribed("a", 3403)
    s.push_unsubscribed("b", 3403)
    assert [effect.push.seq for effect in s.effects() if isinstance(effect, SendPush)] == [1, 2]
    s.receive_leg_lost(first, 1.0)
    second = attach(s, 2, confirm=True, last_seq=1)
    s.effects()
    s.receive_recovered(second)
    assert [effect.push.seq for effect in s.effects() if isinstance(effect, SendPush)] == [2]
    s.receive_heartbeat(2)
    third = attach(s, 3, confirm=True)
    s.effects()
    s.receive_recovered(third)
    assert s.effects() == []


def test_numbered_commands_run_once_over_any_leg() -> None:
    s = session()
    attach(s, 1, confirm=True)
    s.effects()
    s.receive_command(Subscribe(id=5, n=1, channel="a"), "first", 0.0)
    s.receive_command(Subscribe(id=9, n=1, channel="a"), "repeat", 0.0)
    assert [effect.n for effect in s.effects() if isinstance(effect, Execute)] == [1]
    s.receive_reply(1, Reply(id=5, n=1))
    assert [effect.reply_to for effect in s.effects() if isinstance(effect, SendReply)] == ["first", "repeat"]
    s.receive_command(Subscribe(id=11, n=1, channel="a"), "late", 0.0)
    assert s.effects() == [SendReply("late", Reply(id=11, n=1))]


def test_a_hole_in_the_commands_is_given_up_after_its_time() -> None:
    s = session()
    attach(s, 1, confirm=True)
    s.effects()
    s.receive_command(Subscribe(id=5, n=2, channel="a"), "early", 0.0)
    s.tick(LIMITS.command_hole_s)
    assert SendReply("early", "out_of_order") in s.effects()


def expiring(s: Session) -> list[float]:
    return [e.push.expiring.in_s for e in s.effects() if isinstance(e, SendPush) and e.push.expiring is not None]


def test_expiry_is_warned_then_graced_then_final() -> None:
    s = session()
    s.receive_principal(ALICE, 100.0, 60.0, 0.0)
    attach(s, 1, confirm=True)
    s.effects()
    assert s.next_deadline_s() == 50.0  # at most half of its life ahead
    s.tick(50.0)
    assert expiring(s) == [50.0]
    s.tick(60.0)
    assert expiring(s) == []
    s.tick(100.0)
    assert s.state is SessionState.GRACE
    assert s.expires_in_s(100.0) == 0
    s.tick(100.0 + LIMITS.expiry_grace_s)
    effects = s.effects()
    assert ended(effects) == [(1, "token_expired")]
    assert Close() in effects


def test_a_refresh_in_the_grace_reopens() -> None:
    s = session()
    s.receive_principal(ALICE, 10.0, 60.0, 0.0)
    attach(s, 1, confirm=True)
    s.tick(10.0)
    assert s.state is SessionState.GRACE
    s.receive_principal(Principal(issuer=ALICE.issuer, subject="alice", token_hash=b"2"), 10.0, 60.0, 12.0)
    assert s.state is SessionState.OPEN
    assert s.expires_in_s(12.0) == 10.0


def test_the_token_shown_last_counts_also_when_it_ends_sooner() -> None:
    """Rights and life come from the same token: one with more life does not lend it to one with more rights."""
    s = session()
    s.receive_principal(ALICE, 100.0, 60.0, 0.0)
    other = Principal(issuer=ALICE.issuer, subject="alice", token_hash=b"0")
    s.receive_principal(other, 50.0, 60.0, 0.0)
    assert s.expires_in_s(0.0) == 50.0
    assert s.principal is other


def test_a_goodbye_with_a_candidate_open_is_a_move() -> None:
    """The client has opened its next leg and closes the former in form: the candidate must not outlive its session."""
    s = session()
    first = attach(s, 1, confirm=True)
    second = attach(s, 2)
    s.effects()
    s.receive_leg_lost(first, 1.0, is_goodbye=True)
    assert Close() not in s.effects()
    s.receive_confirm(second, None, 2.0)
    assert s.current is second
    assert s.state is SessionState.OPEN


def test_a_session_that_ends_takes_its_candidates_along() -> None:
    s = session()
    attach(s, 1, confirm=True)
    second = attach(s, 2)
    s.end("token_expired")
    assert second.state is LegState.ENDED
    s.receive_confirm(second, None, 1.0)
    assert s.current is None
    s.tick(100.0)
    assert not [effect for effect in s.effects() if isinstance(effect, Recover) and effect.leg is second]


def test_a_session_without_expiry_and_with_a_leg_has_nothing_to_wait_for() -> None:
    s = session()
    attach(s, 1, confirm=True)
    assert s.next_deadline_s() == math.inf
    assert s.expires_in_s(0.0) is None


@pytest.mark.parametrize("count", [LIMITS.pushes_kept_max, LIMITS.pushes_kept_max + 1])
def test_more_pushes_than_are_kept_make_the_next_attach_a_fresh_start(count: int) -> None:
    s = session()
    attach(s, 1, confirm=True)
    for number in range(count):
        s.push_unsubscribed(f"c{number}", 3403)
    assert s.backlog is not None
    assert s.backlog.has_overflowed is (count > LIMITS.pushes_kept_max)


def test_a_polled_session_numbers_on_behind_what_another_node_has_told() -> None:
    s = session()
    leg = attach(s, 1, confirm=True)
    s.receive_poll(leg, 4, 0.0)
    s.push_unsubscribed("news", 3417)
    assert [push.seq for push in s.backlog.unacknowledged()] == [5]  # type: ignore[union-attr]
    s.receive_poll(leg, 4, 1.0)
    assert [push.seq for push in s.backlog.unacknowledged()] == [5]  # type: ignore[union-attr]
    s.receive_poll(leg, 5, 2.0)
    assert s.backlog.unacknowledged() == []  # type: ignore[union-attr]


def test_an_end_tells_its_reason_and_when_to_come_back_on_every_leg() -> None:
    s = session()
    current, candidate = attach(s, 1, confirm=True), attach(s, 2)
    s.effects()
    s.end("disconnected", reason="maintenance", delay_ms=70)
    ends = [effect for effect in s.effects() if isinstance(effect, EndLeg)]
    assert {effect.leg.attempt for effect in ends} == {current.attempt, candidate.attempt}
    assert {(effect.error, effect.reason, effect.delay_ms) for effect in ends} == {("disconnected", "maintenance", 70)}
