"""What this node knows of one channel while somebody on it listens: its head, its ring, its LIVE links, its flushes.

`head` is the last publication appended here, `flushed` the last one written to every LIVE link. That there are two is
the *membership rule* of the hot path: who is not LIVE is caught up to `flushed` and never beyond, and joins only
between two flushes, when his position *is* `flushed`. Leaving takes effect at once, also in the middle of a fan-out,
with the last position that was written to that very link. So every link gets every publication exactly once, in
order, however joins, leaves and slices of a fan-out fall (`tests/property/test_hub_model.py`).

The *flush rule*: at once if the last flush began `flush_interval_s` ago, otherwise at the end of that interval. A quiet
channel has no delay, a busy one gathers what comes in the meantime into one write for each link.

Live publications are appended only in order. Outside HOT they are held, bounded; what cannot follow the head means that
one was missed, and the log is read (`engine.upkeep`).
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from hybrid.engine.counts import SAMPLE_EVERY_S
from hybrid.engine.fanout import FanOut
from hybrid.engine.link import Framing, Segment
from hybrid.engine.live import Group, Writer
from hybrid.engine.ring import ENTRY_OVERHEAD_BYTES, UNENCODABLE, Entry, Ring
from hybrid.engine.shared import Shared
from hybrid.engine.wait import Wait
from hybrid.model import Position, Publication
from hybrid.protocol.pushes import Push
from hybrid.protocol.states import CHANNEL, ChannelEvent, ChannelState, SubscriptionEvent, SubscriptionState, next_state

if TYPE_CHECKING:
    from hybrid.engine.subscription import Subscription

_log = logging.getLogger(__name__)

ANNOUNCEMENTS_MAX = 1_024
"""Joins and leaves waiting for one flush; more are dropped: the next presence snapshot has them."""


class Channel:
    """See the module's text. Its life with the broker is driven by `engine.upkeep`."""

    __slots__ = (
        "_announcements",
        "_flush_handle",
        "_held",
        "_held_bytes",
        "_hot",
        "_joiners",
        "_last_flush_s",
        "_listeners",
        "_watchers",
        "fan_out",
        "flushed",
        "groups",
        "is_doubtful",
        "is_driven",
        "is_waiting_its_turn",
        "name",
        "ring",
        "shared",
        "state",
    )

    def __init__(self, name: str, shared: Shared) -> None:
        self.name = name
        self.shared = shared
        self.state = ChannelState.COLD
        self.ring = Ring(shared.rings)
        self.flushed = self.ring.head
        self.groups: dict[tuple[Writer, Framing], Group] = {}
        self.fan_out: FanOut | None = None
        self.is_doubtful = False  # another gap was reported while the last one is being healed
        self.is_driven = False  # a task of the upkeep works on it
        self.is_waiting_its_turn = False  # for a bundle that is being written by another channel
        self._listeners = 0
        self._flush_handle: asyncio.TimerHandle | None = None
        self._last_flush_s = float("-inf")
        self._announcements: list[tuple[int, Push]] = []
        self._held: list[Publication] = []
        self._held_bytes = 0
        self._hot: dict[asyncio.Future[None], None] = {}
        self._joiners: list[Subscription] = []
        self._watchers: dict[asyncio.Future[None], None] = {}

    @property
    def head(self) -> Position:
        """The last publication appended here."""
        return self.ring.head

    def move(self, event: ChannelEvent) -> None:
        """Go to the next state of the table."""
        self.state = next_state(CHANNEL, self.state, event)

    # -- who listens

    @property
    def listeners(self) -> int:
        """How many listen, or are about to."""
        return self._listeners

    @property
    def is_wanted(self) -> bool:
        """True while somebody listens, or waits to."""
        return self._listeners > 0

    @property
    def is_followed(self) -> bool:
        """True while whatever is published should arrive here."""
        return self.state is ChannelState.HOT or self.state is ChannelState.LINGERING

    def hold(self) -> None:
        """Somebody listens from now on: a subscription or a poll. Every hold needs its `release`."""
        self._listeners += 1
        if self.state is ChannelState.COLD:
            self.move(ChannelEvent.WANTED)
            self.shared.upkeep.drive(self)
        elif self.state is ChannelState.LINGERING:
            self.move(ChannelEvent.WANTED)
            self.shared.wheel.cancel(self)

    def release(self) -> None:
        """Somebody listens no more. The last one leaves the channel lingering, for the next poll or reload."""
        self._listeners -= 1
        self._linger_if_idle()

    def touch(self) -> None:
        """As `hold` and `release` for a poll that did not have to wait: it lingers for as long again."""
        if self.state is ChannelState.LINGERING:
            self.shared.wheel.schedule(self, self.shared.limits.channel_linger_s)

    def _linger_if_idle(self) -> None:
        if self.state is ChannelState.HOT and not self._listeners:
            self.move(ChannelEvent.UNWANTED)
            self.shared.wheel.schedule(self, self.shared.limits.channel_linger_s)

    def wheel_fired(self) -> None:
        """Nobody came back."""
        if self.state is ChannelState.LINGERING:
            self.expire()
            self.shared.upkeep.drive(self)

    def expire(self) -> None:
        """Give the channel up: nobody listens."""
        self.move(ChannelEvent.EXPIRED)
        self.cool()

    def cool(self) -> None:
        """Let go of everything that is only right while the broker delivers."""
        self._held.clear()
        self._held_bytes = 0
        self._announcements.clear()
        if self._flush_handle is not None:
            self._flush_handle.cancel()
            self._flush_handle = None
        self.ring.restart(self.ring.head)

    async def hot(self, wait: Wait) -> None:
        """Wait until the channel is HOT, however long the broker is away, or `wait` is ended.

        The caller holds the channel. Cancel-safe.
        """
        while self.state is not ChannelState.HOT and not wait.is_ended:
            future = wait.future = self.shared.loop.create_future()
            self._hot[future] = None
            try:
                await future
            finally:
                self._hot.pop(future, None)
                wait.future = None

    # -- what the upkeep tells

    def acknowledged(self) -> None:
        """The broker delivers from now on; its head can be read."""
        self.move(ChannelEvent.ACKNOWLEDGED)

    def head_read(self, head: Position) -> None:
        """The head, read after the broker acknowledged: everything up to it is history here."""
        self.ring.restart(head)
        self.flushed = head
        self._became_hot(ChannelEvent.HEAD_READ)

    def healed(self) -> None:
        """The log was read up to the broker's head, or that is ours."""
        self._became_hot(ChannelEvent.HEALED)

    def _became_hot(self, event: ChannelEvent) -> None:
        self.move(event)
        if self.is_doubtful:
            # What is held may be of another log than ours by now: it goes on waiting until the heads were compared.
            self.gap()
            return
        held, self._held, self._held_bytes = self._held, [], 0
        for publication in held:
            self.receive(publication)
        if self.state is not ChannelState.HOT:
            return
        hot, self._hot = self._hot, {}
        for future in hot:
            if not future.done():
                future.set_result(None)
        self._wake_watchers()
        self._wake_joiners()
        self._linger_if_idle()

    def restart(self, head: Position) -> None:
        """The log does not continue what was delivered here: everybody is told of a reset and goes on after `head`."""
        if self.fan_out is not None:
            self.fan_out.cancel()
            self.fan_out = None
            self.shared.bundles.ended()
        self._thaw()
        lost = [member for group in self.groups.values() for member in group.members if member is not None]
        self.ring.restart(head)
        self.flushed = head
        # Those that wait are placed behind offsets of the log that is gone, which might never come.
        self._announcements = [(head.offset, push) for _, push in self._announcements]
        for subscription in lost:
            # One's owner may close another's link, or end it, from inside.
            if subscription.state is SubscriptionState.LIVE:
                subscription.feed.restart(subscription)
        self._wake_joiners()
        self._wake_watchers()

    def purged(self, position: Position, former: str) -> None:
        """The log was emptied: what was published before is nobody's to have, what follows comes after `position`.

        `former` is the epoch that ended. Where that is not ours, a healing was here first and has read what became of
        the log since, another purge perhaps, or an earlier one was missed: only the log can tell.
        """
        if self.is_followed and self.head.epoch == position.epoch:
            return
        if self.is_followed and self.head.epoch == former:
            self.restart(position)
        else:
            self.gap()

    @property
    def held(self) -> int:
        """How many live publications are held back."""
        return len(self._held)

    def drop_held(self, count: int) -> None:
        """Drop the first `count` that are held: the log's head was read after they came, and is ours.

        What they told is in it, or (the broker fell back to an older copy) is in no log any more and would be waited
        for in vain, for ever.
        """
        del self._held[:count]
        self._held_bytes = sum(len(publication.data) + ENTRY_OVERHEAD_BYTES for publication in self._held)

    # -- what the broker delivers

    def receive(self, publication: Publication) -> None:
        """A live publication. Appended if it follows the head, dropped if it is known, otherwise one was missed."""
        state = self.state
        if state is ChannelState.HOT or state is ChannelState.LINGERING:
            head = self.ring.head
            if publication.offset == head.offset + 1 and (publication.epoch == head.epoch or head.offset == 0):
                self.append(publication)
            elif not self._is_known(publication):
                self.missed()
                self._hold_back(publication)
        elif state is ChannelState.READING or state is ChannelState.HEALING:
            self._hold_back(publication)
        # SUBSCRIBING: its head is read later, so this one is history. COLD: it crossed the unsubscribe.

    def append(self, publication: Publication) -> None:
        """Append the publication that follows the head."""
        self.shared.tally.publications += 1
        self.ring.append(publication, self.shared.clock.monotonic_s())
        self._flush_soon()

    def announce(self, push: Push) -> None:
        """A join or leave, for the LIVE links, behind what was appended so far. At most once: nothing heals it."""
        if not self.groups or len(self._announcements) >= ANNOUNCEMENTS_MAX:
            return
        self._announcements.append((self.head.offset, push))
        self._flush_soon()

    def gap(self) -> None:
        """Publications may have been missed: the heads are compared, and the log is read if they differ."""
        if self.state is ChannelState.COLD or self.state is ChannelState.SUBSCRIBING:
            return
        self.shared.tally.gaps += 1
        if self.state is ChannelState.LINGERING:
            self.shared.wheel.cancel(self)
        self.is_doubtful = self.state in (ChannelState.READING, ChannelState.HEALING)
        self.move(ChannelEvent.GAP)
        if self.state is ChannelState.HEALING:
            self.shared.upkeep.doubt(self)

    def missed(self) -> None:
        """Publications were missed for certain: the log is read without comparing first."""
        self.shared.tally.gaps += 1
        if self.state is ChannelState.LINGERING:
            self.shared.wheel.cancel(self)
        self.move(ChannelEvent.GAP)
        self.shared.upkeep.drive(self)

    def _is_known(self, publication: Publication) -> bool:
        """True for one that was appended already, or is older than what is kept here.

        False when the log has another entry at that offset: a replica without our last entries was promoted.
        """
        ring = self.ring
        if publication.epoch != ring.head.epoch or publication.offset > ring.head.offset:
            return False
        return publication.offset < ring.base.offset or ring.position_at(publication.offset).tag == publication.tag

    def _hold_back(self, publication: Publication) -> None:
        self._held_bytes += len(publication.data) + ENTRY_OVERHEAD_BYTES
        if self._held_bytes > self.shared.limits.ring_max_bytes:
            # More came than may wait here. The log has them: healing reads on until nothing was dropped meanwhile.
            self._held.clear()
            self._held_bytes = 0
            self.is_doubtful = True
            return
        self._held.append(publication)

    # -- membership

    def join(self, subscription: Subscription, writer: Writer) -> None:
        """Make a subscription LIVE. Its position is `flushed` and no fan-out is on (`is_joinable`)."""
        framing = subscription.feed.link.framing
        group = self.groups.get((writer, framing))
        if group is None:
            group = self.groups[writer, framing] = Group(writer, framing)
        group.add(subscription)
        subscription.position = None
        subscription.move(SubscriptionEvent.CAUGHT_UP)

    def is_joinable(self, position: Position | None) -> bool:
        """The membership rule: between two flushes, and exactly at `flushed`."""
        return self.fan_out is None and position == self.flushed

    def leave(self, subscription: Subscription) -> None:
        """Take a LIVE subscription out of the LIVE set, at once; it keeps the last position written to its link."""
        subscription.position = self.written_to(subscription)
        group = subscription.group
        assert group is not None
        group.remove(subscription, is_frozen=self.fan_out is not None)
        if not group.links:
            del self.groups[group.writer, group.framing]

    def written_to(self, subscription: Subscription) -> Position:
        """The last position written to a LIVE subscription's link."""
        fan_out, group = self.fan_out, subscription.group
        if fan_out is not None and group is not None and subscription.place < group.written:
            return fan_out.target
        return self.flushed

    def park(self, subscription: Subscription) -> None:
        """Wake the subscription's feed when a flush has ended or the channel is HOT again."""
        subscription.is_parked = True
        self._joiners.append(subscription)

    def watch(self, future: asyncio.Future[None]) -> None:
        """Resolve the future when `flushed` has moved or the channel has become HOT; it is forgotten then."""
        self._watchers[future] = None

    def unwatch(self, future: asyncio.Future[None]) -> None:
        """Forget a watching future."""
        self._watchers.pop(future, None)

    def _wake_joiners(self) -> None:
        joiners, self._joiners = self._joiners, []
        for subscription in joiners:
            subscription.is_parked = False
            subscription.feed.wake()

    def _wake_watchers(self) -> None:
        if self._watchers:
            watchers, self._watchers = self._watchers, {}
            for future in watchers:
                if not future.done():
                    future.set_result(None)

    # -- flushing

    @property
    def live_links(self) -> int:
        """How many links are in the LIVE set."""
        return sum(map(len, self.groups.values()))

    @property
    def live_writers(self) -> list[Writer]:
        """What is listened to: an encoding or bundle for each group that has members."""
        return [group.writer for group in self.groups.values() if len(group)]

    def _flush_soon(self) -> None:
        if self.fan_out is not None or self._flush_handle is not None or self.is_waiting_its_turn:
            return
        if not self.groups:
            self._flushed_to(self.ring.head)  # nobody to gather for
            return
        limits = self.shared.limits
        wait_s = self._last_flush_s + limits.flush_interval_s - self.shared.clock.monotonic_s()
        if wait_s <= 0:
            self.flush()
        else:
            self._flush_handle = self.shared.loop.call_later(wait_s, self._flush_due)

    def _flush_due(self) -> None:
        self._flush_handle = None
        self.flush()

    def flush(self) -> None:
        """Write what was appended since the last flush to the LIVE links, or wait for the turn of a shared bundle."""
        if not self.shared.bundles.admits(self):
            self.shared.bundles.wait(self)
        else:
            self.flush_admitted()

    def flush_admitted(self) -> None:
        """The flush itself, when it is the channel's turn."""
        now_s = self._last_flush_s = self.shared.clock.monotonic_s()
        if self.ring.base.offset > self.flushed.offset:
            # More was appended than a ring may hold before it could be written; only the log can continue now.
            for group in list(self.groups.values()):
                self._send_to_log(group)
        if not self.groups:
            self._announcements.clear()
            self._flushed_to(self.ring.head)
            return
        entries = self.ring.after(self.flushed.offset, self.head.offset, self.shared.limits.flush_max_bytes)
        target = entries[-1].publication.position if entries else self.flushed
        plan = self._plan(entries, target)
        tally = self.shared.tally
        tally.flushes += 1
        since_s = None
        if now_s >= tally.sample_from_s and entries:
            tally.sample_from_s = now_s + SAMPLE_EVERY_S
            since_s = entries[0].since_s
        self.fan_out = FanOut(self, plan, target, len(entries), since_s)
        self.fan_out.step()

    def _plan(self, entries: list[Entry], target: Position) -> list[tuple[Group, Segment]]:
        announcements: list[tuple[int, Push]] = []
        while self._announcements and self._announcements[0][0] <= target.offset:
            announcements.append(self._announcements.pop(0))
        plan: list[tuple[Group, Segment]] = []
        made: dict[Writer, list[bytes] | None] = {}
        for group in list(self.groups.values()):
            writer = group.writer
            if writer not in made:
                made[writer] = self._payloads(writer, entries, announcements)
            payloads = made[writer]
            if payloads is None:
                self._send_to_log(group)
            elif payloads:
                try:
                    plan.append((group, group.framing(payloads)))
                except Exception:
                    _log.exception("a flush of channel %r cannot be framed by %s", self.name, group.framing)
                    self._send_to_log(group)
        return plan

    def _payloads(
        self, writer: Writer, entries: list[Entry], announcements: list[tuple[int, Push]]
    ) -> list[bytes] | None:
        """What a writer's links are written in this flush; None when a publication cannot be written."""
        payloads = writer.payloads(self, entries)
        if UNENCODABLE in payloads:
            return None
        # From behind, so that the places of the earlier ones stay.
        for after, push in reversed(announcements):
            announced = writer.announce(push)
            if announced is not None:
                place = max(0, after - self.flushed.offset)
                payloads = [*payloads[:place], announced, *payloads[place:]]
        return payloads

    def _send_to_log(self, group: Group) -> None:
        """Let the members of a group read the log one by one: there each is told what it cannot have."""
        for member in list(group.members):
            if member is not None:
                member.feed.fall_behind(member)

    def fan_out_ended(self) -> None:
        """Every LIVE link has been written to."""
        assert self.fan_out is not None
        target, self.fan_out = self.fan_out.target, None
        self._thaw()
        self._flushed_to(target)
        self.shared.bundles.ended()

    def _thaw(self) -> None:
        for key, group in list(self.groups.items()):
            group.thaw()
            if not group.links:
                del self.groups[key]

    def _flushed_to(self, target: Position) -> None:
        """`flushed` has moved. Who waited for that gets a turn before the next flush begins."""
        self.flushed = target
        self._wake_watchers()
        self._wake_joiners()
        if self._flush_handle is not None or self.fan_out is not None or self.is_waiting_its_turn:
            return
        if self.head.offset > target.offset or self._announcements:
            wait_s = self._last_flush_s + self.shared.limits.flush_interval_s - self.shared.clock.monotonic_s()
            self._flush_handle = self.shared.loop.call_later(max(0.0, wait_s), self._flush_due)
