"""Channels by the end of their first lease, so that leases end where nobody asks: a work list that all nodes share.

Each node now and then claims what is due and looks at it. What it has claimed and not finished, since it died over it,
is somebody else's after a while: a channel is always in the list or among the claims.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from hybrid.broker.redis import scripts
from hybrid.broker.redis.servers import Servers

_CLAIMED_AT_ONCE: Final = 64
_CLAIM_MS: Final = 10_000


class DueList:
    """One such list. `purpose` names the line of its commands, see `Servers.line`."""

    def __init__(
        self, servers: Servers, due: bytes, claimed: bytes, skew_ms: Callable[[], int], *, purpose: str
    ) -> None:
        self._servers = servers
        self._due = due
        self._claimed = claimed
        self._skew_ms = skew_ms
        self._purpose = purpose

    async def add(self, channel: str, end: bytes) -> None:
        """Have a channel looked at when its first lease ends: `end`, as the script of a step gave it."""
        await self._servers.run(self._due, "ZADD", self._due, "LT", end, channel, purpose=self._purpose)

    async def settle(self, look: Callable[[str], Awaitable[bytes]]) -> None:
        """Look at every channel that is due; `look` gives the end of what is then its first lease, empty for none."""
        while True:
            due = await self._servers.run_script(
                scripts.DUE,
                (self._due, self._claimed),
                _CLAIMED_AT_ONCE,
                _CLAIM_MS,
                self._skew_ms(),
                purpose=self._purpose,
            )
            for name in due:
                channel = name.decode()
                end = await look(channel)
                # First back into the list, then out of the claims: it is never in neither.
                if end:
                    await self.add(channel, end)
                await self._servers.run(self._claimed, "ZREM", self._claimed, name, purpose=self._purpose)
            if len(due) < _CLAIMED_AT_ONCE:
                return
