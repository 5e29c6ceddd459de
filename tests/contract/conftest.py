"""The brokers that every contract case runs on. A further one is one more parameter, and its own way to be made."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from hybrid.broker.base import PresenceStore
from hybrid.broker.memory import MemoryBroker
from hybrid.broker.memory_tickets import MemoryTicketStore
from hybrid.limits import Limits
from tests.support.clock import FakeClock
from tests.support.listeners import RecordingListener

BROKERS = ["memory"]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def limits() -> Limits:
    return Limits()


@pytest.fixture
def listener() -> RecordingListener:
    return RecordingListener()


@pytest.fixture(params=BROKERS)
async def broker(clock: FakeClock, limits: Limits, listener: RecordingListener) -> AsyncIterator[MemoryBroker]:
    """An open broker with the presence store it implements."""
    made = MemoryBroker(clock, limits)
    await made.open(listener)
    yield made
    await made.close()


@pytest.fixture
def presence(broker: MemoryBroker) -> PresenceStore:
    return broker


@pytest.fixture(params=BROKERS)
def tickets(clock: FakeClock, limits: Limits) -> MemoryTicketStore:
    return MemoryTicketStore(clock, limits)
