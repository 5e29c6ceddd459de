"""The broker's contract: what every broker promises, in prose. `tests/contract/test_broker.py` holds them to it.

- *Append and announce are one atomic step per channel.* Offsets rise by one from 1 in each epoch. Every listener of
  this process hears publications of one channel in the order of their offsets, each at most once.
- *An epoch is made by the first append*, never by a read. Offset, epoch and the head's tag outlive the history (they
  are kept `meta_ttl_s` after the last append).
- *Live delivery is at most once; the log heals it.* `BrokerListener.gap` says that something may have been missed.
- *History is bounded* by the count and age given with each append, and both bounds are honoured when it is read.
- *Idempotency keys* are scoped by the caller and remembered for `idempotency_window_s`: the same key and body again
  gives the first position and appends nothing; the same key with another body raises KeyConflict.
- *A purge is one atomic step, too*: the log is emptied and another epoch begins, whose first place the purge takes
  itself, under the tag of places without an entry. So no position from before can be continued, the start included,
  and every reader is told of a reset.
- A broker that cannot be reached raises BrokerError (`broker_unavailable`) and recovers by itself. Where an append may
  or may not have taken effect its error says so: `outcome_unknown`, unless its key makes a repeat safe.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from hybrid.errors import BrokerError
from hybrid.model import Position, PresenceEntry, Publication


class Append(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One publication to be made. `data` was checked by `protocol.data`; names are in their one true form.

    `key` is None, or the whole scoped idempotency key. `history_size` publications of at most `history_ttl_s` seconds
    of age are kept after it; 0 keeps none (the head's position is kept all the same). `is_durable` asks for
    confirmation by a replica where the broker has one.
    """

    channel: str
    data: bytes
    type: str | None = None
    is_binary: bool = False
    key: str | None = None
    history_size: int = 0
    history_ttl_s: float = 0.0
    is_durable: bool = False


class Appended(msgspec.Struct, frozen=True, gc=False):
    """Where a publication stands. `was_repeated`: its key was known, nothing new was appended."""

    position: Position
    was_repeated: bool = False


class Page(msgspec.Struct, frozen=True, gc=False):
    """A part of a log: publications in the order asked for, and the head at the time of reading."""

    publications: list[Publication]
    head: Position


class BrokerHealth(msgspec.Struct, frozen=True, gc=False):
    """Whether a broker can be relied upon now, and if not, why: a sentence for the people who run it."""

    is_good: bool
    detail: str = ""


class BrokerListener(Protocol):
    """What a broker calls, on the event loop's thread, for channels that are subscribed here. Must not raise."""

    def published(self, publication: Publication) -> None:
        """A publication was appended, here or on another node."""

    def presence_changed(self, channel: str, entry: PresenceEntry, has_joined: bool) -> None:
        """A principal came to a channel for the first time, or left it for the last."""

    def purged(self, channel: str, position: Position, former: str) -> None:
        """The log was emptied, here or on another node: what follows comes after `position`, in another epoch.

        `former` is the epoch that ended so, empty where it is not told: epochs have no order of their own, and a log
        that was read may be ahead of what is announced. In order with `published`. At most once, as all live
        delivery; comparing heads heals it.
        """

    def gap(self, channels: Sequence[str] | None) -> None:
        """Publications of these channels (None: of all) may have been missed; compare heads and read the log."""


class Broker(Protocol):
    """Logs and live delivery. One instance per process."""

    async def open(self, listener: BrokerListener) -> None:
        """Connect and start to deliver to `listener`. Called once. A broker that is away is awaited, not an error.

        Raises SettingsError when what it finds can never be used.
        """

    async def close(self) -> None:
        """Release everything; safe to call twice."""

    async def health(self) -> BrokerHealth:
        """Whether it can be reached and keeps what it is given. Never raises. Cancel-safe."""

    async def append(self, appends: Sequence[Append]) -> list[Appended | BrokerError]:
        """Append all, in order, and announce them; one result for each, errors as values.

        Raises BrokerError only when none can have taken effect. Cancelling it leaves the outcome unknown.
        """

    async def subscribe(self, channel: str) -> None:
        """Deliver this channel to the listener from now on. Returns when the broker has acknowledged it, so that

        a head read afterwards misses nothing. Idempotent. Raises BrokerError.
        """

    async def unsubscribe(self, channel: str) -> None:
        """Deliver this channel no more. Idempotent."""

    async def heads(self, channels: Sequence[str]) -> list[Position]:
        """The position of the last append of each channel; START where there was none. Cancel-safe: reads only."""

    async def read(self, channel: str, after: Position, *, limit: int, max_bytes: int) -> Page:
        """Publications after `after`, ascending, at most `limit`, data of at most `max_bytes` in all but at least one.

        Raises UnrecoverablePosition if the epoch differs, or if the entry at `after.offset` has another tag, or is no
        longer kept and is not the head, or lies beyond the head; or, after START, if offset 1 is no longer kept; after
        the place of a purge, if offset 2 is not.
        A page that ends before its head is continued by reading after its last publication. Cancel-safe: reads only.
        """

    async def history(self, channel: str, *, limit: int, max_bytes: int, is_reverse: bool) -> Page:
        """The first (or, reversed, the newest first) `limit` publications that are kept; `max_bytes` as in `read`.

        Cancel-safe: reads only.
        """

    async def purge(self, channel: str) -> Position:
        """Forget all publications of a channel and begin another epoch; listeners hear `purged`.

        Returns the position that readers go on after: offset 1 of the new epoch. START where nothing was ever
        published, or all of it is forgotten: then nothing happens. Keys that were used stay used. Raises BrokerError;
        again does no harm. Cancelling it leaves the outcome unknown.
        """


