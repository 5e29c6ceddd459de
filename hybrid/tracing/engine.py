"""The engine with spans around what clients wait for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hybrid.broker.base import Appended, Broker
from hybrid.engine.engine import Engine
from hybrid.engine.leg import StreamLeg
from hybrid.engine.operations import Operations, PublishRequest
from hybrid.engine.polled import PolledLeg
from hybrid.engine.runner import SessionRunner
from hybrid.errors import HybridError
from hybrid.model import Principal
from hybrid.protocol.commands import Attach
from hybrid.protocol.pushes import Attached
from hybrid.tracing.broker import TracedBroker
from hybrid.tracing.spans import Spans, Value, all_refused


class TracedOperations(Operations):
    """Publishing in spans."""

    spans: Spans

    async def publish_many(
        self, principal: Principal, requests: Sequence[PublishRequest], *, address: str = ""
    ) -> list[Appended | HybridError]:
        """See `Operations.publish_many`."""
        attributes: dict[str, Value] = {
            "messaging.system": "hybrid",
            "messaging.operation.type": "send",
            "messaging.batch.message_count": len(requests),
        }
        if len(requests) == 1:
            attributes["messaging.destination.name"] = requests[0].channel
        with self.spans.span("publish", "producer", attributes) as span:
            results = await super().publish_many(principal, requests, address=address)
            all_refused(span, results)
            return results


class TracedEngine(Engine):
    """Attaching in spans, too. On a WebSocket a command begins a trace of its own: there is no request around it."""

    def __init__(self, *, spans: Spans, broker: Broker, **parts: Any) -> None:
        """The other parts are those of `Engine`."""
        self._spans = spans
        super().__init__(broker=TracedBroker(broker, spans), **parts)

    def make_operations(self, *parts: Any) -> Operations:
        """See `Engine.make_operations`."""
        operations = TracedOperations(*parts)
        operations.spans = self._spans
        return operations

    def attach(self, leg: StreamLeg, principal: Principal, attach: Attach) -> None:
        """See `Engine.attach`."""
        with self._spans.span("attach", "server", self._described(leg.transport, attach)) as span:
            super().attach(leg, principal, attach)
            if leg.runner is not None:
                span.set_attribute("session.id", leg.runner.session.id)

    def attach_polled(
        self, leg: PolledLeg, principal: Principal, attach: Attach, *, is_counted: bool = True
    ) -> tuple[SessionRunner, Attached]:
        """See `Engine.attach_polled`."""
        with self._spans.span("attach", "internal", self._described(leg.transport, attach)) as span:
            runner, attached = super().attach_polled(leg, principal, attach, is_counted=is_counted)
            span.set_attribute("session.id", runner.session.id)
            return runner, attached

    def _described(self, transport: str, attach: Attach) -> dict[str, Value]:
        return {
            "hybrid.transport": transport,
            "hybrid.attempt": attach.attempt,
            "hybrid.channels": len(attach.subscriptions),
        }
