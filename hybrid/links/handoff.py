"""Links that own their socket: small protocols put in Hypercorn's place once it has accepted the client.

An idle one is this object and the transport: no task, no queue, no parser. It works on any asyncio or uvloop stream
transport, plain or TLS. What it must never do is call its owner after `link_closed`.
"""

from __future__ import annotations

import asyncio
from typing import Final

from hybrid.clock import Clock
from hybrid.engine.link import Framing, LinkOwner, Segment
from hybrid.limits import REASON_MAX_BYTES, Limits
from hybrid.links.framing import event_stream_chunked, event_stream_plain, websocket_binary, websocket_text
from hybrid.links.inbound import CLOSE, PING, PONG, TEXT, BrokenFrame, MessageReader, parse_close
from hybrid.links.peer import peer_name

_OPEN: Final = 0  # both directions carry messages
_CLOSING: Final = 1  # our goodbye is written, the peer's is looked for
_ENDING: Final = 2  # nothing more is written or looked at; only the end of the connection is waited for
_CLOSED: Final = 3  # link_closed has been called

_PING_FRAME: Final = b"\x89\x00"
_COMMENT: Final = b":\n\n"
_LAST_CHUNK: Final = b"0\r\n\r\n"


class _NoOwner:
    """Takes the owner's place once the link is closed, so that no path can call it again or keep it alive."""

    def link_received(self, message: bytes, is_text: bool) -> None: ...

    def link_paused(self) -> None: ...

    def link_resumed(self) -> None: ...

    def link_closed(self, code: int, reason: str) -> None: ...


NO_OWNER: Final[LinkOwner] = _NoOwner()


