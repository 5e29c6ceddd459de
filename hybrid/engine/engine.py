"""The engine of one process: what the transports and the web layer talk to.

It wires the parts and decides nothing that one of them could decide: sessions follow `protocol.session`, delivery is
the hub's, rights are `auth`'s, bounds are `limits`'.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVarTuple

from hybrid.auth.door import Door
from hybrid.auth.dpop import ProofDesk, ProofStore
from hybrid.auth.hooks import Asked, AuthoriseHook
from hybrid.auth.policy import Policy
from hybrid.auth.revocation import Revocations, RevocationStore, RevocationVerifier
from hybrid.auth.tickets import TicketOffice, TicketStore
from hybrid.auth.verifier import TokenVerifier
from hybrid.broker.base import Appended, Broker, CallStore, NodeStore, PresenceStore
from hybrid.clock import Clock
from hybrid.engine.calls import Calls
from hybrid.engine.census import Census
from hybrid.engine.counts import FRESH, REBUILT, RESUMED, Counts
from hybrid.engine.encodings import Encoding
from hybrid.engine.farewells import Farewells
from hybrid.engine.feed import Started
from hybrid.engine.flight import Bodies, SlowLinks
from hybrid.engine.heartbeat import Heartbeats
from hybrid.engine.holders import Holder
from hybrid.engine.hub import Hub
from hybrid.engine.identification import Identification
from hybrid.engine.intake import Intake
from hybrid.engine.lag import Lag
from hybrid.engine.leaving import Leaving
from hybrid.engine.leg import StreamLeg
from hybrid.engine.local import LocalReader
from hybrid.engine.locate import Located
from hybrid.engine.management import Management
from hybrid.engine.nodes import NodeInfo, Nodes
from hybrid.engine.observer import NOBODY, Observer
from hybrid.engine.operations import SERVER, NamespaceOptions, Operations, PublishRequest, to_json
from hybrid.engine.orders import Orders
from hybrid.engine.poll import Collected
from hybrid.engine.polled import PolledLeg
from hybrid.engine.polling import Polling
from hybrid.engine.presence import PresenceKeeper
from hybrid.engine.rates import Rates
from hybrid.engine.recheck import Recheck, Rechecker
from hybrid.engine.registry import Registry
from hybrid.engine.revoking import Revoked, Revoking, one_of
from hybrid.engine.router import NODE_ID_BYTES, Router
from hybrid.engine.runner import SessionRunner, SessionWatch
from hybrid.engine.steward import Steward
from hybrid.engine.tasks import Tasks
from hybrid.engine.transport_counts import TransportCounts
from hybrid.engine.wait import Wait
from hybrid.engine.wheel import Wheel
from hybrid.errors import BrokerError
from hybrid.limits import Limits
from hybrid.model import Position, Principal
from hybrid.protocol.commands import Attach, Poll
from hybrid.protocol.control import CONTROL_KEY_BYTES
from hybrid.protocol.pushes import Attached, Push
from hybrid.protocol.seal import SEAL_KEY_BYTES, Sealer
from hybrid.protocol.session import Session

_Arguments = TypeVarTuple("_Arguments")
BROKER_PATIENCE_S = 2.0
"""How long a request is held for a broker that is away; a stream waits longer, it has nobody else to ask."""
ANSWER_MAX_BYTES = 262_144
"""Publications in one answer: as much as one page of history; the next poll continues."""


class Engine:
    """See the module's text. `start` before use, `drain` and `close` at the end."""

    def __init__(
        self,
        *,
        broker: Broker,
        presence_store: PresenceStore,
        ticket_store: TicketStore,
        node_store: NodeStore,
        call_store: CallStore,
        proof_store: ProofStore,
        revocation_store: RevocationStore,
        verifier: TokenVerifier,
        namespace_for: Callable[[str], NamespaceOptions | None],
        allows_anonymous: bool,
        limits: Limits,
        clock: Clock,
        authorise: AuthoriseHook | None = None,
        asked: Asked | None = None,
        seal_key: bytes | None = None,
        control_key: bytes | None = None,
        rechecker: Rechecker | None = None,
        observer: Observer = NOBODY,
        version: str = "",
        address: str = "",
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """`authorise` is asked at every gate, `asked` where a namespace says "hook", `rechecker` now and then about the
        tokens of introspected principals.

        The keys are those that all nodes share; None draws some, for a process that is alone.

        `draw` gives a number between two others: when whoever is refused is to come back.
        """
        self.observer = observer
        self.limits = limits
        self.clock = clock
        self.broker = broker
        self.revocations = Revocations(limits, clock, draw)
        self.revocations.is_known = not revocation_store.is_shared
        judge = RevocationVerifier(verifier, self.revocations)
        self.token_outcomes = judge.outcomes
        """How tokens were judged, by outcome."""
        self.allows_anonymous = allows_anonymous
        self.tasks = Tasks()
        self.wheel = Wheel(clock)
        self.hub = Hub(
            broker,
            limits,
            clock,
            self.wheel,
            tells_presence=self._tells_presence,
            may_deflate=self._may_deflate,
            observer=observer,
        )
        self._namespace_for = namespace_for
        self.heartbeats = Heartbeats(clock)
        policy = Policy(namespace_for, authorise, self.revocations, asked)
        self.rates = Rates(limits, clock)
        self.lag = Lag(limits)
        self.counts = Counts()
        self.operations = self.make_operations(
            broker, presence_store, policy, namespace_for, limits, clock, self.rates, self.counts
        )
        self.presence = PresenceKeeper(presence_store, self.wheel, self.tasks)
        self.registry = Registry(limits.sessions_max, draw)
        self.tickets = TicketOffice(ticket_store, clock, self.revocations)
        self.door = Door(limits)
        self.proofs = ProofDesk(proof_store, clock)
        self.sealer = Sealer(seal_key or secrets.token_bytes(SEAL_KEY_BYTES))
        self.polling = Polling(self)
        self.farewells = Farewells(clock)
        self.open = Census()
        self.slow = SlowLinks(limits, self.call_soon, self.counts.limits)
        self.bodies = Bodies(limits)
        self.transport_counts = TransportCounts(self.wheel)
        self._version = version
        self._address = address
        self.router = Router(
            secrets.token_urlsafe(NODE_ID_BYTES),
            node_store,
            control_key or secrets.token_bytes(CONTROL_KEY_BYTES),
            self.registry,
            limits,
            clock,
            self.tasks,
            self.revocations,
        )
        self.revoking = Revoking(
            revocation_store,
            self.revocations,
            limits,
            clock,
            self.wheel,
            self.tasks,
            holders=self._holders,
        )
        self.recheck = Recheck(rechecker, limits, clock, self.wheel, self.tasks, holders=self._holders)
        self.nodes = Nodes(
            self.router.node,
            node_store,
            self.wheel,
            self.tasks,
            describe=self.describe,
            heard=self.router.heard,
            lost=self.presence.rejoin,
        )
        self.leaving = Leaving(limits, self.open, self.registry, self.presence, self.nodes, self.tasks)
        self.intake = Intake(
            limits,
            clock,
            census=self.open,
            lag=self.lag,
            rates=self.rates,
            registry=self.registry,
            counts=self.counts,
            revocations=self.revocations,
            leaving=self.leaving,
            draw=draw,
        )
        self.identification = Identification(judge, self.proofs, self.rates, self.intake)
        self.calls = Calls(limits, clock, self.tasks, call_store, self.nodes)
        orders = self.router.orders = Orders(self.nodes, limits, self.tasks, self.router.tell)
        orders.carry_out = Steward(self, draw).carry_out
        self.manage = Management(self, orders)
        """For whoever manages the server: all its nodes, their sessions and channels."""
        self.ticket_streams = self.router.ticket_streams
        self.local_readers: set[LocalReader] = set()
        self.session_watch: SessionWatch | None = None
        self._started_s = clock.wall_s()
        self._has_started = False
        self._has_closed = False

    def make_operations(self, *parts: Any) -> Operations:
        """Called once, by `__init__`: for a subclass that has others."""
        return Operations(*parts)

    # -- life

    async def start(self) -> None:
        """Connect to the broker, join the nodes and learn what was revoked; a broker that is away is awaited.

        No token is accepted before that is known. Once only: again it does nothing.

        Raises SettingsError where what the broker keeps can never be used; it is to be closed then.
        """
        if self._has_started:
            return
        self._has_started = True
        self.lag.start()
        await self.hub.open()
        await asyncio.gather(self.nodes.start(), self.revoking.start())
        self.recheck.start()
        self.presence.start()

    async def close(self) -> None:
        """Release everything; safe to call twice. Links that are still open are aborted."""
        self._has_closed = True
        self.end_local_readers()
        self.transport_counts.tell()
        self.lag.close()
        self.abort_all()
        await self.tasks.close()
        await self.nodes.leave()
        await self.hub.close()
        self.wheel.close()
        await self.verifier.close()

    @property
    def verifier(self) -> TokenVerifier:
        """Who says whom tokens speak for; another one may take its place before anybody is served."""
        return self.identification.verifier

    @verifier.setter
    def verifier(self, verifier: TokenVerifier) -> None:
        self.identification.verifier = verifier

    @property
    def is_serving(self) -> bool:
        """From `start` to `close`."""
        return self._has_started and not self._has_closed

    @property
    def has_closed(self) -> bool:
        """Whether it is over: an engine serves once."""
        return self._has_closed

    def end_local_readers(self) -> None:
        """Let everybody who reads a channel inside this process come to the end."""
        for reader in list(self.local_readers):
            reader.close()

    async def drain(self, grace_s: float) -> None:
        """See `Leaving.drain`."""
        await self.leaving.drain(grace_s)

    def abort_all(self) -> int:
        """Abort every open link; how many there were."""
        return self.leaving.abort_all()

    # -- what waits for the broker

    def patient_until_s(self) -> float:
        """Until when, on the loop's clock, a request that begins now is held for a broker that is away."""
        return asyncio.get_running_loop().time() + BROKER_PATIENCE_S

    async def locate(
        self, channel: str, position: Position | None, history: int, until_s: float | None = None
    ) -> Located:
        """`Hub.locate`, but not for ever: raises BrokerError when the broker is away. Cancel-safe.

        `until_s` is the `patient_until_s` of a request that locates several.
        """
        try:
            async with asyncio.timeout_at(self.patient_until_s() if until_s is None else until_s):
                return await self.hub.locate(channel, position, history)
        except TimeoutError:
            raise BrokerError(retry_after_s=1.0) from None

    @contextmanager
    def warmed(self, principal: Principal | None, channels: Sequence[str]) -> Iterator[None]:
        """While inside, all of these that the principal may read are on their way to be followed here, together.

        Otherwise 256 cold channels of one attach would each wait for the broker before the next one asks it.
        """
        held = []
        if principal is not None and len(channels) > 1:
            for name in channels:
                if self.operations.may_subscribe(principal, name):
                    channel = self.hub.channel(name)
                    channel.hold()
                    held.append(channel)
        try:
            yield
        finally:
            for channel in held:
                channel.release()

    def at_hand(self, positions: Mapping[str, Position], *, encoding: Encoding, wait_s: float) -> Collected | None:
        """What `collect` would answer, if that is known now."""
        return self.hub.at_hand(positions, encoding=encoding, wait_s=wait_s, max_bytes=ANSWER_MAX_BYTES)

    def collect(
        self, positions: Mapping[str, Position], *, encoding: Encoding, wait_s: float, wait: Wait
    ) -> Coroutine[Any, Any, Collected]:
        """`Hub.collect` for one answer, but not for ever: raises BrokerError when the broker is away. Cancel-safe."""
        return self.hub.collect(
            positions,
            encoding=encoding,
            wait_s=wait_s,
            max_bytes=ANSWER_MAX_BYTES,
            wait=wait,
            max_s=wait_s + BROKER_PATIENCE_S,
        )

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

    def attach_polled(
        self, leg: PolledLeg, principal: Principal, attach: Attach, *, is_counted: bool = True
    ) -> tuple[SessionRunner, Attached]:
        """Attach a polled leg; the caller writes the answer. `is_counted`: as a new leg of its transport.

        Raises HybridError.
        """
        runner, attached = self._attach(leg, principal, attach)
        if not is_counted:
            leg.tried = None
        runner.carry_out()
        return runner, attached

    def adopt_polled(self, leg: PolledLeg, principal: Principal, poll: Poll) -> SessionRunner:
        """Know a polled session, that another node began, under its own id: its seal has proved that it is one.

        Raises HybridError.
        """
        self.intake.check_room()
        self.revocations.check(principal)
        runner = SessionRunner(self, Session(poll.session, principal, self.limits))
        self.registry.add(runner)
        runner.attach(leg, principal, Attach(attempt=poll.attempt, confirm=True), is_resumed=False)
        leg.tried = None  # it was counted where it began
        runner.carry_out()
        return runner

    def _attach(
        self, leg: StreamLeg | PolledLeg, principal: Principal, attach: Attach
    ) -> tuple[SessionRunner, Attached]:
        self.intake.check_room()
        # None more: it is counted already, a stream since it is open and a poll while it may wait.
        self.intake.check_share(principal, 0)
        self.intake.check_subscriptions(attach.subscriptions)
        self.intake.check_lasting(principal)  # between the door and here it may have waited, and nobody could end it
        runner = None
        if attach.session and self.router.is_ours(attach.session):  # elsewhere, commands would not find its stream
            runner = self.registry.find(attach.session, principal)
        if runner is not None and runner.session.backlog is not None and runner.session.backlog.has_overflowed:
            runner.end("replaced")  # pushes were given up: only a fresh session can be told the whole truth
            runner = None
        is_resumed = runner is not None
        if runner is None:
            session = Session(self.router.new_session_id(), principal, self.limits)
            runner = SessionRunner(self, session, former=attach.session or "")
            self.registry.add(runner)
        outcome = RESUMED if is_resumed else REBUILT if attach.session else FRESH
        self.counts.attaches[leg.transport, outcome] += 1
        return runner, runner.attach(leg, principal, attach, is_resumed=is_resumed)

    # -- for the embedding application

    async def publish(self, channel: str, data: Any, *, type: str | None = None, key: str | None = None) -> Appended:
        """Publish any JSON-able value, or bytes, on behalf of the server itself. Raises HybridError."""
        form = "bytes" if isinstance(data, bytes) else "json"
        raw = data if isinstance(data, bytes) else to_json(data)
        return await self.operations.publish(
            SERVER, PublishRequest(channel=channel, data=raw, form=form, type=type, key=key)
        )

    async def read_locally(
        self, channel: str, position: Position | None, history: int, max_bytes: int
    ) -> tuple[LocalReader, Started]:
        """Read a channel on behalf of the server itself, as `Feed.add` begins it. Close the reader at the end.

        Raises ChannelError `forbidden` where the channel has no namespace. Waits for a broker that is away.
        """
        self.operations.namespace(channel)
        reader = LocalReader(self.hub, channel, max_bytes, self.local_readers.discard)
        self.local_readers.add(reader)
        try:
            return reader, await reader.start(position, history)
        except BaseException:
            reader.close()
            raise

    async def revoke(
        self,
        *,
        issuer: str,
        jti: str | None = None,
        sid: str | None = None,
        subject: str | None = None,
        client: str | None = None,
    ) -> Revoked:
        """Refuse tokens of an issuer from now on, on all nodes, and end what they hold open: see `auth.revocation`.

        Exactly one of the four is given. It returns when it is done at this node; the others follow within moments.
        Raises ProtocolError bad_request; LimitError `revocations_max`; BrokerError, and then it may have taken effect:
        again does no harm. Cancelling it leaves the outcome unknown.
        """
        kind, value = one_of({"jti": jti, "sid": sid, "subject": subject, "client": client})
        return await self.revoking.revoke(kind, issuer, value)

    def call_soon(self, callback: Callable[[*_Arguments], object], *arguments: *_Arguments) -> None:
        """Call after what is running now."""
        asyncio.get_running_loop().call_soon(callback, *arguments)

    def _tells_presence(self, channel: str) -> bool:
        namespace = self._namespace_for(channel)
        return namespace is not None and namespace.join_leave

    def _may_deflate(self, channel: str) -> bool:
        namespace = self._namespace_for(channel)
        return namespace is not None and namespace.compression

    def _holders(self) -> Iterator[Holder]:
        """All that is open here, and what is kept for who comes back."""
        yield from self.registry.runners()
        yield from self.open.streams()
        yield from self.open.waiting()

    def describe(self) -> NodeInfo:
        """What this node says of itself."""
        streams = len(self.open)
        return NodeInfo(
            id=self.router.node,
            version=self._version,
            address=self._address,
            streams=streams,
            room=max(0, self.limits.links_max - streams),
            accepts_per_s=self.limits.accepts_per_s,
            is_draining=self.leaving.has_begun,
            sessions=len(self.registry),
            channels=self.hub.channel_count,
            started_s=self._started_s,
        )
