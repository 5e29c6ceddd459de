"""Numbered pushes and numbered commands."""

from __future__ import annotations

import pytest

from hybrid.errors import ProtocolError
from hybrid.protocol.backlog import CommandSequence, PushBacklog
from hybrid.protocol.pushes import Push, Reply, Unsubscribed


def push(channel: str) -> Push:
    return Push(unsubscribed=Unsubscribed(channel))


def channels(backlog: PushBacklog) -> list[str]:
    return [p.unsubscribed.channel for p in backlog.unacknowledged() if p.unsubscribed]


def test_pushes_are_numbered_from_one_and_kept_until_acknowledged() -> None:
    backlog = PushBacklog(8)
    assert [backlog.add(push(name)).seq for name in "abc"] == [1, 2, 3]
    backlog.acknowledge(2)
    assert channels(backlog) == ["c"]
    backlog.acknowledge(1)  # an old acknowledgement arrives late
    assert channels(backlog) == ["c"]


def test_a_backlog_over_its_bound_says_so() -> None:
    backlog = PushBacklog(2)
    for name in "ab":
        backlog.add(push(name))
    assert not backlog.has_overflowed
    backlog.add(push("c"))
    assert backlog.has_overflowed
    assert channels(backlog) == ["b", "c"]


def arrive(sequence: CommandSequence[str, str], n: int, command: str, reply_to: str = "x") -> list[str]:
    return [due for _, due in sequence.arrive(n, command, reply_to, 2.0)[0]]


def test_commands_are_carried_out_once_and_in_order() -> None:
    sequence: CommandSequence[str, str] = CommandSequence(8)
    assert arrive(sequence, 2, "second") == []
    assert arrive(sequence, 3, "third") == []
    assert arrive(sequence, 1, "first") == ["first", "second", "third"]
    assert arrive(sequence, 2, "second") == []


def test_a_repeat_gets_the_kept_reply_or_waits_for_it() -> None:
    sequence: CommandSequence[str, str] = CommandSequence(8)
    arrive(sequence, 1, "first", "alice")
    due, kept = sequence.arrive(1, "first", "again", 2.0)
    assert (due, kept) == ([], None)
    assert sequence.answered(1, Reply(id=7)) == ["alice", "again"]
    assert sequence.arrive(1, "first", "late", 2.0) == ([], Reply(id=7))


def test_a_hole_is_given_up_in_time() -> None:
    sequence: CommandSequence[str, str] = CommandSequence(8)
    sequence.arrive(2, "second", "bob", 2.0)
    assert sequence.next_deadline_s() == 2.0
    assert sequence.overdue(1.9) == []
    assert sequence.overdue(2.0) == ["bob"]
    assert sequence.next_deadline_s() is None
    assert arrive(sequence, 1, "first") == ["first"]
    assert arrive(sequence, 2, "second") == ["second"]


def test_replies_are_kept_up_to_the_bound() -> None:
    sequence: CommandSequence[str, str] = CommandSequence(2)
    for n in (1, 2, 3):
        arrive(sequence, n, f"command {n}")
        sequence.answered(n, Reply(id=n))
    assert sequence.arrive(3, "command 3", "x", 2.0)[1] == Reply(id=3)
    with pytest.raises(ProtocolError) as caught:
        sequence.arrive(1, "command 1", "x", 2.0)
    assert caught.value.row.name == "outcome_unknown"


def test_every_copy_of_an_early_command_is_answered() -> None:
    sequence: CommandSequence[str, str] = CommandSequence(8)
    sequence.arrive(2, "second", "alice", 2.0)
    sequence.arrive(2, "second", "again", 3.0)
    assert arrive(sequence, 1, "first") == ["first", "second"]
    assert sequence.answered(2, Reply()) == ["alice", "again"]


def test_what_is_too_far_ahead_is_refused_at_once() -> None:
    sequence: CommandSequence[str, str] = CommandSequence(2)
    assert arrive(sequence, 2, "in reach") == []
    with pytest.raises(ProtocolError) as caught:
        sequence.arrive(3, "beyond", "x", 2.0)
    assert caught.value.row.name == "out_of_order"


def test_more_commands_at_once_than_replies_are_kept_are_all_answered() -> None:
    """A burst of subscribes lost the place of those still running, and with it every reply."""
    sequence: CommandSequence[str, str] = CommandSequence(2)
    for n in range(1, 7):
        arrive(sequence, n, f"command {n}", f"asker {n}")
    assert [sequence.answered(n, Reply(id=n)) for n in range(1, 7)] == [[f"asker {n}"] for n in range(1, 7)]
