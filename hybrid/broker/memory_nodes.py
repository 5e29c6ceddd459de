"""The list of nodes where there is but one process, and the reference for what `NodeStore` and `CallStore` promise."""

from __future__ import annotations

import logging
from collections.abc import Callable

from hybrid.broker.base import CallOutcome, Kept
from hybrid.broker.deadlines import Deadlines
from hybrid.clock import Clock

_log = logging.getLogger(__name__)


class MemoryNodes:
    """Implements `NodeStore` and `CallStore`. Nothing is awaited inside, so all of it is atomic."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._generation = 0
        self._nodes: dict[str, tuple[int, float, bytes]] = {}
        self._heard: dict[str, Callable[[bytes], None]] = {}
        self._calls: dict[bytes, tuple[bytes, str, bytes | None]] = {}
        self._call_ends: Deadlines[bytes] = Deadlines()

    async def keep(self, node: str, generation: int, lease_s: float, text: bytes) -> Kept:
        """See `NodeStore.keep`."""
        now_s = self._clock.monotonic_s()
        self._nodes = {name: kept for name, kept in self._nodes.items() if kept[1] > now_s}
        others = [text for name, (_, _, text) in self._nodes.items() if name != node]
        if not generation:
            generation = self._generation = self._generation + 1
        elif node not in self._nodes or self._nodes[node][0] != generation:
            return Kept(0, others)
        self._nodes[node] = (generation, now_s + lease_s, text)
        return Kept(generation, others)

    async def leave(self, node: str, generation: int) -> None:
        """See `NodeStore.leave`."""
        if node in self._nodes and self._nodes[node][0] == generation:
            del self._nodes[node]

    async def listen(self, node: str, heard: Callable[[bytes], None]) -> None:
        """See `NodeStore.listen`."""
        self._heard[node] = heard

    async def tell(self, node: str, message: bytes) -> bool:
        """See `NodeStore.tell`."""
        heard = self._heard.get(node)
        if heard is None:
            return False
        try:
            heard(message)
        except Exception:
            _log.exception("a message to a node could not be delivered")
        return True

    async def begin(self, key: bytes, digest: bytes, claimant: str, kept_s: float) -> CallOutcome:
        """See `CallStore.begin`."""
        self._forget_ended()
        if key not in self._calls:
            self._keep(key, (digest, claimant, None), kept_s)
        known, runner, result = self._calls[key]
        if known != digest:
            return CallOutcome(is_conflict=True)
        if result is not None:
            return CallOutcome(result=result)
        return CallOutcome(is_ours=runner == claimant, claimant=runner)

    async def finish(self, key: bytes, digest: bytes, claimant: str, result: bytes, kept_s: float) -> None:
        """See `CallStore.finish`."""
        self._forget_ended()
        self._keep(key, (digest, claimant, result), kept_s)

    def _keep(self, key: bytes, kept: tuple[bytes, str, bytes | None], kept_s: float) -> None:
        self._calls[key] = kept
        self._call_ends.set(key, self._clock.monotonic_s() + kept_s)

    def _forget_ended(self) -> None:
        now_s = self._clock.monotonic_s()
        while (key := self._call_ends.pop(now_s)) is not None:
            del self._calls[key]
