"""Links that behave: a buffer that fills and drains, a high and a low water mark, and an end."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hybrid.engine.encodings import SESSION_JSON, Encoding
from hybrid.engine.feed import Feed
from hybrid.engine.hub import Hub
from hybrid.engine.link import Framing, Segment
from hybrid.model import Position


def joined(payloads: Sequence[bytes]) -> bytes:
    """A framing that keeps payloads apart (RFC 7464's separator, which no payload has)."""
    return b"".join(payload + b"\x1e" for payload in payloads)


def items(payloads: Sequence[bytes]) -> tuple[bytes, ...]:
    """A framing of message-based pipes: one item for each payload."""
    return tuple(payloads)


class FakeLink:
    """Implements `Link`. Nothing leaves the buffer but by `drain`, unless `is_fast`."""

    def __init__(
        self,
        framing: Framing = joined,
        *,
        is_fast: bool = False,
        high_water_bytes: int = 65_536,
        takes_deflated: bool = False,
    ) -> None:
        self.framing = framing
        self.is_bidirectional = True
        self.takes_deflated = takes_deflated
        self.peer = "192.0.2.1:9"
        self.last_received_s = 0.0
        self.segments: list[Segment] = []
        self.is_closed = False
        self.code = 0
        self.is_aborted = False
        self.error: Exception | None = None  # raised by every write, against the rules
        self.on_write: Callable[[], None] | None = None
        self.on_paused: Callable[[], None] = lambda: None
        self.on_resumed: Callable[[], None] = lambda: None
        self.on_closed: Callable[[], None] = lambda: None
        self._is_fast = is_fast
        self._high_water_bytes = high_water_bytes
        self._buffered = 0
        self._is_paused = False

    @property
    def payloads(self) -> list[bytes]:
        """All payloads that were written, in order, whatever the framing."""
        found: list[bytes] = []
        for segment in self.segments:
            found.extend(segment.split(b"\x1e")[:-1] if isinstance(segment, bytes) else segment)
        return found

    def write(self, segment: Segment) -> None:
        if self.error is not None:
            raise self.error
        if self.is_closed:
            return
        self.segments.append(segment)
        if not self._is_fast:
            self._buffered += len(segment) if isinstance(segment, bytes) else sum(map(len, segment))
            if self._buffered > self._high_water_bytes:
                self.pause()
        if self.on_write is not None:
            self.on_write()

    def buffered(self) -> int:
        return self._buffered

    def pause(self) -> None:
        """Go over the high-water mark."""
        if not self._is_paused and not self.is_closed:
            self._is_paused = True
            self.on_paused()

    def drain(self) -> None:
        """The peer has read everything."""
        self._buffered = 0
        if self._is_paused and not self.is_closed:
            self._is_paused = False
            self.on_resumed()

    def probe(self) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def close(self, code: int, reason: str = "") -> None:
        self.code = self.code or code
        self._end()

    def abort(self) -> None:
        self.is_aborted = True
        self._end()

    def _end(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self.on_closed()


class Reader:
    """An owner of a link as small as can be: it forwards what the link says, and notes what the feed tells."""

    def __init__(
        self,
        hub: Hub,
        encoding: Encoding = SESSION_JSON,
        *,
        link: FakeLink | None = None,
        bundle: Sequence[str] | None = None,
        goes_on: bool = True,
    ) -> None:
        self.link = link or FakeLink(is_fast=True)
        self.resets: list[tuple[str, Position]] = []
        self.fell_behind: list[str] = []
        self.goes_on = goes_on
        self.feed: Feed = (
            hub.feed(self.link, encoding, self) if bundle is None else hub.bundle_feed(self.link, bundle, self)
        )
        self.link.on_paused = self.feed.link_paused
        self.link.on_resumed = self.feed.link_resumed
        self.link.on_closed = self.feed.close

    async def follow(self, channel: str, position: Position | None = None, history: int = 0) -> None:
        """Add a channel and start it."""
        await self.feed.add(channel, position, history)
        self.feed.start([channel])

    def feed_reset(self, channel: str, position: Position) -> None:
        self.resets.append((channel, position))
        self.link.write(self.link.framing([b"reset %s %d" % (channel.encode(), position.offset)]))

    def feed_fell_behind(self, channel: str) -> bool:
        self.fell_behind.append(channel)
        if not self.goes_on:
            self.link.close(4410)
        return self.goes_on
