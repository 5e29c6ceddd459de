"""A broker whose answers are waited for in spans. What it tells by itself is in none: nobody waits for that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hybrid.broker.base import Append, Appended, Broker, BrokerHealth, BrokerListener, Page
from hybrid.errors import BrokerError
from hybrid.model import Position
from hybrid.tracing.spans import Spans, Value, all_refused

_CHANNEL: Final = "messaging.destination.name"
_COUNT: Final = "messaging.batch.message_count"


class TracedBroker:
    """Implements `Broker` by another one."""

    def __init__(self, inner: Broker, spans: Spans) -> None:
        self._inner = inner
        self._spans = spans

    async def open(self, listener: BrokerListener) -> None:
        """See `Broker.open`."""
        await self._inner.open(listener)

    async def close(self) -> None:
        """See `Broker.close`."""
        await self._inner.close()

    async def health(self) -> BrokerHealth:
        """See `Broker.health`."""
        return await self._inner.health()

    async def append(self, appends: Sequence[Append]) -> list[Appended | BrokerError]:
        """See `Broker.append`."""
        attributes: dict[str, Value] = {_COUNT: len(appends)}
        if len(appends) == 1:
            attributes[_CHANNEL] = appends[0].channel
        with self._spans.span("broker append", "client", attributes) as span:
            results = await self._inner.append(appends)
            all_refused(span, results)
            return results

    async def subscribe(self, channel: str) -> None:
        """See `Broker.subscribe`."""
        with self._spans.span("broker subscribe", "client", {_CHANNEL: channel}):
            await self._inner.subscribe(channel)

    async def unsubscribe(self, channel: str) -> None:
        """See `Broker.unsubscribe`."""
        await self._inner.unsubscribe(channel)

    async def heads(self, channels: Sequence[str]) -> list[Position]:
        """See `Broker.heads`."""
        with self._spans.span("broker heads", "client", {"hybrid.channels": len(channels)}):
            return await self._inner.heads(channels)

    async def read(self, channel: str, after: Position, *, limit: int, max_bytes: int) -> Page:
        """See `Broker.read`."""
        with self._spans.span("broker read", "client", {_CHANNEL: channel}) as span:
            page = await self._inner.read(channel, after, limit=limit, max_bytes=max_bytes)
            span.set_attribute(_COUNT, len(page.publications))
            return page

    async def purge(self, channel: str) -> Position:
        """See `Broker.purge`."""
        with self._spans.span("broker purge", "client", {_CHANNEL: channel}):
            return await self._inner.purge(channel)

    async def history(self, channel: str, *, limit: int, max_bytes: int, is_reverse: bool) -> Page:
        """See `Broker.history`."""
        with self._spans.span("broker history", "client", {_CHANNEL: channel}) as span:
            page = await self._inner.history(channel, limit=limit, max_bytes=max_bytes, is_reverse=is_reverse)
            span.set_attribute(_COUNT, len(page.publications))
            return page
