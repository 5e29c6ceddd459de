"""What lies between a client and a node: bytes take time, wait for a slow reader, and are lost when it breaks."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Protocol

from hybrid.engine.link import LinkOwner, Segment

_DELAY_MAX_S = 0.03
_HIGH_WATER_BYTES = 4_096
_LOW_WATER_BYTES = 1_024
_TURN_S = 0.002
_BYTES_PER_S = 1e7
_CLOSING_MAX_S = 5.0
LOST = 1006


def payloads(written: Sequence[bytes]) -> tuple[bytes, ...]:
    """The framing of all wires: what is written stays in its pieces."""
    return tuple(written)


class Receiver(Protocol):
    """The client's end."""

    def wire_brought(self, payload: bytes) -> None: ...

    def wire_ended(self, code: int) -> None: ...


class Wire:
    """One stream. Implements `Link` at the node's end; `say` and `hang_up` are the client's.

    `bytes_per_s`: how fast the client reads; nothing is read while it is 0.
    """

    framing = staticmethod(payloads)
    peer = "192.0.2.1:9"
    takes_deflated = False

    def __init__(self, receiver: Receiver, random: Random, *, is_bidirectional: bool) -> None:
        self.is_bidirectional = is_bidirectional
        self.message_max_bytes = 0
        self.last_received_s = asyncio.get_running_loop().time()
        self.bytes_per_s = _BYTES_PER_S
        self.is_over = False  # for the node
        self._receiver: Receiver | None = receiver  # None: the client has gone, or will never hear of it again
        self._owner: LinkOwner | None = None
        self._delay_s = random.uniform(0.001, _DELAY_MAX_S)
        self._random = random
        self._written: deque[bytes] = deque()
        self._buffered = 0
        self._is_paused = False
        self._is_flowing = False
        self._code: int | None = None  # said goodbye with, behind all that was written
        self._is_dead = False  # and the node does not know yet
        self._on_way: deque[Callable[[], None]] = deque()

    def belongs_to(self, owner: LinkOwner) -> None:
        """Who hears of it at the node."""
        self._owner = owner

    # -- the client's end

    def say(self, message: bytes) -> None:
        """To the node; it arrives unless the wire breaks before."""
        self._later(self._said, message)

    def hang_up(self) -> None:
        """The client wants it no more, and hears nothing more."""
        self._receiver = None
        self._later(self._end, LOST)

    # -- what happens to it

    def read_on(self) -> None:
        """The client reads as fast as it can again."""
        self.bytes_per_s = _BYTES_PER_S
        self._flow()

    def cut(self, *, is_noticed: bool) -> None:
        """Whatever is on its way is lost. A node that does not notice believes in it until it asks."""
        receiver, self._receiver = self._receiver, None
        self._written.clear()
        if receiver is not None:
            asyncio.get_running_loop().call_later(self._delay_s, receiver.wire_ended, LOST)
        if is_noticed:
            self._end(LOST)
        else:
            self._is_dead = True
            asyncio.get_running_loop().call_later(self._random.uniform(1.0, 60.0), self._end, LOST)

    # -- the node's end: `Link`

    def write(self, segment: Segment) -> None:
        if self.is_over or self._code is not None:
            return
        assert isinstance(segment, tuple)
        self._written.extend(segment)
        self._buffered += sum(map(len, segment))
        if self._buffered > _HIGH_WATER_BYTES and not self._is_paused:
            self._is_paused = True
            self._told(lambda owner: owner.link_paused())
        self._flow()

    def buffered(self) -> int:
        return self._buffered

    def probe(self) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def close(self, code: int, reason: str = "") -> None:
        if self._code is None:
            self._code = code
            self._flow()
            asyncio.get_running_loop().call_later(_CLOSING_MAX_S, self.abort)

    def abort(self) -> None:
        receiver, self._receiver = self._receiver, None
        self._written.clear()
        if receiver is not None:
            asyncio.get_running_loop().call_later(self._delay_s, receiver.wire_ended, LOST)
        asyncio.get_running_loop().call_soon(self._end, LOST)

    # -- inside

    def _flow(self) -> None:
        if not self._is_flowing and not self._is_dead:
            self._is_flowing = True
            asyncio.get_running_loop().call_soon(self._take)

    def _take(self) -> None:
        """The client reads as much as it does in one turn."""
        self._is_flowing = False
        if self.is_over or self._is_dead:
            return
        room = self.bytes_per_s * _TURN_S
        while self._written and room > 0:
            payload = self._written.popleft()
            room -= len(payload)
            self._buffered -= len(payload)
            self._later(self._brought, payload)
        if self._is_paused and self._buffered <= _LOW_WATER_BYTES:
            self._is_paused = False
            self._told(lambda owner: owner.link_resumed())
        if self._written:
            self._is_flowing = True
            asyncio.get_running_loop().call_later(_TURN_S, self._take)
        elif self._code is not None:
            self._later(self._goodbye, self._code)
            self._end(self._code)

    def _later(self, callback: Callable[..., None], *arguments: object) -> None:
        # Each timer brings what was sent first: those of one moment fire in any order, and nothing overtakes on a wire.
        self._on_way.append(partial(callback, *arguments))
        asyncio.get_running_loop().call_later(self._delay_s, self._arrive)

    def _arrive(self) -> None:
        self._on_way.popleft()()

    def _brought(self, payload: bytes) -> None:
        if self._receiver is not None:
            self._receiver.wire_brought(payload)

    def _goodbye(self, code: int) -> None:
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.wire_ended(code)

    def _said(self, message: bytes) -> None:
        if not self.is_over and not self._is_dead and self._code is None:
            self.last_received_s = asyncio.get_running_loop().time()
            self._told(lambda owner: owner.link_received(message, True))

    def _end(self, code: int) -> None:
        owner, self._owner = self._owner, None
        self.is_over = True
        if owner is not None:
            owner.link_closed(code, "")

    def _told(self, tell: Callable[[LinkOwner], None]) -> None:
        if self._owner is not None:
            tell(self._owner)
