"""One reader's interest in one channel, on this node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybrid.model import Position
from hybrid.protocol.states import SUBSCRIPTION, SubscriptionEvent, SubscriptionState, next_state

if TYPE_CHECKING:
    from hybrid.engine.channel import Channel
    from hybrid.engine.feed import Feed
    from hybrid.engine.live import Group
    from hybrid.engine.wait import Wait


class Subscription:
    """Kept small: there is one for every client and channel.

    While LIVE it has no position of its own (its channel knows how far its place in the fan-out has been written);
    otherwise `position` is the last one written to the link. `is_parked`: somebody will wake its feed, the channel or
    a read of the history.
    """

    __slots__ = ("channel", "feed", "group", "is_parked", "place", "position", "state", "wait")

    def __init__(self, feed: Feed, channel: Channel) -> None:
        self.feed = feed
        self.channel = channel
        self.state = SubscriptionState.REQUESTED
        self.position: Position | None = None
        self.group: Group | None = None
        self.place = 0
        self.is_parked = False
        self.wait: Wait | None = None  # for its channel, while it is being added

    def move(self, event: SubscriptionEvent) -> None:
        """Go to the next state of the table."""
        self.state = next_state(SUBSCRIPTION, self.state, event)

    @property
    def is_behind(self) -> bool:
        """True when delivery has begun but it is not LIVE: it reads the log."""
        return self.state in (SubscriptionState.CATCHING_UP, SubscriptionState.LAGGING)

    @property
    def written(self) -> Position | None:
        """The last position written to the link; None before its start is settled."""
        if self.state is SubscriptionState.LIVE:
            return self.channel.written_to(self)
        return self.position
