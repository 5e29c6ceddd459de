"""The bodies of the server API: what a backend asks over HTTP, and what it is answered. See docs/server-api.md.

Requests forbid unknown fields: a misspelt `reconnect` must not end somebody's connection for good.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from hybrid.limits import REASON_MAX_BYTES
from hybrid.protocol.commands import ChannelText, Key, TypeText, WirePosition
from hybrid.protocol.orders import NAME_MAX_BYTES, NodeStats, SessionInfo
from hybrid.protocol.pushes import WireError

DELAY_MAX_S = 3_600.0
"""Before somebody comes back who was sent away."""
_Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=NAME_MAX_BYTES)]


class BroadcastRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /v1/broadcast`: the same data to each of these channels. The key may also be an `Idempotency-Key`."""

    channels: list[ChannelText]
    data: msgspec.Raw
    type: TypeText | None = None
    binary: bool = False
    key: Key | None = None


class BroadcastResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of one channel: where it stands in the log, or why not. `repeated`: its key was known."""

    channel: str
    position: WirePosition | None = None
    repeated: bool = False
    error: WireError | None = None


class BroadcastAnswer(msgspec.Struct, frozen=True):
    """One result for each channel, in the order of the request."""

    results: list[BroadcastResult]


class SubscribeRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /v1/subscribe` and `POST /v1/unsubscribe`: exactly one of the three says whose sessions."""

    channel: ChannelText
    subject: _Name | None = None
    client: _Name | None = None
    session: _Name | None = None


class Reached(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`nodes` is how many nodes answered, `unanswered` the ids of those that did not in time: there it may have been
    done, or not. `repeated`: the key was known, and this is what it gave at first.
    """

    nodes: int
    unanswered: list[str] = []
    repeated: bool = False


class SubscribeAnswer(Reached, frozen=True, kw_only=True):
    """How many sessions were asked to subscribe, were on the channel already, and may not be or have no room for it."""

    sessions: int
    already: int
    refused: int


class UnsubscribeAnswer(Reached, frozen=True, kw_only=True):
    """How many sessions were on the channel, and are not any more."""

    sessions: int


class DisconnectRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /v1/disconnect`: exactly one of the three says whose connections. `reason` is for people.

    With `reconnect` they come back, after `delay_s` and a little more, by chance.
    """

    subject: _Name | None = None
    client: _Name | None = None
    session: _Name | None = None
    reason: Annotated[str, Meta(max_length=REASON_MAX_BYTES)] = ""
    reconnect: bool = True
    delay_s: Annotated[float, Meta(ge=0, le=DELAY_MAX_S)] = 0.0


class DisconnectAnswer(Reached, frozen=True, kw_only=True):
    """How many sessions were ended, and how many streams and waiting polls of plain channels."""

    sessions: int
    streams: int


class PurgeRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /v1/purge`."""

    channel: ChannelText


class PurgeAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where the channel goes on from; offset 0 where there was nothing to purge."""

    channel: str
    position: WirePosition
    repeated: bool = False


class DrainRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /v1/drain`."""

    node: _Name


class DrainAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """How many streams and waiting polls the node has begun to send on."""

    node: str
    streams: int
    repeated: bool = False


class ChannelItem(msgspec.Struct, frozen=True):
    """A channel that somebody listens to: subscriptions, and polls that wait."""

    channel: str
    subscribers: int


class ChannelsAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """`GET /v1/info/channels`, in the order of names. `next`: there are more, behind this name."""

    channels: list[ChannelItem]
    nodes: int
    unanswered: list[str] = []
    next: str | None = None


class PresenceCounts(msgspec.Struct, frozen=True):
    """How many principals are on a channel, and with how many sessions."""

    principals: int
    sessions: int


class ChannelAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`GET /v1/info/channels/{channel}`. `present` where its namespace offers presence; `position` is its head."""

    channel: str
    subscribers: int
    position: WirePosition
    present: PresenceCounts | None = None
    nodes: int
    unanswered: list[str] = []


class SessionsAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """`GET /v1/info/sessions`, in the order of ids. `next`: there are more, behind this id."""

    sessions: list[SessionInfo]
    nodes: int
    unanswered: list[str] = []
    next: str | None = None


class NodeItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One node. `streams` are open streams and waiting polls, `sessions` also those whose clients may come back,
    `channels` those that it follows, `room` how many streams it can still take.
    """

    node: str
    version: str
    address: str = ""
    uptime_s: float | None = None
    streams: int
    sessions: int
    channels: int
    room: int
    draining: bool = False


class NodesAnswer(msgspec.Struct, frozen=True):
    """`GET /v1/info/nodes`: the one that answers first, the others as of their last word, at most some seconds ago."""

    nodes: list[NodeItem]


class StatsAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """`GET /v1/info/stats`: what each node counts, the one that answers first."""

    nodes: list[NodeStats]
    unanswered: list[str] = []
