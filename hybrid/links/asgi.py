"""Links on plain ASGI `receive` and `send`: HTTP/2, HTTP/3, and servers that hybrid does not know.

`served` is the body of the ASGI call: it owns one task that sends and one that receives, and ends at most
`close_timeout_s` after the link was closed, whatever peer and server do (Hypercorn waits for the peer's close frame
for ever). What the server hides stays unseen: pings, fragments, invalid UTF-8.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from hybrid.clock import Clock
from hybrid.engine.link import Framing, LinkOwner, Segment
from hybrid.limits import Limits
from hybrid.links.framing import asgi_messages, event_stream_plain
from hybrid.links.handoff import NO_OWNER, cut_reason

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_log = logging.getLogger(__name__)


class _AsgiLink:
    """What both kinds share: an outgoing buffer with two water marks, and one orderly end."""

    is_handed_off = False
    takes_deflated = False
    is_bidirectional: bool
    framing: Framing

    def __init__(
        self,
        receive: Receive,
        send: Send,
        *,
        owner: LinkOwner,
        limits: Limits,
        clock: Clock,
        peer: str,
        terminate: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`terminate` forces the server to give the stream up; it is called only when a polite end did not come."""
        self._receive = receive
        self._send = send
        self._owner = owner
        self._limits = limits
        self._clock = clock
        self._terminate = terminate
        self._outgoing: deque[bytes] = deque()
        self._buffered_bytes = 0
        self._is_paused = False
        self._is_closed = False
        self._is_stillborn = False
        self._farewell: Message | None = None
        self._code = 1006
        self._reason = ""
        self._has_work = asyncio.Event()
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._expired: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._timer: asyncio.TimerHandle | None = None
        self.peer = peer
        self.last_received_s = clock.monotonic_s()

    # -- the engine's side

    def write(self, segment: Segment) -> None:
        """See `Link.write`."""
        if self._is_closed or self._farewell is not None:
            return
        for item in (segment,) if isinstance(segment, bytes) else segment:
            self._outgoing.append(item)
            self._buffered_bytes += len(item)
        self._has_work.set()
        if self._buffered_bytes > self._limits.high_water_bytes and not self._is_paused:
            self._is_paused = True
            self._owner.link_paused()

    def buffered(self) -> int:
        """See `Link.buffered`. A message counts until the server has taken it."""
        return self._buffered_bytes

    def pause_reading(self) -> None:
        """See `Link.pause_reading`. The peer's end is not noticed meanwhile."""
        self._may_read.clear()

    def resume_reading(self) -> None:
        """See `Link.resume_reading`."""
        self._may_read.set()

    def close(self, code: int, reason: str = "") -> None:
        """See `Link.close`."""
        if self._is_closed or self._farewell is not None:
            return
        reason = cut_reason(reason)
        self._code, self._reason = code, reason
        self._farewell = self._make_farewell(code, reason)
        self._has_work.set()
        self._may_read.set()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._limits.close_timeout_s, self._expire)

    def abort(self) -> None:
        """See `Link.abort`."""
        self._expire()

    async def served(self) -> None:
        """Serve the link until its end; the last act of an ASGI call.

        Calls `link_closed` before it returns, also when it is cancelled. Raises nothing for what the peer or the
        network did.
        """
        if self._is_stillborn:
            self._finish()
        if self._is_closed:
            return
        sender = asyncio.create_task(self._send_all())
        receiver = asyncio.create_task(self._receive_all())
        has_ended = False
        try:
            await asyncio.wait({sender, receiver, self._expired}, return_when=asyncio.FIRST_COMPLETED)
            if self.is_bidirectional and sender.done() and sender.exception() is None:
                await asyncio.wait({receiver, self._expired}, return_when=asyncio.FIRST_COMPLETED)
            has_ended = not self._expired.done()
        finally:
            sender.cancel()
            receiver.cancel()
            results = await asyncio.gather(sender, receiver, return_exceptions=True)
            self._finish()
            if not has_ended and self._terminate is not None:
                await self._terminate()
        if isinstance(results[0], Exception):
            # Servers tell of a lost peer in their own ways: OSError, RuntimeError, their own classes.
            _log.debug("sending on %s ended: %r", self.peer, results[0])
        if isinstance(results[1], Exception):
            raise results[1]

    def end_at_once(self, code: int) -> None:
        """Make it a link that has ended already; `link_closed` follows when the caller has got it."""
        self._code = code
        self._is_stillborn = True
        self._farewell = {}  # nothing is taken any more
        asyncio.get_running_loop().call_soon(self._finish)

    # -- the insides

    def _make_farewell(self, code: int, reason: str) -> Message:
        raise NotImplementedError

    def _make_message(self, item: bytes) -> Message:
        raise NotImplementedError

    def _received(self, message: Message) -> None:
        raise NotImplementedError

    def _expire(self) -> None:
        if not self._expired.done():
            self._expired.set_result(None)

    def _finish(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._outgoing.clear()
        self._buffered_bytes = 0
        if self._timer is not None:
            self._timer.cancel()
        if not self._expired.done():
            self._expired.cancel()
        owner, self._owner = self._owner, NO_OWNER
        owner.link_closed(self._code, self._reason)

    async def _send_all(self) -> None:
        """Send until the farewell has been sent."""
        while True:
            while self._outgoing:
                item = self._outgoing.popleft()
                await self._send(self._make_message(item))
                self._buffered_bytes -= len(item)
                if self._is_paused and self._buffered_bytes <= self._limits.low_water_bytes:
                    self._is_paused = False
                    if self._farewell is None:
                        self._owner.link_resumed()
            if self._farewell is not None:
                await self._send(self._farewell)
                return
            self._has_work.clear()
            await self._has_work.wait()

    async def _receive_all(self) -> None:
        """Receive until the server says that the peer is gone."""
        while True:
            await self._may_read.wait()
            message = await self._receive()
            if message["type"] in ("websocket.disconnect", "http.disconnect"):
                if self._farewell is None:
                    self._code = message.get("code") or 1005
                    self._reason = message.get("reason") or ""
                return
            self.last_received_s = self._clock.monotonic_s()
            self._received(message)


class AsgiWebSocket(_AsgiLink):
    """A WebSocket that an ASGI server holds.

    ASGI has no ping: `probe` sends `probe_payload` as an ordinary message, or nothing where the owner gave none.
    """

    is_bidirectional = True
    framing = staticmethod(asgi_messages)

    def __init__(
        self,
        receive: Receive,
        send: Send,
        *,
        owner: LinkOwner,
        is_binary: bool,
        limits: Limits,
        clock: Clock,
        message_max_bytes: int,
        peer: str,
        probe_payload: bytes | None = None,
        terminate: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(receive, send, owner=owner, limits=limits, clock=clock, peer=peer, terminate=terminate)
        self._is_binary = is_binary
        self.message_max_bytes = message_max_bytes
        self.probe_payload = probe_payload

    def probe(self) -> None:
        """Send `probe_payload`, unless there is none or the link is paused."""
        if self.probe_payload is not None and not self._is_paused:
            self.write((self.probe_payload,))

    def _make_farewell(self, code: int, reason: str) -> Message:
        return {"type": "websocket.close", "code": code, "reason": reason}

    def _make_message(self, item: bytes) -> Message:
        if self._is_binary:
            return {"type": "websocket.send", "bytes": item}
        return {"type": "websocket.send", "text": item.decode()}

    def _received(self, message: Message) -> None:
        if message["type"] != "websocket.receive" or self._farewell is not None:
            return
        text = message.get("text")
        try:
            # Servers count characters, or not at all; an empty binary message comes as None from some.
            payload = bytes(message.get("bytes") or b"") if text is None else text.encode()
        except UnicodeEncodeError:
            self.close(1007, "text is not UTF-8")
            return
        if len(payload) > self.message_max_bytes:
            self.close(1009, f"a message has at most {self.message_max_bytes} bytes")
        else:
            self._owner.link_received(payload, text is not None)


class AsgiEventStream(_AsgiLink):
    """A response body without end that an ASGI server sends."""

    is_bidirectional = False
    framing = staticmethod(event_stream_plain)

    def __init__(
        self,
        receive: Receive,
        send: Send,
        *,
        owner: LinkOwner,
        limits: Limits,
        clock: Clock,
        peer: str,
        terminate: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(receive, send, owner=owner, limits=limits, clock=clock, peer=peer, terminate=terminate)
        self._discarded_bytes = 0

    def probe(self) -> None:
        """Send a comment line, unless the link is paused."""
        if not self._is_paused:
            self.write(b":\n\n")

    def _make_farewell(self, code: int, reason: str) -> Message:
        return {"type": "http.response.body", "body": b"", "more_body": False}

    def _make_message(self, item: bytes) -> Message:
        return {"type": "http.response.body", "body": item, "more_body": True}

    def _received(self, message: Message) -> None:
        self._discarded_bytes += len(message.get("body") or b"")
        if self._discarded_bytes > self._limits.discarded_max_bytes:
            self.close(1008, "nothing may be sent on an event stream")
