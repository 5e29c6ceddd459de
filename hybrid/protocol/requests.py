"""Plain HTTP: bodies of requests and of answers, as the types that parse and write them.

Answers that are joined by hand for speed have their type here all the same: the published schemas are made of it, and
tests hold what is written against them. Rules of use: `docs/protocol.md`, section "Plain channels".
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from hybrid.protocol.commands import Attach, ChannelText, Epoch, Key, Offset, Poll, Tag, TypeText, WirePosition
from hybrid.protocol.pushes import PresenceItem, Push, Reply, WireError, WirePublication

Cursor: TypeAlias = Annotated[str, Meta(max_length=2048)]


class BatchItem(msgspec.Struct, frozen=True):
    """One publication of a batch. `key` makes a repeat safe; `binary`: data is `{"base64": "..."}`, standing for bytes.

    `data` is any JSON value.
    """

    channel: ChannelText
    data: msgspec.Raw
    type: TypeText | None = None
    key: Key | None = None
    binary: bool = False


class Batch(msgspec.Struct, frozen=True):
    """The body of `POST /v1/publish`. Items are decoded one by one, so that each gets an answer of its own."""

    publications: list[msgspec.Raw]


class BatchBody(msgspec.Struct, frozen=True):
    """`Batch` as it is published: 64 at most, unless the server is told otherwise."""

    publications: Annotated[list[BatchItem], Meta(max_length=64)]


class Published(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a publication stands in the log; `repeated`: it stood there already, under the same key."""

    offset: Offset
    epoch: Epoch
    tag: Tag
    repeated: bool = False


class BatchResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one publication: its position, or an error."""

    position: WirePosition | None = None
    repeated: bool = False
    error: WireError | None = None


class BatchAnswer(msgspec.Struct, frozen=True):
    """One result for each publication, in their order."""

    results: list[BatchResult]


class PollPage(msgspec.Struct, frozen=True):
    """The answer to a plain long poll. `cursor` is what the next one sends as `after`.

    `recovered` false: publications before `cursor` cannot be had any more (a reset).
    """

    cursor: Cursor
    recovered: bool
    publications: list[WirePublication]


class HistoryPage(msgspec.Struct, frozen=True):
    """A part of the log, and the cursor of its head."""

    publications: list[WirePublication]
    cursor: Cursor


class PresenceList(msgspec.Struct, frozen=True):
    """Who is on a channel now."""

    entries: list[PresenceItem]


class ResetFrame(msgspec.Struct, frozen=True):
    """The frame of a plain WebSocket whose cursor cannot be continued: it goes on after `reset`."""

    channel: str
    reset: WirePosition


class ResetEvent(msgspec.Struct, frozen=True):
    """The data of `event: hybrid.reset` on a plain event stream: this channel goes on after `cursor`."""

    channel: str
    cursor: Cursor


class BundleItem(msgspec.Struct, frozen=True):
    """The data of an event on a plain event stream of several channels; `data` is the publication's."""

    channel: str
    data: msgspec.Raw


class TicketRequest(msgspec.Struct, frozen=True):
    """The body of `POST /v1/ticket`: `channels` with the purpose "channels", or `attach` with "session"."""

    purpose: Annotated[str, Meta(extra_json_schema={"enum": ["channels", "session"]})]
    channels: Annotated[list[ChannelText], Meta(max_length=16)] = []
    attach: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)  # not `| None`: such a union takes only null


class TicketAnswer(msgspec.Struct, frozen=True):
    """A ticket for a URL; what it is good for was said when it was asked for."""

    ticket: str
    expires_in_s: float


class RevokeRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Exactly one of `jti`, `sid`, `subject` and `client`.

    `issuer` may be left out; another one than the token's own is refused.
    """

    jti: str | None = None
    sid: str | None = None
    subject: str | None = None
    client: str | None = None
    issuer: str | None = None


class Revoked(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is refused from now on, and how much that was open at this node has ended."""

    issuer: str
    at_s: float
    ended_here: int
    jti: str | None = None
    sid: str | None = None
    subject: str | None = None
    client: str | None = None


class PingAnswer(msgspec.Struct, frozen=True):
    """The server's clock, in milliseconds since 1970."""

    at_ms: int


class PushList(msgspec.Struct, frozen=True):
    """The answer to an attach or a poll of a session."""

    pushes: list[Push]


class ReplyList(msgspec.Struct, frozen=True):
    """The answers to the commands of one POST, in their order; a heartbeat has none."""

    replies: list[Reply]


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error (RFC 9457). `number` and `name` are the line of the table of errors that programs go by.

    `limit` is the name of the limit that was hit, where it was one.
    """

    title: str
    status: int
    number: int
    name: str
    detail: str = ""
    retry_after_s: float | None = None
    limit: str = ""


StreamRequest: TypeAlias = Attach | Poll
"""The body of `POST /v1/stream`."""
