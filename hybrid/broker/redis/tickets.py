"""Tickets that any node redeems: implements `auth.tickets.TicketStore`.

What a ticket stands for is sealed with the nodes' secret, so that who can write to Redis cannot make tickets.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable
from typing import Final

import msgspec

from hybrid.auth.tickets import Claim, Ticket
from hybrid.broker.redis import scripts
from hybrid.broker.redis.keys import Keys
from hybrid.broker.redis.servers import Servers

_log = logging.getLogger(__name__)
_SEAL_BYTES: Final = 32
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Ticket).decode


class RedisTicketStore:
    """See the module's text. `key` seals; all nodes have the same."""

    def __init__(self, servers: Servers, keys: Keys, key: bytes, skew_ms: Callable[[], int] = lambda: 0) -> None:
        self._servers = servers
        self._keys = keys
        self._key = key
        self._skew_ms = skew_ms

    async def put(self, ticket_hash: bytes, ticket: Ticket, ttl_s: float) -> None:
        """See `TicketStore.put`. Their number is bounded by Redis' memory: they are small and end by themselves."""
        body = _encode(ticket)
        value = self._seal(ticket_hash, body) + body
        key = self._keys.ticket(ticket_hash)
        await self._servers.run_script(scripts.KEEP, (key,), value, round(ttl_s * 1000), self._skew_ms())

    async def take(self, ticket_hash: bytes) -> Ticket | None:
        """See `TicketStore.take`."""
        return await self._look(ticket_hash, 0.0, is_taken=True)

    async def look(self, ticket_hash: bytes, ttl_s: float) -> Ticket | None:
        """See `TicketStore.look`."""
        return await self._look(ticket_hash, ttl_s, is_taken=False)

    async def claim(self, ticket_hash: bytes, node: str) -> Claim | None:
        """See `TicketStore.claim`."""
        found = await self._servers.run_script(scripts.CLAIM, (self._keys.ticket(ticket_hash),), node)
        return None if found is None else Claim(ticket_hash, found[0].decode(), int(found[1]))

    async def _look(self, ticket_hash: bytes, ttl_s: float, *, is_taken: bool) -> Ticket | None:
        key = self._keys.ticket(ticket_hash)
        value = await self._servers.run_script(
            scripts.LOOK, (key,), round(ttl_s * 1000), "1" if is_taken else "0", self._skew_ms()
        )
        if value is None:
            return None
        seal, body = value[:_SEAL_BYTES], value[_SEAL_BYTES:]
        if not hmac.compare_digest(seal, self._seal(ticket_hash, body)):
            _log.error("a ticket in Redis is not sealed with this node's secret and is not accepted")
            return None
        return _decode(body)

    def _seal(self, ticket_hash: bytes, body: bytes) -> bytes:
        return hmac.digest(self._key, ticket_hash + body, "sha256")
