"""Long polling (RFC 6202): sessions by POST, plain channels by GET."""

from __future__ import annotations

import msgspec

from hybrid.engine.encodings import PLAIN_JSON
from hybrid.engine.engine import Engine
from hybrid.errors import ProtocolError
from hybrid.protocol.codec import JSON
from hybrid.protocol.commands import Attach, Poll
from hybrid.protocol.cursor import format_composite, format_cursor
from hybrid.transports.exchange import Exchange
from hybrid.transports.gate import Gate
from hybrid.transports.target import read_target


class LongPolls:
    """Serves polls."""

    def __init__(self, engine: Engine, gate: Gate) -> None:
        self._engine = engine
        self._gate = gate

    async def session(self, exchange: Exchange) -> None:
        """`POST /v1/stream`, asked for as JSON: an attach, or a later poll."""
        principal = await self._gate.known_principal(exchange)
        self._engine.intake.check_links(principal, exchange.address)
        limits = self._engine.limits
        raw = await exchange.body(limits.attach_max_bytes)
        self._engine.revocations.check(principal)  # the body may have taken its time
        command = JSON.decode_command(raw, limits.attach_max_bytes)
        match command:
            case Attach():
                self._gate.arrive(exchange)
                self._engine.intake.admit(principal, command, exchange.address)
                with self._engine.open.poll(address=exchange.address, party=principal), exchange.unless_gone():
                    payloads = await self._engine.polling.attach(principal, command)
            case Poll():
                exchange.session = command.session
                payloads = await self._engine.polling.poll(principal, command, exchange.address, exchange.unless_gone)
            case _:
                raise ProtocolError("bad_request", "The body of a poll is an `attach` or a `poll`.")
        await exchange.respond(200, b'{"pushes":[%b]}' % b",".join(payloads))

    async def plain(self, exchange: Exchange) -> None:
        """A channel's own URL: waits for what comes after the cursor, or tells the current one."""
        engine = self._engine
        principal = await self._gate.lasting_principal(exchange)
        target = read_target(exchange, engine.limits)
        await engine.operations.ask_subscribe(principal, target.channels)
        for channel in target.channels:
            engine.operations.check_subscribe(principal, channel)
        wait_s = exchange.query_number("wait", engine.limits.poll_wait_max_s, engine.limits.poll_wait_max_s)
        wait_s = min(wait_s, max(0.0, principal.expires_at_s - engine.clock.wall_s()))
        if exchange.method == "HEAD" or not target.has_cursor:
            wait_s = 0.0
        engine.intake.check_room()
        engine.intake.check_links(principal, exchange.address)
        positions = dict(target.positions)
        for channel in target.channels:
            if channel not in positions:
                positions[channel] = (await engine.locate(channel, None, target.history)).position
        engine.revocations.check(principal)
        collected = engine.at_hand(positions, encoding=PLAIN_JSON, wait_s=wait_s)
        if collected is None:
            with engine.open.poll(principal, address=exchange.address) as poll, exchange.unless_gone():
                collected = await engine.collect(positions, encoding=PLAIN_JSON, wait_s=wait_s, wait=poll)
            engine.revocations.check(principal)  # it may be why the wait is over
            if poll.error is not None:
                raise poll.error
        positions |= collected.positions | collected.resets
        cursor = format_cursor(positions[target.channels[0]]) if len(positions) == 1 else format_composite(positions)
        body = b'{"cursor":%b,"recovered":%b,"publications":[%b]}' % (
            msgspec.json.encode(cursor),
            b"false" if collected.resets else b"true",
            b",".join(collected.payloads),
        )
        await exchange.respond(200, body)
