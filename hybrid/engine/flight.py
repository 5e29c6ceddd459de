"""Bytes that the process holds for others: written to clients that do not read, and bodies that are still coming.

Each link and each body has a bound of its own; here are those of all together. Only what is exceptional is counted (a
link that passes its high-water mark, a body that comes in more than one piece), so that nothing is paid for the rest.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

from hybrid.auth.door import address_group
from hybrid.errors import LimitError
from hybrid.limits import Limits

_log = logging.getLogger(__name__)
_LIMIT: Final = "buffered_max_bytes"
RETRY_BODY_S: Final = 2.0
"""Told to whose body finds no room: a body has 10 s to come, and nearly all take far less."""


class SlowLink(Protocol):
    """What is needed of a link that is not read."""

    def buffered(self) -> int:
        """See `Link.buffered`."""

    def abort(self) -> None:
        """See `Link.abort`."""


class SlowLinks:
    """The links whose clients do not read, the longest so first; past `buffered_max_bytes` those are cut.

    They lose nothing: they come back with their positions. `hits` counts them since the start, by the limit.
    """

    __slots__ = ("_call_soon", "_held", "_hits", "_is_relieving", "_max_bytes", "held_bytes")

    def __init__(
        self, limits: Limits, call_soon: Callable[[Callable[[], object]], object], hits: Counter[str] | None = None
    ) -> None:
        """`call_soon` calls something behind what is running now."""
        self._max_bytes = limits.buffered_max_bytes
        self._call_soon = call_soon
        self._held: OrderedDict[SlowLink, int] = OrderedDict()  # first ones go, which a dict is slow at
        self._hits = Counter() if hits is None else hits
        self._is_relieving = False
        self.held_bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    @property
    def cut(self) -> int:
        """How many were cut, since the start."""
        return self._hits[_LIMIT]

    def paused(self, link: SlowLink) -> None:
        """A link has passed its high-water mark."""
        self.gone(link)
        size = self._held[link] = link.buffered()
        self.held_bytes += size
        if self.held_bytes > self._max_bytes and not self._is_relieving:
            self._is_relieving = True  # not from here: it may be inside of a fan-out
            self._call_soon(self._relieve)

    def gone(self, link: SlowLink) -> None:
        """It is read again, or has ended."""
        self.held_bytes -= self._held.pop(link, 0)

    def _relieve(self) -> None:
        self._is_relieving = False
        cut = 0
        while self.held_bytes > self._max_bytes and self._held:
            link, size = self._held.popitem(last=False)
            self.held_bytes -= size
            link.abort()
            cut += 1
        if cut:
            self._hits[_LIMIT] += cut
            _log.warning("%d clients that did not read were cut: more was buffered than buffered_max_bytes", cut)


class Bodies:
    """Bytes of HTTP bodies that are not whole yet, in all and of each address."""

    __slots__ = ("_limits", "_per_address", "held_bytes")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._per_address: dict[str, int] = {}
        self.held_bytes = 0

    def hold(self, address: str, size: int) -> None:
        """So many bytes more have come. Raises LimitError `rate_limited` (429), and they are not counted then."""
        group = address_group(address)
        here = self._per_address.get(group, 0) + size
        if here > self._limits.bodies_per_address_max_bytes:
            raise _no_room("bodies_per_address_max_bytes", "from this address")
        if self.held_bytes + size > self._limits.bodies_max_bytes:
            raise _no_room("bodies_max_bytes", "in all")
        self._per_address[group] = here
        self.held_bytes += size

    def release(self, address: str, size: int) -> None:
        """So many bytes that were held are nobody's any more."""
        group = address_group(address)
        self.held_bytes -= size
        left = self._per_address[group] - size
        if left:
            self._per_address[group] = left
        else:
            del self._per_address[group]


def _no_room(limit: str, where: str) -> LimitError:
    detail = f"Too many bodies are on their way {where} ({limit}); come back after the delay given."
    return LimitError(limit, detail, name="rate_limited", retry_after_s=RETRY_BODY_S)
