"""The recent publications of a hot channel, with what they were encoded to, and the bounds all rings share.

A ring serves readers who are a little behind without asking the broker. It always exists, also where the broker keeps
no history. It is exact: a position continues from it only with the tag of the entry there. Bounds: `ring_max_bytes`
and `ring_max_age_s` for each, `rings_max_bytes` for all together, which wins; the oldest entries go first.
"""

from __future__ import annotations

import logging
from collections import deque
from enum import Enum, auto
from typing import Final

from hybrid.clock import Clock
from hybrid.engine.encodings import Encoding
from hybrid.engine.wheel import Wheel
from hybrid.limits import Limits
from hybrid.model import START, UNVERIFIED_TAG, Position, Publication

_log = logging.getLogger(__name__)

ENTRY_OVERHEAD_BYTES: Final = 550
"""What an entry weighs beside its data: objects, names, the table of its payloads (measured on CPython 3.11)."""

WIRE_OVERHEAD_BYTES: Final = 128
"""What an encoding adds to the data, about: names, epoch, tag, braces. For cutting segments, not for memory."""

UNENCODABLE: Final = b""
"""Stands for the payload of a publication that an encoding cannot write. No encoding writes empty payloads."""


class Entry:
    """One publication, in a ring or on a page of history, and the payloads made of it so far."""

    __slots__ = ("payloads", "publication", "ring", "since_s", "size")

    def __init__(self, publication: Publication, ring: Ring | None = None, since_s: float = 0.0) -> None:
        self.publication = publication
        self.ring = ring
        self.since_s = since_s
        self.size = len(publication.data) + ENTRY_OVERHEAD_BYTES
        self.payloads: dict[Encoding, bytes] = {}

    def payload(self, encoding: Encoding) -> bytes:
        """The publication in this encoding, made once; UNENCODABLE (and one line in the log) if that fails."""
        payload = self.payloads.get(encoding)
        if payload is None:
            try:
                payload = encoding.encode(self.publication)
            except Exception:
                p = self.publication
                _log.exception("publication %s of channel %r cannot be written as %s", p.offset, p.channel, encoding)
                payload = UNENCODABLE
            self.payloads[encoding] = payload
            self.size += len(payload)
            if self.ring is not None:
                self.ring.grew(len(payload))
        return payload


class Reach(Enum):
    """How a ring stands to a position.

    HELD: it continues there. OLDER: the entry is no longer here, the broker may still have it. FOREIGN: the ring's log
    does not contain it: beyond the head, of another epoch, or with another tag.
    """

    HELD = auto()
    OLDER = auto()
    FOREIGN = auto()


