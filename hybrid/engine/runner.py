"""Drives one session: carries its effects out, in order, and brings the results back.

What can be done at once is done at once; what needs the broker or the verifier waits in one queue with one task, which
exists only while there is something to do.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, Protocol

from hybrid.auth.revocation import Key
from hybrid.engine import reply as replies
from hybrid.engine.heartbeat import interval_s
from hybrid.engine.holders import Match
from hybrid.engine.leg import StreamLeg
from hybrid.engine.polled import PolledLeg
from hybrid.engine.reply import ReplyTo
from hybrid.engine.rights import receive_rights
from hybrid.engine.session_effects import execute, recover
from hybrid.errors import TABLE, LimitError, ProtocolError
from hybrid.logs import speaking
from hybrid.model import Position, Principal
from hybrid.protocol.commands import Attach, AttachSubscription
from hybrid.protocol.cursor import to_wire
from hybrid.protocol.pushes import Attached, AttachedLimits, Push
from hybrid.protocol.session import (
    Close,
    EndLeg,
    Execute,
    NumberedCommand,
    Recover,
    SendPush,
    SendReply,
    Session,
    SessionLeg,
)
from hybrid.protocol.states import SessionState

if TYPE_CHECKING:
    from hybrid.engine.engine import Engine

_log = logging.getLogger(__name__)


_LOST: Final = "lost"
"""Why a session is over that nobody has ended: its client did not come back."""
QUEUE_MAX = 16
"""Commands of one session that wait to be carried out; then its leg reads no more of them."""


class SessionWatch(Protocol):
    """Who is told of the sessions of this node. Neither may raise or wait."""

    def session_began(self, session: str, principal: Principal) -> None:
        """A client is here, and seen to be: a leg was confirmed. Told again with each further leg of the session."""

    def session_ended(self, session: str) -> None:
        """The client said goodbye, was sent away, or did not come back within `session_kept_s`.

        Also told of one that was never seen to be here.
        """


class SessionRunner:
    """The living side of a `Session`; also its timer on the wheel.

    `former` is the session at another node that this one takes over, until it has.
    """

    __slots__ = ("__weakref__", "_engine", "_is_working", "_queue", "_roomy", "former", "session")

    def __init__(self, engine: Engine, session: Session, former: str = "") -> None:
        self.session = session
        self.former = former
        self._engine = engine
        self._queue: list[Recover | Execute] | None = None
        self._is_working = False
        self._roomy: asyncio.Future[None] | None = None

    def log_fields(self) -> Mapping[str, object]:
        """See `logs.Source`."""
        return {"session": self.session.id, "principal": self.session.principal}

    # -- what comes in

    def attach(self, leg: SessionLeg, principal: Principal, attach: Attach, *, is_resumed: bool) -> Attached:
        """Attach a leg whose link is open. Returns the `attached` to write on it *before* `carry_out` is called."""
        now_s = self._engine.clock.monotonic_s()
        heartbeat_s = self._engine.limits.heartbeat_interval_s
        if isinstance(leg, StreamLeg):
            heartbeat_s = leg.heartbeat_s = interval_s(attach.heartbeat_s, self._engine.limits)
            leg.beat_s = now_s + heartbeat_s
        elif isinstance(leg, PolledLeg):
            leg.attached_s = now_s
        self.session.receive_attach(leg, attach, now_s)
        if leg is self.session.current:
            self.receive_principal(principal)
        expires_in_s = principal.expires_at_s - self._engine.clock.wall_s()
        limits = self._engine.limits
        return Attached(
            session=self.session.id,
            attempt=attach.attempt,
            nonce=attach.nonce,
            heartbeat_interval_s=heartbeat_s,
            limits=AttachedLimits(
                data_max_bytes=limits.data_max_bytes,
                command_max_bytes=limits.command_max_bytes,
                channels_max=limits.channels_per_session_max,
                key_window_s=limits.idempotency_window_s,
                poll_wait_max_s=limits.poll_wait_max_s,
                echo_interval_s=limits.echo_interval_s,
            ),
            is_resumed=is_resumed,
            token_expires_in_s=None if expires_in_s == float("inf") else max(0.0, round(expires_in_s, 3)),
        )

    def receive_principal(self, principal: Principal) -> None:
        """A token of the session's party was shown on its current leg."""
        expires_in_s = principal.expires_at_s - self._engine.clock.wall_s()
        margin_s = self._engine.limits.expiring_margin_s * random.uniform(2 / 3, 4 / 3)
        self.session.receive_principal(principal, expires_in_s, margin_s, self._engine.clock.monotonic_s())

    def receive_poll(self, leg: PolledLeg, principal: Principal, last_seq: int) -> None:
        """A poll of this leg arrived, with a token of the session's party."""
        session = self.session
        is_new = principal is not session.principal
        if is_new:
            self.receive_principal(principal)
        # Most polls only put the session's end off: its timer stays where it is, and looks again then.
        if session.receive_poll(leg, last_seq, self._engine.clock.monotonic_s()) or is_new:
            self.carry_out()

    def confirm(self, leg: SessionLeg, subscriptions: list[AttachSubscription] | None) -> None:
        """The client wants this leg."""
        if subscriptions is not None:
            self._engine.intake.check_subscriptions(subscriptions)
        self.session.receive_confirm(leg, subscriptions, self._engine.clock.monotonic_s())
        if leg is self.session.current and isinstance(leg, StreamLeg | PolledLeg) and leg.principal is not None:
            self.receive_principal(leg.principal)
        self.carry_out()

    def command(self, command: NumberedCommand, reply_to: ReplyTo) -> None:
        """A command of the session itself. Without a number it is carried out as it comes (ordered pipes only)."""
        if command.n:
            self.session.receive_command(command, reply_to, self._engine.clock.monotonic_s())
            self.carry_out()
        else:
            self._enqueue(_Unnumbered(0, command, reply_to))

    async def room(self) -> None:
        """Return when few enough of the session's commands wait to be carried out. Cancel-safe."""
        while self._queue is not None and len(self._queue) >= QUEUE_MAX:
            if self._roomy is None:
                self._roomy = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._roomy)

    def heartbeat(self, last_seq: int) -> None:
        """The client lives."""
        self.session.receive_heartbeat(last_seq)

    def echo(self, number: int, attempt: int | None) -> None:
        """A heartbeat is asked for that cannot say so on its own stream; one that is gone has nothing to say."""
        for leg in self._legs():
            is_meant = leg is self.session.current if attempt is None else leg.attempt == attempt
            if is_meant and isinstance(leg, StreamLeg):
                leg.echo(number)
                return

    def leg_lost(self, leg: SessionLeg, *, is_goodbye: bool) -> None:
        """A leg's link has ended."""
        self.session.receive_leg_lost(leg, self._engine.clock.monotonic_s(), is_goodbye=is_goodbye)
        self.carry_out("left" if is_goodbye else _LOST)

    def end(self, error: str) -> None:
        """End the session and all its legs."""
        self.session.end(error)
        self.carry_out(error)

    def send_away(self, error: str, *, reason: str, delay_ms: int) -> bool:
        """See `Holder.send_away`. The client hears why between two polls as well."""
        session, current = self.session, self.session.current
        if session.state is SessionState.CLOSED:
            return False
        if isinstance(current, PolledLeg):
            self._engine.farewells.keep(session.id, current)
        self._engine.presence.end_polled(session.id, session.principal)
        session.end(error, reason=reason, delay_ms=delay_ms)
        self.carry_out()
        return True

    def channels(self) -> list[str]:
        """The channels that its current leg is on."""
        leg = self.session.current
        if isinstance(leg, PolledLeg):
            return leg.channels
        return leg.feed.channels() if isinstance(leg, StreamLeg) and leg.feed is not None else []

    def invite(self, channel: str, position: Position) -> bool:
        """Ask the client to subscribe to a channel; False where it is on it.

        Raises ChannelError or AuthError where its token does not permit it, LimitError where there is no room.
        """
        operations, principal = self._engine.operations, self.session.principal
        if not operations.may_read_on(principal, channel):  # a backend that decides is asked when the client subscribes
            operations.check_subscribe(principal, channel)
        here = self.channels()
        if channel in here:
            return False
        if len(here) >= self._engine.limits.channels_per_session_max:
            raise LimitError("channels_per_session_max")
        self.session.push_invitation(channel, to_wire(position))
        self.carry_out()
        return True

    def unsubscribe(self, channel: str) -> bool:
        """End the client's subscription to a channel, and tell it so; False where there is none."""
        leg = self.session.current
        if channel not in self.channels():
            return False
        if isinstance(leg, StreamLeg) and leg.feed is not None:
            leg.feed.remove(channel)
            self._engine.presence.leave(self.session.id, channel)
        else:
            self._engine.presence.leave_polled(self.session.id, self.session.principal, channel)
        self.session.push_unsubscribed(channel, TABLE["unsubscribed"].number)
        self.carry_out()
        return True

    def principals(self) -> Iterable[Principal]:
        """See `Holder.principals`."""
        yield self.session.principal
        for leg in self._legs():
            if leg.principal is not None:
                yield leg.principal

    def end_if(self, match: Match) -> Key | None:
        """See `Holder.end_if`. A candidate that was opened with another token than the session's ends alone."""
        session = self.session
        reason = match(session.principal)
        for leg in self._legs():
            if reason is not None:
                break
            found = None if leg.principal is None else match(leg.principal)
            if found is not None and leg is session.current:
                reason = found
            elif found is not None:
                session.end_candidate(leg, "forbidden_or_revoked")
        if reason is not None:
            self._engine.presence.end_polled(session.id, session.principal)
            session.end("forbidden_or_revoked")
        self.carry_out()
        return reason

    def receive_again(self, principal: Principal) -> None:
        """See `Holder.receive_again`."""
        for leg in self._legs():
            if leg.principal is not None and leg.principal.token_hash == principal.token_hash:
                leg.principal = principal
                if isinstance(leg, PolledLeg):
                    leg.wake()  # it reads on with the rights that the next poll brings
        if self.session.principal.token_hash == principal.token_hash:
            receive_rights(self._engine, self, principal)
            self.carry_out()

    def _legs(self) -> Iterable[StreamLeg | PolledLeg]:
        for leg in (self.session.current, *self.session.candidates):
            if isinstance(leg, StreamLeg | PolledLeg):
                yield leg

    def wheel_fired(self) -> None:
        """Time has passed: the session's deadlines, and the heartbeats of its legs."""
        now_s = self._engine.clock.monotonic_s()
        self.session.tick(now_s)
        for leg in self._legs():
            if isinstance(leg, StreamLeg) and now_s >= leg.beat_s:
                self._beat(leg, now_s)
        self.carry_out()

    # -- what goes out

    def carry_out(self, reason: str = _LOST) -> None:
        """Drain the session's effects; schedule its next deadline. `reason` is why it is over, should it be."""
        while effects := self.session.effects():
            for effect in effects:
                match effect:
                    case SendPush(leg, push):
                        self._push(leg, push)
                    case EndLeg(leg, error, detail, delay_ms):
                        if isinstance(leg, StreamLeg | PolledLeg):
                            leg.end(error, detail=detail, delay_ms=delay_ms)
                        if reason == _LOST and error != "candidate_timeout":
                            reason = error
                    case SendReply(reply_to, reply):
                        assert isinstance(reply_to, ReplyTo)
                        reply_to.send(replies.refused(ProtocolError(reply)) if isinstance(reply, str) else reply)
                    case Recover(leg):
                        self._count(leg)
                        self._tell(leg)
                        self._enqueue(effect)
                    case Execute():
                        self._enqueue(effect)
                    case Close():
                        self._engine.registry.forget(self)
                        self._engine.presence.settle(self.session.id)
                        self._engine.observer.session_closed(self.session.id, self.session.principal, reason)
                        self._tell_ended()
        self._schedule()

    def _schedule(self) -> None:
        if self.session.state is SessionState.CLOSED:
            self._engine.wheel.cancel(self)
            return
        now_s = self._engine.clock.monotonic_s()
        due_s = self.session.next_deadline_s()
        for leg in self._legs():
            if isinstance(leg, StreamLeg):
                due_s = min(due_s, leg.beat_s)
        if due_s == float("inf"):
            self._engine.wheel.cancel(self)
        else:
            self._engine.wheel.schedule(self, max(0.0, due_s - now_s))

    def _beat(self, leg: StreamLeg, now_s: float) -> None:
        limits = self._engine.limits
        leg.beat_s = now_s + leg.heartbeat_s
        is_silent = now_s - leg.link.last_received_s > leg.heartbeat_s * limits.heartbeat_grace_intervals
        if leg.link.is_bidirectional and leg.is_listening and is_silent:
            leg.end("heartbeat_timeout")
        elif not leg.link.is_bidirectional and now_s - leg.opened_s >= limits.stream_age_max_s:
            leg.end("rotated")  # the client opens the next one from its positions
        else:
            self._engine.heartbeats.beat(leg.link, leg.wire, now_s)

    def _push(self, leg: SessionLeg, push: Push) -> None:
        if isinstance(leg, StreamLeg):
            leg.push(push)
        elif isinstance(leg, PolledLeg):
            leg.wake()  # the poll that is waiting takes it from the backlog

    def _count(self, leg: SessionLeg) -> None:
        tried, leg.tried = leg.tried, None
        if tried is not None and isinstance(leg, StreamLeg | PolledLeg):
            self._engine.transport_counts.confirmed(leg.transport, tried)

    def _tell(self, leg: SessionLeg) -> None:
        if isinstance(leg, StreamLeg | PolledLeg) and self._engine.router.is_ours(self.session.id):
            self._engine.observer.session_opened(self.session.id, self.session.principal, leg.transport)

    def _enqueue(self, effect: Recover | Execute) -> None:
        if self._queue is None:
            self._queue = []
        self._queue.append(effect)
        if not self._is_working:
            self._is_working = self._engine.tasks.spawn(self._work()) is not None

    async def _work(self) -> None:
        speaking.set(self)
        try:
            while self._queue:
                effect = self._queue.pop(0)
                if not self._queue:
                    self._queue = None
                self._make_room()
                if isinstance(effect, Recover):
                    if isinstance(effect.leg, StreamLeg):
                        await recover(self._engine, self, effect.leg, effect.subscriptions)
                    continue
                reply = await execute(self._engine, self, effect)
                if isinstance(effect, _Unnumbered):
                    effect.reply_to.send(reply)
                else:
                    self.session.receive_reply(effect.n, reply)
                self.carry_out()
        except Exception:  # a silent session would wait for ever
            _log.exception("a command of a session failed")
            self._queue = None
            self._make_room()
            self.end("internal")
        finally:
            self._is_working = False

    def took_over(self, principal: Principal) -> None:
        """The client is here now, and seen to be: the leg that it may still have at another node can end."""
        self._tell_began()
        former, self.former = self.former, ""
        if former and self.session.current is not None:
            self._engine.tasks.spawn(self._take_over(principal, former, self.session.current.attempt))

    async def _take_over(self, principal: Principal, former: str, attempt: int) -> None:
        await self._engine.presence.written()  # or somebody would be seen to leave who is there
        adopted = self._engine.registry.find(former, principal)
        if adopted is not None:
            adopted.end("replaced")
        await self._engine.router.moved(principal, former, attempt)

    def _tell_began(self) -> None:
        watch = self._engine.session_watch
        if watch is not None:
            watch.session_began(self.session.id, self.session.principal)

    def _tell_ended(self) -> None:
        watch = self._engine.session_watch
        if watch is not None:
            watch.session_ended(self.session.id)

    def _make_room(self) -> None:
        if self._roomy is not None:
            self._roomy.set_result(None)
            self._roomy = None


class _Unnumbered(Execute, frozen=True):
    """A session command without a number: answered to its sender alone, never repeated."""

    reply_to: ReplyTo
