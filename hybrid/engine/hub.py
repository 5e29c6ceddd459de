"""The hub: every channel that somebody on this node listens to, and the way from the broker to the links.

A client's feed or poll asks here; the broker tells here. What then happens for each publication has no session, task
or queue in it: see `engine.channel` for the rules, `engine.fanout` for the writing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hybrid.broker.base import Broker
from hybrid.clock import Clock
from hybrid.engine.bundle import Bundles
from hybrid.engine.bundle_feed import BundleFeed
from hybrid.engine.channel import Channel
from hybrid.engine.deflated import Compression
from hybrid.engine.encodings import Encoding
from hybrid.engine.feed import Feed, FeedEvents
from hybrid.engine.link import Link
from hybrid.engine.locate import Located, locate
from hybrid.engine.observer import NOBODY, Observer
from hybrid.engine.poll import Collected, Polls
from hybrid.engine.reads import Reads
from hybrid.engine.shared import Shared
from hybrid.engine.tasks import Tasks
from hybrid.engine.upkeep import BrokerUpkeep
from hybrid.engine.wait import Wait
from hybrid.engine.wheel import Wheel
from hybrid.limits import Limits
from hybrid.model import Position, PresenceEntry, Publication
from hybrid.protocol.pushes import PresencePush, Push
from hybrid.protocol.states import ChannelState


@dataclass(frozen=True, slots=True)
class HubStats:
    """A snapshot for metrics. `channels` counts by the name of the state; the last three count since the start.

    `live_links`: LIVE subscriptions, a link once for each of its channels.
    """

    channels: dict[str, int]
    live_links: int
    polls_waiting: int
    reads_in_flight: int
    ring_bytes: int
    deliveries: int
    flushes: int
    publications: int


class Hub:
    """Implements `BrokerListener`. One for each process; all calls on the event loop's thread."""

    def __init__(
        self,
        broker: Broker,
        limits: Limits,
        clock: Clock,
        wheel: Wheel | None = None,
        *,
        tells_presence: Callable[[str], bool] = lambda channel: True,
        may_deflate: Callable[[str], bool] = lambda channel: True,
        observer: Observer = NOBODY,
    ) -> None:
        """`tells_presence` and `may_deflate` say of a channel whether its joins and leaves are told, and whether its
        publications may be compressed. `observer` is told which are followed.
        """
        self._observer = observer
        self._compression = Compression(limits.deflate_min_bytes, may_deflate)
        self._tells_presence = tells_presence
        self._broker = broker
        self._limits = limits
        self._clock = clock
        self.wheel = Wheel(clock) if wheel is None else wheel
        """The process's timer wheel: the one given, or the hub's own."""
        self._owns_wheel = wheel is None
        self._tasks = Tasks()
        self._channels: dict[str, Channel] = {}
        self._shared: Shared | None = None
        self._polls = Polls(self)

    @property
    def channel_count(self) -> int:
        """How many channels this node knows now."""
        return len(self._channels)

    async def open(self) -> None:
        """Open the broker and listen to it. Raises BrokerError."""
        loop = asyncio.get_running_loop()
        self._shared = Shared(
            self._limits,
            self._clock,
            self.wheel,
            loop,
            BrokerUpkeep(self._broker, self._limits, self.wheel, self._tasks, self._forget),
            Reads(self._broker, self._limits, self._tasks),
            Bundles(loop.call_soon),
        )
        await self._broker.open(self)
        self.wheel.schedule(self, self._limits.head_check_interval_s)

    def wheel_fired(self) -> None:
        """Time to look whether something was missed in silence."""
        followed = [channel for channel in self._channels.values() if channel.is_followed]
        if followed:
            self.shared.upkeep.look(followed)
        self.wheel.schedule(self, self._limits.head_check_interval_s)

    async def close(self) -> None:
        """End everything that runs here, and close the broker. Feeds are closed by their owners before."""
        self.wheel.cancel(self)
        await self._tasks.close()
        for channel in self._channels.values():
            channel.cool()
        self._channels.clear()
        if self._owns_wheel:
            self.wheel.close()
        await self._broker.close()

    # -- for readers

    def feed(self, link: Link, encoding: Encoding, events: FeedEvents) -> Feed:
        """A feed for a link; the owner forwards `link_paused` and `link_resumed` to it from now on."""
        return Feed(self, link, self._compression.encoding_for(link, encoding), events)

    def bundle_feed(self, link: Link, channels: Sequence[str], events: FeedEvents) -> Feed:
        """The feed of a plain event stream of several channels; delivery begins when all were added and started."""
        return BundleFeed(self, link, channels, events)

    def at_hand(
        self, positions: Mapping[str, Position], *, encoding: Encoding, wait_s: float, max_bytes: int
    ) -> Collected | None:
        """What `collect` would answer, if that is known now; None where it would have to wait."""
        return self._polls.at_hand(positions, encoding=encoding, max_bytes=max_bytes, may_be_empty=wait_s <= 0)

    def collect(
        self,
        positions: Mapping[str, Position],
        *,
        encoding: Encoding,
        wait_s: float,
        max_bytes: int,
        wait: Wait | None = None,
        max_s: float | None = None,
    ) -> Coroutine[Any, Any, Collected]:
        """What is there after these positions, payloads of at most `max_bytes` in all but at least one publication.

        Waits up to `wait_s` seconds for the first; `wait` can be ended before. A channel that cannot go on from
        its position is in `resets` at once. Empty at the end of the wait, also when the broker cannot be reached.
        Raises BrokerError where the broker has not answered after `max_s` seconds, and where that is set and `wait_s`
        is 0 also for a channel of which nobody knows what there is. Cancel-safe: nothing is given up before a later
        poll's positions have passed it.
        """
        return self._polls.collect(
            positions, encoding=encoding, wait_s=wait_s, max_bytes=max_bytes, wait=wait, max_s=max_s
        )

    async def position_now(self, channel: str) -> Position:
        """The position of the last publication written to this node's readers; waits for the broker. Cancel-safe."""
        return (await self.locate(channel, None, 0)).position

    async def locate(self, channel: str, position: Position | None, history: int) -> Located:
        """Check a position, or (None) choose one: `history` publications back, or now. See `locate.locate`."""
        node_channel = self.channel(channel)
        node_channel.hold()
        try:
            return await locate(node_channel, position, history)
        finally:
            node_channel.release()

    def listeners(self) -> Iterator[tuple[str, int]]:
        """The channels that somebody here listens to, and how many do: subscriptions, and polls that wait."""
        for channel in list(self._channels.values()):
            if channel.is_wanted:
                yield channel.name, channel.listeners

    def listeners_of(self, channel: str) -> int:
        """How many here listen to a channel."""
        node_channel = self._channels.get(channel)
        return 0 if node_channel is None else node_channel.listeners

    def stats(self) -> HubStats:
        """Counts for metrics; a walk over all channels."""
        counts = {state.name: 0 for state in ChannelState}
        live_links = 0
        for channel in self._channels.values():
            counts[channel.state.name] += 1
            live_links += channel.live_links
        tally = self.shared.tally
        return HubStats(
            channels=counts,
            live_links=live_links,
            polls_waiting=self._polls.waiting,
            reads_in_flight=len(self.shared.reads),
            ring_bytes=self.shared.rings.bytes,
            deliveries=tally.deliveries,
            flushes=tally.flushes,
            publications=tally.publications,
        )

    # -- for feeds and polls (`feed.ChannelSource`)

    @property
    def shared(self) -> Shared:
        """What all channels and feeds have in common. The hub must have been opened."""
        assert self._shared is not None, "the hub is not open"
        return self._shared

    def channels(self) -> list[Channel]:
        """Every channel that is known here."""
        return list(self._channels.values())

    def channel(self, name: str) -> Channel:
        """The channel of this name; the caller holds it before the next await."""
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = Channel(name, self.shared)
            self._observer.channel_followed(name)
        return channel

    def _forget(self, channel: Channel) -> None:
        if self._channels.get(channel.name) is channel:
            del self._channels[channel.name]
            self._observer.channel_left(channel.name)

    # -- for the broker (`BrokerListener`)

    def published(self, publication: Publication) -> None:
        """See `BrokerListener.published`."""
        channel = self._channels.get(publication.channel)
        if channel is not None:
            channel.receive(publication)

    def presence_changed(self, channel: str, entry: PresenceEntry, has_joined: bool) -> None:
        """See `BrokerListener.presence_changed`. For LIVE links only, in order with publications, at most once."""
        node_channel = self._channels.get(channel)
        if node_channel is not None and self._tells_presence(channel):
            change = PresencePush(channel, entry.subject, entry.client)
            node_channel.announce(Push(join=change) if has_joined else Push(leave=change))

    def purged(self, channel: str, position: Position, former: str) -> None:
        """See `BrokerListener.purged`."""
        node_channel = self._channels.get(channel)
        if node_channel is not None:
            node_channel.purged(position, former)

    def gap(self, channels: Sequence[str] | None) -> None:
        """See `BrokerListener.gap`. The broker must deliver these channels again before it calls this."""
        named = list(self._channels) if channels is None else channels
        for name in named:
            channel = self._channels.get(name)
            if channel is not None:
                channel.gap()
