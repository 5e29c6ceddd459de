"""The commands that come on a stream's own leg, and their answers; those of the session itself go to its runner."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from hybrid.engine import reply as replies
from hybrid.engine.link import address_of
from hybrid.engine.operations import PublishRequest
from hybrid.engine.rates import is_over_rate
from hybrid.engine.reply import ReplyTo
from hybrid.errors import AuthError, HybridError, ProtocolError
from hybrid.protocol.commands import (
    AnyCommand,
    Attach,
    Auth,
    Call,
    Confirm,
    Heartbeat,
    History,
    Poll,
    Presence,
    Publish,
    Refresh,
    Subscribe,
    Unsubscribe,
)
from hybrid.protocol.cursor import from_wire
from hybrid.protocol.pushes import Push

if TYPE_CHECKING:
    from hybrid.engine.engine import Engine
    from hybrid.engine.leg import StreamLeg


async def carry_out(engine: Engine, leg: StreamLeg, command: AnyCommand) -> None:
    """Answer one command that came on this leg; a refusal is an answer, too. Cancel-safe."""
    try:
        await _dispatch(engine, leg, command)
    except HybridError as error:
        refuse(engine, leg, command.id, error)


async def _dispatch(engine: Engine, leg: StreamLeg, command: AnyCommand) -> None:
    assert leg.principal is not None
    match command:
        case Attach():
            attach(engine, leg, command)
        case Subscribe() | Unsubscribe() | Refresh():
            if leg.runner is None:
                raise ProtocolError("session_unknown", "Attach first.")
            leg.runner.command(command, ReplyTo(leg.reply, command.id))
        case Confirm():
            if leg.runner is None or command.attempt != leg.attempt:
                raise ProtocolError("bad_request", "Only this leg's own attempt can be confirmed on it.")
            leg.runner.confirm(leg, command.subscriptions)
        case History():
            after = None if command.after is None else from_wire(command.after)
            page = await engine.operations.history(
                leg.principal, command.channel, after=after, limit=command.limit, is_reverse=command.reverse
            )
            leg.reply(replies.history(page, command.id))
        case Presence():
            entries = await engine.operations.presence(leg.principal, command.channel)
            leg.reply(replies.presence(entries, command.id))
        case Call():
            engine.tasks.spawn(_call(engine, leg, command))  # it may take long; what follows does not wait for it
        case Auth():
            raise ProtocolError("bad_request", "This leg is authenticated; use `refresh`.")
        case Poll() | Heartbeat() | Publish():
            raise ProtocolError("bad_request", "Polls are posted.")


def attach(engine: Engine, leg: StreamLeg, command: Attach) -> None:
    """The first command of nearly every leg, carried out at once or refused."""
    assert leg.principal is not None
    try:
        if leg.runner is not None:
            raise ProtocolError("bad_request", "This leg is attached; open another one.")
        address = address_of(leg.link.peer) if leg.principal.is_anonymous else ""  # others are told apart by name
        engine.intake.admit(leg.principal, command, address)
        engine.attach(leg, leg.principal, command)
    except HybridError as error:
        refuse(engine, leg, command.id, error)


async def _call(engine: Engine, leg: StreamLeg, command: Call) -> None:
    assert leg.principal is not None
    try:
        result = await engine.calls.call(leg.principal, command.name, bytes(command.data), command.key)
    except HybridError as error:
        engine.counts.refused(error)
        leg.reply(replies.refused(error, command.id))  # whatever the handler says, it ends no leg
    else:
        leg.reply(replies.called(result, command.id))


async def publish(engine: Engine, leg: StreamLeg, commands: Iterable[AnyCommand]) -> None:
    """Publishes that waited together go to the broker together, and their answers out in one write. Cancel-safe."""
    assert leg.principal is not None
    publishes = [command for command in commands if isinstance(command, Publish)]
    address = address_of(leg.link.peer) if leg.principal.is_anonymous else ""
    results = await engine.operations.publish_many(
        leg.principal, [publish_request(command) for command in publishes], address=address
    )
    encode = leg.wire.encode_push
    payloads = [
        encode(Push(reply=replies.appended(result, command.id)))
        for command, result in zip(publishes, results, strict=True)
    ]
    leg.uncork()
    leg.link.write(leg.link.framing(payloads))
    for result in results:
        if isinstance(result, HybridError) and is_over_rate(result):
            leg.refused_for_rate()


def refuse(engine: Engine, leg: StreamLeg, command_id: int, error: HybridError) -> None:
    """Answer a command with an error, or end the leg where there is nobody to answer to, or no use in going on."""
    engine.counts.refused(error)
    if leg.principal is None or (command_id == 0 and error.row.name == "bad_request"):
        # Nothing to answer to: not a command at all, or from somebody whom we do not know.
        leg.end("protocol_error", detail=str(error))
    elif _ends_a_leg(error) and (isinstance(error, AuthError) or leg.runner is None):
        leg.end(error.row.name, detail=str(error), delay_ms=round((error.retry_after_s or 0) * 1000))
    else:
        leg.reply(replies.refused(error, command_id))


def _ends_a_leg(error: HybridError) -> bool:
    return error.row.number >= 4000 or error.row.name == "draining"


def publish_request(command: Publish) -> PublishRequest:
    """The operation that a publish command asks for."""
    return PublishRequest(
        channel=command.channel,
        data=bytes(command.data),
        form="binary" if command.binary else "json",
        type=command.type,
        key=command.key,
    )
