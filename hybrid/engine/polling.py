"""Sessions over long polling: every poll is answered where it lands, from what it brings along.

A poll gives nothing up before its positions have passed it: the positions and the sealed list of channels travel with
the client, so a lost answer, another node and a restart are all the same thing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from hybrid.engine.census import WaitingPoll
from hybrid.engine.claimed import follow_claim
from hybrid.engine.poll import Collected
from hybrid.engine.polled import PolledLeg
from hybrid.engine.runner import SessionRunner
from hybrid.engine.wire import POLL
from hybrid.errors import TABLE, ChannelError, HybridError, LimitError, ProtocolError
from hybrid.model import Position, Principal
from hybrid.protocol.commands import Attach, AttachSubscription, Poll, Subscribe, Unsubscribe
from hybrid.protocol.cursor import from_wire, to_wire
from hybrid.protocol.pushes import Disconnect, Push, Reply, Reset, Subscribed, SubscribedAll
from hybrid.protocol.states import LegState

if TYPE_CHECKING:
    from hybrid.engine.engine import Engine

Watched: TypeAlias = Callable[[], AbstractContextManager[object]]
"""What a transport puts around what may have to wait: it ends with whoever is to be answered."""


class Polling:
    """Answers polls and the commands of polled sessions. Answers are lists of payloads, each one push as JSON."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def attach(self, principal: Principal, attach: Attach) -> list[bytes]:
        """The first poll: at once. Raises HybridError."""
        return await self._attach(principal, attach, is_counted=True)

    async def poll(self, principal: Principal, poll: Poll, address: str, watched: Watched) -> list[bytes]:
        """A later poll: waits for something to tell. Raises HybridError. Cancel-safe: nothing is given up by it.

        `address` is where it comes from: one that begins anew is admitted as an attach is. Whatever may have to wait
        is counted, and awaited inside `watched()`; a poll that can be answered at once is neither.
        """
        runner = self._engine.registry.find(poll.session, principal)
        if runner is None:
            farewell = self._engine.farewells.of(poll.session, principal)
            if farewell is not None:
                return [_farewell(farewell)]
            runner = self._adopted(principal, poll)
        if runner is None:
            with self._waiting(principal, address), watched():
                return await self._begin_again(principal, poll, address)
        leg = _leg_of(runner, poll.attempt)
        if leg is None:
            current = runner.session.current
            if current is not None and current.attempt > poll.attempt:
                return [_disconnect("replaced")]
            with self._waiting(principal, address), watched():
                return await self._begin_again(principal, poll, address)
        leg.principal = principal
        leg.address = address
        if leg.state is LegState.CANDIDATE:
            if not poll.confirm:
                raise ProtocolError("bad_request", "This leg is a candidate: poll with `confirm`.")
            wanted = _overlaid(leg.subscriptions, poll)
            runner.confirm(leg, wanted)
            with self._waiting(principal, address), watched():
                return await self._recover(runner, leg, wanted, poll.last_seq)
        runner.receive_poll(leg, principal, poll.last_seq)
        channels = self._sealed(leg, principal, runner.session.id, poll.sealed)
        positions = {item.channel: from_wire(item.position) for item in poll.positions}
        if channels is None or not positions.keys() >= set(channels) or not self._may_read_on(principal, channels):
            known = leg.wanted if channels is None else [AttachSubscription(channel) for channel in channels]
            wanted = _overlaid(known, poll)
            self._engine.intake.check_subscriptions(wanted)
            with self._waiting(principal, address), watched():
                return await self._recover(runner, leg, wanted, poll.last_seq)
        leg.wanted = []
        for channel in channels:
            if self._engine.operations.namespace(channel).presence:
                self._engine.presence.polled(principal, runner.session.id, channel)
        wait_s = min(poll.wait_s, self._engine.limits.poll_wait_max_s)
        wait_s = min(wait_s, max(0.0, principal.expires_at_s - self._engine.clock.wall_s()))
        wanted_positions = {channel: positions[channel] for channel in channels}
        told = self._at_hand(runner, leg, wanted_positions, wait_s)
        if told is not None:
            return told
        with self._waiting(principal, address), watched():
            return await self._collected(runner, leg, wanted_positions, wait_s)

    async def subscribe(self, principal: Principal, session: str, command: Subscribe) -> Reply:
        """Adds a channel to the sealed list. Raises HybridError."""
        channels = self._opened(principal, session, command.sealed)
        if command.channel in channels:
            raise ChannelError("already_subscribed")
        if len(channels) >= self._engine.limits.channels_per_session_max:
            raise LimitError("channels_per_session_max")
        self._engine.intake.check_attachable([*channels, command.channel])
        await self._engine.operations.ask_subscribe(principal, (command.channel,))
        answer = await self._locate(
            principal, session, AttachSubscription(command.channel, command.position, command.history)
        )
        sealed = self._engine.sealer.seal(principal, session, [*channels, command.channel])
        return Reply(id=command.id, position=answer.position, recovered=answer.recovered, sealed=sealed)

    def unsubscribe(self, principal: Principal, session: str, command: Unsubscribe) -> Reply:
        """Takes a channel from the sealed list. Raises HybridError."""
        channels = self._opened(principal, session, command.sealed)
        if command.channel not in channels:
            raise ChannelError("not_subscribed")
        left = [channel for channel in channels if channel != command.channel]
        return Reply(id=command.id, sealed=self._engine.sealer.seal(principal, session, left))

    # -- inside

    async def _attach(self, principal: Principal, attach: Attach, *, is_counted: bool) -> list[bytes]:
        leg = PolledLeg(principal)
        runner, attached = self._engine.attach_polled(leg, principal, attach, is_counted=is_counted)
        answer = [POLL.encode_push(Push(attached=attached))]
        if attach.confirm:
            answer += await self._recover(runner, leg, attach.subscriptions, attach.last_seq)
        return answer

    def _sealed(self, leg: PolledLeg, principal: Principal, session: str, sealed: str) -> list[str] | None:
        """The channels of a sealed list, which is the same in nearly all polls of a leg; None where it does not fit."""
        if leg.opened is not None and leg.opened[0] == sealed and leg.opened[1] is principal:
            return leg.opened[2]
        channels = self._engine.sealer.open(sealed, principal, session)
        leg.opened = None if channels is None else (sealed, principal, channels)
        return channels

    def _may_read_on(self, principal: Principal, channels: list[str]) -> bool:
        """The seal vouches for the rights that the token had; what an introspected one may do can change."""
        if not principal.is_introspected:
            return True
        return all(self._engine.operations.may_read_on(principal, channel) for channel in channels)

    def _opened(self, principal: Principal, session: str, sealed: str) -> list[str]:
        channels = self._engine.sealer.open(sealed, principal, session)
        if channels is None:
            raise ProtocolError("session_unknown", "The sealed list does not fit this token; poll first for a new one.")
        return channels

    def _adopted(self, principal: Principal, poll: Poll) -> SessionRunner | None:
        """A session that another node began and this one has not seen: the seal says that it is one, and of whom.

        It goes on here under its own id, so that polls which land on any node in turn each wait, and none begins anew.
        """
        engine = self._engine
        if poll.confirm or not engine.registry.is_free(poll.session):
            return None
        if engine.sealer.open(poll.sealed, principal, poll.session) is None:
            return None
        return engine.adopt_polled(PolledLeg(principal), principal, poll)

    async def _begin_again(self, principal: Principal, poll: Poll, address: str) -> list[bytes]:
        """The node does not know the session, or not this leg of it: the whole truth, and `seq` starts anew.

        That costs what an attach does, and whoever makes up sessions must not get around the admission of these.
        """
        wanted = [AttachSubscription(item.channel, item.position) for item in poll.positions]
        known = {subscription.channel for subscription in wanted}
        channels = self._engine.sealer.open(poll.sealed, principal, poll.session) or ()
        wanted += [AttachSubscription(channel) for channel in channels if channel not in known]
        attach = Attach(attempt=poll.attempt, session=poll.session, confirm=True, subscriptions=wanted)
        self._engine.intake.arrive(address)
        self._engine.intake.admit(principal, attach, address)
        return await self._attach(principal, attach, is_counted=False)  # it was, where it began

    async def _locate(
        self, principal: Principal, session: str, wanted: AttachSubscription, until_s: float | None = None
    ) -> Subscribed:
        namespace = self._engine.operations.check_subscribe(principal, wanted.channel)
        position = None if wanted.position is None else from_wire(wanted.position)
        located = await self._engine.locate(wanted.channel, position, wanted.history, until_s)
        if namespace.presence:
            self._engine.presence.polled(principal, session, wanted.channel)
        return Subscribed(wanted.channel, to_wire(located.position), located.was_recovered)

    async def _recover(
        self, runner: SessionRunner, leg: PolledLeg, subscriptions: list[AttachSubscription], last_seq: int
    ) -> list[bytes]:
        """Authorises for the leg's principal, whose token came with this request: no other one's rights count."""
        session, principal = runner.session, leg.principal
        if leg is not session.current:
            return [_farewell(leg)]
        leg.wanted = subscriptions
        # This was a poll, too: without another one the session ends, or whoever asks once would leave one for good.
        runner.receive_poll(leg, principal, last_seq)
        answers: list[Subscribed] = []
        if self._engine.operations.asks:
            await self._engine.operations.ask_subscribe(principal, [wanted.channel for wanted in subscriptions])
        until_s = self._engine.patient_until_s()  # for all together, or 256 channels would hold the request for minutes
        with self._engine.warmed(principal, [wanted.channel for wanted in subscriptions]):
            for wanted in subscriptions:
                try:
                    answers.append(await self._locate(principal, session.id, wanted, until_s))
                except HybridError as error:
                    self._engine.counts.refused(error)
                    answers.append(Subscribed(wanted.channel, error=error.row.number))
        if leg is not session.current:
            return [_farewell(leg)]
        positions = {a.channel: from_wire(a.position) for a in answers if a.position is not None}
        self._engine.presence.release(session.id)
        sealed = self._engine.sealer.seal(principal, session.id, positions)
        payloads = [POLL.encode_push(Push(subscribed=SubscribedAll(answers, sealed)))]
        session.receive_recovered(leg)
        runner.carry_out()
        runner.took_over(principal)
        if principal.channels is not session.claimed:
            await follow_claim(self._engine, runner)
        told = self._at_hand(runner, leg, positions, 0.0)
        return payloads + (await self._collected(runner, leg, positions, 0.0) if told is None else told)

    def _waiting(self, principal: Principal, address: str) -> WaitingPoll:
        return self._engine.open.poll(address=address, party=principal)

    def _at_hand(
        self, runner: SessionRunner, leg: PolledLeg, positions: dict[str, Position], wait_s: float
    ) -> list[bytes] | None:
        """The answer, if it is known now."""
        if leg.error:
            return _told(runner, leg, Collected())
        leg.wake()  # an older poll that waits ends
        if _pending(runner):
            wait_s = 0.0
        collected = self._engine.at_hand(positions, encoding=POLL.encoding, wait_s=wait_s)
        return None if collected is None else _told(runner, leg, collected)

    async def _collected(
        self, runner: SessionRunner, leg: PolledLeg, positions: dict[str, Position], wait_s: float
    ) -> list[bytes]:
        """The answer, once there is one."""
        if _pending(runner):
            wait_s = 0.0
        collected = await self._engine.collect(positions, encoding=POLL.encoding, wait_s=wait_s, wait=leg.begin())
        return _told(runner, leg, collected)


