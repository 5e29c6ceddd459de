"""The logical session: it owns the truth about its channels and keeps one leg current, whatever the network does.

The server remembers nothing that matters. Every attach names every channel with the position that was received last, so
a cut, another node, another transport and a restart are one case: continue after this position. Exactly one leg is
*taking*: the one that was confirmed last. Publications of any other leg are not looked at, so two legs that overlap
during a move can neither repeat nor reorder anything.

    attach (candidate) --nonce came back--> confirm --subscribed--> current --cut, replaced, ended--> attach ...

Rules: `docs/protocol.md`, part B and "Choosing a transport".
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from hybrid.client.backoff import Backoff
from hybrid.client.calls import Answer, Calls
from hybrid.client.credentials import Credentials, TokenFailed
from hybrid.client.ending import Ending, error_of, error_of_wire, network, of_number
from hybrid.client.endpoint import Endpoint
from hybrid.client.leg import Leg
from hybrid.client.longpoll import LongPollLeg
from hybrid.client.sse import SseLeg
from hybrid.client.subscription import Outcome, State, Subscription
from hybrid.client.values import LegEvent, Stats, received
from hybrid.client.websocket import WebSocketLeg
from hybrid.errors import ChannelError, HybridError, ProtocolError
from hybrid.model import Position, PresenceEntry
from hybrid.protocol.commands import (
    AnyCommand,
    Attach,
    AttachSubscription,
    ClientInfo,
    PolledPosition,
    Refresh,
    Subscribe,
    Unsubscribe,
)
from hybrid.protocol.cursor import from_wire, to_wire
from hybrid.protocol.pushes import Attached, Push, Reply, Subscribed, SubscribedAll, WirePublication

LEGS: Final[dict[str, type[Leg]]] = {"websocket": WebSocketLeg, "sse": SseLeg, "longpoll": LongPollLeg}
"""Every transport there is, the best first."""
_Value = TypeVar("_Value")
_log: Final = logging.getLogger(__name__)
_LOG_MAX: Final = 1_000
_ROTATED: Final = 4412
_REPLACED: Final = 4509
_ALREADY_SUBSCRIBED: Final = 3411
_NOT_SUBSCRIBED: Final = 3412
_SESSION_UNKNOWN: Final = 3404
_CREDENTIAL_FAILURES_MAX: Final = 2


@dataclass(frozen=True, slots=True)
class Timing:
    """What the session waits for, in seconds."""

    connect_timeout_s: float = 10.0  # from the first byte to the nonce
    head_start_s: float = 0.5  # of a transport before the next worse one starts beside it
    settled_after_s: float = 5.0  # a leg that lived this long was no failure: the backoff starts from short again
    backoff_base_s: float = 0.5
    backoff_max_s: float = 20.0
    probe_interval_s: float = 60.0  # between two looks for a better transport; doubles with each failure
    probe_interval_max_s: float = 600.0


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
        group: asyncio.TaskGroup,
    ) -> None:
        self.endpoint = endpoint
        self.credentials = credentials
        self.encoding = encoding
        self.last_seq = 0
        self.sealed = ""
        self.poll_wait_s = 25.0
        self.transports = transports
        self.stats = Stats()
        self.log: deque[LegEvent] = deque(maxlen=_LOG_MAX)
        self.error: HybridError | None = None
        self.current: Leg | None = None
        self._timing = timing
        self._buffer_max = buffer_max
        self._group = group
        self._loop = asyncio.get_running_loop()
        self._subscriptions: dict[str, Subscription] = {}
        self._joined: set[str] = set()
        self._calls = Calls()
        self._session = ""
        self._attempt = 0
        self._taking: Leg | None = None
        self._legs: set[Leg] = set()
        self._order = list(transports)
        self._backoff = Backoff(timing.backoff_base_s, timing.backoff_max_s)
        self._is_moving = False
        self._moves = asyncio.Lock()
        self._lost = asyncio.Event()
        self._last_ending = Ending()
        self._credential_failures = 0
        self._is_pinned = False
        self._changed_futures: list[asyncio.Future[None]] = []

    # -- for the client

    async def run(self) -> None:
        """Keep a leg current until the server says stay away or this is cancelled."""
        while self.error is None:
            async with self._moves:
                ending = await self._connect()
            if ending is None:
                await self._lost.wait()
                ending = self._last_ending
            self._after(ending)
            if self.error is None:
                await self._rest(ending)

    async def probe(self) -> None:
        """On a lesser transport than the best allowed, look for a better one now and then; make before break."""
        interval_s = self._timing.probe_interval_s
        while True:
            await asyncio.sleep(interval_s * (0.75 + self._backoff.jitter_s(0.5)))
            leg = self.current
            if leg is None or self._is_pinned or leg.transport not in self.transports:
                continue
            for better in self.transports[: self.transports.index(leg.transport)]:
                try:
                    await self.move_to(better, is_pinned=False)
                except (HybridError, ConnectionError):
                    interval_s = min(interval_s * 2, self._timing.probe_interval_max_s)
                else:
                    interval_s = self._timing.probe_interval_s
                    break

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
        self._send_all()
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
        if self.current is not None and self.current.is_polled:
            self.current.poll_anew()  # every poll brings its token along
        elif self.current is not None and token is not None:
            await self.call(Refresh(token=token))

    async def move_to(self, transport: str, *, is_pinned: bool = True) -> None:
        """Carry the session over to another transport, make before break. Raises ConnectionError, or HybridError.

        The old leg stays current when it fails. Cancel-safe.
        """
        await self.connected()
        async with self._moves:
            former = self.current
            if former is None:
                raise ConnectionError(f"{transport}: the leg to move from ended meanwhile")
            self._is_pinned = self._is_pinned or is_pinned
            leg = self._open(transport, is_confirmed=False)
            self._note("moving", leg)
            try:
                async with asyncio.timeout(self._timing.connect_timeout_s):
                    await self._until(lambda: leg.opened.done() or self.current is not former)
                    if leg.opened.done() and isinstance(ended := leg.opened.result(), Ending):
                        raise ConnectionError(f"{transport}: {ended.detail}")
                    self._is_moving = True
                    if leg.is_polled or former.is_polled:
                        # Numbers and seals do not mix: what is under way must be answered where it was sent.
                        await self._until(
                            lambda: not self._calls.has_membership_in_flight or self.current is not former
                        )
                if self.current is not former or leg not in self._legs:
                    raise ConnectionError(f"{transport}: a leg ended meanwhile")
                self._confirm(leg)
                was_confirmed = await self._became_current(leg)
                former.abort()
                if not was_confirmed:
                    raise ConnectionError(f"{transport}: it ended before it was used")
                self.stats.moves += 1
            except TimeoutError:
                raise ConnectionError(f"{transport}: no answer in time") from None
            finally:
                self._is_moving = False
                if leg is not self._taking:
                    leg.abort()
                self._send_all()

    def cut(self) -> None:
        """Drop the leg that is current, as a cut cable would."""
        if self._taking is not None:
            self._taking.abort()

    async def connected(self) -> None:
        """Return when a leg is current. Raises HybridError when the server said stay away."""
        await self._until(lambda: self.current is not None or self.error is not None)
        self._raise_if_over()

    async def goodbye(self) -> None:
        """Tell the server that this client will not come back; bounded by the transport's own close timeout."""
        if self.current is not None:
            await self.current.goodbye()

    def close(self, error: HybridError | None = None) -> None:
        """End everything that waits or reads: with an error, or None where the client itself is done."""
        if self.error is None:
            self.error = error or HybridError("session_unknown", "The client is closed.")
        for subscription in list(self._subscriptions.values()):
            subscription.end(error)
        self._subscriptions.clear()
        self._calls.fail_all(self.error)
        for leg in list(self._legs):
            leg.abort()
        self._changed()

    # -- for the subscriptions and the legs

    def has_room(self, subscription: Subscription) -> None:
        """See `SubscriptionOwner.has_room`."""
        if subscription.channel not in self._joined and self._subscriptions.get(subscription.channel) is subscription:
            self._join(subscription)

    def positions(self) -> list[PolledPosition]:
        """See `LegHost.positions`. While a polled leg is being confirmed, those of all channels that are wanted."""
        is_confirming = self._taking is not self.current
        wanted = (State.NEW, State.REQUESTED, State.LIVE)
        return [
            PolledPosition(subscription.channel, to_wire(subscription.received))
            for subscription in self._subscriptions.values()
            if subscription.received is not None
            and (subscription.state in wanted if is_confirming else subscription.channel in self._joined)
        ]

    def subscriptions_for(self, leg: Leg) -> list[AttachSubscription]:
        """See `LegHost.subscriptions_for`."""
        return self._wanted(is_asked=leg is self._taking)

    def leg_pushed(self, leg: Leg, push: Push) -> None:
        """See `LegHost.leg_pushed`."""
        if push.attached is not None:
            self._attached(leg, push.attached)
        elif push.reply is not None:
            self._replied(push.reply)
        elif leg is self._taking and not self._is_known(push.seq):
            self._take(leg, push)

    # -- connecting

    async def _connect(self) -> Ending | None:
        """Race the transports, each with a head start before the next, and confirm the first whose nonce came back.

        None when a leg is current; otherwise why there is none.
        """
        legs: list[Leg] = []
        endings: dict[str, Ending] = {}
        self._lost.clear()
        try:
            for transport in self._order:
                leg = self._open(transport, is_confirmed=len(self._order) == 1)
                legs.append(leg)
                is_last = len(legs) == len(self._order)
                wait_s = self._timing.connect_timeout_s if is_last else self._timing.head_start_s
                winner = await self._first_opened(legs, endings, wait_s)
                if winner is not None:
                    if winner is not self._taking:
                        self._confirm(winner)
                    if await self._became_current(winner):
                        self._order = [winner.transport, *(t for t in self._order if t != winner.transport)]
                        return None
                    return self._last_ending
                told = next((ending for ending in endings.values() if not ending.is_network), None)
                if told is not None:
                    return told  # the server itself has spoken; another transport would hear the same
            return network("; ".join(f"{name}: {ending.detail}" for name, ending in endings.items()) or "no answer")
        finally:
            for leg in legs:
                if leg is not self._taking:
                    leg.abort()

    async def _first_opened(self, legs: list[Leg], endings: dict[str, Ending], wait_s: float) -> Leg | None:
        deadline_s = self._loop.time() + wait_s
        waiting = [leg for leg in legs if leg.transport not in endings]
        while waiting:
            left_s = deadline_s - self._loop.time()
            done, _ = await asyncio.wait(
                {leg.opened for leg in waiting}, timeout=max(0.0, left_s), return_when=asyncio.FIRST_COMPLETED
            )
            for leg in list(waiting):
                if leg.opened in done:
                    waiting.remove(leg)
                    answer = leg.opened.result()
                    if isinstance(answer, Attached):
                        return leg
                    endings[leg.transport] = answer
                    if not answer.is_network:
                        return None
            if not done:
                return None
        return None

    async def _became_current(self, leg: Leg) -> bool:
        """Wait for `subscribed` on a confirmed leg; False, and the leg aborted, when it did not come."""
        task = leg.task
        assert task is not None
        subscribed = asyncio.create_task(leg.subscribed.wait())
        try:
            await asyncio.wait(
                {subscribed, task}, timeout=self._timing.connect_timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            subscribed.cancel()
            await asyncio.gather(subscribed, return_exceptions=True)
        if leg.subscribed.is_set():
            return True
        if not task.done():
            self._last_ending = network("the leg was confirmed, but nothing came of it")
            leg.abort()
        return False

    def _open(self, transport: str, *, is_confirmed: bool) -> Leg:
        self._attempt += 1
        kind = LEGS[transport]
        # A polled leg has no numbers: what is still unanswered could never be repeated, so it starts a new session.
        session = "" if kind.is_polled and self._calls.has_numbered else self._session
        attach = Attach(
            attempt=self._attempt,
            nonce=secrets.token_hex(8),
            session=session,
            last_seq=self.last_seq if session else 0,
            client=ClientInfo("hybrid-python"),
            confirm=is_confirmed,
        )
        leg = kind(self, attach)
        self._legs.add(leg)
        if is_confirmed:
            self._take_over(leg)
        self._note("opening", leg)
        leg.task = self._group.create_task(self._carry(leg))
        return leg

    async def _carry(self, leg: Leg) -> None:
        try:
            ending = await leg.carry()
        except asyncio.CancelledError:
            if not leg.is_aborted:
                raise
            ending = network("it was cut")
        except TokenFailed as error:
            ending = network(error)
        except HybridError as error:
            ending = of_number(error.row.number, str(error), error.retry_after_s)
        self._legs.discard(leg)
        self._note("ended", leg, ending)
        if not leg.opened.done():
            leg.opened.set_result(ending)
        if leg is self._taking:
            self._last_ending = ending
            self._taking = self.current = None
            self._calls.leg_lost()
            for subscription in self._subscriptions.values():
                if subscription.state in (State.REQUESTED, State.LIVE):
                    subscription.state = State.NEW
            self._lost.set()
        self._changed()

    def _confirm(self, leg: Leg) -> None:
        """From here on publications are taken from this leg only."""
        self._take_over(leg)
        wanted = self._wanted(is_asked=True)
        if leg.is_polled:
            # A poll confirms with positions: a channel that has none and came after the attach is asked for later.
            attached = {item.channel for item in leg.attach.subscriptions}
            for item in wanted:
                if item.position is None and item.channel not in attached:
                    self._subscriptions[item.channel].state = State.NEW
        leg.confirm(wanted)

    def _take_over(self, leg: Leg) -> None:
        self._taking = leg
        self.current = None
        self._lost.clear()

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

    def _after(self, ending: Ending) -> None:
        """Decide what an ending means for the whole client."""
        if ending.is_about_credentials:
            self.credentials.invalidate()
            self._credential_failures += 1
            if self._credential_failures >= _CREDENTIAL_FAILURES_MAX:
                self.close(ending.as_error())
        elif ending.number == _REPLACED:
            # Somebody else continues this session, such as a process forked from this one: live on as another.
            self._forget_session()
        elif not ending.comes_back:
            self.close(ending.as_error())

    async def _rest(self, ending: Ending) -> None:
        if ending.is_about_credentials:
            return
        if ending.number == _REPLACED:
            delay_s = self._backoff.jitter_s(1.0)
        elif ending.number == _ROTATED and ending.delay_s is None and not self._backoff.failures:
            delay_s = self._backoff.jitter_s(0.1)  # no failure; the backoff of the next one is what stops a loop
            self._backoff.failures += 1
        elif ending.delay_s is not None:
            delay_s = ending.delay_s
        else:
            delay_s = self._backoff.next_delay_s()
        self.log.append(LegEvent(self._loop.time(), "waiting", "", self._attempt, ending.number, f"{delay_s:.3f} s"))
        await asyncio.sleep(delay_s)

    def _forget_session(self) -> None:
        self._session = ""
        self.last_seq = 0

    # -- what comes in

    def _attached(self, leg: Leg, attached: Attached) -> None:
        if leg.opened.done():
            if leg is self._taking:
                self._adopt(leg)  # a poll was answered by a node that did not know the session
            return
        if attached.nonce != leg.attach.nonce or attached.attempt != leg.attempt:
            leg.opened.set_result(network("the nonce that came back is not the one that was sent"))
            leg.abort()
            return
        self.stats.attaches += 1
        self._calls.key_window_s = attached.limits.key_window_s
        self._note("attached", leg)
        leg.opened.set_result(attached)
        self._changed()

    def _is_known(self, seq: int) -> bool:
        """Numbered pushes come again until they are acknowledged."""
        if not seq:
            return False
        if seq <= self.last_seq:
            return True
        self.last_seq = seq
        return False

    def _adopt(self, leg: Leg) -> None:
        if leg.session != self._session:
            self.last_seq = 0
            self._session = leg.session
        for call in self._calls.begin_session(leg.session):
            call.answer(Reply())

    def _take(self, leg: Leg, push: Push) -> None:
        if push.publication is not None:
            self._published(push.publication)
        elif push.subscribed is not None:
            self._subscribed(leg, push.subscribed)
        elif push.reset is not None:
            subscription = self._subscriptions.get(push.reset.channel)
            if subscription is not None and subscription.state is State.LIVE:
                self.stats.resets += 1
                subscription.reset(from_wire(push.reset.position))
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

    async def _refresh_quietly(self) -> None:
        """A failure is no end: the old token lives a little longer, and the next attach asks for another."""
        try:
            await self.refresh()
        except HybridError as error:
            self.log.append(LegEvent(self._loop.time(), "refresh failed", "", 0, error.row.number, str(error)))

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
        return self._taking is not None and self._taking.is_polled

    def _subscribed(self, leg: Leg, truth: SubscribedAll) -> None:
        is_new_leg = self.current is not leg
        if is_new_leg:
            self._reset_backoff_later(leg)
            self._credential_failures = 0
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
            self.current = leg
            leg.current_since_s = self._loop.time()
            leg.subscribed.set()
            self._note("current", leg)
            self._changed()
            for subscription in list(self._subscriptions.values()):
                if subscription.state is State.NEW:
                    self._join(subscription)
        self._send_all()

    def _answered(self, item: Subscribed) -> None:
        subscription = self._subscriptions.get(item.channel)
        if subscription is None or subscription.state in (State.ENDED, State.PAUSED):
            if not item.error:
                # It was given up while the attach was on its way.
                self._calls.add(Unsubscribe(channel=item.channel), lambda answer: self._joined.discard(item.channel))
        elif item.error:
            self._end(subscription, error_of(item.error))
        elif item.position is not None:
            self._go_on(subscription, from_wire(item.position), item.recovered)

    def _go_on(self, subscription: Subscription, position: Position, was_recovered: bool) -> None:
        if not was_recovered and subscription.received is not None:
            self.stats.resets += 1
        self.stats.received += subscription.go_on(position, was_recovered=was_recovered)

    def _reset_backoff_later(self, leg: Leg) -> None:
        """Arrange that the backoff starts from short again once this leg has lived for a while."""

        def settle() -> None:
            if self.current is leg:
                self._backoff.reset()

        self._loop.call_later(self._timing.settled_after_s, settle)

    # -- joining and leaving

    def _join(self, subscription: Subscription) -> None:
        """Ask for a channel on the current leg; without one the next attach names it."""
        subscription.state = State.NEW
        if self.current is None:
            return
        subscription.ask()
        position = None if subscription.received is None else to_wire(subscription.received)
        history = subscription.history if position is None else 0
        self._calls.add(
            Subscribe(channel=subscription.channel, position=position, history=history),
            lambda answer: self._join_answered(subscription, answer),
        )
        self._send_all()

    def _join_answered(self, subscription: Subscription, answer: Answer) -> None:
        if isinstance(answer, HybridError):
            self._end(subscription, answer)
            return
        if answer.sealed:
            self.sealed = answer.sealed
        if answer.error is not None and answer.error.number not in (_ALREADY_SUBSCRIBED, _SESSION_UNKNOWN):
            self._end(subscription, error_of_wire(answer.error))
            return
        self._joined.add(subscription.channel)
        if subscription.state is not State.REQUESTED:
            return  # an attach has said it all meanwhile
        if answer.position is not None:
            self._go_on(subscription, from_wire(answer.position), answer.recovered is not False)
            if self.current is not None:
                self.current.poll_anew()
        elif answer.error is not None:
            # The server is not where we thought; a new leg, and its attach, names every channel.
            subscription.state = State.NEW
            self._joined.discard(subscription.channel)
            self.cut()

    def _leave(self, subscription: Subscription, answered: Callable[[Answer], object]) -> None:
        """Give a channel up. It stays known until the server has answered, so that polls still fit their seal."""
        subscription.end()

        def left(answer: Answer) -> None:
            if self._subscriptions.get(subscription.channel) is subscription:
                del self._subscriptions[subscription.channel]
            self._left(subscription.channel, answer)
            answered(answer)

        if self.current is None:
            left(Reply())
        else:
            self._calls.add(Unsubscribe(channel=subscription.channel), left)
            self._send_all()

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
        self._send_all()

    def _left(self, channel: str, answer: Answer) -> None:
        self._joined.discard(channel)
        if isinstance(answer, Reply) and answer.sealed:
            self.sealed = answer.sealed
        if self.current is not None:
            self.current.poll_anew()

    def _end(self, subscription: Subscription, error: HybridError | None) -> None:
        if self._subscriptions.get(subscription.channel) is subscription:
            del self._subscriptions[subscription.channel]
        self._joined.discard(subscription.channel)
        subscription.end(error)

    # -- plumbing

    def _replied(self, reply: Reply) -> None:
        call = self._calls.replied(reply)
        if call is not None:
            call.answer(reply)
            self._changed()
            self._send_all()
        elif not reply.id and reply.error is not None and self.current is None:
            self.cut()  # the confirm was refused: begin again

    def _send_all(self) -> None:
        if self.current is not None:
            self._calls.send_all(
                self.current, self._loop.time(), sealed=self.sealed, may_change=not self._is_moving
            )

    def _raise_if_over(self) -> None:
        if self.error is not None:
            raise self.error

    def _note(self, what: str, leg: Leg, ending: Ending | None = None) -> None:
        number, detail = (ending.number, ending.detail) if ending is not None else (0, "")
        self.log.append(LegEvent(self._loop.time(), what, leg.transport, leg.attempt, number, detail))

    def _changed(self) -> None:
        waiting, self._changed_futures = self._changed_futures, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def _until(self, is_true: Callable[[], bool]) -> None:
        """Wait for something that legs, replies and ends can bring about. Cancel-safe."""
        while not is_true():
            future: asyncio.Future[None] = self._loop.create_future()
            self._changed_futures.append(future)
            await future


def _settle(future: asyncio.Future[_Value], value: _Value) -> None:
    """Give a future its result, unless whoever waited for it was cancelled."""
    if not future.done():
        future.set_result(value)
