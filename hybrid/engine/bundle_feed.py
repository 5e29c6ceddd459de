"""The feed of a plain event stream of several channels, whose ids name a position in each of them."""

from __future__ import annotations

from collections.abc import Sequence

from hybrid.engine.bundle import Bundle, composite_payload
from hybrid.engine.encodings import PLAIN_EVENT
from hybrid.engine.feed import ChannelSource, Feed, FeedEvents, Started
from hybrid.engine.link import Link
from hybrid.engine.ring import Entry
from hybrid.engine.subscription import Subscription
from hybrid.errors import ChannelError
from hybrid.model import Position
from hybrid.protocol.states import SubscriptionEvent, SubscriptionState


class BundleFeed(Feed):
    """A feed that is LIVE on all its channels or on none; behind, it writes ids of its own.

    Delivery begins when all channels were added and started: no id can be written before all positions are known.
    """

    __slots__ = ("_bundle", "_names")

    def __init__(self, source: ChannelSource, link: Link, channels: Sequence[str], events: FeedEvents) -> None:
        super().__init__(source, link, PLAIN_EVENT, events)
        self._names = set(channels)
        self._bundle: Bundle | None = None

    async def add(self, channel: str, position: Position | None, history: int = 0) -> Started:
        """See `Feed.add`. Raises ChannelError `forbidden` for a channel that the stream was not made for."""
        if channel not in self._names:
            raise ChannelError("forbidden", "The stream was opened for other channels.")
        return await super().add(channel, position, history)

    def _turn(self) -> None:
        is_complete = len(self._subscriptions) == len(self._names)
        if is_complete and all(s.state is not SubscriptionState.REQUESTED for s in self._subscriptions):
            super()._turn()
        else:
            self._turn_handle = None

    def _join(self, subscription: Subscription) -> bool:
        if not subscription.channel.is_joinable(subscription.position):
            return False
        if all(other.is_behind and other.channel.is_joinable(other.position) for other in self._subscriptions):
            if self._bundle is None:
                self._bundle = self._shared.bundles.obtain([other.channel for other in self._subscriptions])
            for other in self._subscriptions:
                other.channel.join(other, self._bundle)
        return True  # it has all there is; the others are on their way, and take it along

    def _leave(self, subscription: Subscription, event: SubscriptionEvent) -> None:
        if subscription.state is SubscriptionState.LIVE:
            for other in self._subscriptions:
                super()._leave(other, event if other is subscription else SubscriptionEvent.LAGGED)

    def _end(self, subscription: Subscription) -> None:
        super()._end(subscription)
        self._names.discard(subscription.channel.name)
        if self._bundle is not None:
            self._shared.bundles.give_back(self._bundle)
            self._bundle = None
        self._turn_soon()

    def _payload(self, subscription: Subscription, entry: Entry) -> bytes:
        positions = {
            other.channel.name: position for other in self._subscriptions if (position := other.written) is not None
        }
        positions[subscription.channel.name] = entry.publication.position
        return composite_payload(entry.publication, positions)