def _pending(runner: SessionRunner) -> Sequence[Push]:
    """What the session was told and has not acknowledged."""
    backlog = runner.session.backlog
    return () if backlog is None else backlog.unacknowledged()


def _told(runner: SessionRunner, leg: PolledLeg, collected: Collected) -> list[bytes]:
    payloads = [POLL.encode_push(push) for push in _pending(runner)]
    for channel, position in collected.resets.items():
        payloads.append(POLL.encode_push(Push(reset=Reset(channel, to_wire(position)))))
    payloads += collected.payloads
    if leg.error:
        payloads.append(_farewell(leg))
    return payloads


def _leg_of(runner: SessionRunner, attempt: int) -> PolledLeg | None:
    for leg in (runner.session.current, *runner.session.candidates):
        if isinstance(leg, PolledLeg) and leg.attempt == attempt:
            return leg
    return None


def _overlaid(subscriptions: Sequence[AttachSubscription], poll: Poll) -> list[AttachSubscription]:
    """The attach's list with the positions of the confirming poll: positions move while a candidate waits."""
    moved = {item.channel: item.position for item in poll.positions}
    kept = [
        msgspec.structs.replace(wanted, position=moved.pop(wanted.channel)) if wanted.channel in moved else wanted
        for wanted in subscriptions
    ]
    return kept + [AttachSubscription(channel, position) for channel, position in moved.items()]


def _farewell(leg: PolledLeg) -> bytes:
    return _disconnect(leg.error or "replaced", leg.reason, leg.delay_ms)


def _disconnect(error: str, reason: str = "", delay_ms: int = 0) -> bytes:
    row = TABLE[error]
    return POLL.encode_push(Push(disconnect=Disconnect(row.number, reason or row.name, row.comes_back, delay_ms)))
