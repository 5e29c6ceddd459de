"""The brokers that every contract case runs on. A further one is one more parameter, and its own way to be made."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from hybrid.auth.dpop import ProofStore
from hybrid.auth.revocation import RevocationStore
from hybrid.auth.tickets import TicketStore
from hybrid.broker.base import CallStore, OccupancyStore, PresenceStore
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
from hybrid.limits import Limits
from tests.support.clock import FakeClock
from tests.support.listeners import RecordingListener
from tests.support.redis_servers import SERVICE, Cluster, RedisServer, Sentinels, cluster, redis_server, sentinels

BROKERS = ["memory", "redis", "sentinel", "cluster"]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def limits() -> Limits:
    return Limits()


@pytest.fixture
def listener() -> RecordingListener:
    return RecordingListener()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def one_redis() -> AsyncIterator[RedisServer]:
    """One server with a replica for all cases; each has a prefix of its own in it."""
    async with redis_server() as server:
        async with redis_server(name="replica", options=(f"replicaof 127.0.0.1 {server.port}",)) as replica:

            async def follows() -> bool:
                return (await replica.info("replication"))["master_link_status"] == "up"

            await replica.process.until(follows, "a replica")
            yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def three_sentinels() -> AsyncIterator[Sentinels]:
    async with sentinels() as servers:
        yield servers


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def one_cluster() -> AsyncIterator[Cluster]:
    """Three primaries; that of the cases' channel `a` has a replica, for what has to be confirmed by one."""
    async with cluster() as servers:
        async with servers.replica_of(await servers.owner_of(await servers.slot_of("{a}"))):
            yield servers


@pytest.fixture
def skew_ms(clock: FakeClock) -> Callable[[], int]:
    """How far a test has moved its clock: Redis has one of its own, that nobody can move."""
    start_s = clock.monotonic_s()
    return lambda: round((clock.monotonic_s() - start_s) * 1000)


@pytest.fixture(params=BROKERS)
def broker_url(request: pytest.FixtureRequest) -> str:
    """Where the broker of a case lives; empty for the one in this process."""
    if request.param == "cluster":
        servers: Cluster = request.getfixturevalue("one_cluster")
        return f"redis+cluster://{','.join(f'{host}:{port}' for host, port in servers.addresses)}"
    if request.param == "sentinel":
        watchers: Sentinels = request.getfixturevalue("three_sentinels")
        return f"redis+sentinel://{','.join(f'{host}:{port}' for host, port in watchers.addresses)}/{SERVICE}"
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("one_redis")
        return server.url
    return ""


@pytest.fixture
async def made_on_redis(
    broker_url: str, limits: Limits, listener: RecordingListener, skew_ms: Callable[[], int]
) -> AsyncIterator[RedisBroker | None]:
    """A broker on the servers of this case; None where it needs none."""
    if not broker_url:
        yield None
        return
    made = RedisBroker(parse_address(broker_url), f"t{secrets.token_hex(4)}", limits, skew_ms=skew_ms)
    await made.open(listener)
    yield made
    await made.close()


@pytest.fixture
async def broker(
    made_on_redis: RedisBroker | None, clock: FakeClock, limits: Limits, listener: RecordingListener
) -> AsyncIterator[MemoryBroker | RedisBroker]:
    """An open broker with the presence store it implements."""
    if made_on_redis is not None:
        yield made_on_redis
        return
    made = MemoryBroker(clock, limits)
    await made.open(listener)
    yield made
    await made.close()


@pytest.fixture
def presence(broker: MemoryBroker | RedisBroker) -> PresenceStore:
    return broker


@pytest.fixture
def tickets(
    made_on_redis: RedisBroker | None, clock: FakeClock, limits: Limits, skew_ms: Callable[[], int]
) -> TicketStore:
    if made_on_redis is None:
        return MemoryTicketStore(clock, limits)
    return RedisTicketStore(made_on_redis.servers, made_on_redis.keys, b"k" * 32, skew_ms)


@pytest.fixture
def proofs(made_on_redis: RedisBroker | None, clock: FakeClock, limits: Limits) -> ProofStore:
    if made_on_redis is None:
        return MemoryProofStore(clock, limits)
    return RedisProofStore(made_on_redis.servers, made_on_redis.keys)


@pytest.fixture
def nodes(made_on_redis: RedisBroker | None, clock: FakeClock, skew_ms: Callable[[], int]) -> MemoryNodes | RedisNodes:
    return MemoryNodes(clock) if made_on_redis is None else RedisNodes(made_on_redis, skew_ms)


@pytest.fixture
def calls(nodes: MemoryNodes | RedisNodes) -> CallStore:
    return nodes


@pytest.fixture
def revoked(
    made_on_redis: RedisBroker | None, clock: FakeClock, skew_ms: Callable[[], int]
) -> Callable[[Limits], RevocationStore]:
    """Makes stores with limits of their own; those on Redis are all of one."""

    def make(limits: Limits) -> RevocationStore:
        if made_on_redis is None:
            return MemoryRevocationStore(clock, limits)
        return RedisRevocationStore(made_on_redis, b"k" * 32, limits, skew_ms)

    return make


@pytest.fixture
def occupancy(made_on_redis: RedisBroker | None, clock: FakeClock, skew_ms: Callable[[], int]) -> OccupancyStore:
    if made_on_redis is None:
        return MemoryOccupancy(clock)
    return RedisOccupancy(made_on_redis.servers, made_on_redis.keys, skew_ms)
