"""Carries orders out on what this node has: its sessions, its streams, its channels.

Each is one pass over all that is here, in slices, as a pass that ends what was revoked is.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from hybrid.engine.holders import Holder, sliced
from hybrid.engine.leg import StreamLeg
from hybrid.engine.link import address_of
from hybrid.engine.polled import PolledLeg
from hybrid.engine.stats import Stats
from hybrid.errors import HybridError
from hybrid.protocol import orders
from hybrid.protocol.states import SessionState

if TYPE_CHECKING:
    from hybrid.engine.engine import Engine
    from hybrid.engine.runner import SessionRunner


class Steward:
    """See the module's text. One per process."""

    def __init__(self, engine: Engine, draw: Callable[[float, float], float]) -> None:
        """`draw` gives a number between two others: when whoever is sent away is to come back."""
        self._engine = engine
        self._draw = draw
        self._stats = Stats(engine)

    async def carry_out(self, order: orders.AnyOrder) -> Any:
        """What the order is answered with. Raises HybridError."""
        match order:
            case orders.Subscribe():
                return await self._subscribe(order)
            case orders.Unsubscribe():
                sessions = sliced(self._sessions(order.target))
                return orders.Assigned(sum([runner.unsubscribe(order.channel) async for runner in sessions]))
            case orders.Disconnect():
                return await self._disconnect(order)
            case orders.ListChannels():
                return await self._channels(order)
            case orders.CountChannel():
                return self._engine.hub.listeners_of(order.channel)
            case orders.ListSessions():
                return await self._list(order)
            case orders.LookSession():
                runner = self._engine.registry.get(order.session)
                is_there = runner is not None and orders.is_of(runner.session.principal, order.issuer)
                return orders.SessionPage(
                    [self._info(runner, with_channels=True)] if is_there and runner is not None else []
                )
            case orders.Measure():
                return await self._stats.read()
            case orders.Drain():
                streams = len(self._engine.open)
                self._engine.leaving.begin()
                return streams

    # -- sessions

    def _sessions(self, target: orders.Target) -> Iterator[SessionRunner]:
        if target.session is not None:
            runner = self._engine.registry.get(target.session)
            runners = [] if runner is None else [runner]
        else:
            runners = self._engine.registry.runners()
        for runner in runners:
            session = runner.session
            if session.state is not SessionState.CLOSED and target.matches(session.principal, session.id):
                yield runner

    async def _subscribe(self, order: orders.Subscribe) -> orders.Assigned:
        told = unchanged = refused = 0
        async for runner in sliced(self._sessions(order.target)):
            try:
                is_news = runner.invite(order.channel, order.position)
            except HybridError:
                refused += 1
            else:
                told, unchanged = told + is_news, unchanged + (not is_news)
        return orders.Assigned(told, unchanged, refused)

    async def _disconnect(self, order: orders.Disconnect) -> orders.Disconnected:
        sessions = streams = 0
        async for runner in sliced(self._sessions(order.target)):
            sessions += self._send_away(runner, order)
        if order.target.session is None:
            engine = self._engine
            others: list[Holder] = [*engine.open.streams(), *engine.open.waiting()]
            async for holder in sliced(others):
                if any(map(order.target.matches, holder.principals())):
                    streams += self._send_away(holder, order)
        return orders.Disconnected(sessions, streams)

    def _send_away(self, holder: Holder, order: orders.Disconnect) -> bool:
        if not order.reconnect:
            return holder.send_away("dismissed", reason=order.reason, delay_ms=0)
        # Those who are sent away together must not come back together.
        later_ms = self._draw(0, self._engine.limits.reconnect_delay_max_ms)
        return holder.send_away("disconnected", reason=order.reason, delay_ms=round(order.delay_s * 1000 + later_ms))

    async def _list(self, order: orders.ListSessions) -> orders.SessionPage:
        found: dict[str, SessionRunner] = {}
        async for runner in sliced(self._engine.registry.runners()):
            if self._belongs(runner, order):
                found[runner.session.id] = runner
        ids = heapq.nsmallest(order.limit + 1, found)
        return orders.SessionPage(
            [self._info(found[session]) for session in ids[: order.limit]], len(ids) > order.limit
        )

    def _belongs(self, runner: SessionRunner, order: orders.ListSessions) -> bool:
        session, principal = runner.session, runner.session.principal
        return (
            session.id > order.after
            and session.state not in (SessionState.CLOSED, SessionState.NEW)
            and orders.is_of(principal, order.issuer)
            and order.subject in (None, principal.subject)
            and order.client in (None, principal.client)
            and order.transport in (None, _transport(runner))
            and (order.channel is None or order.channel in runner.channels())
        )

    def _info(self, runner: SessionRunner, *, with_channels: bool = False) -> orders.SessionInfo:
        leg, principal = runner.session.current, runner.session.principal
        address, attached_s, buffered = "", 0.0, 0
        if isinstance(leg, StreamLeg):
            address, attached_s, buffered = address_of(leg.link.peer), leg.opened_s, leg.link.buffered()
        elif isinstance(leg, PolledLeg):
            address, attached_s = leg.address, leg.attached_s
        clock, channels = self._engine.clock, runner.channels()
        return orders.SessionInfo(
            session=runner.session.id,
            node=self._engine.router.node,
            transport=_transport(runner),
            issuer=principal.issuer,
            subject=principal.subject,
            client=principal.client,
            address=address,
            since_s=round(clock.wall_s() - clock.monotonic_s() + attached_s, 3) if leg is not None else 0.0,
            channel_count=len(channels),
            channels=channels if with_channels else [],
            buffered=buffered,
        )

    # -- channels

    async def _channels(self, order: orders.ListChannels) -> orders.ChannelPage:
        found: dict[str, int] = {}
        async for name, listeners in sliced(self._engine.hub.listeners()):
            if order.matches(name):
                found[name] = listeners
        names = heapq.nsmallest(order.limit + 1, found)
        return orders.ChannelPage([(name, found[name]) for name in names[: order.limit]], len(names) > order.limit)


def _transport(runner: SessionRunner) -> str:
    leg = runner.session.current
    return leg.transport if isinstance(leg, StreamLeg | PolledLeg) else ""
