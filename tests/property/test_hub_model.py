"""The membership rule, the flush rule and catch-up: no reader ever loses, repeats or reorders a publication."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybrid.engine.bundle import Bundles
from hybrid.engine.channel import Channel
from hybrid.engine.fanout import FanOut
from hybrid.engine.feed import Feed
from hybrid.engine.live import Group
from tests.property.hub_model import FAULTY_KINDS, KINDS, Broken, FaultyWorld, check, operations


def check_all(seeds: Iterable[int]) -> None:
    for seed in seeds:
        check(operations(seed))


OPERATION = st.tuples(st.sampled_from(sorted(set(KINDS))), st.integers(0, 999), st.integers(0, 999))


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


@pytest.mark.parametrize("seed", range(40))
def test_every_reader_sees_offsets_rise_by_one_up_to_the_head(seed: int) -> None:
    check(operations(seed))


@pytest.mark.parametrize("seed", [1002, 1059, 1137, 1226])
def test_a_channel_that_waited_for_a_bundle_is_not_forgotten(seed: int) -> None:
    """A channel whose turn had come asked again whether it might, was sent behind later ones, and waited for ever."""
    check(operations(seed, 250))


@pytest.mark.parametrize("seed", range(40))
def test_on_bad_days_readers_are_told_and_go_on(seed: int) -> None:
    check(operations(seed, kinds=FAULTY_KINDS), FaultyWorld)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(OPERATION, max_size=60))
def test_no_short_story_breaks_it(story: list[tuple[str, int, int]]) -> None:
    check(story)


def _join_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Joins do not wait for the end of a fan-out."""
    monkeypatch.setattr(Channel, "is_joinable", lambda self, position: position == self.flushed)


def _catch_up_to_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is behind is given everything up to the head, and takes part from there."""
    advance = Feed._advance

    def to_head(self: Feed, subscription: object) -> bool:
        channel = subscription.channel  # type: ignore[attr-defined]
        flushed, channel.flushed = channel.flushed, channel.head
        try:
            return advance(self, subscription)  # type: ignore[arg-type]
        finally:
            channel.flushed = flushed

    monkeypatch.setattr(Feed, "_advance", to_head)
    monkeypatch.setattr(
        Channel, "is_joinable", lambda self, p: self.fan_out is None and p.offset >= self.flushed.offset
    )


def _leave_with_the_old_position(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who leaves in the middle of a fan-out is taken for not yet written to."""
    monkeypatch.setattr(Channel, "written_to", lambda self, subscription: self.flushed)


def _leave_with_the_new_position(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who leaves in the middle of a fan-out is taken for written to."""
    monkeypatch.setattr(
        Channel, "written_to", lambda self, subscription: self.fan_out.target if self.fan_out else self.flushed
    )


def _write_to_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fan-out does not notice who leaves."""
    step = FanOut.step

    def over_a_copy(self: FanOut) -> None:
        for group, _ in self._plan:
            original = [member.feed.link for member in group.members if member is not None]
            if not group.written and len(original) == len(group.links):
                group.links = _Stubborn(original)
        step(self)

    monkeypatch.setattr(FanOut, "step", over_a_copy)


class _Stubborn(list):  # type: ignore[type-arg]
    def __setitem__(self, *_: object) -> None:
        return


def _move_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    """The place of who leaves in the middle of a fan-out is taken by another one."""
    remove = Group.remove
    monkeypatch.setattr(
        Group, "remove", lambda self, subscription, *, is_frozen: remove(self, subscription, is_frozen=False)
    )


def _write_bundles_out_of_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two channels of a bundle are written at the same time."""
    monkeypatch.setattr(Bundles, "admits", lambda self, channel: True)


@pytest.mark.parametrize(
    "break_it",
    [
        _join_in_the_middle,
        _catch_up_to_head,
        _leave_with_the_old_position,
        _leave_with_the_new_position,
        _write_to_a_copy,
        _move_in_the_middle,
        _write_bundles_out_of_turn,
    ],
)
def test_the_model_notices_a_broken_rule(
    break_it: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    break_it(monkeypatch)
    with pytest.raises(Broken):
        check_all(range(40))
