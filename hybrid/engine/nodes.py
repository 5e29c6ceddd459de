"""This node in the list of nodes: its lease, and what it knows of the others."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import msgspec

from hybrid.broker.base import NodeStore
from hybrid.engine.tasks import Tasks
from hybrid.engine.wheel import Wheel
from hybrid.errors import BrokerError
from hybrid.protocol.codec import DECODING_ERRORS

_log = logging.getLogger(__name__)

LEASE_S: Final = 15.0
"""A node that is not heard of for this long is not counted on any more."""
_RENEW_S: Final = 5.0  # a third: two renewals may fail
_AGAIN_S: Final = 1.0  # after one that failed


class NodeInfo(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a node says of itself. Unknown fields are ignored, so that versions can differ.

    `room` is how many streams it can still take, `accepts_per_s` how many new ones a second it offers to take.
    `streams` are open streams and waiting polls, `sessions` also those whose clients may come back, `channels` those
    that are followed there. `started_s` is a Unix time, 0 where it is not told.
    """

    id: str
    version: str = ""
    address: str = ""
    streams: int = 0
    room: int = 0
    accepts_per_s: float = 0.0
    is_draining: bool = False
    sessions: int = 0
    channels: int = 0
    started_s: float = 0.0


_decode: Final = msgspec.json.Decoder(NodeInfo).decode


class Nodes:
    """Keeps the lease. `lost` is called when it had run out: what this node held was given up by the others."""

    def __init__(
        self,
        node: str,
        store: NodeStore,
        wheel: Wheel,
        tasks: Tasks,
        *,
        describe: Callable[[], NodeInfo],
        heard: Callable[[bytes], None],
        lost: Callable[[], None],
    ) -> None:
        self.id = node
        self.others: list[NodeInfo] = []
        self._store = store
        self._wheel = wheel
        self._tasks = tasks
        self._describe = describe
        self._heard = heard
        self._lost = lost
        self._generation = 0
        self._is_listening = False
        self._is_cut_off = False  # from the broker; said once
        self._is_over = False

    async def start(self) -> None:
        """Join the list. Where the broker is away now, it is tried again in the background."""
        await self._keep()

    async def tell(self) -> None:
        """Let the others know at once what has changed here."""
        await self._keep()

    async def known_now(self) -> list[NodeInfo]:
        """The others, read anew. Raises BrokerError."""
        await self._keep()
        if self._is_cut_off:
            raise BrokerError(retry_after_s=1.0)
        return self.others

    async def leave(self) -> None:
        """Be in the list no more. Safe to call twice."""
        self._is_over = True
        self._wheel.cancel(self)
        generation, self._generation = self._generation, 0
        try:
            if generation:
                await self._store.leave(self.id, generation)
        except BrokerError as error:
            _log.warning("this node could not leave the list; its lease will end: %s", error)

    def is_there(self, node: str) -> bool:
        """Whether a node is in the list, as far as this one knows: one that died still is until its lease is over."""
        return node == self.id or any(other.id == node for other in self.others)

    def wheel_fired(self) -> None:
        """Time to renew the lease."""
        self._tasks.spawn(self._keep())

    async def _keep(self) -> None:
        due_s = _RENEW_S
        try:
            if not self._is_listening:
                await self._store.listen(self.id, self._heard)
                self._is_listening = True
            text = msgspec.json.encode(self._describe())
            kept = await self._store.keep(self.id, self._generation, LEASE_S, text)
            if self._generation and not kept.generation:
                _log.warning("this node's lease had run out: it, or the broker, was away for over %g s", LEASE_S)
                kept = await self._store.keep(self.id, 0, LEASE_S, text)
                self._lost()
            self._generation = kept.generation
            self.others = [_decode(other) for other in kept.others]
            self._is_cut_off = False
        except BrokerError as error:
            _log.log(logging.DEBUG if self._is_cut_off else logging.WARNING, "no lease can be had now: %s", error)
            self._is_cut_off = True
            due_s = _AGAIN_S
        except DECODING_ERRORS as error:
            _log.error("what another node says of itself cannot be read: %s", error)
        if not self._is_over:
            self._wheel.schedule(self, due_s)
