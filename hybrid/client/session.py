"""The logical session: it owns the truth about its channels, whatever leg carries them.

The server remembers nothing that matters. Every attach names every channel with the position that was received last, so
a cut, another node, another transport and a restart are one case: continue after this position. Only the leg that is
taking is listened to (see `legs`), so two legs that overlap during a move can neither repeat nor reorder anything; what
comes is held against positions all the same (see `subscription`).

Rules: `docs/protocol.md`, part B.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Final, TypeVar

from hybrid.client.calls import Answer, Calls
from hybrid.client.credentials import Credentials, TokenFailed
from hybrid.client.ending import error_of, error_of_wire, is_passing
from hybrid.client.endpoint import Endpoint
from hybrid.client.leg import Leg
from hybrid.client.legs import Legs
from hybrid.client.subscription import Outcome, State, Subscription
from hybrid.client.timing import Timing
from hybrid.client.values import Hooks, LegEvent, Stats, received
from hybrid.errors import ChannelError, HybridError, ProtocolError
from hybrid.model import Position, PresenceEntry
from hybrid.protocol.commands import (
    AnyCommand,
    AttachSubscription,
    PolledPosition,
    Refresh,
    Subscribe,
    Unsubscribe,
)
from hybrid.protocol.cursor import from_wire, to_wire
from hybrid.protocol.pushes import (
    Attached,
    AttachedLimits,
    Invitation,
    Push,
    Reply,
    Subscribed,
    SubscribedAll,
    WirePublication,
)

_Value = TypeVar("_Value")
_log: Final = logging.getLogger(__name__)
_ALREADY_SUBSCRIBED: Final = 3411
_NOT_SUBSCRIBED: Final = 3412
_SESSION_UNKNOWN: Final = 3404
_RETRY_S: Final = 1.0  # where the server does not say when to ask again


class Session:
    """See the module's text. `run` and the tasks it starts live in the group that the client opens."""

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: Credentials,
        transports: tuple[str, ...],
        *,
        encoding: str,
        timing: Timing,
        buffer_max: int,
        hooks: Hooks,
        group: asyncio.TaskGroup,
        on_subscribe: Callable[[str, Position], object] | None = None,
    ) -> None:
        self._on_subscribe = on_subscribe
        self.endpoint = endpoint
        self.credentials = credentials
        self.encoding = encoding
        self.last_seq = 0
        self.sealed = ""
        self.poll_wait_s = 25.0
        self.error: HybridError | None = None
        self.limits: AttachedLimits | None = None
        self.stats = Stats()
        self.legs = Legs(self, transports, timing, self.stats, hooks, group)
        self._buffer_max = buffer_max
        self._group = group
        self._loop = asyncio.get_running_loop()
        self._subscriptions: dict[str, Subscription] = {}
        self._joined: set[str] = set()
        self._resting: set[str] = set()  # asked for in vain, and again in a while
        self._calls = Calls()
        self._hooks = hooks
        self._session = ""

    # -- for the client

    async def subscribe(self, channel: str, position: Position | None, history: int) -> Subscription:
        """Take a channel into the session; returns when the server has answered. Raises HybridError.

        Cancelling it takes the channel out again.
        """
        self._raise_if_over()
        if channel in self._subscriptions:
            raise ChannelError("already_subscribed")
        subscription = Subscription(self, channel, position, history, self._buffer_max)
        self._subscriptions[channel] = subscription
        self._join(subscription)
        try:
            await asyncio.shield(subscription.ready)
        except asyncio.CancelledError:
            if not subscription.ready.done():
                self._leave(subscription, lambda answer: None)
            raise
        return subscription

    async def unsubscribe(self, subscription: Subscription) -> None:
        """See `Subscription.unsubscribe`."""
        if subscription.is_ended or self._subscriptions.get(subscription.channel) is not subscription:
            return
        left: asyncio.Future[None] = self._loop.create_future()
        self._leave(subscription, lambda answer: _settle(left, None))
        await left

    async def call(self, command: AnyCommand) -> Reply:
        """Send a command, again on another leg if need be, and return its answer. Raises HybridError.

        Cancelling it does not take back what was sent.
        """
        self._raise_if_over()
        answered: asyncio.Future[Answer] = self._loop.create_future()
        call = self._calls.add(command, lambda answer: _settle(answered, answer))
        self.send_all()
        try:
            answer = await answered
        except asyncio.CancelledError:
            self._calls.forget(call)
            raise
        if isinstance(answer, HybridError):
            raise answer
        if answer.error is not None:
            raise error_of_wire(answer.error)
        return answer

    async def refresh(self) -> None:
        """Get a new token and tell the server, in the connection. Raises HybridError."""
        self.credentials.invalidate()
        token = await self.credentials.token()
        if self.legs.current is not None and self.legs.current.is_polled:
            self.legs.current.poll_anew()  # every poll brings its token along
        elif self.legs.current is not None and token is not None:
            reply = await self.call(Refresh(token=token))
            self.credentials.expires_in(reply.token_expires_in_s)

    def close(self, error: HybridError | None = None) -> None:
        """End everything that waits or reads: with an error, or None where the client itself is done."""
        if self.error is None:
            self.error = error or HybridError("session_unknown", "The client is closed.")
            self.legs.become("disconnected", str(error or ""))
            if error is not None:
                self._hooks.error(error)
        for subscription in list(self._subscriptions.values()):
            subscription.end(error)
        self._subscriptions.clear()
        self._calls.fail_all(self.error)
        self.legs.abort_all()

    @property
    def id(self) -> str:
        """As the server named it; "" before the first attach."""
        return self._session

    # -- for the subscriptions and the legs

    def has_room(self, subscription: Subscription) -> None:
        """See `SubscriptionOwner.has_room`."""
        if subscription.channel not in self._joined and self._subscriptions.get(subscription.channel) is subscription:
            self._join(subscription)

    def positions(self) -> list[PolledPosition]:
        """See `LegHost.positions`. While a polled leg is being confirmed, those of all channels that are wanted."""
        is_confirming = self.legs.taking is not self.legs.current
        wanted = (State.NEW, State.REQUESTED, State.LIVE)
        return [
            PolledPosition(subscription.channel, to_wire(subscription.received))
            for subscription in self._subscriptions.values()
            if subscription.received is not None
            and (subscription.state in wanted if is_confirming else subscription.channel in self._joined)
        ]

    @property
    def is_at_rest(self) -> bool:
        """See `LegsOwner.is_at_rest`."""
        return not self._calls.has_membership_in_flight

    def identity(self, is_polled: bool) -> tuple[str, int]:
        """See `LegsOwner.identity`.

        A polled leg has no numbers: what is still unanswered could never be repeated on it, so it starts a new session.
        """
        return ("", 0) if is_polled and self._calls.has_numbered else (self._session, self.last_seq)

    def confirming(self, leg: Leg) -> list[AttachSubscription]:
        """See `LegsOwner.confirming`."""
        wanted = self._wanted(is_asked=True)
        if leg.is_polled:
            # A poll confirms with positions: a channel that has none and came after the attach is asked for later.
            attached = {item.channel for item in leg.attach.subscriptions}
            for item in wanted:
                if item.position is None and item.channel not in attached:
                    self._subscriptions[item.channel].state = State.NEW
        return wanted

    def leg_lost(self) -> None:
        """See `LegsOwner.leg_lost`: the next attach names every channel that is wanted."""
        self._calls.leg_lost()
        for subscription in self._subscriptions.values():
            if subscription.state in (State.REQUESTED, State.LIVE):
                subscription.state = State.NEW

    def forget_session(self) -> None:
        """See `LegsOwner.forget_session`."""
        self._session = ""
        self.last_seq = 0

    def send_all(self) -> None:
        """See `LegsOwner.send_all`."""
        if self.legs.current is not None:
            self._calls.send_all(
                self.legs.current, self._loop.time(), sealed=self.sealed, may_change=not self.legs.is_moving
            )

    def subscriptions_for(self, leg: Leg) -> list[AttachSubscription]:
        """See `LegHost.subscriptions_for`."""
        return self._wanted(is_asked=leg is self.legs.taking)

    def leg_pushed(self, leg: Leg, push: Push) -> None:
        """See `LegHost.leg_pushed`."""
        if push.attached is not None:
            self._attached(leg, push.attached)
        elif push.reply is not None:
            self._replied(push.reply)
        elif leg is self.legs.taking and not self._is_known(push.seq):
            self._take(leg, push)

    # -- connecting

    def _wanted(self, *, is_asked: bool) -> list[AttachSubscription]:
        wanted = []
        for subscription in self._subscriptions.values():
            if subscription.state in (State.PAUSED, State.ENDED):
                continue
            if is_asked:
                subscription.ask()
            position = None if subscription.received is None else to_wire(subscription.received)
            history = subscription.history if position is None else 0
            wanted.append(AttachSubscription(subscription.channel, position, history))
        return wanted

    # -- what comes in

    def _attached(self, leg: Leg, attached: Attached) -> None:
        if leg.opened.done():
            if leg is self.legs.taking:
                # A poll was answered by a node that did not know the session, or what is on its way to another one.
                self._adopt(leg, has_said_all=False)
            return
        if self.legs.opened(leg, attached):
            self.limits = attached.limits
            self._calls.key_window_s = attached.limits.key_window_s
            self.credentials.expires_in(attached.token_expires_in_s)

    def _is_known(self, seq: int) -> bool:
        """Numbered pushes come again until they are acknowledged."""
        if not seq:
            return False
        if seq <= self.last_seq:
            return True
        self.last_seq = seq
        return False

    def _adopt(self, leg: Leg, *, has_said_all: bool = True) -> None:
        if leg.session != self._session:
            self.last_seq = 0
            self._session = leg.session
        for call in self._calls.begin_session(leg.session, has_said_all=has_said_all):
            call.answer(Reply())

    def _take(self, leg: Leg, push: Push) -> None:
        if push.publication is not None:
            self._published(push.publication)
        elif push.subscribed is not None:
            self._subscribed(leg, push.subscribed)
        elif push.reset is not None:
            subscription = self._subscriptions.get(push.reset.channel)
            if subscription is not None:
                self.stats.resets += subscription.hear_reset(from_wire(push.reset.position))
        elif push.subscribe is not None:
            self._invited(push.subscribe)
        elif push.unsubscribed is not None:
            subscription = self._subscriptions.get(push.unsubscribed.channel)
            if subscription is not None:
                self._end(subscription, error_of(push.unsubscribed.error) if push.unsubscribed.error else None)
        elif push.expiring is not None:
            self._group.create_task(self._refresh_quietly())
        elif push.join is not None or push.leave is not None:
            change = push.join or push.leave
            assert change is not None
            subscription = self._subscriptions.get(change.channel)
            if subscription is not None and subscription.on_presence is not None:
                what = "join" if push.join is not None else "leave"
                try:
                    subscription.on_presence(what, PresenceEntry(change.subject, change.client))
                except Exception:
                    _log.exception("on_presence failed")  # the application's fault must not end everybody's leg

    def _invited(self, invitation: Invitation) -> None:
        """The server asks for a subscription: for the application to decide."""
        if self._on_subscribe is not None and invitation.channel not in self._subscriptions:
            try:
                self._on_subscribe(invitation.channel, from_wire(invitation.position))
            except Exception:
                _log.exception("on_subscribe failed")

    async def _refresh_quietly(self) -> None:
        """A failure is no end: the old token lives a little longer, and the next attach asks for another."""
        try:
            await self.refresh()
        except HybridError as error:
            self.legs.record(LegEvent(self._loop.time(), "refresh failed", "", 0, error.row.number, str(error)))
        except TokenFailed as error:
            self.legs.record(LegEvent(self._loop.time(), "refresh failed", "", 0, 0, str(error)))

    def _published(self, wire: WirePublication) -> None:
        subscription = self._subscriptions.get(wire.channel)
        if subscription is None:
            self.stats.dropped += 1
            return
        try:
            publication = received(wire)
        except (ValueError, TypeError, KeyError) as error:
            raise ProtocolError("bad_request", "A publication's binary data is not Base64.") from error
        outcome = subscription.receive(publication)
        if outcome is Outcome.TAKEN:
            self.stats.received += 1
        elif outcome is not Outcome.HELD:
            self.stats.dropped += 1
            self.stats.gaps += outcome is Outcome.GAP
            if outcome is Outcome.OVERFLOW or (outcome is Outcome.GAP and not self._is_polled):
                self._join_again(subscription)  # the next poll names the position by itself

    @property
    def _is_polled(self) -> bool:
        return self.legs.taking is not None and self.legs.taking.is_polled

    def _subscribed(self, leg: Leg, truth: SubscribedAll) -> None:
        is_new_leg = self.legs.current is not leg
        if is_new_leg:
            self._calls.leg_lost()
            self._adopt(leg)
        if truth.sealed:
            self.sealed = truth.sealed
        named = {item.channel for item in truth.channels}
        self._joined = {item.channel for item in truth.channels if not item.error}
        for item in truth.channels:
            self._answered(item)
        for subscription in list(self._subscriptions.values()):
            was_named = subscription.state is State.LIVE or (is_new_leg and subscription.state is State.REQUESTED)
            if was_named and subscription.channel not in named:
                self._end(subscription, error_of(_NOT_SUBSCRIBED))
        if is_new_leg:
            self.legs.subscribed(leg)
            for subscription in list(self._subscriptions.values()):
                if subscription.state is State.NEW and subscription.channel not in self._resting:
                    self._join(subscription)
        self.send_all()

    def _answered(self, item: Subscribed) -> None:
        subscription = self._subscriptions.get(item.channel)
        if subscription is None or subscription.state in (State.ENDED, State.PAUSED):
            if not item.error:
                # It was given up while the attach was on its way.
                self._calls.add(Unsubscribe(channel=item.channel), lambda answer: self._left(item.channel, answer))
        elif is_passing(item.error):
            self._join_later(subscription)
        elif item.error:
            self._end(subscription, error_of(item.error))
        elif item.position is not None:
            self._go_on(subscription, from_wire(item.position), item.recovered)

    def _go_on(self, subscription: Subscription, position: Position, was_recovered: bool) -> None:
        before = subscription.resets
        self.stats.received += subscription.go_on(position, was_recovered=was_recovered)
        self.stats.resets += subscription.resets - before
        if subscription.is_behind:
            self._join_again(subscription)

    # -- joining and leaving

    def _join(self, subscription: Subscription) -> None:
        """Ask for a channel on the current leg; without one the next attach names it."""
        subscription.state = State.NEW
        if self.legs.current is None:
            return
        subscription.ask()
        position = None if subscription.received is None else to_wire(subscription.received)
        history = subscription.history if position is None else 0
        self._calls.add(
            Subscribe(channel=subscription.channel, position=position, history=history),
            lambda answer: self._join_answered(subscription, answer),
        )
        self.send_all()

    def _join_answered(self, subscription: Subscription, answer: Answer) -> None:
        if isinstance(answer, HybridError):
            self._end(subscription, answer)
            return
        if answer.sealed:
            self.sealed = answer.sealed
        if answer.error is not None and is_passing(answer.error.number, answer.error.retry_after_s):
            if subscription.state is State.REQUESTED:
                self._join_later(subscription, answer.error.retry_after_s)
            return
        if answer.error is not None and answer.error.number not in (_ALREADY_SUBSCRIBED, _SESSION_UNKNOWN):
            self._end(subscription, error_of_wire(answer.error))
            return
        self._joined.add(subscription.channel)
        if subscription.state is not State.REQUESTED:
            return  # an attach has said it all meanwhile
        if answer.position is not None:
            self._go_on(subscription, from_wire(answer.position), answer.recovered is not False)
            if self.legs.current is not None:
                self.legs.current.poll_anew()
        elif answer.error is not None and self.legs.taking is not self.legs.current:
            self._joined.discard(subscription.channel)  # the confirm that is on its way has named it
        elif answer.error is not None:
            # The server is not where we thought; a new leg, and its attach, names every channel.
            subscription.state = State.NEW
            self._joined.discard(subscription.channel)
            self.legs.cut()

    def _join_later(self, subscription: Subscription, delay_s: float | None = None) -> None:
        """The server cannot say now, such as while its broker is away: that is no reason to give the channel up."""
        subscription.state = State.NEW
        self._joined.discard(subscription.channel)
        self._resting.add(subscription.channel)
        wait_s = (_RETRY_S if delay_s is None else delay_s) * (1.0 + random.random())
        self._loop.call_later(wait_s, self._join_at_last, subscription)

    def _join_at_last(self, subscription: Subscription) -> None:
        self._resting.discard(subscription.channel)
        is_wanted = self._subscriptions.get(subscription.channel) is subscription
        if is_wanted and subscription.state is State.NEW and self.error is None:
            self._join(subscription)

    def _leave(self, subscription: Subscription, answered: Callable[[Answer], object]) -> None:
        """Give a channel up. It stays known until the server has answered, so that polls still fit their seal."""
        subscription.end()

        def left(answer: Answer) -> None:
            if self._subscriptions.get(subscription.channel) is subscription:
                del self._subscriptions[subscription.channel]
            self._left(subscription.channel, answer)
            answered(answer)

        if self.legs.current is None:
            left(Reply())
        else:
            self._calls.add(Unsubscribe(channel=subscription.channel), left)
            self.send_all()

    def _join_again(self, subscription: Subscription) -> None:
        """Leave the channel and, when there is room, join it after the last publication that was received."""
        subscription.state = State.PAUSED
        subscription.failures += 1

        def join() -> None:
            if subscription.state is State.PAUSED and subscription.has_room and self.error is None:
                self._join(subscription)

        def left(answer: Answer) -> None:
            self._left(subscription.channel, answer)
            if subscription.failures > 1:
                # It came no further than last time: a channel that cannot be continued must not be asked in a loop.
                self._loop.call_later(min(0.1 * 2**subscription.failures, 5.0), join)
            else:
                join()

        self._calls.add(Unsubscribe(channel=subscription.channel), left)
        self.send_all()

    def _left(self, channel: str, answer: Answer) -> None:
        self._joined.discard(channel)
        if isinstance(answer, Reply) and answer.sealed:
            self.sealed = answer.sealed
        if self.legs.current is not None:
            self.legs.current.poll_anew()

    def _end(self, subscription: Subscription, error: HybridError | None) -> None:
        if self._subscriptions.get(subscription.channel) is subscription:
            del self._subscriptions[subscription.channel]
        self._joined.discard(subscription.channel)
        subscription.end(error)

    # -- plumbing

    def _replied(self, reply: Reply) -> None:
        call = self._calls.replied(reply)
        if call is not None:
            if call.sent_s is not None:
                self.stats.latency_s = self._loop.time() - call.sent_s
            call.answer(reply)
            self.legs.changed()
            self.send_all()
        elif not reply.id and reply.error is not None and self.legs.current is None:
            self.legs.cut()  # the confirm was refused: begin again

    def _raise_if_over(self) -> None:
        if self.error is not None:
            raise self.error


def _settle(future: asyncio.Future[_Value], value: _Value) -> None:
    """Give a future its result, unless whoever waited for it was cancelled."""
    if not future.done():
        future.set_result(value)
