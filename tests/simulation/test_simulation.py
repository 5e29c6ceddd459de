"""A few worlds in `make test`, and that the simulation sees what it is there for. `make simulation` runs thousands."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hybrid.engine.ring import Reach, Ring
from hybrid.model import Position
from tests.simulation import client, store
from tests.simulation.client import Client
from tests.simulation.wires import Wire
from tests.simulation.world import Outcome, Plan, simulate

SHORT = 200
GENTLE, HARSH, PURGING = Plan(SHORT), Plan(SHORT, is_harsh=True), Plan(SHORT, purges=True)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What nodes say of broken wires and stores is not what is tested."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("plan", [GENTLE, HARSH], ids=["gentle", "harsh"])
def test_every_promise_is_kept_in_the_world_of_a_seed(seed: int, plan: Plan) -> None:
    outcome = simulate(seed, plan)
    assert outcome.problems == []
    assert outcome.verdict.answered == SHORT
    assert outcome.verdict.deliveries > SHORT / 4


# In 146 somebody behind is told of a purge while his node has not heard of it, and of the next one once more.
@pytest.mark.parametrize("seed", [0, 1, 2, 146])
def test_a_purge_is_told_once_and_to_everybody(seed: int) -> None:
    outcome = simulate(seed, PURGING)
    assert outcome.problems == []
    assert outcome.events["purge"]
    assert outcome.verdict.resets


def test_the_weather_is_as_bad_as_it_should_be() -> None:
    """Or else all of it would hold for nothing."""
    outcomes = [simulate(seed, HARSH) for seed in range(8)]
    seen = {name for outcome in outcomes for name in outcome.events}
    assert {
        "kill",
        "drain",
        "lose_store",
        "go_deaf",
        "fail_over",
        "lose_log",
        "purge",
        "cut",
        "cut_unseen",
        "slow",
    } <= seen
    assert sum(outcome.moves for outcome in outcomes) > 5
    assert all(sum(outcome.connects[name] for outcome in outcomes) > 10 for name in client.TRANSPORTS)
    assert sum(outcome.verdict.resets for outcome in outcomes) > 2


@pytest.mark.parametrize("seed", [5, 6, 7])
@pytest.mark.parametrize("is_harsh", [False, True])
def test_a_seed_gives_the_same_world_again(is_harsh: bool, seed: int) -> None:
    def shape(outcome: Outcome) -> tuple[Any, ...]:
        verdict = outcome.verdict
        return outcome.seconds, outcome.connects, outcome.moves, outcome.events, verdict.deliveries, verdict.resets

    plan = Plan(SHORT, is_harsh=is_harsh)
    assert shape(simulate(seed, plan)) == shape(simulate(seed, plan))


# -- sabotage: each of these must be found


def lose_one(patch: pytest.MonkeyPatch) -> None:
    """A publication vanishes between a node and its client."""
    brought = Wire._brought
    calls = iter(range(1_000_000))

    def lossy(self: Wire, payload: bytes) -> None:
        if b'"publication"' not in payload or next(calls) % 97 != 40:
            brought(self, payload)

    patch.setattr(Wire, "_brought", lossy)


def repeat_one(patch: pytest.MonkeyPatch) -> None:
    """A publication comes twice."""
    brought = Wire._brought
    calls = iter(range(1_000_000))

    def again(self: Wire, payload: bytes) -> None:
        brought(self, payload)
        if b'"publication"' in payload and next(calls) % 97 == 40:
            brought(self, payload)

    patch.setattr(Wire, "_brought", again)


def skip_in_the_ring(patch: pytest.MonkeyPatch) -> None:
    """A node catches readers up from one publication too far ahead."""
    after = Ring.after

    def beyond(self: Ring, offset: int, until: int, max_bytes: int) -> Any:
        return after(self, offset + 1 if offset + 1 < until else offset, until, max_bytes)

    patch.setattr(Ring, "after", beyond)


def believe_any_tag(patch: pytest.MonkeyPatch) -> None:
    """A node goes on after whatever stands at an offset, though the reader had another publication there."""
    reach = Ring.reach

    def careless(self: Ring, position: Position) -> Reach:
        is_inside = self.base.offset <= position.offset <= self.head.offset and position.epoch == self.head.epoch
        return Reach.HELD if is_inside else reach(self, position)

    patch.setattr(Ring, "reach", careless)


def forget_keys(patch: pytest.MonkeyPatch) -> None:
    """The store does not know what was appended before under the same key."""
    append = store.Store.append

    def forgetful(self: store.Store, wanted: Any) -> Any:
        self.log(wanted.channel).keys.clear()
        return append(self, wanted)

    patch.setattr(store.Store, "append", forgetful)


def hide_purges(patch: pytest.MonkeyPatch) -> None:
    """The store empties a log, and goes on with the same epoch as if nothing had been there."""

    def hidden(self: store.Store, channel: str) -> Position:
        log = self.log(channel)
        self.lost |= {(channel, publication.position) for publication in log.whole}
        log.kept.clear()
        log.whole.clear()
        log.head = Position(0, log.head.epoch) if log.head.offset else log.head
        return log.head

    patch.setattr(store.Store, "purge", hidden)


def stay_behind(patch: pytest.MonkeyPatch) -> None:
    """A client stops listening and says nothing of it."""
    publication = Client._publication
    patch.setattr(client, "TRANSPORTS", ("websocket",))  # polls would be answered at once, for ever

    def deaf(self: Client, told: dict[str, Any]) -> None:
        if told["offset"] < 30:
            publication(self, told)

    patch.setattr(Client, "_publication", deaf)


@pytest.mark.parametrize(
    ("sabotage", "plan", "finds"),
    [
        (lose_one, GENTLE, "lost"),
        (repeat_one, GENTLE, "repeated"),
        (skip_in_the_ring, GENTLE, "lost"),
        (forget_keys, GENTLE, "stands at"),
        (stay_behind, GENTLE, "never came to the end"),
        (believe_any_tag, HARSH, "forked"),
        (hide_purges, PURGING, "in vain"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_broken_part_is_found(
    sabotage: Callable[[pytest.MonkeyPatch], None], plan: Plan, finds: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sabotage(monkeypatch)
    for seed in range(30):
        problems = simulate(seed, plan).problems
        if problems:
            assert any(finds in problem for problem in problems), problems
            return
    pytest.fail("nothing was found in 30 worlds")
