"""What is kept outside of the engine, and where: in this process, or in Redis."""

from __future__ import annotations

from typing import NamedTuple

from hybrid.auth.derive import derive_key
from hybrid.auth.dpop import ProofStore
from hybrid.auth.revocation import RevocationStore
from hybrid.auth.tickets import TicketStore
from hybrid.broker.base import Broker, CallStore, NodeStore, OccupancyStore, PresenceStore
from hybrid.broker.memory import MemoryBroker
from hybrid.broker.memory_nodes import MemoryNodes
from hybrid.broker.memory_occupancy import MemoryOccupancy
from hybrid.broker.memory_proofs import MemoryProofStore
from hybrid.broker.memory_revocations import MemoryRevocationStore
from hybrid.broker.memory_tickets import MemoryTicketStore
from hybrid.broker.redis.address import parse_address
from hybrid.broker.redis.broker import RedisBroker
from hybrid.broker.redis.nodes import RedisNodes
from hybrid.broker.redis.occupancy import RedisOccupancy
from hybrid.broker.redis.proofs import RedisProofStore
from hybrid.broker.redis.revocations import RedisRevocationStore
from hybrid.broker.redis.tickets import RedisTicketStore
from hybrid.clock import Clock
from hybrid.settings import Settings


class Stores(NamedTuple):
    """All of one place."""

    broker: Broker
    presence: PresenceStore
    tickets: TicketStore
    nodes: NodeStore
    calls: CallStore
    proofs: ProofStore
    revocations: RevocationStore
    occupancy: OccupancyStore


def make_stores(settings: Settings, clock: Clock) -> Stores:
    """Those that the settings name. Connects to nothing yet. Raises SettingsError."""
    if settings.is_memory_broker:
        memory = MemoryBroker(clock, settings.limits)
        alone = MemoryNodes(clock)
        return Stores(
            memory,
            memory,
            MemoryTicketStore(clock, settings.limits),
            alone,
            alone,
            MemoryProofStore(clock, settings.limits),
            MemoryRevocationStore(clock, settings.limits),
            MemoryOccupancy(clock),
        )
    redis = RedisBroker(parse_address(settings.broker), settings.key_prefix, settings.limits)
    tickets = RedisTicketStore(redis.servers, redis.keys, derive_key(settings.secret, "tickets"))
    nodes = RedisNodes(redis)
    proofs = RedisProofStore(redis.servers, redis.keys)
    revoked = RedisRevocationStore(redis, derive_key(settings.secret, "revocations"), settings.limits)
    occupancy = RedisOccupancy(redis.servers, redis.keys)
    return Stores(redis, redis, tickets, nodes, nodes, proofs, revoked, occupancy)
