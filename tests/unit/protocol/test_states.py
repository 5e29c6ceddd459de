from __future__ import annotations

from enum import Enum

import pytest

from hybrid.protocol.states import (
    CHANNEL,
    LEG,
    SESSION,
    SUBSCRIPTION,
    ChannelEvent,
    ChannelState,
    IllegalTransition,
    LegEvent,
    LegState,
    SessionEvent,
    SessionState,
    SubscriptionEvent,
    SubscriptionState,
    Table,
    next_state,
)

MACHINES: list[tuple[Table[Enum, Enum], type[Enum], type[Enum]]] = [
    (LEG, LegState, LegEvent),  # type: ignore[list-item]
    (SESSION, SessionState, SessionEvent),  # type: ignore[list-item]
    (SUBSCRIPTION, SubscriptionState, SubscriptionEvent),  # type: ignore[list-item]
    (CHANNEL, ChannelState, ChannelEvent),  # type: ignore[list-item]
]
FINAL = {LegState.ENDED, SessionState.CLOSED, SubscriptionState.ENDED}


@pytest.mark.parametrize(("table", "states", "events"), MACHINES)
def test_every_pair_is_in_the_table_or_illegal_or_swallowed(
    table: Table[Enum, Enum], states: type[Enum], events: type[Enum]
) -> None:
    assert set(table) == set(states)
    for state in states:
        for event in events:
            if event in table[state]:
                assert next_state(table, state, event) is table[state][event]
            elif state in FINAL:
                assert next_state(table, state, event) is state
            else:
                with pytest.raises(IllegalTransition) as caught:
                    next_state(table, state, event)
                assert str(caught.value) == f"{event} is not foreseen in {state}"


@pytest.mark.parametrize(("table", "states", "events"), MACHINES)
def test_only_ends_are_final_and_every_event_is_used(
    table: Table[Enum, Enum], states: type[Enum], events: type[Enum]
) -> None:
    assert {state for state in states if not table[state]} == FINAL & set(states)
    assert {event for row in table.values() for event in row} == set(events)
    assert {state for row in table.values() for state in row.values()} >= set(list(states)[1:])


def test_a_subscription_that_was_live_lags_and_catches_up_again() -> None:
    state = SubscriptionState.REQUESTED
    seen = []
    for event in (
        SubscriptionEvent.GRANTED,
        SubscriptionEvent.CAUGHT_UP,
        SubscriptionEvent.LAGGED,
        SubscriptionEvent.CAUGHT_UP,
        SubscriptionEvent.GAP,
        SubscriptionEvent.END,
    ):
        state = next_state(SUBSCRIPTION, state, event)
        seen.append(state.name)
    assert seen == ["CATCHING_UP", "LIVE", "LAGGING", "LIVE", "CATCHING_UP", "ENDED"]