class Ring:
    """The entries of one channel, ascending and without holes, from after `base` to `head`."""

    __slots__ = ("_entries", "_first", "_rings", "base", "bytes", "gone", "head")

    def __init__(self, rings: Rings) -> None:
        self._rings = rings
        self._entries: list[Entry | None] = []
        self._first = 0
        self.bytes = 0
        self.gone = 0  # entries that left early; see Rings
        self.base = START
        self.head = START

    def __len__(self) -> int:
        return len(self._entries) - self._first

    def restart(self, position: Position) -> None:
        """Forget everything; the next publication is the one after `position`."""
        self._rings.left(self, len(self), self.bytes)
        for entry in self._entries[self._first :]:
            if entry is not None:
                entry.ring = None
        self._entries.clear()
        self._first = 0
        self.bytes = 0
        self.base = self.head = position

    def append(self, publication: Publication, now_s: float) -> None:
        """Add the publication that follows `head`; the caller has checked that it does."""
        entry = Entry(publication, self, now_s)
        self._entries.append(entry)
        self.head = publication.position
        self.bytes += entry.size
        self._rings.entered(self, entry.size, now_s)
        while self.bytes > self._rings.ring_max_bytes and len(self) > 1:
            size = self.drop_oldest()
            self._rings.left(self, 1, size)

    def drop_oldest(self) -> int:
        """Let the oldest entry go; how many bytes that were."""
        entry = self._entries[self._first]
        assert entry is not None
        self._entries[self._first] = None
        self._first += 1
        if self._first > 32 and self._first * 2 > len(self._entries):
            del self._entries[: self._first]
            self._first = 0
        entry.ring = None
        self.base = entry.publication.position
        self.bytes -= entry.size
        return entry.size

    @property
    def oldest_s(self) -> float:
        """When the oldest entry came (monotonic). There must be one."""
        entry = self._entries[self._first]
        assert entry is not None
        return entry.since_s

    def grew(self, size: int) -> None:
        """An entry has got another payload. Bounds are looked at with the next append."""
        self.bytes += size
        self._rings.bytes += size

    def reach(self, position: Position) -> Reach:
        """How the ring stands to `position`."""
        base, head = self.base, self.head
        offset = position.offset
        if offset == 0:
            return Reach.HELD if base.offset == 0 else Reach.OLDER
        if position.epoch != head.epoch or offset > head.offset:
            return Reach.FOREIGN
        if offset < base.offset:
            return Reach.OLDER
        if position.tag in (self.position_at(offset).tag, UNVERIFIED_TAG):
            return Reach.HELD
        return Reach.FOREIGN

    def position_at(self, offset: int) -> Position:
        """The position at an offset from base to head."""
        if offset == self.base.offset:
            return self.base
        entry = self._entries[self._first + offset - self.base.offset - 1]
        assert entry is not None
        return entry.publication.position

    def after(self, offset: int, until: int, max_bytes: int) -> list[Entry]:
        """The entries after `offset` (from base to head) up to `until`: at most `max_bytes` in all, but at least one.

        Bytes are those on the wire, estimated, since the entries may not be encoded yet.
        """
        base = self.base.offset
        taken: list[Entry] = []
        size = 0
        for index in range(self._first + offset - base, self._first + until - base):
            entry = self._entries[index]
            assert entry is not None
            size += len(entry.publication.data) + WIRE_OVERHEAD_BYTES
            if size > max_bytes and taken:
                break
            taken.append(entry)
        return taken


class Rings:
    """The bounds over all rings of the process.

    Entries come in the order of time into all rings, so one queue of rings, an item for each entry, tells which ring
    holds the oldest. An entry that leaves early, by its ring's own bound, is only counted in `Ring.gone`: the next
    item of that ring in the queue is then skipped. Every operation is O(1) amortised.
    """

    __slots__ = ("_clock", "_gone", "_is_scheduled", "_max_age_s", "_max_bytes", "_order", "_wheel", "bytes",
                 "ring_max_bytes")  # fmt: skip

    def __init__(self, limits: Limits, clock: Clock, wheel: Wheel) -> None:
        self.bytes = 0
        self.ring_max_bytes = limits.ring_max_bytes
        self._max_bytes = limits.rings_max_bytes
        self._max_age_s = limits.ring_max_age_s
        self._clock = clock
        self._wheel = wheel
        self._order: deque[Ring] = deque()
        self._gone = 0
        self._is_scheduled = False

    def entered(self, ring: Ring, size: int, now_s: float) -> None:
        """A ring has got an entry."""
        self._order.append(ring)
        self.bytes += size
        self.trim(now_s)
        if not self._is_scheduled:
            self._is_scheduled = True
            self._wheel.schedule(self, self._max_age_s)

    def left(self, ring: Ring, count: int, size: int) -> None:
        """A ring has let its oldest `count` entries go."""
        ring.gone += count
        self._gone += count
        self.bytes -= size
        if self._gone > 1_000 and self._gone * 2 > len(self._order):
            self._compact()

    def trim(self, now_s: float) -> None:
        """Let go what is too old, or too much for all rings together."""
        order = self._order
        oldest_s = now_s - self._max_age_s
        while order:
            ring = order[0]
            if ring.gone:
                ring.gone -= 1
                self._gone -= 1
            elif self.bytes > self._max_bytes or ring.oldest_s < oldest_s:
                self.bytes -= ring.drop_oldest()
            else:
                return
            order.popleft()

    def wheel_fired(self) -> None:
        """Nothing may be published for a while: let go what has aged meanwhile."""
        self.trim(self._clock.monotonic_s())
        self._is_scheduled = bool(self._order)
        if self._is_scheduled:
            self._wheel.schedule(self, self._max_age_s / 4)

    def _compact(self) -> None:
        kept: deque[Ring] = deque()
        for ring in self._order:
            if ring.gone:
                ring.gone -= 1
            else:
                kept.append(ring)
        self._gone = 0
        self._order = kept
