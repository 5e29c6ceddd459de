"""What was revoked, in one process; and the reference for what `RevocationStore` promises."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from hybrid.auth.revocation import Kind, Revocation, RevocationPage
from hybrid.clock import Clock
from hybrid.errors import LimitError
from hybrid.limits import Limits

_log = logging.getLogger(__name__)


class MemoryRevocationStore:
    """Implements `RevocationStore`. Nothing is awaited inside, so all of it is atomic."""

    is_shared = False

    def __init__(self, clock: Clock, limits: Limits) -> None:
        self._clock = clock
        self._limits = limits
        # In the order of their coming: the number of the place, the time since when it is kept, and the revocation.
        self._entries: dict[tuple[Kind, str, str], tuple[int, float, Revocation]] = {}
        self._places = 0
        self._looks: list[Callable[[], None]] = []

    async def append(self, kind: Kind, issuer: str, value: str) -> Revocation:
        """See `RevocationStore.append`."""
        self._forget_ended()
        revocation = Revocation(kind, issuer, value, round(self._clock.wall_s(), 3))
        if revocation.key not in self._entries:
            self._make_room()
        self._entries.pop(revocation.key, None)
        self._put(revocation)
        self._signal()
        return revocation

    async def restore(self, revocations: Sequence[Revocation]) -> None:
        """See `RevocationStore.restore`."""
        self._forget_ended()
        for revocation in revocations:
            if revocation.key not in self._entries:
                self._make_room()
                self._put(revocation)
        self._signal()

    async def read(self, cursor: bytes, limit: int) -> RevocationPage:
        """See `RevocationStore.read`."""
        self._forget_ended()
        after, reached = int(cursor or 0), 0
        entries = []
        for entry in reversed(self._entries.values()):  # from the end: there is mostly nothing new, of very many
            if (reached := entry[0]) <= after:
                break
            entries.append(entry)
        is_continued = not after or reached == after
        entries = entries[::-1] if is_continued else list(self._entries.values())
        page = entries[:limit]
        last = page[-1][0] if page else after if is_continued else 0
        return RevocationPage(
            [revocation for _, _, revocation in page],
            b"%d" % last if last else b"",
            is_continued,
            len(entries) > limit,
        )

    async def listen(self, look: Callable[[], None], doubt: Callable[[], None]) -> None:
        """See `RevocationStore.listen`; nothing is ever lost here."""
        self._looks.append(look)

    def _put(self, revocation: Revocation) -> None:
        self._places += 1
        self._entries[revocation.key] = (self._places, self._clock.wall_s(), revocation)

    def _make_room(self) -> None:
        if len(self._entries) >= self._limits.revocations_max:
            raise LimitError("revocations_max")

    def _forget_ended(self) -> None:
        end_s = self._clock.wall_s() - self._limits.revocation_kept_s
        while self._entries:
            key = next(iter(self._entries))
            if self._entries[key][1] > end_s:
                break
            del self._entries[key]

    def _signal(self) -> None:
        for look in self._looks:
            try:
                look()
            except Exception:
                _log.exception("a listener could not be told of a revocation")
