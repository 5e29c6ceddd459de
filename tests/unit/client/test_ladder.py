"""Which transport is tried next, by a hand-made clock."""

from __future__ import annotations

from hybrid.client.ladder import Ladder, Story
from hybrid.protocol.commands import Tried

NAMES = ("websocket", "sse", "longpoll")


class At:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.s = 1_000.0

    def __call__(self) -> float:
        return self.s


def ladder() -> tuple[Ladder, At]:
    at = At()
    return Ladder(NAMES, at), at


def story(lived_s: float, idle_s: float = 0.0, fault: str = "", interval_s: float = 20.0) -> Story:
    return Story(lived_s, idle_s, interval_s, fault)


def test_what_worked_last_is_first_and_what_was_asked_for_before_it() -> None:
    made, _ = ladder()
    assert made.order() == ["websocket", "sse", "longpoll"]
    made.worked("longpoll", 0.1)
    assert made.order() == ["longpoll", "websocket", "sse"]
    assert made.better("longpoll") == ["websocket", "sse"]
    made.pin("sse")
    assert made.order() == ["sse", "longpoll", "websocket"]
    assert made.better("sse") == []


def test_what_is_cut_soon_again_and_again_is_tried_last_for_longer_and_longer() -> None:
    made, at = ladder()
    for pause_s in (30.0, 300.0, 3_000.0, 30_000.0, 86_400.0, 86_400.0):
        made.worked("websocket", 0.1)
        made.broke("websocket", story(lived_s=0.2))
        assert made.order() == ["sse", "longpoll", "websocket"]
        assert made.better("sse") == []
        assert made.tried("sse") == (Tried("websocket", "dying"),)
        at.s += pause_s - 1
        assert made.is_demoted("websocket")
        at.s += 2
        assert not made.is_demoted("websocket")
    made.broke("websocket", story(lived_s=61.0))
    made.broke("websocket", story(lived_s=0.2))
    at.s += 31.0
    assert not made.is_demoted("websocket"), "a life of a minute wipes it out"


def test_what_worked_and_went_deaf_is_forgiven_once_in_a_while() -> None:
    made, at = ladder()
    made.broke("websocket", story(lived_s=11.0, fault="mute"))
    assert not made.is_demoted("websocket")
    at.s += 599.0
    made.broke("websocket", story(lived_s=11.0, fault="mute"))
    assert made.is_demoted("websocket")
    made.broke("sse", story(lived_s=1.0, fault="held"))
    assert made.is_demoted("sse"), "what never worked is not"
    assert made.tried("longpoll") == (Tried("websocket", "mute"), Tried("sse", "held"))


def test_a_cut_in_a_silence_asks_for_heartbeats_before_it_gives_up() -> None:
    made, _ = ladder()
    made.broke("websocket", story(lived_s=30.0, idle_s=15.0))
    assert made.heartbeat_s == 9.0
    assert not made.is_demoted("websocket")
    made.broke("websocket", story(lived_s=30.0, idle_s=8.5, interval_s=9.0))
    assert made.heartbeat_s == 5.0
    made.broke("websocket", story(lived_s=30.0, idle_s=4.0, interval_s=5.0))
    assert made.order() == ["longpoll", "websocket", "sse"], "polls are left"
    assert made.tried("longpoll") == (Tried("websocket", "idle_cut"), Tried("sse", "idle_cut"))


def test_what_works_again_is_no_longer_told_of() -> None:
    made, _ = ladder()
    made.failed("websocket", "slow")
    assert made.tried("sse") == (Tried("websocket", "slow"),)
    assert made.tried("websocket") == ()
    made.worked("websocket", 0.3)
    assert (made.tried("sse"), made.latency_s) == ((), 0.3)