class Present(msgspec.Struct, frozen=True, gc=False):
    """How many are on a channel: principals, and their sessions."""

    principals: int
    sessions: int


class PresenceStore(Protocol):
    """Who is on which channel. Keyed by (principal, session), counted per principal, ended by leases."""

    async def join(self, channel: str, entry: PresenceEntry, session: str, lease_s: float) -> bool:
        """Add or renew. True when this is the principal's first session there (announced to listeners)."""

    async def leave(self, channel: str, entry: PresenceEntry, session: str) -> bool:
        """Remove. True when it was the principal's last session there (announced). Unknown ones are ignored."""

    async def entries(self, channel: str, limit: int) -> list[PresenceEntry]:
        """Who is there now, at most `limit`, in order of coming."""

    async def count(self, channel: str) -> Present:
        """How many are there now. Cancel-safe."""

    async def expire(self) -> None:
        """Turn leases that ran out into leaves (announced once each)."""


class OccupancyStore(Protocol):
    """Which channels are read at all. By node, ended by leases; the step that makes a difference says so, once."""

    @property
    def is_shared(self) -> bool:
        """Whether other nodes may hold channels as well, and go on when this one ends."""

    async def hold(self, channel: str, node: str, lease_s: float) -> int | None:
        """The node reads the channel from now on, for `lease_s` seconds (at most 90) unless it says so again.

        Since when (Unix milliseconds, by the store's clock) it is read again; None where it was read all along. Raises
        BrokerError.
        """

    async def release(self, channel: str, node: str) -> int | None:
        """The node reads it no more. Since when nobody does; None where somebody still does, or nobody did.

        Raises BrokerError.
        """

    async def expire(self) -> list[tuple[str, int]]:
        """The channels that nobody reads any more because leases ran out, and since when. Raises BrokerError."""


class Kept(msgspec.Struct, frozen=True, gc=False):
    """The answer to a node that keeps itself in the list.

    `generation` is that of its lease, 0 where the lease it renewed is over: whatever it held has been given up by the
    others. `others` is what each other living node says of itself.
    """

    generation: int
    others: list[bytes]


class NodeStore(Protocol):
    """Which nodes there are, and a way to tell one of them something."""

    async def keep(self, node: str, generation: int, lease_s: float, text: bytes) -> Kept:
        """Join the list (`generation` 0), or renew the lease that joining began; `text` is for the others.

        A node that froze past its lease is told so, once it has been thawed: its generation is not renewed, not even
        when nobody noticed meanwhile. Raises BrokerError.
        """

    async def leave(self, node: str, generation: int) -> None:
        """Leave the list, unless somebody holds a later generation. Raises BrokerError."""

    async def listen(self, node: str, heard: Callable[[bytes], None]) -> None:
        """Hear what is told to this node from now on, also after reconnects. Must not raise. Raises BrokerError."""

    async def tell(self, node: str, message: bytes) -> bool:
        """Tell a node. False: nobody listens there, it is gone. At most once; in the order of the calls.

        Raises BrokerError.
        """


class CallOutcome(msgspec.Struct, frozen=True, gc=False):
    """`is_ours`: the asker runs it now. Otherwise `claimant` runs it, or `result` is what it gave.

    `is_conflict`: the key came before with another body.
    """

    is_ours: bool = False
    is_conflict: bool = False
    claimant: str = ""
    result: bytes | None = None


class CallStore(Protocol):
    """What became of calls that came with a key, so that each runs once, whichever nodes it is sent to."""

    async def begin(self, key: bytes, digest: bytes, claimant: str, kept_s: float) -> CallOutcome:
        """Claim a call, or learn what became of it. Asking again as the same claimant gives the same answer.

        `digest` is of its body. Raises BrokerError.
        """

    async def finish(self, key: bytes, digest: bytes, claimant: str, result: bytes, kept_s: float) -> None:
        """Keep a call's result, not empty, for `kept_s` seconds. Raises BrokerError."""
