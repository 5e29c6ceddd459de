"""The streams of channels tickets: one for each ticket, over all nodes. The newer ends the older.

Who opens one says so at the ticket, and learns where the former stream is. That node is told; how often the ticket was
opened decides which of two streams is the newer one, however messages cross.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from hybrid.auth.tickets import Claim
from hybrid.engine.tasks import Tasks
from hybrid.errors import BrokerError

if TYPE_CHECKING:
    from hybrid.engine.plain import PlainStream

_log = logging.getLogger(__name__)

Tell = Callable[[str, bytes, int], Awaitable[None]]
"""Called with a node, the ticket's hash and the number of the newer stream. Raises BrokerError."""


class TicketStreams:
    """See the module's text. One per process."""

    def __init__(self, node: str, tasks: Tasks, tell: Tell) -> None:
        self._node = node
        self._tasks = tasks
        self._tell = tell
        self._streams: dict[bytes, tuple[int, PlainStream]] = {}

    def __len__(self) -> int:
        return len(self._streams)

    def opened(self, claim: Claim, stream: PlainStream) -> None:
        """A stream is open here; the one before it ends, wherever it is."""
        former = self._streams.get(claim.ticket_hash)
        if former is not None and former[0] > claim.number:
            stream.end("replaced")
            return
        self._streams[claim.ticket_hash] = claim.number, stream
        if former is not None:
            former[1].end("replaced")
        if claim.former not in ("", self._node):
            self._tasks.spawn(self._told(claim))

    def closed(self, claim: Claim, stream: PlainStream) -> None:
        """A stream has ended."""
        if self._streams.get(claim.ticket_hash) == (claim.number, stream):
            del self._streams[claim.ticket_hash]

    def replaced(self, ticket_hash: bytes, number: int) -> None:
        """A newer stream is open at another node."""
        held = self._streams.get(ticket_hash)
        if held is not None and held[0] < number:
            held[1].end("replaced")

    async def _told(self, claim: Claim) -> None:
        try:
            await self._tell(claim.former, claim.ticket_hash, claim.number)
        except BrokerError as error:
            _log.warning("a node could not be told that a ticket was opened elsewhere: %s", error)
