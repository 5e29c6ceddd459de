"""A reader of one channel inside this process: a link that ends in a buffer instead of a socket.

The same rules hold for it as for every client (see `engine.feed`): past its high-water mark it leaves the LIVE set and
reads the log when the application has caught up, so a slow task costs a bounded buffer and slows nobody. What the log
does not hold any more is told as a reset, in its place between publications.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from hybrid.engine.encodings import PLAIN_JSON
from hybrid.engine.feed import Feed, Started
from hybrid.engine.link import Segment
from hybrid.model import Position

if TYPE_CHECKING:
    from hybrid.engine.hub import Hub


def _one_by_one(payloads: Sequence[bytes]) -> Segment:
    return tuple(payloads)


class LocalReader:
    """See the module's text. Its own link, and the listener of its feed; made by `Engine.read_locally`."""

    framing = staticmethod(_one_by_one)
    is_bidirectional = False
    takes_deflated = False
    peer = "this process"
    last_received_s = 0.0

    def __init__(
        self, hub: Hub, channel: str, max_bytes: int, forget: Callable[[LocalReader], None] = lambda reader: None
    ) -> None:
        """`max_bytes` may wait here, and one flush more; `forget` is called at the end."""
        self._channel = channel
        self._max_bytes = max_bytes
        self._forget = forget
        self._waiting: deque[bytes | Position] = deque()
        self._bytes = 0
        self._is_paused = False
        self._is_closed = False
        self._has_work = asyncio.Event()
        self._feed: Feed = hub.feed(self, PLAIN_JSON, self)

    async def start(self, position: Position | None, history: int) -> Started:
        """Begin after a position, or `history` publications back, or now. See `Feed.add`."""
        started = await self._feed.add(self._channel, position, history)
        self._feed.start((self._channel,))
        return started

    async def next(self) -> bytes | Position | None:
        """The next publication as plain JSON; a Position where those before are lost; None at the end. Cancel-safe."""
        while not self._waiting:
            if self._is_closed:
                return None
            self._has_work.clear()
            await self._has_work.wait()
        item = self._waiting.popleft()
        if isinstance(item, bytes):
            self._bytes -= len(item)
            if self._is_paused and self._bytes <= self._max_bytes // 4 and not self._is_closed:
                self._is_paused = False
                self._feed.link_resumed()
        return item

    # -- `Link`

    def write(self, segment: Segment) -> None:
        """See `Link.write`."""
        if self._is_closed:
            return
        for payload in (segment,) if isinstance(segment, bytes) else segment:
            self._waiting.append(payload)
            self._bytes += len(payload)
        self._has_work.set()
        if self._bytes > self._max_bytes and not self._is_paused:
            self._is_paused = True
            self._feed.link_paused()

    def buffered(self) -> int:
        """See `Link.buffered`."""
        return self._bytes

    def probe(self) -> None:
        """See `Link.probe`: nobody has to show that he lives."""

    def pause_reading(self) -> None:
        """See `Link.pause_reading`: nothing comes from here."""

    def resume_reading(self) -> None:
        """See `Link.resume_reading`."""

    def close(self, code: int = 1000, reason: str = "") -> None:
        """End: what waits can still be taken, and no more comes. Safe to call twice."""
        if self._is_closed:
            return
        self._is_closed = True
        self._feed.close()
        self._forget(self)
        self._has_work.set()

    def abort(self) -> None:
        """See `Link.abort`."""
        self.close()

    # -- `FeedEvents`

    def feed_reset(self, channel: str, position: Position) -> None:
        """See `FeedEvents`."""
        if self._waiting and isinstance(self._waiting[-1], Position):
            self._waiting.pop()  # two in a row are one loss; this also keeps the buffer within its bound
        self._waiting.append(position)
        self._has_work.set()

    def feed_fell_behind(self, channel: str) -> bool:
        """See `FeedEvents`. What becomes of slow clients (`on_lag`) is no rule for the server's own tasks."""
        return True
