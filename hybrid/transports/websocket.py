"""WebSocket (RFC 6455): sessions, both ways; and plain channels, one way."""

from __future__ import annotations

from hybrid.auth.door import Admission
from hybrid.engine.engine import Engine
from hybrid.engine.leg import StreamLeg
from hybrid.engine.plain import PlainStream
from hybrid.engine.wire import WEBSOCKET_JSON, WEBSOCKET_MSGPACK, Wire
from hybrid.errors import HybridError
from hybrid.links.open import OpenWebSocket, open_websocket
from hybrid.logs import speaking
from hybrid.model import ANONYMOUS
from hybrid.transports.exchange import Exchange
from hybrid.transports.gate import Gate
from hybrid.transports.target import read_target

_WIRES: dict[str, Wire] = {"hybrid.v1": WEBSOCKET_JSON, "hybrid.v1.msgpack": WEBSOCKET_MSGPACK}


class WebSockets:
    """Serves WebSocket handshakes."""

    def __init__(self, engine: Engine, gate: Gate, *, allow_handoff: bool, may_deflate: bool) -> None:
        self._engine = engine
        self._gate = gate
        self._allow_handoff = allow_handoff
        self._may_deflate = may_deflate

    async def session(self, exchange: Exchange) -> None:
        """`GET /v1/stream` with Upgrade."""
        self._gate.arrive(exchange)
        offered = exchange.scope.get("subprotocols", [])
        subprotocol = next((name for name in offered if name in _WIRES), None)
        wire = _WIRES[subprotocol or "hybrid.v1"]
        principal = await self._gate.shown(exchange)  # without a header the first frame has to tell
        admission = self._gate.enter(exchange) if principal is None else None
        leg = StreamLeg(self._engine, wire, principal, admission)
        refusal = self._refusal()
        limits = self._engine.limits
        link = await self._opened(
            exchange,
            leg,
            admission,
            subprotocol=subprotocol,
            is_binary=wire.codec.is_binary,
            message_max_bytes=limits.auth_frame_max_bytes if principal is None else limits.command_max_bytes,
        )
        leg.opened(link)
        if refusal is not None:
            leg.end(refusal.row.name, delay_ms=round((refusal.retry_after_s or 0) * 1000))
        await link.served()

    async def plain(self, exchange: Exchange) -> None:
        """A channel's own URL with Upgrade: publications as text frames."""
        self._gate.arrive(exchange)
        principal = await self._gate.shown(exchange)
        if principal is not None:
            self._engine.intake.check_share(principal)
        target = read_target(exchange, self._engine.limits)
        if principal is None and all(self._is_public(channel) for channel in target.channels):
            principal = ANONYMOUS
        admission = self._gate.enter(exchange) if principal is None else None
        stream = PlainStream(self._engine, target.channels, target.positions, target.history, principal, admission)
        refusal = self._refusal(is_new=True)
        link = await self._opened(
            exchange, stream, admission, message_max_bytes=self._engine.limits.auth_frame_max_bytes
        )
        stream.opened(link, answers_probes=link.is_handed_off)
        if refusal is not None:
            stream.end(refusal.row.name, detail=str(refusal))
        await link.served()

    async def _opened(
        self,
        exchange: Exchange,
        owner: StreamLeg | PlainStream,
        admission: Admission | None,
        *,
        message_max_bytes: int,
        subprotocol: str | None = None,
        is_binary: bool = False,
    ) -> OpenWebSocket:
        """Accept the handshake. Who breaks off before there is a link that could end makes room in the doorway."""
        speaking.set(owner)  # and no more for the request: whoever keeps this context would keep all of it
        try:
            return await open_websocket(
                exchange.scope,
                exchange.receive,
                exchange.send,
                owner=owner,
                subprotocol=subprotocol,
                is_binary=is_binary,
                limits=self._engine.limits,
                clock=self._engine.clock,
                message_max_bytes=message_max_bytes,
                allow_handoff=self._allow_handoff,
                may_deflate=self._may_deflate,
            )
        except BaseException:
            if admission is not None:
                admission.leave()
            raise

    def _is_public(self, channel: str) -> bool:
        try:
            self._engine.operations.check_subscribe(ANONYMOUS, channel)
        except HybridError:
            return False
        return True

    def _refusal(self, *, is_new: bool = False) -> HybridError | None:
        """Why no stream can be taken now; told after accepting, since a browser cannot read a refused handshake.

        A session says only when it attaches whether it `is_new`.
        """
        try:
            self._engine.intake.check_room()
            if is_new:
                self._engine.intake.check_lag()
        except HybridError as error:
            return error
        return None
