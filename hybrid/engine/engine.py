"""The engine of one process: what the transports and the web layer talk to.

It wires the parts and decides nothing that one of them could decide: sessions follow `protocol.session`, delivery is
the hub's, rights are `auth`'s, bounds are `limits`'.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVarTuple

import msgspec

from hybrid.auth.door import Door
from hybrid.auth.policy import Policy
from hybrid.auth.tickets import TicketOffice, TicketStore
from hybrid.auth.verifier import TokenVerifier
from hybrid.broker.base import Appended, Broker, PresenceStore
from hybrid.clock import Clock
from hybrid.engine.calls import Calls
from hybrid.engine.census import Census
from hybrid.engine.encodings import Encoding
from hybrid.engine.heartbeat import Heartbeats
from hybrid.engine.hub import Hub
from hybrid.engine.leg import StreamLeg
from hybrid.engine.locate import Located
from hybrid.engine.operations import SERVER, NamespaceOptions, Operations, PublishRequest, to_json
from hybrid.engine.plain import PlainStream
from hybrid.engine.poll import Collected
from hybrid.engine.polled import PolledLeg
from hybrid.engine.polling import Polling
from hybrid.engine.presence import PresenceKeeper
from hybrid.engine.registry import Registry
from hybrid.engine.runner import SessionRunner
from hybrid.engine.tasks import Tasks
from hybrid.engine.wheel import Wheel
from hybrid.errors import AuthError, BrokerError, LimitError, ProtocolError
from hybrid.limits import Limits
from hybrid.model import Position, Principal
from hybrid.protocol.commands import Attach, AttachSubscription
from hybrid.protocol.pushes import Attached, Push
from hybrid.protocol.seal import SEAL_KEY_BYTES, Sealer
from hybrid.protocol.session import Session, SessionLeg

_log = logging.getLogger(__name__)
_Arguments = TypeVarTuple("_Arguments")
BROKER_PATIENCE_S = 2.0
"""How long a request is held for a broker that is away; a stream waits longer, it has nobody else to ask."""
ANSWER_MAX_BYTES = 262_144
"""Publications in one answer: as much as one page of history; the next poll continues."""
_NAMED_BYTES = 120  # what an attach says of a channel beside its name: the longest position and its punctuation
_ENVELOPE_BYTES = 512
_DRAIN_BATCH = 200  # goodbyes between two looks at other work


class Engine:
    """See the module's text. `start` before use, `drain` and `close` at the end."""

    def __init__(
        self,
        *,
        broker: Broker,
        presence_store: PresenceStore,
        ticket_store: TicketStore,
        verifier: TokenVerifier,
        namespace_for: Callable[[str], NamespaceOptions | None],
        allows_anonymous: bool,
        limits: Limits,
        clock: Clock,
        seal_key: bytes | None = None,
    ) -> None:
        self.limits = limits
        self.clock = clock
        self.broker = broker
        self.verifier = verifier
        self.allows_anonymous = allows_anonymous
        self.tasks = Tasks()
        self.wheel = Wheel(clock)
        self.hub = Hub(broker, limits, clock, self.wheel, tells_presence=self._tells_presence)
        self._namespace_for = namespace_for
        self.heartbeats = Heartbeats(clock)
        self.operations = Operations(broker, presence_store, Policy(namespace_for), namespace_for, limits, clock)
        self.calls = Calls(limits, clock, self.tasks)
        self.presence = PresenceKeeper(presence_store, self.wheel, self.tasks)
        self.registry = Registry(limits.sessions_max)
        self.tickets = TicketOffice(ticket_store, clock)
        self.door = Door(limits)
        self.sealer = Sealer(seal_key or secrets.token_bytes(SEAL_KEY_BYTES))
        self.polling = Polling(self)
        self.open = Census()
        self.ticket_streams: dict[bytes, PlainStream] = {}
        self.is_draining = False

    # -- life

    async def start(self) -> None:
        """Connect to the broker. Raises BrokerError."""
        await self.hub.open()

    async def close(self) -> None:
        """Release everything; safe to call twice. Links that are still open are aborted."""
        self._abort_all()
        await self.tasks.close()
        await self.hub.close()
        self.wheel.close()
        await self.verifier.close()

    async def drain(self, grace_s: float) -> None:
        """Tell every client to come back elsewhere, close its link, and abort what is left after `grace_s`.

        Cancelling it aborts at once.
        """
        self.is_draining = True
        for runner in self.registry.runners():
            current = runner.session.current
            if isinstance(current, PolledLeg):
                current.end("draining", delay_ms=self._delay_ms())
            self.presence.settle(runner.session.id)
        self.open.wake_polls()
        try:
            async with asyncio.timeout(grace_s):
                for count, stream in enumerate(self.open.streams()):
                    stream.end("draining", delay_ms=self._delay_ms())
                    if count % _DRAIN_BATCH == _DRAIN_BATCH - 1:
                        await asyncio.sleep(0)
                await self.open.emptied()
        except TimeoutError:
            _log.warning("%d clients did not leave in time and are cut", len(self.open))
        finally:
            self._abort_all()

    def check_room(self) -> None:
        """Raises LimitError or ProtocolError when no new stream can be taken now."""
        if self.is_draining:
            raise ProtocolError("draining", retry_after_s=self._delay_ms() / 1000)
        if len(self.open) >= self.limits.links_max:
            detail = "This server is full (links_max); come back after the delay given."
            raise LimitError("links_max", detail, name="draining", retry_after_s=5.0)

    async def locate(self, channel: str, position: Position | None, history: int) -> Located:
        """`Hub.locate`, but not for ever: raises BrokerError when the broker is away. Cancel-safe."""
        try:
            async with asyncio.timeout(BROKER_PATIENCE_S):
                return await self.hub.locate(channel, position, history)
        except TimeoutError:
            raise BrokerError(retry_after_s=1.0) from None

    async def collect(
        self,
        positions: Mapping[str, Position],
        *,
        encoding: Encoding,
        wait_s: float,
        ended: asyncio.Future[None] | None = None,
    ) -> Collected:
        """`Hub.collect` for one answer, but not for ever: raises BrokerError when the broker is away. Cancel-safe."""
        try:
            async with asyncio.timeout(wait_s + BROKER_PATIENCE_S):
                return await self.hub.collect(
                    positions, encoding=encoding, wait_s=wait_s, max_bytes=ANSWER_MAX_BYTES, ended=ended
                )
        except TimeoutError:
            raise BrokerError(retry_after_s=1.0) from None

    # -- sessions

    def attach(self, leg: StreamLeg, principal: Principal, attach: Attach) -> None:
        """Attach a stream: `attached` goes out on it, and with `confirm` all that follows. Raises HybridError."""
        runner, attached = self._attach(leg, principal, attach)
        leg.runner = runner
        self.wheel.cancel(leg)
        leg.cork()
        leg.push(Push(attached=attached))
        runner.carry_out()
        self.call_soon(leg.uncork)  # behind the recovery, which is done in its first step unless a channel is cold

    def attach_polled(self, leg: PolledLeg, principal: Principal, attach: Attach) -> tuple[SessionRunner, Attached]:
        """Attach a polled leg; the caller writes the answer. Raises HybridError."""
        runner, attached = self._attach(leg, principal, attach)
        runner.carry_out()
        return runner, attached

    def check_subscriptions(self, subscriptions: Sequence[AttachSubscription]) -> None:
        """Raises LimitError or ProtocolError for too many channels, or one twice."""
        most = self.limits.channels_per_session_max
        if len(subscriptions) > most:
            raise LimitError("channels_per_session_max", f"A session has at most {most} channels.")
        if len({wanted.channel for wanted in subscriptions}) != len(subscriptions):
            raise ProtocolError("bad_request", "Each channel may be named once.")

    def check_attachable(self, channels: Sequence[str]) -> None:
        """Raises LimitError when an attach that names these channels would be larger than is taken."""
        if sum(map(len, map(msgspec.json.encode, channels))) + len(channels) * _NAMED_BYTES > (
            self.limits.attach_max_bytes - _ENVELOPE_BYTES
        ):
            raise LimitError("attach_max_bytes", "The names of these channels are too long for one attach.")

    def _attach(self, leg: SessionLeg, principal: Principal, attach: Attach) -> tuple[SessionRunner, Attached]:
        self.check_room()
        self.check_subscriptions(attach.subscriptions)
        if principal.expires_at_s + self.limits.expiry_grace_s <= self.clock.wall_s():
            # The check of tokens allows for clocks that differ, by more than the grace: this session would end at once.
            raise AuthError("token_expired")
        runner = self.registry.find(attach.session, principal) if attach.session else None
        if runner is not None and runner.session.backlog is not None and runner.session.backlog.has_overflowed:
            runner.end("replaced")  # pushes were given up: only a fresh session can be told the whole truth
            runner = None
        is_resumed = runner is not None
        if runner is None:
            runner = SessionRunner(self, Session(secrets.token_urlsafe(16), principal, self.limits))
            self.registry.add(runner)
        return runner, runner.attach(leg, principal, attach, is_resumed=is_resumed)

    # -- for the embedding application

    async def publish(self, channel: str, data: Any, *, type: str | None = None, key: str | None = None) -> Appended:
        """Publish any JSON-able value, or bytes, on behalf of the server itself. Raises HybridError."""
        form = "bytes" if isinstance(data, bytes) else "json"
        raw = data if isinstance(data, bytes) else to_json(data)
        return await self.operations.publish(
            SERVER, PublishRequest(channel=channel, data=raw, form=form, type=type, key=key)
        )

    def call_soon(self, callback: Callable[[*_Arguments], object], *arguments: *_Arguments) -> None:
        """Call after what is running now."""
        asyncio.get_running_loop().call_soon(callback, *arguments)

    def _tells_presence(self, channel: str) -> bool:
        namespace = self._namespace_for(channel)
        return namespace is not None and namespace.join_leave

    def _abort_all(self) -> None:
        for stream in self.open.streams():
            stream.link.abort()

    def _delay_ms(self) -> int:
        return random.randint(0, self.limits.reconnect_delay_max_ms)
