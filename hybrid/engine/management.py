"""What whoever manages the server can ask of it: of all its nodes together, from any of them.

The embedding application calls this as it is, on behalf of the server; over HTTP `transports.management` asks for
scopes first. Every answer says how many nodes it is of, and names those that did not answer in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hybrid.broker.base import Appended
from hybrid.engine.operations import SERVER, PublishRequest, to_json
from hybrid.engine.orders import Gathered, Orders, pages
from hybrid.errors import HybridError, ProtocolError
from hybrid.limits import REASON_MAX_BYTES
from hybrid.protocol import orders
from hybrid.protocol.channels import parse_channel
from hybrid.protocol.cursor import to_wire
from hybrid.protocol.management import (
    DELAY_MAX_S,
    ChannelAnswer,
    ChannelItem,
    ChannelsAnswer,
    DisconnectAnswer,
    DrainAnswer,
    NodeItem,
    NodesAnswer,
    PresenceCounts,
    PurgeAnswer,
    SessionsAnswer,
    StatsAnswer,
    SubscribeAnswer,
    UnsubscribeAnswer,
)

if TYPE_CHECKING:
    from hybrid.engine.engine import Engine

_ALL = ("*",)


class Management:
    """See the module's text. One per process: `engine.manage`.

    `issuer`, wherever it can be given, bounds what is asked to principals of that issuer and to anonymous ones; None:
    it concerns all. Whatever asks other nodes raises BrokerError where these cannot be known.
    """

    def __init__(self, engine: Engine, orders: Orders) -> None:
        self._engine = engine
        self._orders = orders

    # -- publications

    async def broadcast(
        self, channels: Sequence[str], data: Any, *, type: str | None = None, key: str | None = None
    ) -> list[Appended | HybridError]:
        """Publish any JSON-able value, or bytes, to many channels on behalf of the server itself.

        One result for each channel, in order, errors as values. Raises HybridError where nothing was published.
        Cancelling it leaves the outcome of each unknown.
        """
        form = "bytes" if isinstance(data, bytes) else "json"
        raw = data if isinstance(data, bytes) else to_json(data)
        request = PublishRequest(channel="", data=raw, form=form, type=type, key=key)
        return await self._engine.operations.broadcast(SERVER, channels, request)

    async def purge(self, channel: str) -> PurgeAnswer:
        """Empty a channel's history: its readers are told of a reset and go on in a new epoch.

        Raises ProtocolError for a malformed name, ChannelError for one without a namespace, BrokerError. Again does no
        harm, but for what was published meanwhile. Cancelling it leaves the outcome unknown.
        """
        channel = self._checked(channel)
        return PurgeAnswer(channel, to_wire(await self._engine.broker.purge(channel)))

    # -- sessions

    async def subscribe(
        self,
        channel: str,
        *,
        subject: str | None = None,
        client: str | None = None,
        session: str | None = None,
        issuer: str | None = None,
    ) -> SubscribeAnswer:
        """Ask the sessions of a subject, a client, or one session, to subscribe to a channel from now on.

        The clients do so by themselves when they hear of it, and whatever is published meanwhile is not lost to them.
        It permits nothing that their tokens do not. Raises HybridError. Cancelling it leaves the outcome unknown.
        """
        target = self._target(subject, client, session, issuer)
        channel = self._checked(channel)
        [position] = await self._engine.broker.heads([channel])
        gathered = await self._orders.give_all(orders.Subscribe(target, channel, position), orders.Assigned)
        return SubscribeAnswer(
            sessions=sum(answer.sessions for answer in gathered.answers),
            already=sum(answer.unchanged for answer in gathered.answers),
            refused=sum(answer.refused for answer in gathered.answers),
            **_reach(gathered),
        )

    async def unsubscribe(
        self,
        channel: str,
        *,
        subject: str | None = None,
        client: str | None = None,
        session: str | None = None,
        issuer: str | None = None,
    ) -> UnsubscribeAnswer:
        """End the subscriptions of these sessions to a channel, and tell them so.

        Their right to the channel stays as it is. Raises HybridError. Cancelling it leaves the outcome unknown.
        """
        target = self._target(subject, client, session, issuer)
        gathered = await self._orders.give_all(orders.Unsubscribe(target, self._checked(channel)), orders.Assigned)
        return UnsubscribeAnswer(sessions=sum(answer.sessions for answer in gathered.answers), **_reach(gathered))

    async def disconnect(
        self,
        *,
        subject: str | None = None,
        client: str | None = None,
        session: str | None = None,
        issuer: str | None = None,
        reason: str = "",
        reconnect: bool = True,
        delay_s: float = 0.0,
    ) -> DisconnectAnswer:
        """End whatever is open of a subject or a client, or one session.

        With `reconnect` they come back, after `delay_s` and up to `reconnect_delay_max_ms` more, by chance; otherwise
        they are told to stay away, which their tokens do not keep them from: to revoke these, see `Engine.revoke`.
        `reason` is for people. Raises HybridError. Cancelling it leaves the outcome unknown.
        """
        target = self._target(subject, client, session, issuer)
        if len(reason.encode("utf-8", "replace")) > REASON_MAX_BYTES or not (reason.isprintable()):
            raise ProtocolError("bad_request", f"A reason is one line of at most {REASON_MAX_BYTES} bytes.")
        if not 0 <= delay_s <= DELAY_MAX_S:
            raise ProtocolError("bad_request", f"delay_s lies between 0 and {DELAY_MAX_S:g}.")
        gathered = await self._orders.give_all(
            orders.Disconnect(target, reason, reconnect, delay_s), orders.Disconnected
        )
        return DisconnectAnswer(
            sessions=sum(answer.sessions for answer in gathered.answers),
            streams=sum(answer.streams for answer in gathered.answers),
            **_reach(gathered),
        )

    async def sessions(
        self,
        *,
        subject: str | None = None,
        client: str | None = None,
        transport: str | None = None,
        channel: str | None = None,
        issuer: str | None = None,
        after: str = "",
        limit: int = 100,
    ) -> SessionsAnswer:
        """The sessions for which all that is given is true, by their ids, the next `limit` after `after`.

        Raises HybridError. Cancel-safe: reads only.
        """
        limit = self._limit(limit)
        order = orders.ListSessions(limit, after, issuer, subject, client, transport, channel)
        gathered = await self._orders.give_all(order, orders.SessionPage)
        known: dict[str, orders.SessionInfo] = {}
        for page in gathered.answers:
            for info in page.sessions:
                known[info.session] = _later(info, known.get(info.session))
        parts = [([info.session for info in page.sessions], page.has_more) for page in gathered.answers]
        ids, has_more = pages(parts, limit)
        reach = _reach(gathered)
        return SessionsAnswer([known[session] for session in ids], next=ids[-1] if has_more else None, **reach)

    async def session(self, session: str, *, issuer: str | None = None) -> orders.SessionInfo:
        """One session, with the names of its channels.

        Raises ProtocolError `session_unknown`, or `outcome_unknown` where it may be at a node that does not answer.
        Cancel-safe: reads only.
        """
        gathered = await self._orders.give_all(orders.LookSession(session, issuer), orders.SessionPage)
        found: orders.SessionInfo | None = None
        for page in gathered.answers:
            for info in page.sessions:
                found = _later(info, found)
        if found is None:
            if gathered.unanswered:
                raise ProtocolError("outcome_unknown", "A node that may know the session did not answer in time.")
            raise ProtocolError("session_unknown", "There is no such session.")
        return found

    # -- channels

    async def channels(
        self, *, prefix: str = "", patterns: Sequence[str] = _ALL, after: str = "", limit: int = 100
    ) -> ChannelsAnswer:
        """The channels that somebody listens to, by their names, the next `limit` after `after`.

        Only those that begin with `prefix` and match one of `patterns`. Raises HybridError. Cancel-safe: reads only.
        """
        limit = self._limit(limit)
        gathered = await self._orders.give_all(
            orders.ListChannels(list(patterns), limit, prefix, after), orders.ChannelPage
        )
        counts: dict[str, int] = {}
        for page in gathered.answers:
            for name, listeners in page.channels:
                counts[name] = counts.get(name, 0) + listeners
        parts = [([name for name, _ in page.channels], page.has_more) for page in gathered.answers]
        names, has_more = pages(parts, limit)
        items = [ChannelItem(name, counts[name]) for name in names]
        return ChannelsAnswer(items, next=names[-1] if has_more else None, **_reach(gathered))

    async def channel(self, channel: str) -> ChannelAnswer:
        """How many listen to a channel, who is present, and where its log stands.

        Raises ProtocolError for a malformed name, ChannelError for one without a namespace, BrokerError. Cancel-safe:
        reads only.
        """
        channel = self._checked(channel)
        [position] = await self._engine.broker.heads([channel])
        present = None
        if self._engine.operations.namespace(channel).presence:
            counts = await self._engine.operations.count_present(channel)
            present = PresenceCounts(counts.principals, counts.sessions)
        gathered = await self._orders.give_all(orders.CountChannel(channel), int)
        return ChannelAnswer(
            channel=channel,
            subscribers=sum(gathered.answers),
            position=to_wire(position),
            present=present,
            **_reach(gathered),
        )

    # -- nodes

    async def nodes(self) -> NodesAnswer:
        """All nodes, this one first. Raises BrokerError. Cancel-safe: reads only."""
        others = await self._engine.nodes.known_now()
        now_s = self._engine.clock.wall_s()
        return NodesAnswer(
            [
                NodeItem(
                    node=info.id,
                    version=info.version,
                    address=info.address,
                    uptime_s=round(max(0.0, now_s - info.started_s), 1) if info.started_s else None,
                    streams=info.streams,
                    sessions=info.sessions,
                    channels=info.channels,
                    room=info.room,
                    draining=info.is_draining,
                )
                for info in (self._engine.describe(), *others)
            ]
        )

    async def stats(self) -> StatsAnswer:
        """What every node counts, this one first. Raises BrokerError. Cancel-safe: reads only."""
        gathered = await self._orders.give_all(orders.Measure(), orders.NodeStats)
        return StatsAnswer(gathered.answers, gathered.unanswered)

    async def drain(self, node: str) -> DrainAnswer:
        """Have a node take nobody in any more, and send its clients to the others; it stays so until it is restarted.

        Returns when it has begun. Raises ProtocolError `not_found`; `bad_request` where no other node could take them;
        `outcome_unknown` where it does not answer; BrokerError.
        """
        others = [info for info in await self._engine.nodes.known_now() if not info.is_draining]
        takers = [info.id for info in others] + ([] if self._engine.leaving.has_begun else [self._engine.router.node])
        if not [taker for taker in takers if taker != node]:
            detail = "There is no other node that could take the clients. To end the last one, stop its process."
            raise ProtocolError("bad_request", detail)
        return DrainAnswer(node, await self._orders.give(node, orders.Drain(), int))

    # -- inside

    def _checked(self, channel: str) -> str:
        channel = parse_channel(channel)
        self._engine.operations.namespace(channel)
        return channel

    def _limit(self, limit: int) -> int:
        if limit < 1:
            raise ProtocolError("bad_request", "`limit` is at least 1.")
        return min(limit, self._engine.limits.managed_page_max)

    @staticmethod
    def _target(subject: str | None, client: str | None, session: str | None, issuer: str | None) -> orders.Target:
        target = orders.Target(subject, client, session, issuer)
        target.check()
        return target


def _reach(gathered: Gathered[Any]) -> dict[str, Any]:
    return {"nodes": len(gathered.answers), "unanswered": gathered.unanswered}


def _later(info: orders.SessionInfo, other: orders.SessionInfo | None) -> orders.SessionInfo:
    """Of what two nodes say of one polled session, that of the one where it came last."""
    return info if other is None or info.since_s >= other.since_s else other
