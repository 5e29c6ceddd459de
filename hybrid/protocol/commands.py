"""Client to server: every command, as the types that parse the wire.

A command is one JSON object with a `method`; unknown fields are ignored, unknown methods are an error. `id` is chosen
by the client and comes back in the reply. Rules of use are in `docs/protocol.md`, section "Sessions".
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from hybrid.limits import KEY_MAX_BYTES, OFFSET_MAX, TRIED_MAX, TYPE_MAX_CHARACTERS

Offset: TypeAlias = Annotated[int, Meta(ge=0, le=OFFSET_MAX)]
Number: TypeAlias = Annotated[int, Meta(ge=0, le=OFFSET_MAX)]
ShortText: TypeAlias = Annotated[str, Meta(max_length=64)]
ChannelText: TypeAlias = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=255,
        extra_json_schema={"pattern": r"^(?!\.{1,2}$)[^*\u0000-\u001f\u007f-\u009f]+$"},  # `protocol.channels` checks
    ),
]
Epoch: TypeAlias = Annotated[str, Meta(max_length=64, extra_json_schema={"pattern": "^[a-z0-9]{0,16}$"})]
Tag: TypeAlias = Annotated[str, Meta(max_length=64, extra_json_schema={"pattern": "^([0-9a-f]{8})?$"})]
Key: TypeAlias = Annotated[str, Meta(min_length=1, max_length=KEY_MAX_BYTES)]
TypeText: TypeAlias = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9._-]{1,64}\Z", max_length=TYPE_MAX_CHARACTERS)]


class WirePosition(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A position as JSON: `{"offset": 42, "epoch": "k3f9", "tag": "9c1d07aa"}`, or `{"offset": 0}`."""

    offset: Offset
    epoch: Epoch = ""
    tag: Tag = ""


class ClientInfo(msgspec.Struct, frozen=True, gc=False):
    """Which library speaks; for logs and statistics only."""

    name: ShortText = ""
    version: ShortText = ""


class AttachSubscription(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One channel of an attach: go on after `position`, or `history` publications back, or from now on."""

    channel: ChannelText
    position: WirePosition | None = None
    history: Annotated[int, Meta(ge=0, le=1000)] = 0


class Tried(msgspec.Struct, frozen=True, gc=False):
    """A transport that the client would rather use, and why it does not: for statistics only."""

    transport: ShortText
    reason: ShortText


class Command(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True, tag_field="method"):
    """What all commands share. `n` numbers subscribe, unsubscribe and refresh of a stream session from 1."""

    id: Number = 0


class Auth(Command, frozen=True, tag="auth"):
    """The first frame of a WebSocket whose client cannot set a header."""

    token: Annotated[str, Meta(min_length=1)]

    def __repr__(self) -> str:
        return "Auth(token=...)"  # what is printed for a log or a debugger must not hold a credential


class Attach(Command, frozen=True, tag="attach"):
    """Opens a candidate leg, or with `confirm` the current one, naming every channel and its position.

    `heartbeat_s` is how often this leg wants to hear the server, where its network needs it more often than usual.
    """

    attempt: Number = 0
    nonce: ShortText = ""
    session: ShortText = ""
    last_seq: Number = 0
    client: ClientInfo = ClientInfo()
    confirm: bool = False
    heartbeat_s: Annotated[float, Meta(ge=0, le=3600)] | None = None
    tried: Annotated[tuple[Tried, ...], Meta(max_length=TRIED_MAX)] = ()
    subscriptions: list[AttachSubscription] = []


class Confirm(Command, frozen=True, tag="confirm"):
    """Makes the candidate leg of this attempt the current one."""

    attempt: Number
    subscriptions: list[AttachSubscription] | None = None


class Subscribe(Command, frozen=True, tag="subscribe"):
    """Adds a channel to the session. `sealed` only from polled sessions, which then get a new sealed list."""

    channel: ChannelText
    n: Number = 0
    position: WirePosition | None = None
    history: Annotated[int, Meta(ge=0, le=1000)] = 0
    sealed: str = ""


class Unsubscribe(Command, frozen=True, tag="unsubscribe"):
    """Takes a channel from the session."""

    channel: ChannelText
    n: Number = 0
    sealed: str = ""


class Publish(Command, frozen=True, tag="publish"):
    """Publishes. `key` makes a repeat safe; `binary` says that data is `{"base64": "..."}` standing for bytes."""

    channel: ChannelText
    data: msgspec.Raw
    key: Key | None = None
    type: TypeText | None = None
    binary: bool = False


class Call(Command, frozen=True, tag="call"):
    """Asks a handler of the application. `key` makes a repeat safe: it gets the first one's result."""

    name: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9._-]{1,64}\Z", max_length=64)]
    data: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)  # as a plain default no schema could be made of it
    key: Key | None = None


class History(Command, frozen=True, tag="history"):
    """Reads the log: after a position, or the first or (reverse) the last `limit`."""

    channel: ChannelText
    after: WirePosition | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    reverse: bool = False


class Presence(Command, frozen=True, tag="presence"):
    """Asks who is on a channel."""

    channel: ChannelText


class Refresh(Command, frozen=True, tag="refresh"):
    """A new token for the session; on one-way transports it travels in the header and `token` is empty."""

    token: str = ""
    n: Number = 0

    def __repr__(self) -> str:
        return f"Refresh(token=..., n={self.n}, id={self.id})"  # as Auth's


class Heartbeat(Command, frozen=True, tag="heartbeat"):
    """The client lives, and has seen the pushes up to `last_seq`.

    `echo`, a number of the client's from 1 on, asks for a heartbeat of the server, now, which brings it. It comes on
    the leg that asked; for one that is posted, on the stream of this `attempt`, or on the current one where none is
    named.
    """

    last_seq: Number = 0
    echo: Number = 0
    attempt: Number | None = None


class PolledPosition(msgspec.Struct, frozen=True, gc=False):
    """One channel of a poll and the position its application has reached."""

    channel: ChannelText
    position: WirePosition


class Poll(Command, frozen=True, tag="poll"):
    """The next long poll of a session: positions and `last_seq` seen so far, and the sealed subscription list.

    `wait_s` 0 answers at once. `confirm` makes the polling leg the current one.
    """

    session: ShortText
    attempt: Number
    last_seq: Number = 0
    positions: list[PolledPosition] = []
    sealed: str = ""
    wait_s: Annotated[float, Meta(ge=0, le=3600)] = 25.0
    confirm: bool = False


AnyCommand: TypeAlias = (
    Auth | Attach | Confirm | Subscribe | Unsubscribe | Publish | Call | History | Presence | Refresh | Heartbeat | Poll
)


class CommandPost(msgspec.Struct, frozen=True, gc=False):
    """The body of `POST /v1/command`: commands of a session that cannot send on its stream."""

    session: ShortText = ""
    commands: list[msgspec.Raw] = []
    last_seq: Number = 0
