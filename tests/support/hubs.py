"""A hub on a broker that can fail, in virtual time."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hybrid.engine.channel import Channel
from hybrid.engine.hub import Hub
from hybrid.limits import Limits
from tests.support.faulty_broker import FaultyBroker
from tests.support.virtual_time import clock


class Stage:
    """What a test of the hub has at hand."""

    def __init__(self, limits: Limits, history_size: int) -> None:
        self.limits = limits
        self.broker = FaultyBroker(history_size)
        self.hub = Hub(self.broker, limits, clock())

    def channel(self, name: str = "a") -> Channel:
        """The hub's own channel, to look into."""
        return self.hub._channels[name]

    def publish(self, count: int = 1, channel: str = "a", data: bytes = b"1") -> None:
        for _ in range(count):
            self.broker.publish(channel, data)


@asynccontextmanager
async def staged(limits: Limits | None = None, history_size: int = 1_000) -> AsyncIterator[Stage]:
    """An open hub, closed at the end."""
    stage = Stage(limits or Limits(), history_size)
    await stage.hub.open()
    try:
        yield stage
    finally:
        await stage.hub.close()


def offsets(payloads: list[bytes]) -> list[int]:
    """The offsets in session or plain JSON payloads; resets count as negative ones."""
    found: list[int] = []
    for payload in payloads:
        if payload.startswith(b"reset "):
            found.append(-int(payload.split()[-1]))
        else:
            body = json.loads(payload)
            found.append(body.get("publication", body)["offset"])
    return found
