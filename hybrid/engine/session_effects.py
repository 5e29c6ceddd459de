"""What a session asks for and has to wait for: the recovery of a leg, and the commands of the session itself.

The runner calls these one after the other, in the order in which the session wants them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from hybrid.engine import reply as replies
from hybrid.engine.leg import StreamLeg
from hybrid.engine.link import address_of
from hybrid.engine.rights import follow_channels, receive_rights
from hybrid.errors import AuthError, ChannelError, HybridError, LimitError, ProtocolError
from hybrid.model import Principal
from hybrid.protocol.commands import AttachSubscription, Refresh, Subscribe, Unsubscribe
from hybrid.protocol.cursor import from_wire, to_wire
from hybrid.protocol.pushes import Push, Reply, Subscribed, SubscribedAll
from hybrid.protocol.session import Execute

if TYPE_CHECKING:
    from hybrid.engine.engine import Engine
    from hybrid.engine.runner import SessionRunner


class Shown(Refresh, frozen=True, kw_only=True):
    """A refresh whose token was checked already, at the door of this node or of another one: by whom it speaks for."""

    principal: Principal


async def recover(
    engine: Engine, runner: SessionRunner, leg: StreamLeg, subscriptions: Sequence[AttachSubscription]
) -> None:
    """Bring a leg up to date and let it go on live; a refused channel is told in its place. Cancel-safe."""
    if leg is not runner.session.current:
        return  # it ended while this waited
    feed = leg.feed = engine.hub.feed(leg.link, leg.wire.encoding, leg)
    answers: list[Subscribed] = []
    if engine.operations.asks:
        assert leg.principal is not None
        await engine.operations.ask_subscribe(leg.principal, [wanted.channel for wanted in subscriptions])
    with engine.warmed(leg.principal, [subscription.channel for subscription in subscriptions]):
        for subscription in subscriptions:
            try:
                answers.append(await _add(engine, runner, leg, subscription))
            except HybridError as error:
                engine.counts.refused(error)
                answers.append(Subscribed(subscription.channel, error=error.row.number))
    if leg is not runner.session.current:
        feed.close()
        return
    engine.presence.settle(runner.session.id, {a.channel for a in answers if not a.error})
    leg.push(Push(subscribed=SubscribedAll(answers)))
    runner.session.receive_recovered(leg)
    runner.carry_out()
    leg.uncork()
    feed.start([answer.channel for answer in answers if not answer.error])
    assert leg.principal is not None
    runner.took_over(leg.principal)
    follow_channels(engine, runner, leg.principal)


async def _add(
    engine: Engine, runner: SessionRunner, leg: StreamLeg, wanted: AttachSubscription | Subscribe
) -> Subscribed:
    """Authorise with the rights of now and find the position; delivery starts with `feed.start`."""
    assert leg.feed is not None
    assert leg.principal is not None
    # Not the session's, which is that of its longest-lived token: a leg has the rights of the one shown on it last.
    namespace = engine.operations.check_subscribe(leg.principal, wanted.channel)
    position = None if wanted.position is None else from_wire(wanted.position)
    started = await leg.feed.add(wanted.channel, position, wanted.history)
    if namespace.presence:
        engine.presence.join(runner.session.principal, runner.session.id, wanted.channel)
    return Subscribed(wanted.channel, to_wire(started.position), started.was_recovered)


async def execute(engine: Engine, runner: SessionRunner, effect: Execute) -> Reply:
    """The reply to a command of the session; a refusal is one, too. Cancel-safe."""
    command = effect.command
    try:
        match command:
            case Subscribe():
                return await _subscribe(engine, runner, command, effect.n)
            case Unsubscribe():
                return _unsubscribe(engine, runner, command, effect.n)
            case Refresh():
                return await _refresh(engine, runner, command, effect.n)
    except HybridError as error:
        engine.counts.refused(error)
        return msgspec.structs.replace(replies.refused(error, command.id), n=effect.n)


def _stream(runner: SessionRunner) -> StreamLeg:
    leg = runner.session.current
    if not isinstance(leg, StreamLeg) or leg.feed is None:
        raise ProtocolError("session_unknown", "The session has no open stream; attach anew.")
    return leg


async def _subscribe(engine: Engine, runner: SessionRunner, command: Subscribe, n: int) -> Reply:
    leg = _stream(runner)
    assert leg.feed is not None
    _check_rate(engine, runner, leg)
    channels = leg.feed.channels()
    if command.channel in channels:
        raise ChannelError("already_subscribed")
    if len(channels) >= engine.limits.channels_per_session_max:
        raise LimitError("channels_per_session_max")
    engine.intake.check_attachable([*channels, command.channel])
    if engine.operations.asks:
        assert leg.principal is not None
        await engine.operations.ask_subscribe(leg.principal, (command.channel,))
        if leg is not runner.session.current:
            raise _leg_ended()
    try:
        answer = await _add(engine, runner, leg, command)
    except ChannelError:
        if leg is not runner.session.current:  # its feed ended under the subscription, which says nothing about that
            raise _leg_ended() from None
        raise
    if leg is not runner.session.current:
        raise _leg_ended()
    # The reply has to be on its way before the first publication.
    reply = Reply(id=command.id, n=n, position=answer.position, recovered=answer.recovered)
    engine.call_soon(leg.feed.start, [command.channel])
    return reply


def _check_rate(engine: Engine, runner: SessionRunner, leg: StreamLeg) -> None:
    """Here and not where the command came in: its number must have its turn, or later ones would wait for it."""
    try:
        engine.rates.check_command(runner.session.principal, _address(runner))
    except LimitError:
        leg.refused_for_rate()
        raise


def _address(runner: SessionRunner) -> str:
    leg = runner.session.current
    return address_of(leg.link.peer) if isinstance(leg, StreamLeg) else ""


def _unsubscribe(engine: Engine, runner: SessionRunner, command: Unsubscribe, n: int) -> Reply:
    leg = _stream(runner)
    assert leg.feed is not None
    if leg.feed.remove(command.channel) is None:
        raise ChannelError("not_subscribed")
    engine.presence.leave(runner.session.id, command.channel)
    return Reply(id=command.id, n=n)


async def _refresh(engine: Engine, runner: SessionRunner, command: Refresh, n: int) -> Reply:
    try:
        principal = await _shown(engine, runner, command)
    except AuthError as error:
        # The old token lives on: a failed refresh is an answer, not the end.
        return Reply(id=command.id, n=n, error=replies.refused(error).error)
    if not principal.is_same_party(runner.session.principal):
        runner.end("principal_changed")
        return Reply(id=command.id, n=n, error=replies.refused(AuthError("principal_changed")).error)
    receive_rights(engine, runner, principal)
    expires_in_s = runner.session.expires_in_s(engine.clock.monotonic_s())
    return Reply(id=command.id, n=n, token_expires_in_s=expires_in_s)


async def _shown(engine: Engine, runner: SessionRunner, command: Refresh) -> Principal:
    if isinstance(command, Shown):
        if engine.revocations.is_revoked(command.principal):  # while the command waited for its turn
            raise AuthError("token_refused")
        return command.principal
    return await engine.identification.verified(command.token, _address(runner))


def _leg_ended() -> ProtocolError:
    return ProtocolError("session_unknown", "The leg ended meanwhile; the next attach says it all.")
