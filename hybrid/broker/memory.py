"""The broker of one process: the embedded default, and the reference for what `broker/base.py` promises.

Everything happens at once: an append, its place in the history and its announcement are one call without an await, so
no other task can come between them. Ages are measured with the monotonic clock, because the logs end with the process
and a jump of the wall clock must not empty them.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Sequence
from itertools import islice
from random import Random, SystemRandom
from typing import Final

from hybrid.broker.base import Append, Appended, BrokerHealth, BrokerListener, Page, Present
from hybrid.broker.deadlines import Deadlines
from hybrid.broker.digest import body_digest
from hybrid.broker.kept import Kept
from hybrid.broker.memory_presence import MemoryPresence
from hybrid.clock import Clock
from hybrid.errors import BrokerError, KeyConflict
from hybrid.limits import Limits
from hybrid.model import START, UNVERIFIED_TAG, Position, PresenceEntry, Publication
from hybrid.protocol.recovery import first_after, take_page

_log = logging.getLogger(__name__)

_EPOCH_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
_EPOCH_CHARACTERS: Final = 6
_NEVER: Final = float("inf")


class _Log:
    """One life of one channel: its head, and the publications still kept with the times of their appends."""

    __slots__ = ("entries", "epoch", "forgotten_at_s", "head", "history_size", "history_ttl_s", "times")

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self.head = START
        self.entries: Kept[Publication] = Kept()
        self.times: deque[float] = deque()
        self.history_size = 0
        self.history_ttl_s = 0.0
        self.forgotten_at_s = _NEVER

    def trim(self, now_s: float) -> None:
        """Drop what is too old or too much by the bounds of the last append."""
        entries, times = self.entries, self.times
        oldest_s = now_s - self.history_ttl_s
        while entries and (len(entries) > self.history_size or times[0] < oldest_s):
            entries.drop_oldest()
            times.popleft()


class MemoryBroker:
    """Implements `Broker` and `PresenceStore` for one process. Not thread-safe: one event loop."""

    def __init__(self, clock: Clock, limits: Limits) -> None:
        self._clock = clock
        self._limits = limits
        self._random = Random(SystemRandom().getrandbits(256))
        self._listener: BrokerListener | None = None
        self._is_closed = False
        self._subscribed: set[str] = set()
        self._logs: dict[str, _Log] = {}
        # The logs nobody listens to, longest unused first: what goes when there are too many.
        self._idle: OrderedDict[str, None] = OrderedDict()
        self._ageing: Deadlines[str] = Deadlines()
        # key -> (body, position, end of the window); all windows are equally long, so the first ends first.
        # Ordered: a dict walks over all that it has lost in front to find its first.
        self._keys: OrderedDict[str, tuple[bytes, Position, float]] = OrderedDict()
        self._to_announce: deque[Publication] = deque()
        self._is_announcing = False
        self._presence = MemoryPresence(clock, self._announce_presence)

    # -- life

    async def open(self, listener: BrokerListener) -> None:
        """See `Broker.open`."""
        self._listener = listener

    async def close(self) -> None:
        """See `Broker.close`. Whatever is asked of the broker afterwards raises BrokerError."""
        self._is_closed = True
        self._listener = None
        self._logs.clear()
        self._idle.clear()
        self._keys.clear()
        self._subscribed.clear()

    def _check_open(self) -> None:
        if self._is_closed:
            raise BrokerError(None, "The broker is closed.")

    async def health(self) -> BrokerHealth:
        """See `Broker.health`."""
        return BrokerHealth(not self._is_closed, "The broker is closed." if self._is_closed else "")

    # -- appending

    async def append(self, appends: Sequence[Append]) -> list[Appended | BrokerError]:
        """See `Broker.append`. Nothing is awaited inside, so it cannot be cancelled half-way."""
        self._check_open()
        return [self.append_nowait(append) for append in appends]

    def append_nowait(self, append: Append) -> Appended | BrokerError:
        """One append of `Broker.append`; also for a listener that publishes while it is told of a publication.

        What is appended by a listener is announced after the publication it is hearing.
        """
        if self._is_closed:
            return BrokerError(None, "The broker is closed.")
        now_s = self._clock.monotonic_s()
        if append.key is not None:
            known = self._known(append.key, append, now_s)
            if known is not None:
                return known
        log = self._logs.get(append.channel)
        if log is None or log.forgotten_at_s <= now_s:
            self._sweep(now_s)
            if not self._has_room(append.channel, now_s):
                return BrokerError("limit_exceeded", "The limit channels_max is reached: every log is listened to.")
            log = self._begin(append.channel)
        elif self._ageing:
            self._sweep(now_s)
        offset = log.head.offset + 1
        tag = self._new_tag()
        publication = Publication(append.channel, offset, log.epoch, tag, append.data, append.type, append.is_binary)
        position = Position(offset, log.epoch, tag)
        log.head = position
        log.forgotten_at_s = now_s + self._limits.meta_ttl_s
        self._keep(append, log, publication, now_s)
        if append.key is not None:
            self._keys[append.key] = (body_digest(append), position, now_s + self._limits.idempotency_window_s)
        if append.channel in self._subscribed:
            self._to_announce.append(publication)
            if not self._is_announcing:
                self._announce()
        else:
            self._idle.move_to_end(append.channel)
        return Appended(position)

    def _keep(self, append: Append, log: _Log, publication: Publication, now_s: float) -> None:
        if append.history_size > 0 and append.history_ttl_s > 0:
            if not log.entries:
                self._ageing.set(append.channel, now_s + append.history_ttl_s)
            log.history_size = append.history_size
            log.history_ttl_s = append.history_ttl_s
            log.entries.append(publication)
            log.times.append(now_s)
            if len(log.entries) > append.history_size:
                log.trim(now_s)
        elif log.entries:
            # The namespace keeps none any more. What was kept goes at once: entries always end at the head.
            log.entries.clear()
            log.times.clear()
            self._ageing.drop(append.channel)

    def _known(self, key: str, append: Append, now_s: float) -> Appended | BrokerError | None:
        """The answer to a key seen within the window; None for a new one, for which there is room then."""
        keys = self._keys
        while keys:
            oldest = next(iter(keys))
            if keys[oldest][2] > now_s:
                break
            del keys[oldest]
        known = keys.get(key)
        if known is not None:
            digest, position, _ = known
            if digest != body_digest(append):
                return KeyConflict()
            return Appended(position, was_repeated=True)
        if len(keys) >= self._limits.idempotency_keys_max:
            first_end_s = keys[next(iter(keys))][2]
            return BrokerError(
                "limit_exceeded", "The limit idempotency_keys_max is reached.", retry_after_s=first_end_s - now_s
            )
        return None

    def _announce(self) -> None:
        self._is_announcing = True
        try:
            while self._to_announce:
                publication = self._to_announce.popleft()
                if self._listener is None or publication.channel not in self._subscribed:
                    continue
                try:
                    self._listener.published(publication)
                except Exception:
                    # The append has taken effect and its caller must hear so, whatever a listener does.
                    _log.exception("a listener failed on a publication")
        finally:
            self._is_announcing = False

    async def purge(self, channel: str) -> Position:
        """See `Broker.purge`."""
        self._check_open()
        former = self._current(channel)
        if former is None:
            return START
        log = self._logs[channel] = _Log(self._new_epoch())
        self._ageing.drop(channel)
        log.head = Position(1, log.epoch, UNVERIFIED_TAG)
        log.forgotten_at_s = self._clock.monotonic_s() + self._limits.meta_ttl_s
        if channel in self._subscribed and self._listener is not None:
            try:
                self._listener.purged(channel, log.head, former.epoch)
            except Exception:
                _log.exception("a listener failed on a purge")
        return log.head

    # -- logs that come and go

    def _begin(self, channel: str) -> _Log:
        log = _Log(self._new_epoch())
        self._logs[channel] = log
        self._ageing.drop(channel)
        if channel not in self._subscribed:
            self._idle[channel] = None
        return log

    def _new_epoch(self) -> str:
        return "".join(self._random.choices(_EPOCH_ALPHABET, k=_EPOCH_CHARACTERS))

    def _new_tag(self) -> str:
        return f"{self._random.getrandbits(32):08x}"

    def _has_room(self, channel: str, now_s: float) -> bool:
        """Make room for a new log, at the cost of those without listeners: forgotten ones, then the longest unused."""
        while self._idle:
            oldest = next(iter(self._idle))
            is_forgotten = self._logs[oldest].forgotten_at_s <= now_s
            is_full = channel not in self._logs and len(self._logs) >= self._limits.channels_max
            if is_full or is_forgotten:
                self._forget(oldest)
            else:
                break
        return channel in self._logs or len(self._logs) < self._limits.channels_max

    def _forget(self, channel: str) -> None:
        del self._logs[channel]
        self._idle.pop(channel, None)
        self._ageing.drop(channel)

    def _sweep(self, now_s: float) -> None:
        """Free the history that has become too old, also of channels that nobody touches."""
        while (channel := self._ageing.pop(now_s)) is not None:
            log = self._logs[channel]
            log.trim(now_s)
            if log.entries:
                # A hair later than due, because an entry is kept up to and including its last moment.
                self._ageing.set(channel, max(log.times[0] + log.history_ttl_s, now_s + 0.001))

    def _current(self, channel: str) -> _Log | None:
        now_s = self._clock.monotonic_s()
        log = self._logs.get(channel)
        if log is None or log.forgotten_at_s <= now_s:
            return None
        log.trim(now_s)
        if channel in self._idle:
            self._idle.move_to_end(channel)
        return log

    # -- listening and reading

    async def subscribe(self, channel: str) -> None:
        """See `Broker.subscribe`."""
        self._check_open()
        self._subscribed.add(channel)
        self._idle.pop(channel, None)

    async def unsubscribe(self, channel: str) -> None:
        """See `Broker.unsubscribe`."""
        self._subscribed.discard(channel)
        if channel in self._logs:
            self._idle[channel] = None

    async def heads(self, channels: Sequence[str]) -> list[Position]:
        """See `Broker.heads`."""
        self._check_open()
        logs = [self._current(channel) for channel in channels]
        return [START if log is None else log.head for log in logs]

    async def read(self, channel: str, after: Position, *, limit: int, max_bytes: int) -> Page:
        """See `Broker.read`."""
        self._check_open()
        log = self._current(channel)
        if log is None:
            first_after((), START, after)
            return Page([], START)
        first = first_after(log.entries, log.head, after)
        return Page(take_page(log.entries, first, limit=limit, max_bytes=max_bytes), log.head)

    async def history(self, channel: str, *, limit: int, max_bytes: int, is_reverse: bool) -> Page:
        """See `Broker.history`."""
        self._check_open()
        log = self._current(channel)
        if log is None:
            return Page([], START)
        entries = reversed(log.entries) if is_reverse else iter(log.entries)
        page: list[Publication] = []
        for publication in islice(entries, limit):
            max_bytes -= len(publication.data)
            if page and max_bytes < 0:
                break
            page.append(publication)
        return Page(page, log.head)

    # -- presence

    async def join(self, channel: str, entry: PresenceEntry, session: str, lease_s: float) -> bool:
        """See `PresenceStore.join`."""
        self._check_open()
        return self._presence.join(channel, entry, session, lease_s)

    async def leave(self, channel: str, entry: PresenceEntry, session: str) -> bool:
        """See `PresenceStore.leave`."""
        self._check_open()
        return self._presence.leave(channel, entry, session)

    async def entries(self, channel: str, limit: int) -> list[PresenceEntry]:
        """See `PresenceStore.entries`."""
        self._check_open()
        return self._presence.entries(channel, limit)

    async def count(self, channel: str) -> Present:
        """See `PresenceStore.count`."""
        self._check_open()
        return self._presence.count(channel)

    async def expire(self) -> None:
        """See `PresenceStore.expire`."""
        self._check_open()
        self._presence.expire()

    def _announce_presence(self, channel: str, entry: PresenceEntry, has_joined: bool) -> None:
        if self._listener is None or channel not in self._subscribed:
            return
        try:
            self._listener.presence_changed(channel, entry, has_joined)
        except Exception:
            _log.exception("a listener failed on a change of presence")