class _HandedOff(asyncio.Protocol):
    """What both kinds share: writing, back pressure, and one orderly end."""

    __slots__ = (
        "_client",
        "_clock",
        "_code",
        "_is_paused",
        "_is_reading_paused",
        "_limits",
        "_owner",
        "_reason",
        "_state",
        "_timer",
        "_transport",
        "framing",
        "last_received_s",
    )

    is_handed_off = True
    takes_deflated = False
    _transport: asyncio.Transport

    def __init__(
        self, *, owner: LinkOwner, framing: Framing, limits: Limits, clock: Clock, client: tuple[str, int] | None
    ) -> None:
        """`client` is the peer's address and port as ASGI tells it."""
        self._owner = owner
        self._limits = limits
        self._clock = clock
        self._state = _OPEN
        self._code = 1006  # until somebody says goodbye
        self._reason = ""
        self._is_paused = False
        self._is_reading_paused = False
        self._timer: asyncio.TimerHandle | None = None
        self._client = client
        self.framing: Framing = framing
        self.last_received_s = clock.monotonic_s()

    # -- the beginning

    def start(self, transport: asyncio.Transport, head: bytes, left: bytes, has_ended: bool) -> None:
        """Take the transport over and write `head`.

        `left` is what its former protocol had read and not used, `has_ended` whether it had seen the peer's end. Both
        are delivered from the event loop, after the caller has got the link.
        """
        self._transport = transport
        name = transport.get_extra_info("peername")
        if self._client == (name and name[:2]) and transport.get_extra_info("sslcontext") is None:
            self._client = None  # what the transport knows to the end need not be kept twice
        # Before set_protocol: the transport may call pause_writing here, and a callback now would come before the
        # caller has the link. A paused state is not inherited, so it is asked for afterwards.
        transport.set_write_buffer_limits(high=self._limits.high_water_bytes, low=self._limits.low_water_bytes)
        transport.set_protocol(self)
        transport.write(head)
        transport.resume_reading()
        if left or has_ended or transport.get_write_buffer_size() > self._limits.high_water_bytes:
            self._hold(left)
            asyncio.get_running_loop().call_soon(self._catch_up, has_ended)

    def _hold(self, left: bytes) -> None:
        """Keep `left` in front of whatever `data_received` brings, which on uvloop may be sooner than `call_soon`."""
        raise NotImplementedError

    def _catch_up(self, has_ended: bool) -> None:
        if self._state == _CLOSED:
            return
        if self._transport.get_write_buffer_size() > self._limits.high_water_bytes and not self._is_paused:
            self.pause_writing()
        self._process()
        if has_ended:
            self.eof_received()
            self._transport.close()

    def _process(self) -> None:
        """Look at the bytes that are here."""
        raise NotImplementedError

    # -- the engine's side

    @property
    def peer(self) -> str:
        """See `Link.peer`."""
        return peer_name(self._client or self._transport.get_extra_info("peername"))

    def write(self, segment: Segment) -> None:
        """See `Link.write`."""
        # asyncio logs writes to a transport that has failed and whose connection_lost is still under way.
        if self._state == _OPEN and not self._transport.is_closing():
            self._transport.write(segment)  # type: ignore[arg-type]  # our framings make bytes

    def buffered(self) -> int:
        """See `Link.buffered`."""
        return 0 if self._state == _CLOSED else self._transport.get_write_buffer_size()

    def pause_reading(self) -> None:
        """See `Link.pause_reading`; not even a message that is already here follows."""
        if self._state == _OPEN and not self._is_reading_paused:
            self._is_reading_paused = True
            if not self._transport.is_closing():
                self._transport.pause_reading()

    def resume_reading(self) -> None:
        """See `Link.resume_reading`. Messages that were already here follow from the event loop."""
        if self._is_reading_paused and self._state != _CLOSED:
            self._is_reading_paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()
            asyncio.get_running_loop().call_soon(self._catch_up, False)

    def abort(self) -> None:
        """See `Link.abort`."""
        if self._state != _CLOSED:
            self._state = _ENDING
            self._transport.abort()

    async def served(self) -> None:
        """Return at once: the event loop serves this link, no ASGI call needs to stay for it."""

    # -- the end

    def _end_soon(self, state: int, code: int, reason: str, farewell: bytes, *, half_close: bool) -> None:
        """Write `farewell` and wait `close_timeout_s` for the peer, then abort."""
        if self._code == 1006:
            self._code, self._reason = code, reason
        self._state = state
        transport = self._transport
        if not transport.is_closing():
            transport.write(farewell)
            if half_close:
                # A close() now could reset the connection, if the peer has sent what we have not read, and the reset
                # can destroy the farewell on its way. So only our half ends, and the peer's end is waited for.
                try:
                    if transport.can_write_eof():
                        transport.write_eof()
                    else:
                        transport.close()
                except OSError:
                    # The peer has reset it, which asyncio has not seen yet: nobody is there to be told.
                    transport.abort()
                    return
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._limits.close_timeout_s, transport.abort)
        self.resume_reading()  # or the peer's end would never be seen

    # -- asyncio's side

    def pause_writing(self) -> None:
        """More than the high-water mark waits (called by the transport)."""
        self._is_paused = True
        if self._state == _OPEN:
            self._owner.link_paused()

    def resume_writing(self) -> None:
        """The buffer is below low water (called by the transport)."""
        # The pause may have been told to the former protocol only.
        if self._is_paused:
            self._is_paused = False
            if self._state == _OPEN:
                self._owner.link_resumed()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended (called by the transport)."""
        if self._state == _CLOSED:
            return
        self._state = _CLOSED
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        owner, self._owner = self._owner, NO_OWNER
        owner.link_closed(self._code, self._reason)


class HandedOffWebSocket(_HandedOff):
    """A WebSocket after its handshake (RFC 6455)."""

    __slots__ = ("_control_frames", "_control_second", "_reader", "message_max_bytes")

    is_bidirectional = True

    def __init__(
        self,
        *,
        owner: LinkOwner,
        is_binary: bool,
        limits: Limits,
        clock: Clock,
        message_max_bytes: int,
        client: tuple[str, int] | None,
    ) -> None:
        framing = websocket_binary if is_binary else websocket_text
        super().__init__(owner=owner, framing=framing, limits=limits, clock=clock, client=client)
        self.message_max_bytes = message_max_bytes
        self._reader: MessageReader | None = None
        self._control_second = 0
        self._control_frames = 0

    def _hold(self, left: bytes) -> None:
        if left:
            self._reader = MessageReader(takes_deflated=self.takes_deflated)
            self._reader.feed(left)

    def probe(self) -> None:
        """Send a ping, unless so much waits already that it would only be one more."""
        if not self._is_paused:
            self.write(_PING_FRAME)

    def close(self, code: int, reason: str = "") -> None:
        """See `Link.close`."""
        if self._state == _OPEN:
            reason = cut_reason(reason)
            self._end_soon(_CLOSING, code, reason, _close_frame(code, reason), half_close=False)

    def data_received(self, data: bytes) -> None:
        """Bytes from the peer (called by the transport)."""
        self.last_received_s = self._clock.monotonic_s()
        if self._state < _ENDING:
            if self._reader is None:
                self._reader = MessageReader(takes_deflated=self.takes_deflated)
            self._reader.feed(data)
            self._process()

    def _process(self) -> None:
        reader = self._reader
        if reader is None:
            return
        limits = self._limits
        try:
            while not self._is_reading_paused and self._state < _ENDING:
                event = reader.next_event(self.message_max_bytes, limits.fragments_max)
                if event is None:
                    break
                opcode, payload = event
                if opcode < CLOSE:
                    if self._state == _OPEN:
                        self._owner.link_received(payload, opcode == TEXT)
                else:
                    self._control_received(opcode, payload)
        except BrokenFrame as broken:
            self._fail(broken.code, broken.reason)
        if self._state >= _ENDING or reader.is_empty:
            self._reader = None

    def _control_received(self, opcode: int, payload: bytes) -> None:
        if opcode == CLOSE:
            code, reason = parse_close(payload)
            answer = b"" if self._state == _CLOSING else _close_frame(code)
            self._end_soon(_ENDING, code, reason, answer, half_close=False)
            self._transport.close()
            return
        second = int(self.last_received_s)
        if second != self._control_second:
            self._control_second = second
            self._control_frames = 0
        self._control_frames += 1
        if self._control_frames > self._limits.control_frames_per_s_max:
            self._fail(1008, "too many control frames")
        elif opcode == PING and self._state == _OPEN and not self._is_paused:
            # A peer that pings and does not read gets no answers piled up: only the latest need be answered (5.5.3).
            self.write(bytes((0x80 | PONG, len(payload))) + payload)

    def _fail(self, code: int, reason: str) -> None:
        farewell = b"" if self._state == _CLOSING else _close_frame(code, reason)
        self._end_soon(_ENDING, code, reason, farewell, half_close=True)

    def eof_received(self) -> bool:
        """The peer will send nothing more (called by the transport); the transport then closes itself."""
        if self._state < _ENDING:
            self._end_soon(_ENDING, 1006, "", b"", half_close=False)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended (called by the transport)."""
        self._reader = None
        super().connection_lost(exc)


