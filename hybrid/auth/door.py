"""How many may stand in the doorway: connections that are open but have not shown a credential yet.

Counted per address and in all. An IPv6 customer holds a whole /64, so that is what counts as one address there. An
address is forgotten when its last connection has been let in or is gone: who is inside costs nothing here.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Final

from hybrid.errors import LimitError
from hybrid.limits import Limits

RETRY_ADDRESS_S: Final = 2.0
"""Told to an address with too many at once: its earlier ones have usually shown their token by then."""


class Admission:
    """A place in the doorway. `leave` it when a credential was accepted or the connection ended, whichever is first."""

    __slots__ = ("_door", "_group")

    def __init__(self, door: Door, group: str) -> None:
        self._door: Door | None = door
        self._group = group

    def leave(self) -> None:
        """Give the place back. Calling it again does nothing."""
        door, self._door = self._door, None
        if door is not None:
            door._leave(self._group)


class Door:
    """Counts the unauthenticated connections of this process."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._count = 0
        self._per_group: dict[str, int] = {}

    @property
    def count(self) -> int:
        """How many stand in the doorway now."""
        return self._count

    def enter(self, address: str) -> Admission:
        """Take a place for a connection from an address (textual IP; anything else is one address of its own).

        Raises LimitError `rate_limited` with `retry_after_s`; its `limit` says which bound it was.
        """
        group = address_group(address)
        here = self._per_group.get(group, 0)
        if here >= self._limits.unauthenticated_per_address_max:
            raise LimitError(
                "unauthenticated_per_address_max",
                "Too many connections from this address have not authenticated yet.",
                name="rate_limited",
                retry_after_s=RETRY_ADDRESS_S,
            )
        if self._count >= self._limits.unauthenticated_max:
            raise LimitError(
                "unauthenticated_max",
                "Too many connections have not authenticated yet.",
                name="rate_limited",
                retry_after_s=self._limits.auth_timeout_s,  # by then all that stand here now are in or gone
            )
        self._per_group[group] = here + 1
        self._count += 1
        return Admission(self, group)

    def _leave(self, group: str) -> None:
        self._count -= 1
        left = self._per_group[group] - 1
        if left:
            self._per_group[group] = left
        else:
            del self._per_group[group]


@lru_cache(maxsize=4_096)  # anonymous clients are looked up by it for every command
def address_group(address: str) -> str:
    """What counts as one address: an IPv4 address (also when mapped into IPv6), an IPv6 /64, or the text itself."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return parsed.packed[:8].hex()
