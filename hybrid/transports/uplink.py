"""The way up for the two one-way transports: commands in a POST, replies in its answer."""

from __future__ import annotations

import asyncio

import msgspec

from hybrid.auth.bearer import find_bearer
from hybrid.engine import reply as replies
from hybrid.engine.engine import Engine
from hybrid.engine.leg import publish_request
from hybrid.engine.reply import ReplyTo
from hybrid.engine.runner import SessionRunner
from hybrid.errors import HybridError, LimitError, ProtocolError
from hybrid.model import Principal
from hybrid.protocol.codec import JSON, decode_post
from hybrid.protocol.commands import (
    AnyCommand,
    Call,
    Confirm,
    Heartbeat,
    History,
    Presence,
    Publish,
    Refresh,
    Subscribe,
    Unsubscribe,
)
from hybrid.protocol.cursor import from_wire
from hybrid.protocol.pushes import Reply
from hybrid.transports.exchange import Exchange
from hybrid.transports.gate import Gate

ANSWER_TIMEOUT_S = 10.0
"""For a command that its session's owner has to carry out; then `outcome_unknown`, and the client asks again."""


class Uplink:
    """Serves `POST /v1/command`."""

    def __init__(self, engine: Engine, gate: Gate) -> None:
        self._engine = engine
        self._gate = gate

    async def command(self, exchange: Exchange) -> None:
        """Carry out the commands of one POST, in order."""
        principal = await self._gate.known_principal(exchange)
        limits = self._engine.limits
        raw = await exchange.body(limits.body_max_bytes)
        post = decode_post(raw, max_bytes=limits.body_max_bytes, commands_max=limits.commands_per_post_max)
        runner = self._engine.registry.find(post.session, principal) if post.session else None
        if runner is not None and post.last_seq:
            runner.heartbeat(post.last_seq)
        token = find_bearer(exchange.headers) or ""
        answers: list[bytes] = []
        size = 0
        for raw in post.commands:
            if size > limits.body_max_bytes:  # one large answer is bounded already; many of them are bounded here
                error = LimitError("body_max_bytes", "The answers before this one fill the response; post it again.")
                reply: Reply | None = replies.refused(error, JSON.command_id(bytes(raw)))
            else:
                reply = await self._answer(bytes(raw), post.session, runner, principal, token)
            if reply is not None:
                answers.append(msgspec.json.encode(reply))
                size += len(answers[-1])
        await exchange.respond(200, b'{"replies":[%b]}' % b",".join(answers))

    async def _answer(
        self, raw: bytes, session: str, runner: SessionRunner | None, principal: Principal, token: str
    ) -> Reply | None:
        command_id = 0
        try:
            command = JSON.decode_command(raw, self._engine.limits.command_max_bytes)
            command_id = command.id
            return await self._carry_out(command, session, runner, principal, token)
        except HybridError as error:
            return replies.refused(error, command_id or JSON.command_id(raw))

    async def _carry_out(
        self, command: AnyCommand, session: str, runner: SessionRunner | None, principal: Principal, token: str
    ) -> Reply | None:
        operations = self._engine.operations
        match command:
            case Publish():
                result = (await operations.publish_many(principal, [publish_request(command)]))[0]
                return replies.appended(result, command.id)
            case Call():
                answer = await self._engine.calls.call(principal, command.name, bytes(command.data), command.key)
                return replies.called(answer, command.id)
            case History():
                after = None if command.after is None else from_wire(command.after)
                page = await operations.history(
                    principal, command.channel, after=after, limit=command.limit, is_reverse=command.reverse
                )
                return replies.history(page, command.id)
            case Presence():
                return replies.presence(await operations.presence(principal, command.channel), command.id)
            case Subscribe() if command.sealed:
                return await self._engine.polling.subscribe(principal, session, command)
            case Unsubscribe() if command.sealed:
                return self._engine.polling.unsubscribe(principal, session, command)
            case _:
                pass
        if runner is None:
            raise ProtocolError("session_unknown")
        match command:
            case Heartbeat():
                runner.heartbeat(command.last_seq)
                return None
            case Confirm():
                return self._confirm(runner, command)
            case Refresh():
                return await self._ask(runner, msgspec.structs.replace(command, token=token))
            case Subscribe() | Unsubscribe():
                return await self._ask(runner, command)
            case _:
                raise ProtocolError("bad_request", "This command cannot be posted.")

    def _confirm(self, runner: SessionRunner, command: Confirm) -> Reply:
        for leg in runner.session.candidates:
            if leg.attempt == command.attempt:
                runner.confirm(leg, command.subscriptions)
                return Reply(id=command.id)
        current = runner.session.current
        if current is not None and current.attempt == command.attempt:
            return Reply(id=command.id)  # the answer to the first one was lost
        raise ProtocolError("session_unknown", "No leg of this attempt waits to be confirmed.")

    async def _ask(self, runner: SessionRunner, command: Subscribe | Unsubscribe | Refresh) -> Reply:
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
