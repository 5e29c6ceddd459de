"""The state machines of hybrid, each one table, and the one function that looks things up in them.

    leg             one open transport of a session: a candidate until it is confirmed
    session         the logical connection, which outlives its legs
    subscription    one reader's interest in one channel, on one node
    channel         what a node knows of a channel while somebody on it listens

A table maps a state to the events that may come in it, and each event to the next state. An event without an entry is
a fault of ours and raises IllegalTransition, here and nowhere else: whatever a peer can provoke must be in the table. A
state without any entry is final. It swallows every event, because ends cross with what was already on its way.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final, TypeAlias, TypeVar

from hybrid.errors import HybridError

StateT = TypeVar("StateT", bound=Enum)
EventT = TypeVar("EventT", bound=Enum)
Table: TypeAlias = Mapping[StateT, Mapping[EventT, StateT]]


class IllegalTransition(HybridError):
    """An event came in a state that has no entry for it: a fault of ours, never a peer's."""

    def __init__(self, state: Enum, event: Enum) -> None:
        super().__init__()
        self.state = state
        self.event = event

    def __str__(self) -> str:
        return f"{self.event} is not foreseen in {self.state}"


def next_state(table: Table[StateT, EventT], state: StateT, event: EventT) -> StateT:
    """The state after `event`; the same state where that is final. Raises IllegalTransition."""
    events = table[state]
    after = events.get(event)
    if after is not None:
        return after
    if not events:
        return state
    raise IllegalTransition(state, event)


# -- leg


class LegState(Enum):
    """CANDIDATE: open, proves that it carries payload. CURRENT: carries the session."""

    CANDIDATE = auto()
    CURRENT = auto()
    ENDED = auto()


class LegEvent(Enum):
    """CONFIRMED: the client has seen its nonce come back. ENDED: the transport has ended, whoever ended it."""

    CONFIRMED = auto()
    ENDED = auto()


LEG: Final[Table[LegState, LegEvent]] = {
    LegState.CANDIDATE: {LegEvent.CONFIRMED: LegState.CURRENT, LegEvent.ENDED: LegState.ENDED},
    LegState.CURRENT: {LegEvent.ENDED: LegState.ENDED},
    LegState.ENDED: {},
}


# -- session


class SessionState(Enum):
    """NEW: no leg was confirmed yet. DETACHED: waits for the next leg. GRACE: the token's life is over."""

    NEW = auto()
    OPEN = auto()
    DETACHED = auto()
    GRACE = auto()
    CLOSED = auto()


class SessionEvent(Enum):
    """ATTACHED: a leg became current. DETACHED: the current leg is gone. EXPIRED, REFRESHED: the token's life."""

    ATTACHED = auto()
    DETACHED = auto()
    EXPIRED = auto()
    REFRESHED = auto()
    CLOSED = auto()


SESSION: Final[Table[SessionState, SessionEvent]] = {
    SessionState.NEW: {
        SessionEvent.ATTACHED: SessionState.OPEN,
        SessionEvent.EXPIRED: SessionState.CLOSED,
        SessionEvent.REFRESHED: SessionState.NEW,
        SessionEvent.CLOSED: SessionState.CLOSED,
    },
    SessionState.OPEN: {
        SessionEvent.ATTACHED: SessionState.OPEN,
        SessionEvent.DETACHED: SessionState.DETACHED,
        SessionEvent.EXPIRED: SessionState.GRACE,
        SessionEvent.REFRESHED: SessionState.OPEN,
        SessionEvent.CLOSED: SessionState.CLOSED,
    },
    SessionState.DETACHED: {
        # Expiry changes nothing here: the next attach shows a token of its own.
        SessionEvent.ATTACHED: SessionState.OPEN,
        SessionEvent.EXPIRED: SessionState.DETACHED,
        SessionEvent.REFRESHED: SessionState.DETACHED,
        SessionEvent.CLOSED: SessionState.CLOSED,
    },
    SessionState.GRACE: {
        SessionEvent.ATTACHED: SessionState.OPEN,
        SessionEvent.DETACHED: SessionState.DETACHED,
        SessionEvent.REFRESHED: SessionState.OPEN,
        SessionEvent.CLOSED: SessionState.CLOSED,
    },
    SessionState.CLOSED: {},
}


# -- subscription


