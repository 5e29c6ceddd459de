"""The publications that one link gets: its subscriptions, their catch-up, its lag.

A feed whose subscriptions are all LIVE does nothing: the channels write to its link. One that is behind takes *turns*:
each writes about `catch_up_turn_bytes` of one channel, from the ring or the broker's log, up to the channel's
`flushed`; then the next channel has its turn. There is no task for a feed, and nothing is read or kept for one whose
link is paused: a slow client costs the bytes in its link's buffer and a position for each channel.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Final, NamedTuple, Protocol

from hybrid.engine.channel import Channel
from hybrid.engine.counts import LOG_DIFFERS, LOG_REPLACED, TOO_OLD, UNWRITABLE
from hybrid.engine.encodings import Encoding
from hybrid.engine.link import Link
from hybrid.engine.locate import RETRY_S, locate
from hybrid.engine.reads import LogPage
from hybrid.engine.ring import UNENCODABLE, Entry, Reach
from hybrid.engine.shared import Shared
from hybrid.engine.subscription import Subscription
from hybrid.engine.wait import Wait
from hybrid.engine.wheel import SLOT_S
from hybrid.errors import ChannelError, UnrecoverablePosition
from hybrid.model import Position
from hybrid.protocol.states import SubscriptionEvent, SubscriptionState

_log = logging.getLogger(__name__)


class FeedEvents(Protocol):
    """What a feed tells the owner of its link. Neither may raise; both may be called from inside `Feed` methods."""

    def feed_reset(self, channel: str, position: Position) -> None:
        """Publications of this channel are lost to this link; delivery goes on after `position`. Tell the client now:

        the next publication is written right after this call.
        """

    def feed_fell_behind(self, channel: str) -> bool:
        """The log no longer reaches back to where this slow client is.

        True: go on by a reset. False: the owner closes the link (`slow_client`), and nothing more is delivered.
        """


class ChannelSource(Protocol):
    """Who makes channels: the hub."""

    @property
    def shared(self) -> Shared:
        """What all channels and feeds have in common."""

    def channel(self, name: str) -> Channel:
        """The channel of this name; the caller holds it before the next await."""


class Started(NamedTuple):
    """`position`: where delivery goes on from. `was_recovered` false: not the position asked for (a reset)."""

    position: Position
    was_recovered: bool


class _Paged(NamedTuple):
    """The rest of a page of history: what a subscription reads next, as long as its link takes it."""

    subscription: Subscription
    entries: list[Entry]


_PAUSED: Final = 1  # the link is over its high-water mark
_ENDED: Final = 2  # nothing is delivered any more
_READING: Final = 4  # a page of history is on its way


class Feed:
    """See the module's text. Made by `Hub.feed`; closed by the owner of the link."""

    __slots__ = ("_flags", "_next", "_of", "_page", "_source", "_turn_handle", "encoding", "events", "link")

    def __init__(self, source: ChannelSource, link: Link, encoding: Encoding, events: FeedEvents) -> None:
        self.link = link
        self.encoding = encoding
        self.events = events
        self._source = source
        self._of: tuple[Subscription, ...] | Subscription = ()
        self._flags = 0
        self._next = 0
        self._page: _Paged | None = None
        self._turn_handle: asyncio.Handle | None = None
        if link.buffered() > self._shared.limits.low_water_bytes:
            # It may be over its high-water mark, and have said so when there was no feed to tell: it would never say
            # it again. Or it may not, and would never say that it has drained. So it is looked at until it has.
            self._flags = _PAUSED
            self._shared.wheel.schedule(self, SLOT_S)

    # Not a table: nearly all feeds have one subscription, none has more than a few hundred. And never changed but
    # replaced, so that whoever walks over them is not disturbed.
    @property
    def _subscriptions(self) -> tuple[Subscription, ...]:
        of = self._of
        return of if isinstance(of, tuple) else (of,)

    @_subscriptions.setter
    def _subscriptions(self, them: tuple[Subscription, ...]) -> None:
        self._of = them[0] if len(them) == 1 else them  # a tuple of one is 48 bytes

    @property
    def is_paused(self) -> bool:
        """True while the link is over its high-water mark."""
        return bool(self._flags & _PAUSED)

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """All that were added and not removed, in that order."""
        return self._subscriptions

    # -- what the owner asks

    async def add(self, channel: str, position: Position | None, history: int = 0) -> Started:
        """Add a channel, and say where its delivery will go on from once `start` is called.

        `position` None: `history` publications back, or from now on. Waits until the channel is followed here, however
        long the broker is away. Raises ChannelError `already_subscribed`; `not_subscribed` if it was removed, or the
        feed closed, meanwhile. Cancelling it removes the channel.
        """
        if self._flags & _ENDED:
            raise ChannelError("not_subscribed", "The stream has ended.")
        if self._find(channel) is not None:
            raise ChannelError("already_subscribed")
        node_channel = self._source.channel(channel)
        subscription = Subscription(self, node_channel)
        self._subscriptions += (subscription,)
        node_channel.hold()
        try:
            subscription.wait = Wait()
            located = await locate(node_channel, position, history, subscription.wait)
            subscription.wait = None
        except BaseException:
            self._end(subscription)
            raise
        if subscription.state is SubscriptionState.ENDED:
            raise ChannelError("not_subscribed", "It was ended before it began.")
        subscription.position = located.position
        return Started(located.position, located.was_recovered)

    def start(self, channels: Iterable[str]) -> None:
        """Begin the delivery of channels that were added; unknown ones and those begun are ignored.

        A channel whose position is `flushed`, between two flushes, is LIVE when this returns.
        """
        names = set(channels)
        for subscription in self._subscriptions:
            if (
                subscription.state is SubscriptionState.REQUESTED
                and subscription.position is not None
                and subscription.channel.name in names
            ):
                subscription.move(SubscriptionEvent.GRANTED)
        self.wake()

    def remove(self, channel: str) -> Position | None:
        """End a subscription at once; the last position written to the link. None: there was none, or no start yet."""
        subscription = self._find(channel)
        if subscription is None:
            return None
        position = subscription.written
        self._end(subscription)
        return position

    def position(self, channel: str) -> Position | None:
        """The last position of this channel written to the link; None: not subscribed, or its start is not settled."""
        subscription = self._find(channel)
        return None if subscription is None else subscription.written

    def channels(self) -> list[str]:
        """The names of all channels that were added and not removed, in that order."""
        return [subscription.channel.name for subscription in self._subscriptions]

    def close(self) -> None:
        """The link has ended: leave everything at once. Safe to call twice."""
        self._flags |= _ENDED
        self._rest()
        self._shared.wheel.cancel(self)
        for subscription in self._subscriptions:
            self._end(subscription)

    def link_paused(self) -> None:
        """The link is over its high-water mark: leave the LIVE sets, with one position each."""
        self._flags |= _PAUSED
        self._shared.tally.lagged += 1
        self._rest()
        for subscription in self._subscriptions:
            self._leave(subscription, SubscriptionEvent.LAGGED)

    def link_resumed(self) -> None:
        """The link has drained: read on from the log, and become LIVE again."""
        self._flags &= ~_PAUSED
        self.wake()

    # -- what channels tell

    def wake(self) -> None:
        """Something that this feed waited for has come: take a turn, if there is anything to do."""
        if self._turn_handle is not None:
            self._turn_handle.cancel()
        self._turn()

    def fall_behind(self, subscription: Subscription) -> None:
        """What the channel flushes next cannot be written to its links: read it from the log."""
        self._leave(subscription, SubscriptionEvent.LAGGED)
        self._turn_soon()

    def restart(self, subscription: Subscription) -> None:
        """The channel's log was replaced while the subscription was LIVE; it goes on after the channel's `flushed`."""
        self._leave(subscription, SubscriptionEvent.GAP)
        self._reset(subscription, subscription.channel.flushed, LOG_REPLACED)

    def fail(self) -> None:
        """The link broke its promise not to raise: it is given up."""
        self.close()
        try:
            self.link.abort()
        except Exception:
            _log.exception("a link that failed could not be aborted")

    def wheel_fired(self) -> None:
        """The broker could not be reached when a page was wanted, or the link was full when the feed began."""
        self._flags &= ~_READING
        if self._flags & _PAUSED and self.link.buffered() <= self._shared.limits.low_water_bytes:
            self._flags &= ~_PAUSED
        elif self._flags & _PAUSED:
            self._shared.wheel.schedule(self, SLOT_S)
        self.wake()

    # -- turns

    def _turn_soon(self) -> None:
        if self._turn_handle is None and not self._flags & (_PAUSED | _ENDED):
            self._turn_handle = self._shared.loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Let everything join that can, and write a turn of the next channel that cannot yet."""
        self._turn_handle = None
        count = len(self._subscriptions)
        first = self._next % count if count else 0
        # The one whose turn it is comes first.
        ordered = self._subscriptions[first:] + self._subscriptions[:first]
        has_written = has_more = False
        for index, subscription in enumerate(ordered, first):
            if self._flags & (_PAUSED | _ENDED):
                return
            if not subscription.is_behind or subscription.is_parked or self._join(subscription):
                continue
            if has_written:
                has_more = True
            elif self._advance(subscription):
                has_written = True
                self._next = index + 1
                has_more = subscription.is_behind and not self._join(subscription)
        if has_more:
            self._turn_soon()

    def _join(self, subscription: Subscription) -> bool:
        """Become LIVE if the membership rule lets it."""
        channel = subscription.channel
        if not channel.is_joinable(subscription.position):
            return False
        channel.join(subscription, self.encoding)
        return True

    def _advance(self, subscription: Subscription) -> bool:
        """Write a turn of a subscription that is behind; False when it has to wait, and will be woken."""
        channel, position = subscription.channel, subscription.position
        assert position is not None
        flushed = channel.flushed
        if position == flushed:
            channel.park(subscription)  # in the middle of a fan-out
            return False
        reach = channel.ring.reach(position)
        if reach is Reach.FOREIGN:
            subscription.move(SubscriptionEvent.GAP)
            self._reset(subscription, flushed, LOG_DIFFERS)
            return False
        if position.offset > flushed.offset:
            # It has had more from another node than this one has written yet. A flush that moves past it is due.
            channel.park(subscription)
            return False
        if reach is Reach.HELD and position.offset == flushed.offset:
            subscription.position = flushed  # now its tag is known
            self._turn_soon()
            return False
        if reach is Reach.HELD:
            turn_bytes = self._shared.limits.catch_up_turn_bytes
            self._write(subscription, channel.ring.after(position.offset, flushed.offset, turn_bytes))
            return True
        entries = self._paged(subscription, flushed)
        if not entries:
            self._read(subscription)
            return False
        self._write(subscription, entries)
        return True

    def _paged(self, subscription: Subscription, flushed: Position) -> list[Entry]:
        """What the page that was read holds after the subscription's position, up to `flushed`."""
        if self._page is None or self._page.subscription is not subscription:
            return []
        position = subscription.position
        assert position is not None
        return [
            entry
            for entry in self._page.entries
            if position.offset < entry.publication.offset <= flushed.offset and entry.publication.epoch == flushed.epoch
        ]

    def _write(self, subscription: Subscription, entries: list[Entry]) -> None:
        """Write entries that follow the subscription's position, as many as make a turn."""
        turn_bytes = self._shared.limits.catch_up_turn_bytes
        payloads: list[bytes] = []
        size = 0
        position = subscription.position
        for entry in entries:
            payload = self._payload(subscription, entry)
            if payload == UNENCODABLE:
                break
            size += len(payload)
            if payloads and size > turn_bytes:
                break
            payloads.append(payload)
            position = entry.publication.position
        if not payloads:
            # The first one cannot be written in this encoding, now or ever: the client is told, not left waiting.
            self._reset(subscription, entries[0].publication.position, UNWRITABLE)
            return
        # Before it is written: a link that passes its high-water mark says so from inside `write`.
        subscription.position = position
        try:
            self.link.write(self.link.framing(payloads))
        except Exception:
            _log.exception("a link failed in its catch-up; it is aborted")
            self.fail()
        else:
            self._shared.tally.deliveries += len(payloads)

    def _payload(self, subscription: Subscription, entry: Entry) -> bytes:
        return entry.payload(self.encoding)

    # -- reading the log

    def _read(self, subscription: Subscription) -> None:
        """Ask for the page after the subscription's position; one page at a time for a feed."""
        if self._flags & _READING:
            return
        self._flags |= _READING
        self._page = None
        shared, position = self._shared, subscription.position
        assert position is not None
        max_bytes = min(shared.limits.catch_up_turn_bytes, shared.limits.recovery_page_max_bytes)
        page = shared.reads.page(subscription.channel.name, position, max_bytes)
        page.add_done_callback(lambda done: self._page_read(subscription, position, done))

    def _page_read(self, subscription: Subscription, position: Position, done: asyncio.Future[LogPage]) -> None:
        if done.cancelled() or self._flags & _ENDED:
            return
        error = done.exception()
        if error is not None and not isinstance(error, UnrecoverablePosition):
            # _READING stays, so that nothing else asks meanwhile.
            _log.warning("a catch-up in channel %r waits for the broker: %s", subscription.channel.name, error)
            self._shared.wheel.schedule(self, RETRY_S)
            return
        self._flags &= ~_READING
        if self._flags & _PAUSED:
            return  # it will be read when the link takes it
        if not subscription.is_behind or subscription.position is not position:
            self._turn_soon()
            return
        head = error.head if isinstance(error, UnrecoverablePosition) else done.result().head
        if error is None:
            self._page = _Paged(subscription, done.result().entries)
            if self._paged(subscription, subscription.channel.flushed):
                self._turn_soon()
                return
        self._cannot_continue(subscription, head)

    def _cannot_continue(self, subscription: Subscription, head: Position) -> None:
        """The log does not go on after the subscription's position; `head` is its head as read."""
        self._page = None
        channel = subscription.channel
        if head.epoch != channel.head.epoch or head.offset < channel.flushed.offset:
            # This node follows another life of the log than the broker has: heal first, then see.
            channel.park(subscription)
            channel.gap()
            return
        if not self.events.feed_fell_behind(channel.name):
            self._flags |= _ENDED
            self._rest()
            for other in self._subscriptions:
                self._leave(other, SubscriptionEvent.LAGGED)
            return
        if subscription.is_behind:
            subscription.move(SubscriptionEvent.GAP)
            self._reset(subscription, channel.flushed, TOO_OLD)

    # -- leaving

    def _reset(self, subscription: Subscription, position: Position, reason: str) -> None:
        """Tell the client what it cannot have, and go on after `position`."""
        self._shared.tally.resets[reason] += 1
        subscription.position = position
        try:
            self.events.feed_reset(subscription.channel.name, position)
        except Exception:
            # It comes from the middle of what is done for other links too.
            _log.exception("the owner of a link failed; the link is aborted")
            self.fail()
        self._turn_soon()

    def _leave(self, subscription: Subscription, event: SubscriptionEvent) -> None:
        """Leave the LIVE set, if it is in there."""
        if subscription.state is SubscriptionState.LIVE:
            subscription.channel.leave(subscription)
            subscription.move(event)

    def _end(self, subscription: Subscription) -> None:
        if subscription.state is SubscriptionState.ENDED:
            return
        self._leave(subscription, SubscriptionEvent.LAGGED)
        subscription.move(SubscriptionEvent.END)
        if subscription.wait is not None:
            subscription.wait.end()
        self._subscriptions = tuple(other for other in self._subscriptions if other is not subscription)
        if self._page is not None and self._page.subscription is subscription:
            self._page = None
        subscription.channel.release()

    def _rest(self) -> None:
        """Take no turn, and keep nothing for one."""
        self._page = None
        if self._turn_handle is not None:
            self._turn_handle.cancel()
            self._turn_handle = None

    # -- inside

    def _find(self, channel: str) -> Subscription | None:
        for subscription in self._subscriptions:
            if subscription.channel.name == channel:
                return subscription
        return None

    @property
    def _shared(self) -> Shared:
        return self._source.shared
