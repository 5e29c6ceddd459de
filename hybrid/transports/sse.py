"""Server-Sent Events (WHATWG HTML, section 9.2): sessions read by `fetch` or `EventSource`, and plain channels."""

from __future__ import annotations

from hybrid.auth.tickets import ticket_hash
from hybrid.engine.engine import Engine
from hybrid.engine.leg import StreamLeg
from hybrid.engine.plain import RETRY_MS, PlainStream
from hybrid.engine.wire import EVENT_STREAM
from hybrid.errors import AuthError, HybridError, ProtocolError
from hybrid.links.open import OpenLink, open_event_stream
from hybrid.logs import speaking
from hybrid.model import Principal
from hybrid.protocol import eventstream
from hybrid.protocol.codec import JSON
from hybrid.protocol.commands import Attach
from hybrid.transports.exchange import Exchange
from hybrid.transports.gate import Gate
from hybrid.transports.target import read_channels, read_target

MEDIA_TYPE = "text/event-stream"
_HEAD = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    # no-transform and identity keep compressors, X-Accel-Buffering keeps nginx, from holding events back.
    (b"cache-control", b"no-cache, no-store, no-transform"),
    (b"content-encoding", b"identity"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]


class EventStreams:
    """Serves event streams."""

    def __init__(self, engine: Engine, gate: Gate, *, allow_handoff: bool) -> None:
        self._engine = engine
        self._gate = gate
        self._allow_handoff = allow_handoff

    async def session(self, exchange: Exchange) -> None:
        """`POST /v1/stream`: the attach is the body."""
        self._gate.arrive(exchange)
        principal = await self._gate.known_principal(exchange)
        self._engine.intake.check_room()
        self._engine.intake.check_share(principal)
        speaking.set(None)  # asyncio's transport keeps the context in which it began to read on, as long as it lives
        body = await exchange.body(self._engine.limits.attach_max_bytes)
        speaking.set(exchange)
        attach = self._decoded(body)
        self._engine.intake.admit(principal, attach, exchange.address)
        await self._attach(exchange, principal, attach)

    async def session_by_ticket(self, exchange: Exchange) -> None:
        """`GET /v1/stream?ticket=`: the attach was left with the ticket."""
        text = exchange.query_one("ticket")
        if text is None:
            raise AuthError("unauthorized", "Open this stream with POST and a token, or with a ticket.")
        self._gate.arrive(exchange)
        self._engine.intake.check_room()
        with self._engine.intake.told_apart():
            ticket = await self._engine.tickets.redeem_session(text, self._gate.ticket_origin(exchange))
        attach = self._decoded(ticket.attach)
        # It was admitted when it asked for the ticket, which a refusal would use up.
        self._engine.intake.arrivals.came()
        await self._attach(exchange, ticket.principal, attach)

    async def plain(self, exchange: Exchange) -> None:
        """A channel's own URL, asked for as an event stream."""
        self._gate.arrive(exchange)
        limits = self._engine.limits
        ticket_text = exchange.query_one("ticket")
        key: bytes | None = None
        if ticket_text is None:
            principal = await self._gate.lasting_principal(exchange)
            target = read_target(exchange, limits)
        else:
            ticket = await self._engine.tickets.open_channels(ticket_text, self._gate.ticket_origin(exchange))
            named = read_channels(exchange, limits)
            if named and named != ticket.channels:
                raise AuthError("token_refused", "The ticket is for other channels.")
            principal, key = ticket.principal, ticket_hash(ticket_text)
            target = read_target(exchange, limits, ticket.channels)
        await self._engine.operations.ask_subscribe(principal, target.channels)
        for channel in target.channels:
            self._engine.operations.check_subscribe(principal, channel)
        self._engine.intake.check_room()
        self._engine.intake.check_lag()
        self._engine.intake.check_share(principal)
        if exchange.method == "HEAD":  # asks what a GET would get, and must neither open nor replace a stream
            await exchange.respond_head([*_HEAD, *exchange.extra_headers])
            return
        claim = None if key is None else await self._engine.tickets.claim(key, self._engine.router.node)
        stream = PlainStream(self._engine, target.channels, target.positions, target.history, principal, None, claim)
        link = await self._open(exchange, stream)
        stream.opened(link, answers_probes=False)
        await link.served()

    def _decoded(self, raw: bytes) -> Attach:
        command = JSON.decode_command(raw, self._engine.limits.attach_max_bytes)
        if not isinstance(command, Attach):
            raise ProtocolError("bad_request", "The body of an event stream's request is an `attach`.")
        self._engine.intake.check_subscriptions(command.subscriptions)
        return command

    async def _attach(self, exchange: Exchange, principal: Principal, command: Attach) -> None:
        leg = StreamLeg(self._engine, EVENT_STREAM, principal, None)
        link = await self._open(exchange, leg)
        leg.opened(link)
        link.write(link.framing((eventstream.PADDING,)))
        try:
            self._engine.attach(leg, principal, command)
        except HybridError as error:  # the head is out: the reason travels in the stream
            leg.end(error.row.name, detail=str(error), delay_ms=round((error.retry_after_s or 0) * 1000))
        await link.served()

    async def _open(self, exchange: Exchange, owner: StreamLeg | PlainStream) -> OpenLink:
        speaking.set(owner)  # and no more for the request: whoever keeps this context would keep all of it
        return await open_event_stream(
            exchange.scope,
            exchange.receive,
            exchange.send,
            owner=owner,
            headers=[*_HEAD, *exchange.extra_headers],
            limits=self._engine.limits,
            clock=self._engine.clock,
            allow_handoff=self._allow_handoff,
        )


async def refuse_for_browser(exchange: Exchange, delay_s: float) -> None:
    """Send an `EventSource` away so that it comes back: on a 503 it would close for good."""
    body = eventstream.block(retry_ms=RETRY_MS + round(delay_s * 1000))
    await exchange.respond(200, body, content_type=MEDIA_TYPE)
