"""The session: the rules by which legs come, replace one another and go. Sans-I/O.

`receive_*` and `tick` take values; the runner then drains `effects()` and carries them out, and looks when the next
deadline is. Time enters only as `now_s` (monotonic). Publications never pass through here: they go from the hub to
the link.

    leg opened --attach--> CANDIDATE --confirm--> CURRENT --replaced, lost, closed--> ENDED

The rule that makes races harmless: a client numbers its attempts, and a lower attempt never replaces a higher one,
whatever order the network delivers them in.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Final, TypeAlias

import msgspec

from hybrid.errors import ProtocolError
from hybrid.limits import Limits
from hybrid.model import Principal
from hybrid.protocol.backlog import CommandSequence, PushBacklog
from hybrid.protocol.commands import Attach, AttachSubscription, Refresh, Subscribe, Tried, Unsubscribe, WirePosition
from hybrid.protocol.pushes import Expiring, Invitation, Push, Reply, Unsubscribed
from hybrid.protocol.states import LEG, SESSION, LegEvent, LegState, SessionEvent, SessionState, next_state

NumberedCommand: TypeAlias = Subscribe | Unsubscribe | Refresh


class SessionLeg:
    """What the session knows of one leg. The runner's leg objects derive from it."""

    __slots__ = ("attempt", "confirm_by_s", "state", "subscriptions", "tried")

    def __init__(self) -> None:
        self.attempt = 0
        self.state = LegState.CANDIDATE
        self.confirm_by_s = 0.0
        self.subscriptions: Sequence[AttachSubscription] = ()
        self.tried: tuple[Tried, ...] | None = None  # until it is confirmed and counted


class SendPush(msgspec.Struct, frozen=True):
    """Effect: write a push on a leg."""

    leg: SessionLeg
    push: Push


class EndLeg(msgspec.Struct, frozen=True):
    """Effect: tell the leg why and close it; `error` is a name from the table of errors.

    `reason` is told in its place where there is one, and to come back after `delay_ms`.
    """

    leg: SessionLeg
    error: str
    reason: str = ""
    delay_ms: int = 0


class Recover(msgspec.Struct, frozen=True):
    """Effect: authorise and continue these subscriptions on the leg, answer `subscribed`, then deliver."""

    leg: SessionLeg
    subscriptions: Sequence[AttachSubscription]


class Execute(msgspec.Struct, frozen=True):
    """Effect: carry out a numbered command and report to `receive_reply`."""

    n: int
    command: NumberedCommand


class SendReply(msgspec.Struct, frozen=True):
    """Effect: answer whoever sent a command. `reply_to` is what the runner gave with it."""

    reply_to: object
    reply: Reply | str


class Close(msgspec.Struct, frozen=True):
    """Effect: the session is over; forget it."""


Effect: TypeAlias = SendPush | EndLeg | Recover | Execute | SendReply | Close

_WHOLE_S: Final = 10.0
"""A warning so long or longer ahead of a token's end is in whole seconds: small numbers take no memory of their own."""


