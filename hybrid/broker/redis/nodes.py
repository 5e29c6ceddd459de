"""The nodes of one Redis: implements `NodeStore` and `CallStore`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from hybrid.broker.base import CallOutcome, Kept
from hybrid.broker.redis import scripts
from hybrid.broker.redis.broker import RedisBroker

_PURPOSE: Final = "control"
"""A line of its own: what nodes tell each other must arrive in order, and not behind a page of history."""
_FINISHED: Final = 1
_CONFLICT: Final = 2


class RedisNodes:
    """See the module's text. It shares the broker's servers and what it listens to."""

    def __init__(self, broker: RedisBroker, skew_ms: Callable[[], int] = lambda: 0) -> None:
        self._broker = broker
        self._servers = broker.servers
        self._keys = broker.keys
        self._skew_ms = skew_ms
        self._publish: Final = "SPUBLISH" if broker.servers.is_cluster else "PUBLISH"

    async def keep(self, node: str, generation: int, lease_s: float, text: bytes) -> Kept:
        """See `NodeStore.keep`."""
        self._broker.check()
        kept, others = await self._servers.run_script(
            scripts.NODE,
            (self._keys.nodes, self._keys.generation),
            node,
            generation,
            round(lease_s * 1000),
            text,
            self._skew_ms(),
            purpose=_PURPOSE,
        )
        return Kept(kept, others)

    async def leave(self, node: str, generation: int) -> None:
        """See `NodeStore.leave`."""
        await self.keep(node, generation, 0, b"")

    async def listen(self, node: str, heard: Callable[[bytes], None]) -> None:
        """See `NodeStore.listen`."""
        self._broker.check()
        await self._broker.listen(self._keys.node(node), heard)

    async def tell(self, node: str, message: bytes) -> bool:
        """See `NodeStore.tell`."""
        self._broker.check()
        topic = self._keys.node(node)
        return bool(await self._servers.run(topic, self._publish, topic, message, purpose=_PURPOSE))

    async def begin(self, key: bytes, digest: bytes, claimant: str, kept_s: float) -> CallOutcome:
        """See `CallStore.begin`."""
        what, text = await self._call(key, digest, claimant, kept_s, b"")
        if what == _CONFLICT:
            return CallOutcome(is_conflict=True)
        if what == _FINISHED:
            return CallOutcome(result=text)
        return CallOutcome(is_ours=text.decode() == claimant, claimant=text.decode())

    async def finish(self, key: bytes, digest: bytes, claimant: str, result: bytes, kept_s: float) -> None:
        """See `CallStore.finish`."""
        await self._call(key, digest, claimant, kept_s, result)

    async def _call(self, key: bytes, digest: bytes, claimant: str, kept_s: float, result: bytes) -> tuple[int, bytes]:
        self._broker.check()
        what, text = await self._servers.run_script(
            scripts.CALL, (self._keys.call(key),), digest, claimant, round(kept_s * 1000), result
        )
        return what, text
