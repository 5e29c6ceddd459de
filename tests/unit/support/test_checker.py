"""The checker catches a broken server: each promise, broken once in a stream that is otherwise in order."""

from __future__ import annotations

from typing import Any

import pytest

from hybrid.model import START, Position
from tests.support.checker import Checker, Verdict

CHANNEL = "room:1"


def at(offset: int, epoch: str = "e1", tag: str = "") -> Position:
    return Position(offset, epoch, tag or f"{offset:08x}") if offset else START


def data(offset: int, epoch: str = "e1") -> dict[str, Any]:
    return {"id": f"{epoch}-{offset}", "text": f"the {offset}th"}


class Scene:
    """A channel with a log of five, every publish answered, and readers that are given what a test says."""

    def __init__(self, length: int = 5) -> None:
        self.checker = Checker()
        self.log = [(at(offset), data(offset)) for offset in range(1, length + 1)]
        for position, value in self.log:
            self.publish(position, value)

    def publish(self, position: Position, value: dict[str, Any], *, at_s: float = 0.0) -> None:
        self.checker.asked(value["id"], CHANNEL, value, at_s)
        self.checker.answered(value["id"], position, at_s)

    def read(self, *items: int | Position | tuple[Position, Any], start: Position = START, name: str = "anna") -> None:
        """A whole number is that publication; a position alone is a reset."""
        self.checker.subscribed(name, CHANNEL, start)
        for item in items:
            if isinstance(item, Position):
                self.checker.was_reset(name, CHANNEL, item)
            else:
                position, value = item if isinstance(item, tuple) else (at(item), data(item))
                self.checker.received(name, CHANNEL, position, value, 0.0)

    def verdict(self) -> Verdict:
        self.checker.read_log(CHANNEL, self.log)
        return self.checker.verdict()


def test_a_stream_in_order_keeps_every_promise() -> None:
    scene = Scene()
    scene.read(1, 2, 3, 4, 5)
    scene.read(4, 5, start=at(3), name="bert")
    verdict = scene.verdict()
    verdict.check()
    assert (verdict.deliveries, verdict.streams, verdict.resets, verdict.answered) == (7, 2, 0, 5)
    assert verdict.missing == []
    assert verdict.heal_s is None


@pytest.mark.parametrize(
    ("items", "broken"),
    [
        ((1, 2, 4, 5), {"lost": 1}),
        ((2, 3, 4, 5), {"lost": 1}),
        ((1, 2, 3), {"behind": 1}),
        ((), {"behind": 1}),
        ((1, 2, 2, 3, 4, 5), {"repeated": 1}),
        ((1, 2, 3, 4, 5, 1), {"repeated": 1}),
        ((1, 3, 2, 4, 5), {"reordered": 1}),
        ((1, 4, 3, 5), {"reordered": 1, "lost": 1}),
        ((1, 4, 2, 3, 3, 5), {"reordered": 2, "repeated": 1}),
    ],
)
def test_what_is_lost_repeated_or_out_of_order_is_found(items: tuple[int, ...], broken: dict[str, int]) -> None:
    scene = Scene()
    scene.read(1, 2, 3, 4, 5, name="bert")
    scene.read(*items)
    verdict = scene.verdict()
    assert verdict.broken == broken
    assert any("anna" in finding for finding in verdict.findings)
    with pytest.raises(AssertionError, match="anna on room:1"):
        verdict.check()


def test_a_reset_excuses_what_was_skipped_and_only_that() -> None:
    scene = Scene()
    scene.read(1, at(4), 5)
    scene.read(1, 3, at(4), 5, name="bert")
    verdict = scene.verdict()
    assert verdict.resets == 2
    assert verdict.broken == {"lost": 1}, "bert's second was lost before he was told of anything"


def test_delivery_after_a_reset_goes_on_exactly_behind_it() -> None:
    scene = Scene()
    scene.read(1, at(2), 4, 5)
    scene.read(1, 2, at(3), 3, 4, 5, name="bert")
    assert scene.verdict().broken == {"lost": 1, "repeated": 1}


def test_other_data_at_one_reader_is_found() -> None:
    scene = Scene()
    scene.read(1, 2, 3, 4, 5)
    scene.read(1, 2, (at(3), data(4)), 4, 5, name="bert")
    scene.read(1, 2, (at(3), {**data(3), "text": "garbled"}), 4, 5, name="cora")
    verdict = scene.verdict()
    assert verdict.broken == {"wrong_data": 2}


def test_data_that_nobody_published_is_found_wherever_it_is() -> None:
    scene = Scene()
    scene.log[2] = (at(3), "noise")
    scene.read(1, 2, (at(3), "noise"), 4, 5)
    verdict = scene.verdict()
    assert verdict.wrong_data >= 2
    assert [answer.id for answer in verdict.missing] == ["e1-3"]


def test_another_epoch_without_a_reset_is_found() -> None:
    scene = Scene(0)
    for offset in (1, 2):
        scene.publish(at(offset), data(offset))
    for offset in (1, 2, 3):
        scene.publish(at(offset, "e2"), data(offset, "e2"))
    scene.log = [(at(offset, "e2"), data(offset, "e2")) for offset in (1, 2, 3)]
    second = [(position, value) for position, value in scene.log]
    scene.read(1, 2, at(1, "e2"), *second[1:])
    scene.read(1, 2, second[2], name="silent")
    verdict = scene.verdict()
    assert verdict.broken == {"silent_epochs": 1}
    assert [answer.id for answer in verdict.missing] == ["e1-1", "e1-2"]
    with pytest.raises(AssertionError, match="answered but not in the log"):
        verdict.check()