class SubscriptionState(Enum):
    """REQUESTED: its start is not settled, or not told. LAGGING: its link was too slow and reads the log now."""

    REQUESTED = auto()
    CATCHING_UP = auto()
    LIVE = auto()
    LAGGING = auto()
    ENDED = auto()


class SubscriptionEvent(Enum):
    """GRANTED: delivery may begin. GAP: the log cannot be continued, the reader is told of a reset."""

    GRANTED = auto()
    DENIED = auto()
    CAUGHT_UP = auto()
    LAGGED = auto()
    GAP = auto()
    END = auto()


SUBSCRIPTION: Final[Table[SubscriptionState, SubscriptionEvent]] = {
    SubscriptionState.REQUESTED: {
        SubscriptionEvent.GRANTED: SubscriptionState.CATCHING_UP,
        SubscriptionEvent.DENIED: SubscriptionState.ENDED,
        SubscriptionEvent.END: SubscriptionState.ENDED,
    },
    SubscriptionState.CATCHING_UP: {
        SubscriptionEvent.CAUGHT_UP: SubscriptionState.LIVE,
        SubscriptionEvent.LAGGED: SubscriptionState.CATCHING_UP,
        SubscriptionEvent.GAP: SubscriptionState.CATCHING_UP,
        SubscriptionEvent.END: SubscriptionState.ENDED,
    },
    SubscriptionState.LIVE: {
        SubscriptionEvent.LAGGED: SubscriptionState.LAGGING,
        SubscriptionEvent.GAP: SubscriptionState.CATCHING_UP,
        SubscriptionEvent.END: SubscriptionState.ENDED,
    },
    SubscriptionState.LAGGING: {
        SubscriptionEvent.CAUGHT_UP: SubscriptionState.LIVE,
        SubscriptionEvent.GAP: SubscriptionState.CATCHING_UP,
        SubscriptionEvent.END: SubscriptionState.ENDED,
    },
    SubscriptionState.ENDED: {},
}


# -- channel


class ChannelState(Enum):
    """COLD: the broker does not deliver it here. SUBSCRIBING: until the broker has acknowledged.

    READING: its head is being read, which is exact only after that. HOT: it is followed. HEALING: something may have
    been missed, the log is compared and read. LINGERING: HOT, and nobody listens.
    """

    COLD = auto()
    SUBSCRIBING = auto()
    READING = auto()
    HOT = auto()
    HEALING = auto()
    LINGERING = auto()


class ChannelEvent(Enum):
    """WANTED, UNWANTED: the first listener came, the last one left. EXPIRED: nobody came back in time."""

    WANTED = auto()
    ACKNOWLEDGED = auto()
    HEAD_READ = auto()
    GAP = auto()
    HEALED = auto()
    UNWANTED = auto()
    EXPIRED = auto()


CHANNEL: Final[Table[ChannelState, ChannelEvent]] = {
    ChannelState.COLD: {
        ChannelEvent.WANTED: ChannelState.SUBSCRIBING,
        ChannelEvent.GAP: ChannelState.COLD,
    },
    ChannelState.SUBSCRIBING: {
        # A gap says nothing new in these two: the head is read after it, or (READING) the channel is healed at once.
        ChannelEvent.ACKNOWLEDGED: ChannelState.READING,
        ChannelEvent.GAP: ChannelState.SUBSCRIBING,
        ChannelEvent.EXPIRED: ChannelState.COLD,
    },
    ChannelState.READING: {
        ChannelEvent.HEAD_READ: ChannelState.HOT,
        ChannelEvent.GAP: ChannelState.READING,
        ChannelEvent.EXPIRED: ChannelState.COLD,
    },
    ChannelState.HOT: {
        ChannelEvent.GAP: ChannelState.HEALING,
        ChannelEvent.UNWANTED: ChannelState.LINGERING,
    },
    ChannelState.HEALING: {
        ChannelEvent.HEALED: ChannelState.HOT,
        ChannelEvent.GAP: ChannelState.HEALING,
        ChannelEvent.EXPIRED: ChannelState.COLD,
    },
    ChannelState.LINGERING: {
        ChannelEvent.WANTED: ChannelState.HOT,
        ChannelEvent.GAP: ChannelState.HEALING,
        ChannelEvent.EXPIRED: ChannelState.COLD,
    },
}
