"""What one node asks of another, or of itself, on behalf of whoever manages the server, and the answers. Sans-I/O.

They travel as MessagePack inside of control messages, and so between versions: unknown fields are ignored, and a node
that does not know an order says nothing, which its asker tells.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from hybrid.errors import ProtocolError
from hybrid.limits import CHANNEL_NAME_MAX_BYTES
from hybrid.model import Position, Principal

NAME_MAX_BYTES = CHANNEL_NAME_MAX_BYTES
"""Of a subject, a client or a session's id: as tokens may have them."""


class Target(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whom it is about: everybody with this subject, or this client, or one session.

    `issuer` bounds it to principals of that issuer, and to anonymous ones, who are of none; None: of any.
    """

    subject: str | None = None
    client: str | None = None
    session: str | None = None
    issuer: str | None = None

    def check(self) -> None:
        """Raises ProtocolError bad_request unless exactly one is named, by what can be a name."""
        named = [name for name in (self.subject, self.client, self.session) if name is not None]
        if len(named) != 1:
            raise ProtocolError("bad_request", "Name exactly one of subject, client and session.")
        if not 0 < len(named[0].encode("utf-8", "surrogatepass")) <= NAME_MAX_BYTES:
            raise ProtocolError("bad_request", f"A subject, client or session has 1 to {NAME_MAX_BYTES} bytes.")

    def matches(self, principal: Principal, session: str = "") -> bool:
        """Whether this principal, of this session if of any, is meant."""
        if not is_of(principal, self.issuer):
            return False
        if self.session is not None:
            return session == self.session
        if self.subject is not None:
            return principal.subject == self.subject
        return principal.client == self.client


def is_of(principal: Principal, issuer: str | None) -> bool:
    """Whether a principal is of an issuer, or of none; None: of any."""
    return issuer is None or principal.is_anonymous or principal.issuer == issuer


class Subscribe(msgspec.Struct, frozen=True, tag="subscribe"):
    """Ask the clients to subscribe to a channel after `position`. Answered with `Assigned`."""

    target: Target
    channel: str
    position: Position


class Unsubscribe(msgspec.Struct, frozen=True, tag="unsubscribe"):
    """End the subscriptions to a channel. Answered with `Assigned`."""

    target: Target
    channel: str


class Assigned(msgspec.Struct, frozen=True):
    """Of how many sessions it was true: they were told; had it so already; may not, or have no room."""

    sessions: int = 0
    unchanged: int = 0
    refused: int = 0


class Disconnect(msgspec.Struct, frozen=True, tag="disconnect"):
    """End what they have open. Answered with `Disconnected`. `delay_s`: before they come back, at least."""

    target: Target
    reason: str = ""
    reconnect: bool = True
    delay_s: float = 0.0


class Disconnected(msgspec.Struct, frozen=True):
    """How much was ended: sessions, and streams and waiting polls that are no session's."""

    sessions: int = 0
    streams: int = 0


class ListChannels(msgspec.Struct, frozen=True, tag="channels"):
    """The channels in use whose names begin with `prefix` and match one of `patterns`, the next `limit` after `after`.

    Answered with `ChannelPage`.
    """

    patterns: list[str]
    limit: int
    prefix: str = ""
    after: str = ""

    def matches(self, channel: str) -> bool:
        """Whether a channel belongs to the list."""
        return channel > self.after and channel.startswith(self.prefix) and any(map(_Fits(channel), self.patterns))


class _Fits:
    __slots__ = ("_channel",)

    def __init__(self, channel: str) -> None:
        self._channel = channel

    def __call__(self, pattern: str) -> bool:
        if pattern[-1:] == "*":
            return self._channel.startswith(pattern[:-1])
        return pattern == self._channel


class ChannelPage(msgspec.Struct, frozen=True):
    """Names in order, each with how many listen at this node. `has_more`: it is not all."""

    channels: list[tuple[str, int]]
    has_more: bool = False


class CountChannel(msgspec.Struct, frozen=True, tag="channel"):
    """How many listen to a channel. Answered with an int."""

    channel: str


class ListSessions(msgspec.Struct, frozen=True, tag="sessions"):
    """The sessions for which all that is given is true, in the order of their ids. Answered with `SessionPage`."""

    limit: int
    after: str = ""
    issuer: str | None = None
    subject: str | None = None
    client: str | None = None
    transport: str | None = None
    channel: str | None = None


class LookSession(msgspec.Struct, frozen=True, tag="session"):
    """One session with its channels. Answered with a `SessionPage` of one, or none."""

    session: str
    issuer: str | None = None


class SessionInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a node knows of a session. `transport` is empty while none carries it, and the client may come back.

    `since_s` is a Unix time: since when this transport carries it. `buffered` are bytes that it has not taken yet;
    `channels` are only told of one session.
    """

    session: str
    node: str
    transport: str = ""
    issuer: str = ""
    subject: str = ""
    client: str = ""
    address: str = ""
    since_s: float = 0.0
    channel_count: int = 0
    channels: list[str] = []
    buffered: int = 0


class SessionPage(msgspec.Struct, frozen=True):
    """Sessions in the order of their ids. `has_more`: it is not all."""

    sessions: list[SessionInfo]
    has_more: bool = False


class Drain(msgspec.Struct, frozen=True, tag="drain"):
    """Take nobody in any more, and send all clients to other nodes. Answered with how many streams there were."""


class Measure(msgspec.Struct, frozen=True, tag="measure"):
    """Tell what is open, and what was counted since the start. Answered with `NodeStats`."""


class NodeStats(msgspec.Struct, frozen=True, kw_only=True):
    """What one node counts. Of those that only grow, the difference of two answers over that of their `at_s` is a rate.

    `at_s` is the node's own steady clock, in seconds since an arbitrary moment. `connections` are streams by transport,
    and who polls; `sessions` those that are known, by what carries them now, `none` where nothing does.
    """

    node: str
    at_s: float
    connections: dict[str, int]
    sessions: dict[str, int]
    slow: int = 0
    """Streams that do not take what they are sent, and are sent no more until they do."""
    behind: int = 0
    """Publications that are in the logs and not written yet to those who are not live."""
    buffered_bytes: int = 0
    """Written to streams, and not yet taken by the system."""
    channels: int = 0
    subscriptions: int = 0
    published: int = 0
    """Grows: publications that this node was asked for and that are in the log."""
    deliveries: int = 0
    """Grows: publications written to streams, each once for each of them."""
    flushed_bytes: int = 0
    """Grows: bytes written for them."""
    refused: int = 0
    """Grows: errors told to clients."""
    cpu_s: float = 0.0
    """Grows: CPU time of the process. One core is all that it can use: a rate of 1 is full."""
    lag_s: float = 0.0
    """How late the event loop was at worst in the last two seconds."""
    is_draining: bool = False


AnyOrder: TypeAlias = (
    Subscribe | Unsubscribe | Disconnect | ListChannels | CountChannel | ListSessions | LookSession | Drain | Measure
)
