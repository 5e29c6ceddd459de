"""One node: the real engine on the simulated store, over simulated wires, that dies and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from random import Random
from typing import Any, cast

import msgspec

from hybrid.auth.tickets import TicketStore
from hybrid.auth.verifier import TokenVerifier
from hybrid.broker.base import Appended, CallStore, NodeStore, PresenceStore
from hybrid.broker.memory import MemoryBroker
from hybrid.broker.memory_nodes import MemoryNodes
from hybrid.broker.memory_proofs import MemoryProofStore
from hybrid.broker.memory_revocations import MemoryRevocationStore
from hybrid.broker.memory_tickets import MemoryTicketStore
from hybrid.clock import Clock
from hybrid.engine.engine import Engine
from hybrid.engine.leg import StreamLeg
from hybrid.engine.operations import PublishRequest
from hybrid.engine.wire import EVENT_STREAM, WEBSOCKET_JSON
from hybrid.errors import BrokerError, HybridError
from hybrid.limits import Limits
from hybrid.model import Principal
from hybrid.protocol.codec import JSON
from hybrid.protocol.commands import Attach, Poll
from hybrid.settings import Namespace
from tests.simulation.store import Connection, Store
from tests.simulation.wires import Receiver, Wire


class _NoTokens:
    """A verifier that is never asked: clients come with their principal."""

    async def close(self) -> None:
        pass


class Unreachable(Exception):
    """Nobody answers there."""


@dataclass(frozen=True)
class Shared:
    """What all nodes of a world have in common."""

    store: Store
    random: Random
    clock: Clock
    limits: Limits
    history_size: int
    nodes: MemoryNodes

    def namespace(self, channel: str) -> Namespace:
        return Namespace(
            "default", subscribe="token", publish="token", history_size=self.history_size, history_ttl_s=1e6
        )


class Node:
    """A place where a node lives, one life after the other. Raises Unreachable while there is none."""

    def __init__(self, shared: Shared) -> None:
        self.is_up = False
        self.wires: list[Wire] = []
        self._shared = shared

    async def start(self) -> None:
        shared = self._shared
        self.connection = Connection(shared.store, shared.random)
        self.engine = Engine(
            broker=self.connection,
            presence_store=cast(PresenceStore, MemoryBroker(shared.clock, shared.limits)),
            ticket_store=cast(TicketStore, MemoryTicketStore(shared.clock, shared.limits)),
            node_store=cast(NodeStore, shared.nodes),
            call_store=cast(CallStore, shared.nodes),
            proof_store=MemoryProofStore(shared.clock, shared.limits),
            revocation_store=MemoryRevocationStore(shared.clock, shared.limits),
            verifier=cast(TokenVerifier, _NoTokens()),
            namespace_for=shared.namespace,
            allows_anonymous=False,
            limits=shared.limits,
            clock=shared.clock,
            seal_key=b"s" * 32,
            control_key=b"c" * 32,
            draw=shared.random.uniform,
        )
        await self.engine.start()
        self.is_up = True

    async def kill(self) -> None:
        """The process is gone; clients notice by their wires."""
        self.is_up = False
        for wire in self.wires:
            wire.cut(is_noticed=True)
        self.wires.clear()
        await self.engine.close()

    async def drain(self) -> None:
        """It sends everybody away, and ends."""
        await self.engine.drain(self._shared.limits.shutdown_grace_s)
        await self.kill()

    # -- what clients do here

    def open(self, transport: str, receiver: Receiver, principal: Principal, attach: dict[str, Any]) -> Wire:
        """A stream, with its attach. Raises Unreachable, HybridError."""
        if not self.is_up:
            raise Unreachable
        is_socket = transport == "websocket"
        wire = Wire(receiver, self._shared.random, is_bidirectional=is_socket)
        leg = StreamLeg(self.engine, WEBSOCKET_JSON if is_socket else EVENT_STREAM, principal, None)
        command = JSON.decode_command(msgspec.json.encode(attach), self._shared.limits.attach_max_bytes)
        assert isinstance(command, Attach)
        if not is_socket:
            self.engine.intake.admit(principal, command, wire.peer)
        wire.belongs_to(leg)
        self.wires = [other for other in self.wires if not other.is_over]
        self.wires.append(wire)
        leg.opened(wire)
        if is_socket:
            wire.say(msgspec.json.encode(attach))
        else:
            try:
                self.engine.attach(leg, principal, command)
            except HybridError as error:
                leg.end(error.row.name, detail=str(error))
        return wire

    async def poll(self, principal: Principal, body: dict[str, Any]) -> list[dict[str, Any]]:
        """One long poll: its pushes. Raises Unreachable, HybridError."""
        command = JSON.decode_command(msgspec.json.encode(body), self._shared.limits.attach_max_bytes)
        with self._alive() as engine:
            if isinstance(command, Attach):
                engine.intake.admit(principal, command, "192.0.2.1")
                with engine.open.poll():
                    answer = await engine.polling.attach(principal, command)
            else:
                assert isinstance(command, Poll)
                answer = await engine.polling.poll(principal, command, "192.0.2.1", nullcontext)
        return [msgspec.json.decode(payload) for payload in answer]

    async def command(self, principal: Principal, session: str, command: dict[str, Any]) -> dict[str, Any] | None:
        """One command of an event stream's session, posted here. Raises Unreachable, HybridError."""
        raw = msgspec.json.encode(command)
        with self._alive() as engine:
            reply = await engine.router.ask(principal, session, JSON.decode_command(raw, 65_536), raw)
        return None if reply is None else msgspec.json.decode(msgspec.json.encode(reply))

    async def publish(
        self, principal: Principal, requests: Sequence[PublishRequest]
    ) -> Sequence[Appended | HybridError | BrokerError]:
        """Publish. Raises Unreachable, HybridError."""
        with self._alive() as engine:
            return await engine.operations.publish_many(principal, requests)

    @contextmanager
    def _alive(self) -> Iterator[Engine]:
        """A request to the process that is there now: the answer of one that has died meanwhile never arrives."""
        if not self.is_up:
            raise Unreachable
        engine = self.engine
        try:
            yield engine
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise Unreachable from None  # what it waited for at the node died with it
        if not self.is_up or engine is not self.engine:
            raise Unreachable
