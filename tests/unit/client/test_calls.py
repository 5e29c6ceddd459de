"""Commands on their way: numbers, seals, repeats, and the end of the key window."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hybrid.client.calls import Answer, Calls
from hybrid.errors import HybridError
from hybrid.protocol.commands import AnyCommand, Call, Presence, Publish, Refresh, Subscribe, Unsubscribe
from hybrid.protocol.pushes import Reply


class FakeLeg:
    """Takes commands and keeps them."""

    def __init__(self, *, is_polled: bool = False, sends_token: bool = True) -> None:
        self.is_polled = is_polled
        self.sends_token = sends_token
        self.sent: list[Any] = []

    def send(self, command: AnyCommand) -> None:
        self.sent.append(command)


def publish(key: str = "k") -> Publish:
    return Publish(channel="c", data=msgspec.Raw(b"1"), key=key)


def send(calls: Calls, leg: FakeLeg, now_s: float = 0.0, sealed: str = "", may_change: bool = True) -> list[Any]:
    before = len(leg.sent)
    calls.send_all(leg, now_s, sealed=sealed, may_change=may_change)  # type: ignore[arg-type]
    return leg.sent[before:]


@pytest.fixture
def answers() -> list[Answer]:
    return []


def test_each_command_is_sent_once_and_answered_once(answers: list[Answer]) -> None:
    calls, leg = Calls(), FakeLeg()
    calls.begin_session("s", has_said_all=True)
    calls.add(publish(), answers.append)
    calls.add(Presence(channel="c"), answers.append)
    assert [command.id for command in send(calls, leg)] == [1, 2]
    assert send(calls, leg) == []
    call = calls.replied(Reply(id=2))
    assert call is not None
    assert calls.replied(Reply(id=2)) is None
    assert calls.replied(Reply(id=9)) is None
    assert len(calls) == 1


def test_commands_that_change_a_stream_session_are_numbered_from_1() -> None:
    calls, leg = Calls(), FakeLeg()
    calls.begin_session("s", has_said_all=True)
    for command in (Subscribe(channel="a"), publish(), Unsubscribe(channel="a"), Refresh(token="t")):
        calls.add(command, lambda answer: None)
    sent = send(calls, leg)
    assert [getattr(command, "n", None) for command in sent] == [1, None, 2, 3]
    assert sent[3].token == "t"


def test_on_another_leg_of_the_session_they_come_again_unchanged() -> None:
    calls, first, second = Calls(), FakeLeg(), FakeLeg()
    calls.begin_session("s", has_said_all=True)
    calls.add(Subscribe(channel="a"), lambda answer: None)
    sent = send(calls, first)
    calls.leg_lost()
    assert calls.begin_session("s", has_said_all=True) == []
    calls.add(Subscribe(channel="b"), lambda answer: None)
    again = send(calls, second)
    assert again[0] == sent[0]
    assert [command.n for command in again] == [1, 2]


def test_in_another_session_the_attach_has_answered_them_and_numbers_begin_anew() -> None:
    calls, first, second = Calls(), FakeLeg(), FakeLeg()
    calls.begin_session("s", has_said_all=True)
    sent = calls.add(Subscribe(channel="a"), lambda answer: None)
    question = calls.add(Presence(channel="a"), lambda answer: None)
    send(calls, first)
    unsent = calls.add(Unsubscribe(channel="b"), lambda answer: None)
    calls.leg_lost()
    assert calls.begin_session("t", has_said_all=True) == [sent]
    again = send(calls, second)
    assert [command.id for command in again] == [question.command.id, unsent.command.id]
    assert again[1].n == 1


def test_on_a_polled_leg_they_carry_the_seal_one_at_a_time() -> None:
    calls, leg = Calls(), FakeLeg(is_polled=True, sends_token=False)
    calls.begin_session("s", has_said_all=True)
    calls.add(Subscribe(channel="a"), lambda answer: None)
    calls.add(Subscribe(channel="b"), lambda answer: None)
    calls.add(publish(), lambda answer: None)
    first = send(calls, leg, sealed="one")
    assert [type(command) for command in first] == [Subscribe, Publish]
    assert (first[0].n, first[0].sealed) == (0, "one")
    assert calls.has_membership_in_flight
    calls.replied(Reply(id=1, sealed="two"))
    second = send(calls, leg, sealed="two")
    assert [(command.channel, command.sealed) for command in second] == [("b", "two")]


def test_where_the_header_carries_the_token_the_command_does_not() -> None:
    calls, leg = Calls(), FakeLeg(sends_token=False)
    calls.begin_session("s", has_said_all=True)
    calls.add(Refresh(token="secret"), lambda answer: None)
    assert send(calls, leg)[0].token == ""


def test_nothing_that_changes_the_session_is_sent_while_it_moves() -> None:
    calls, leg = Calls(), FakeLeg()
    calls.begin_session("s", has_said_all=True)
    calls.add(Subscribe(channel="a"), lambda answer: None)
    calls.add(publish(), lambda answer: None)
    assert [type(command) for command in send(calls, leg, may_change=False)] == [Publish]
    assert not calls.has_membership_in_flight
    assert [type(command) for command in send(calls, leg)] == [Subscribe]


@pytest.mark.parametrize("command", [publish("mine"), Call(name="add", key="mine")], ids=["publish", "call"])
def test_what_has_a_key_is_repeated_with_it_until_the_window_ends(command: AnyCommand, answers: list[Answer]) -> None:
    calls, leg = Calls(), FakeLeg()
    calls.key_window_s = 300.0
    calls.begin_session("s", has_said_all=True)
    calls.add(command, answers.append)
    send(calls, leg, 1_000.0)
    calls.leg_lost()
    assert [command.key for command in send(calls, leg, 1_294.0)] == ["mine"]
    calls.leg_lost()
    assert send(calls, leg, 1_296.0) == []
    assert len(calls) == 0
    assert isinstance(answers[0], HybridError)
    assert answers[0].row.name == "outcome_unknown"


def test_the_window_begins_with_the_first_time_it_is_sent(answers: list[Answer]) -> None:
    calls, leg = Calls(), FakeLeg()
    calls.begin_session("s", has_said_all=True)
    calls.add(publish(), answers.append)
    assert len(send(calls, leg, 99_999.0)) == 1


def test_a_number_is_not_left_out_when_nobody_waits_any_more() -> None:
    calls, leg = Calls(), FakeLeg()
    calls.begin_session("s", has_said_all=True)
    refresh = calls.add(Refresh(token="t"), lambda answer: None)
    question = calls.add(Presence(channel="a"), lambda answer: None)
    send(calls, leg)
    calls.forget(refresh)
    calls.forget(question)
    calls.leg_lost()
    assert [command.n for command in send(calls, leg)] == [1]


def test_at_the_end_everybody_is_told_and_a_publish_that_was_sent_is_unknown(answers: list[Answer]) -> None:
    calls, leg = Calls(), FakeLeg()
    calls.begin_session("s", has_said_all=True)
    calls.add(publish(), answers.append)
    calls.add(Presence(channel="a"), answers.append)
    send(calls, leg)
    calls.add(publish(), answers.append)
    calls.fail_all(HybridError("session_unknown"))
    assert [error.row.name for error in answers if isinstance(error, HybridError)] == [
        "outcome_unknown",
        "session_unknown",
        "session_unknown",
    ]
    assert len(calls) == 0
