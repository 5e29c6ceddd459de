"""The way up for the two one-way transports: commands in a POST, replies in its answer."""

from __future__ import annotations

from typing import Final

import msgspec

from hybrid.engine import reply as replies
from hybrid.engine.engine import Engine
from hybrid.engine.leg import MAY_WAIT
from hybrid.engine.leg_commands import publish_request
from hybrid.engine.rates import Who, is_rate, who_is
from hybrid.errors import HybridError, LimitError
from hybrid.model import Principal
from hybrid.protocol.codec import JSON, decode_post
from hybrid.protocol.commands import (
    AnyCommand,
    Call,
    CommandPost,
    History,
    Presence,
    Publish,
    Subscribe,
    Unsubscribe,
)
from hybrid.protocol.cursor import from_wire
from hybrid.protocol.pushes import Reply, WireError
from hybrid.transports.exchange import Exchange
from hybrid.transports.gate import Gate

_NO_SESSION: Final = "session_unknown"


class Uplink:
    """Serves `POST /v1/command`."""

    def __init__(self, engine: Engine, gate: Gate) -> None:
        self._engine = engine
        self._gate = gate

    async def command(self, exchange: Exchange) -> None:
        """Carry out the commands of one POST, in order."""
        principal = await self._gate.known_principal(exchange)
        self._engine.rates.check_flood(who_is(principal, exchange.address))
        limits = self._engine.limits
        raw = await exchange.body(limits.body_max_bytes)
        post = decode_post(raw, max_bytes=limits.body_max_bytes, commands_max=limits.commands_per_post_max)
        exchange.session = post.session
        runner = self._engine.registry.find(post.session, principal) if post.session else None
        if runner is not None and post.last_seq:
            runner.heartbeat(post.last_seq)
        answers: list[bytes] = []
        size = 0
        for raw in post.commands:
            if size > limits.body_max_bytes:  # one large answer is bounded already; many of them are bounded here
                error = LimitError("body_max_bytes", "The answers before this one fill the response; post it again.")
                reply: Reply | None = replies.refused(error, JSON.command_id(bytes(raw)))
            else:
                reply = await self._answer(bytes(raw), post, principal, exchange.address)
            if reply is not None:
                answers.append(msgspec.json.encode(reply))
                size += len(answers[-1])
        await exchange.respond(200, b'{"replies":[%b]}' % b",".join(answers))

    async def _answer(self, raw: bytes, post: CommandPost, principal: Principal, address: str) -> Reply | None:
        command: AnyCommand | None = None
        try:
            self._engine.revocations.check(principal)  # each may have waited for the ones before it
            command = JSON.decode_command(raw, self._engine.limits.command_max_bytes)
            self._count(command, principal, address)
            reply = await self._carry_out(command, raw, post, principal, address)
        except HybridError as error:
            self._engine.counts.refused(error)
            command_id = 0 if command is None else command.id
            reply = replies.refused(error, command_id or JSON.command_id(raw))
        if reply is not None and reply.error is not None:
            self._refused(command, reply.error, who_is(principal, address))
        return reply

    def _refused(self, command: AnyCommand | None, error: WireError, who: Who) -> None:
        """Count what was refused for its rate, here or where its session is; and what no session was there to count."""
        rates = self._engine.rates
        is_uncounted = error.name == _NO_SESSION and _is_counted_later(command)
        if is_rate(error.limit) or (is_uncounted and rates.command(who) is not None):
            rates.is_flood(who)

    def _count(self, command: AnyCommand, principal: Principal, address: str) -> None:
        """As `StreamLeg` does. Raises LimitError for what may wait."""
        if isinstance(command, Publish) or _is_counted_later(command):
            return
        who = who_is(principal, address)
        refusal = self._engine.rates.command(who)
        if refusal is None:
            return
        if isinstance(command, MAY_WAIT | Subscribe):
            raise refusal
        self._engine.rates.is_flood(who)

    async def _carry_out(
        self, command: AnyCommand, raw: bytes, post: CommandPost, principal: Principal, address: str
    ) -> Reply | None:
        operations = self._engine.operations
        match command:
            case Publish():
                result = (await operations.publish_many(principal, [publish_request(command)], address=address))[0]
                if isinstance(result, HybridError):
                    raise result
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
                return await self._engine.polling.subscribe(principal, post.session, command)
            case Unsubscribe() if command.sealed:
                return self._engine.polling.unsubscribe(principal, post.session, command)
            case _:
                pass
        return await self._engine.router.ask(principal, post.session, command, raw, post.last_seq)


def _is_counted_later(command: AnyCommand | None) -> bool:
    """Where its session is, when its number has its turn."""
    return isinstance(command, Subscribe) and not command.sealed