class Session:
    """One logical connection. Constructed by the first attach; see the module's text for the rules."""

    __slots__ = (
        "_candidates",
        "_effects",
        "_expires_s",
        "_is_warned",
        "_kept_until_s",
        "_lead_s",
        "_limits",
        "_sequence",
        "backlog",
        "current",
        "id",
        "principal",
        "state",
    )

    def __init__(self, session_id: str, principal: Principal, limits: Limits) -> None:
        self.id = session_id
        self.principal = principal
        self.state = SessionState.NEW
        self.current: SessionLeg | None = None
        self.backlog: PushBacklog | None = None
        self._limits = limits
        self._candidates: list[SessionLeg] | None = None
        self._sequence: CommandSequence[NumberedCommand, object] | None = None
        self._effects: list[Effect] | None = None
        self._kept_until_s = inf
        self._expires_s = inf
        self._lead_s = 0.0
        self._is_warned = False

    # -- what comes in

    def receive_attach(self, leg: SessionLeg, attach: Attach, now_s: float) -> None:
        """A leg was opened and authenticated. The runner has already written `attached` on it."""
        self._acknowledge(attach.last_seq)
        leg.attempt = attach.attempt
        leg.subscriptions = attach.subscriptions
        leg.tried = attach.tried
        leg.confirm_by_s = now_s + self._limits.candidate_timeout_s
        if self._candidates is None:
            self._candidates = []
        self._candidates.append(leg)
        if attach.confirm:
            self.receive_confirm(leg, None, now_s)
            return
        if len(self._candidates) > self._limits.candidates_max:
            self._end(min(self._candidates, key=lambda candidate: candidate.attempt), "candidate_timeout")

    def receive_confirm(
        self, leg: SessionLeg, subscriptions: Sequence[AttachSubscription] | None, now_s: float
    ) -> None:
        """The client has proof that the leg carries payload both ways, and wants it."""
        if leg.state is not LegState.CANDIDATE or self.state is SessionState.CLOSED:
            return  # a repeated confirm, or one that crossed the end of its leg
        former = self.current
        if former is not None and leg.attempt < former.attempt:
            self._end(leg, "replaced")
            return
        self._drop_candidate(leg)
        leg.state = next_state(LEG, leg.state, LegEvent.CONFIRMED)
        if subscriptions is not None:
            leg.subscriptions = subscriptions
        self.current = leg
        self._kept_until_s = inf
        self.state = next_state(SESSION, self.state, SessionEvent.ATTACHED)
        if former is not None:
            self._end(former, "replaced")
        for candidate in [c for c in self._candidates or () if c.attempt < leg.attempt]:
            self._end(candidate, "replaced")
        self._emit(Recover(leg, leg.subscriptions))
        # Kept for the confirm only: 256 names would weigh on every idle client.
        leg.subscriptions = ()
        leg.confirm_by_s = 0.0

    def receive_recovered(self, leg: SessionLeg) -> None:
        """The runner has written `subscribed` on the leg: what was not acknowledged comes again, in order."""
        if leg is self.current and self.backlog is not None:
            for push in self.backlog.unacknowledged():
                self._emit(SendPush(leg, push))

    def receive_command(self, command: NumberedCommand, reply_to: object, now_s: float) -> None:
        """A numbered command arrived, on a leg or in a POST."""
        if self._sequence is None:
            self._sequence = CommandSequence(self._limits.replies_kept_max)
        deadline_s = now_s + self._limits.command_hole_s
        try:
            due, kept = self._sequence.arrive(command.n, command, reply_to, deadline_s)
        except ProtocolError as error:
            self._emit(SendReply(reply_to, error.row.name))
            return
        if kept is not None:
            self._emit(SendReply(reply_to, msgspec.structs.replace(kept, id=command.id)))
        for n, due_command in due:
            self._emit(Execute(n, due_command))

    def receive_reply(self, n: int, reply: Reply) -> None:
        """A numbered command was carried out."""
        assert self._sequence is not None
        for waiting in self._sequence.answered(n, reply):
            self._emit(SendReply(waiting, reply))

    def receive_heartbeat(self, last_seq: int) -> None:
        """The client lives and has seen the pushes up to `last_seq`."""
        self._acknowledge(last_seq)

    def receive_poll(self, leg: SessionLeg, last_seq: int, now_s: float) -> bool:
        """A poll of this leg arrived: a polled leg lives as long as polls keep coming.

        It may have been told more at another node, which then has numbered on. True where `next_deadline_s` may be
        sooner than before; else it is later, if anything.
        """
        if last_seq:
            self._backlog().follow(last_seq)
        self._acknowledge(last_seq)
        if leg is not self.current:
            return False
        is_first = self._kept_until_s == inf
        self._kept_until_s = now_s + self._limits.session_kept_s + self._limits.poll_wait_max_s
        return is_first

    def receive_principal(self, principal: Principal, expires_in_s: float, margin_s: float, now_s: float) -> None:
        """A token of the same party was shown on the current leg: the session has its rights and its life from now on.

        `margin_s` is how long before the end to warn: the runner jitters it, since tokens expire together.
        """
        former, self.principal = self.principal, principal
        if (
            self._expires_s < inf
            and principal.token_hash == former.token_hash
            and principal.expires_at_s == former.expires_at_s
        ):
            return  # polls show the token again and again: one warning is enough, and none may be put off by it
        expires_s = now_s + expires_in_s
        self._expires_s = expires_s
        lead_s = min(margin_s, expires_in_s / 2)
        self._lead_s = int(lead_s) if lead_s >= _WHOLE_S else lead_s
        self._is_warned = False
        if self.state is SessionState.GRACE:
            self.state = next_state(SESSION, self.state, SessionEvent.REFRESHED)

    def receive_leg_lost(self, leg: SessionLeg, now_s: float, *, is_goodbye: bool = False) -> None:
        """A leg has ended, from outside. `is_goodbye`: the client closed it in form and will not come back."""
        self._drop_candidate(leg)
        leg.state = next_state(LEG, leg.state, LegEvent.ENDED)
        if leg is not self.current:
            if self.state is SessionState.NEW and self._candidates is None:
                self._close()  # no client knows it any more, and no deadline would end it
            return
        self.current = None
        if is_goodbye and not self._candidates:  # with one, the client has opened the next leg and goes on there
            self._close()
        elif self.state is not SessionState.CLOSED:
            self.state = next_state(SESSION, self.state, SessionEvent.DETACHED)
            self._kept_until_s = now_s + self._limits.session_kept_s

    def push_unsubscribed(self, channel: str, error: int) -> None:
        """The server ends a subscription: told now if there is a leg, and again until acknowledged."""
        self._push_numbered(Push(unsubscribed=Unsubscribed(channel, error)))

    def push_invitation(self, channel: str, position: WirePosition) -> None:
        """The server asks for a subscription: told as `push_unsubscribed` tells."""
        self._push_numbered(Push(subscribe=Invitation(channel, position)))

    @property
    def claimed(self) -> tuple[str, ...]:
        """Of the principal's channels, those that the client was told of, or was on already."""
        return () if self.backlog is None else self.backlog.claimed

    @claimed.setter
    def claimed(self, channels: tuple[str, ...]) -> None:
        if channels or self.backlog is not None:  # who has none pays nothing for it, not even a slot
            self._backlog().claimed = channels

    def expect_pushes(self, count: int) -> None:
        """So many are to be numbered together: they do not count for `pushes_kept_max`, or nobody could be told."""
        self._backlog().widen(self._limits.pushes_kept_max + count)

    def end(self, error: str, *, reason: str = "", delay_ms: int = 0) -> None:
        """End the session and all its legs. See `EndLeg`."""
        for candidate in list(self._candidates or ()):
            self._end(candidate, error, reason, delay_ms)
        if self.current is not None:
            self._end(self.current, error, reason, delay_ms)
        self._close()

    def end_candidate(self, leg: SessionLeg, error: str) -> None:
        """End one candidate: whoever opened it has no business here; the session goes on if it has another leg."""
        self._end(leg, error)
        if self.state is SessionState.NEW and not self._candidates:
            self._close()

    def tick(self, now_s: float) -> None:
        """Time has passed: candidates, numbered commands, tokens and detached sessions run out."""
        for candidate in [c for c in self._candidates or () if c.confirm_by_s <= now_s]:
            self._end(candidate, "candidate_timeout")
        if self._sequence is not None:
            for late in self._sequence.overdue(now_s):
                self._emit(SendReply(late, "out_of_order"))
        if now_s >= self._expires_s + self._limits.expiry_grace_s:
            self.end("token_expired")
        elif now_s >= self._expires_s:
            if self.state is SessionState.OPEN:
                self.state = next_state(SESSION, self.state, SessionEvent.EXPIRED)
        elif now_s >= self._expires_s - self._lead_s and not self._is_warned and self.current is not None:
            self._is_warned = True
            self._push_numbered(Push(expiring=Expiring(round(self._expires_s - now_s, 3))))
        if not self._candidates and (
            now_s >= self._kept_until_s or (self.current is None and self.state is SessionState.NEW)
        ):
            if self.current is not None:
                self._end(self.current, "heartbeat_timeout")
            self._close()

    # -- what goes out

    def effects(self) -> list[Effect]:
        """What the runner has to do now, in order; each is given once."""
        effects, self._effects = self._effects, None
        return effects or []

    def next_deadline_s(self) -> float:
        """When `tick` has something to do next; infinity when never."""
        deadline = min(self._kept_until_s, self._expires_s + self._limits.expiry_grace_s)
        if self.state is SessionState.OPEN:
            deadline = min(deadline, self._expires_s if self._is_warned else self._expires_s - self._lead_s)
        for candidate in self._candidates or ():
            deadline = min(deadline, candidate.confirm_by_s)
        if self._sequence is not None and (hole_s := self._sequence.next_deadline_s()) is not None:
            deadline = min(deadline, hole_s)
        return deadline

    def expires_in_s(self, now_s: float) -> float | None:
        """Seconds of the token's life that are left; None for tokens without an end (anonymous)."""
        return None if self._expires_s == inf else max(0.0, round(self._expires_s - now_s, 3))

    @property
    def candidates(self) -> tuple[SessionLeg, ...]:
        """The legs that are open but not confirmed."""
        return tuple(self._candidates or ())

    # -- inside

    def _emit(self, effect: Effect) -> None:
        if self._effects is None:
            self._effects = []  # only while there are some: an idle client has none
        self._effects.append(effect)

    def _push_numbered(self, push: Push) -> None:
        numbered = self._backlog().add(push)
        if self.current is not None:
            self._emit(SendPush(self.current, numbered))

    def _backlog(self) -> PushBacklog:
        if self.backlog is None:
            self.backlog = PushBacklog(self._limits.pushes_kept_max)
        return self.backlog

    def _acknowledge(self, last_seq: int) -> None:
        if self.backlog is not None and last_seq:
            self.backlog.acknowledge(last_seq)

    def _end(self, leg: SessionLeg, error: str, reason: str = "", delay_ms: int = 0) -> None:
        self._drop_candidate(leg)
        if leg is self.current:
            self.current = None
        if leg.state is not LegState.ENDED:
            leg.state = next_state(LEG, leg.state, LegEvent.ENDED)
            self._emit(EndLeg(leg, error, reason, delay_ms))

    def _drop_candidate(self, leg: SessionLeg) -> None:
        if self._candidates is not None and leg in self._candidates:
            self._candidates.remove(leg)
            if not self._candidates:
                self._candidates = None

    def _close(self) -> None:
        for candidate in list(self._candidates or ()):
            self._end(candidate, "session_unknown")
        if self.state is not SessionState.CLOSED:
            self.state = next_state(SESSION, self.state, SessionEvent.CLOSED)
            self._emit(Close())
