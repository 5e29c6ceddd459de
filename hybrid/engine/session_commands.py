"""The commands of one session that did not come on its own leg: posted here, or carried here from another node."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from hybrid.engine.reply import ReplyTo
from hybrid.engine.session_effects import Shown
from hybrid.errors import ProtocolError
from hybrid.model import Principal
from hybrid.protocol.commands import AnyCommand, Confirm, Heartbeat, Refresh, Subscribe, Unsubscribe
from hybrid.protocol.pushes import Reply
from hybrid.protocol.session import NumberedCommand

if TYPE_CHECKING:
    from hybrid.engine.runner import SessionRunner

ANSWER_TIMEOUT_S: Final = 10.0
"""For a command that has to wait for its channel; then `outcome_unknown`, and the client asks again."""


async def carry_out(runner: SessionRunner, command: AnyCommand, principal: Principal) -> Reply | None:
    """Carry a command out for a principal whose token came with it. None: it has no reply. Raises HybridError."""
    match command:
        case Heartbeat():
            runner.heartbeat(command.last_seq)
            if command.echo:
                runner.echo(command.echo, command.attempt)
            return None
        case Confirm():
            return _confirm(runner, command)
        case Refresh():
            return await _ask(runner, Shown(id=command.id, n=command.n, principal=principal))
        case Subscribe() | Unsubscribe():
            return await _ask(runner, command)
        case _:
            raise ProtocolError("bad_request", "This command cannot be posted.")


def _confirm(runner: SessionRunner, command: Confirm) -> Reply:
    for leg in runner.session.candidates:
        if leg.attempt == command.attempt:
            runner.confirm(leg, command.subscriptions)
            return Reply(id=command.id)
    current = runner.session.current
    if current is not None and current.attempt == command.attempt:
        return Reply(id=command.id)  # the answer to the first one was lost
    raise ProtocolError("session_unknown", "No leg of this attempt waits to be confirmed.")


async def _ask(runner: SessionRunner, command: NumberedCommand) -> Reply:
    if not command.n:
        raise ProtocolError("bad_request", "Posted commands of a session are numbered: give `n`.")
    answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    def answer(reply: Reply) -> None:
        if not answered.done():
            answered.set_result(reply)

    runner.command(command, ReplyTo(answer, command.id))
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            return await answered
    except TimeoutError:
        raise ProtocolError("outcome_unknown", "Send the same command, with the same number, again.") from None