class HandedOffEventStream(_HandedOff):
    """An HTTP/1 response body without end, for an event stream. The peer has nothing to say on it."""

    __slots__ = ("_discarded_bytes",)

    is_bidirectional = False

    def __init__(
        self, *, owner: LinkOwner, is_chunked: bool, limits: Limits, clock: Clock, client: tuple[str, int] | None
    ) -> None:
        framing = event_stream_chunked if is_chunked else event_stream_plain
        super().__init__(owner=owner, framing=framing, limits=limits, clock=clock, client=client)
        self._discarded_bytes = 0

    def _hold(self, left: bytes) -> None:
        self._discarded_bytes += len(left)

    def probe(self) -> None:
        """Send a comment line, unless so much waits already that it would only be one more."""
        if not self._is_paused:
            self.write(self.framing((_COMMENT,)))

    def close(self, code: int, reason: str = "") -> None:
        """End the body; an event stream cannot carry the code, which only the owner is told."""
        if self._state == _OPEN:
            self._end_soon(_ENDING, code, cut_reason(reason), self._end_of_body(), half_close=True)

    @property
    def is_chunked(self) -> bool:
        """True on HTTP/1.1, where chunks mark the end of the body."""
        return self.framing is event_stream_chunked

    def _end_of_body(self) -> bytes:
        return _LAST_CHUNK if self.is_chunked else b""

    def data_received(self, data: bytes) -> None:
        """Bytes from the peer (called by the transport): a pipelined request, a body nobody asked for."""
        self.last_received_s = self._clock.monotonic_s()
        self._discarded_bytes += len(data)
        self._process()

    def _process(self) -> None:
        if self._state == _OPEN and self._discarded_bytes > self._limits.discarded_max_bytes:
            self.close(1008, "nothing may be sent on an event stream")

    def eof_received(self) -> bool:
        """The peer has ended its half (called by the transport): nobody listens any more."""
        if self._state == _OPEN:
            self._end_soon(_ENDING, 1005, "", self._end_of_body(), half_close=False)
        return False


def cut_reason(reason: str) -> str:
    """Cut a close reason to what a close frame can carry, between two characters (RFC 6455, section 5.5)."""
    encoded = reason.encode("utf-8", "replace")
    return encoded[:REASON_MAX_BYTES].decode("utf-8", "ignore")


def _close_frame(code: int, reason: str = "") -> bytes:
    if code == 1005:  # stands for "no code was sent" and must not be sent itself
        return b"\x88\x00"
    payload = code.to_bytes(2, "big") + reason.encode()
    return bytes((0x80 | CLOSE, len(payload))) + payload