def test_a_fork_in_the_same_epoch_is_found_by_the_tags() -> None:
    """A replica without the last entry was promoted; its next ones use the same offsets in the same epoch."""
    scene = Scene(3)
    lost = scene.log.pop()
    other = (at(3, tag="0000beef"), data(3, "again"))
    after = (at(4, tag="0000cafe"), data(4, "again"))
    for position, value in (other, after):
        scene.publish(position, value)
    scene.log += [other, after]
    scene.read(1, 2, lost, at(3, tag="0000beef"), after, name="told")
    scene.read(1, 2, other, after, name="never had it")
    scene.read(1, 2, lost, after, name="not told")
    verdict = scene.verdict()
    assert verdict.broken == {"forked": 1}
    assert any("not told" in finding for finding in verdict.findings)
    assert [answer.id for answer in verdict.missing] == ["e1-3"]


def test_a_reader_that_keeps_what_the_log_has_lost_is_found() -> None:
    scene = Scene(4)
    del scene.log[2:]
    scene.read(1, 2, 3, 4)
    scene.read(1, 2, 3, 4, at(2), name="told")
    assert scene.verdict().broken == {"forked": 1, "behind": 1}


def test_answered_but_missing_and_what_excuses_it() -> None:
    scene = Scene()
    scene.checker.asked("gone", CHANNEL, {"id": "gone"}, 0.0)
    scene.checker.answered("gone", at(6), 0.0)
    scene.read(1, 2, 3, 4, 5)
    verdict = scene.verdict()
    assert [answer.id for answer in verdict.missing] == ["gone"]
    with pytest.raises(AssertionError, match="gone"):
        verdict.check()
    verdict.check(may_miss=["gone"])


def test_what_stands_in_the_log_twice_is_found_answered_or_not() -> None:
    scene = Scene()
    scene.checker.asked("unanswered", CHANNEL, {"id": "unanswered"}, 0.0)
    for offset in (6, 7):
        scene.log.append((at(offset), {"id": "unanswered"}))
    scene.log.append((at(8), data(1)))
    scene.read(start=at(8))
    verdict = scene.verdict()
    assert sorted(verdict.twice) == ["e1-1", "unanswered"]
    assert verdict.broken == {"twice": 2}


def test_an_answer_that_names_another_place_is_found() -> None:
    scene = Scene()
    scene.checker.asked("moved", CHANNEL, {"id": "moved"}, 0.0)
    scene.checker.answered("moved", at(7), 0.0)
    scene.log.append((at(6), {"id": "moved"}))
    scene.read(start=at(6))
    assert scene.verdict().broken == {"misplaced": 1}


def test_a_stream_that_ended_by_itself_is_found() -> None:
    scene = Scene()
    scene.read(1, 2)
    scene.checker.ended("anna", CHANNEL, "3403 forbidden")
    verdict = scene.verdict()
    assert verdict.broken == {"ended": 1}
    assert any("3403" in finding for finding in verdict.findings)


def test_healing_is_measured_from_the_end_of_the_fault_to_the_last_stream() -> None:
    scene = Scene(2)
    checker = scene.checker
    for name in ("anna", "bert"):
        scene.read(1, 2, name=name)
    assert not checker.has_healed
    checker.fault_ended(100.0)
    late, later = (at(3), data(3)), (at(4), data(4))
    scene.publish(*late, at_s=99.0)
    scene.publish(*later, at_s=101.0)
    for name, at_s in (("anna", 101.5), ("bert", 103.0)):
        checker.received(name, CHANNEL, *late, at_s - 0.1)
        assert not checker.has_healed, "what was published before the end shows nothing"
        assert (name, CHANNEL) in checker.unhealed
        checker.received(name, CHANNEL, *later, at_s)
    assert checker.has_healed
    scene.log += [late, later]
    verdict = scene.verdict()
    verdict.check()
    assert verdict.heal_s == 3.0


def test_what_is_not_answered_and_who_is_behind_can_be_asked_meanwhile() -> None:
    scene = Scene()
    scene.read(1, 2, 3, 4, 5)
    scene.read(1, 2, name="bert")
    scene.checker.asked("open", CHANNEL, {"id": "open"}, 0.0)
    assert scene.checker.unanswered == ["open"]
    assert scene.checker.behind({CHANNEL: at(5)}) == [("bert", CHANNEL)]


def test_who_has_left_is_not_behind_and_knows_nothing_of_a_later_log() -> None:
    scene = Scene()
    scene.read(1, 2)
    scene.checker.left("anna", CHANNEL)
    scene.log = [(at(1, "e2"), data(1, "e2"))]
    scene.checker.asked("e2-1", CHANNEL, data(1, "e2"), 0.0)
    verdict = scene.verdict()
    assert (verdict.behind, verdict.forked) == (0, 0)
    assert scene.checker.behind({CHANNEL: at(1, "e2")}) == []


def test_who_has_left_is_judged_up_to_there() -> None:
    scene = Scene()
    scene.read(1, 3)
    scene.checker.left("anna", CHANNEL)
    assert scene.verdict().lost == 1
