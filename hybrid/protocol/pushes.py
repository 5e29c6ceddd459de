"""Server to client: every push and reply, as the types that write the wire.

A push is one JSON object with one field that names it, beside `seq` for the pushes that are numbered. Numbered are
those that nothing else heals: `subscribe`, `unsubscribed` and `expiring`. Publications and resets are healed by
positions, `attached` and `subscribed` by the next attach, joins and leaves by a presence snapshot.
"""

from __future__ import annotations

from typing import Any

import msgspec

from hybrid.protocol.commands import WirePosition


class AttachedLimits(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The bounds a client must know to keep within them."""

    data_max_bytes: int
    command_max_bytes: int
    channels_max: int
    key_window_s: float
    poll_wait_max_s: float
    echo_interval_s: float = 0.0  # 0: a server that knows no echo


class Attached(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The leg works: the nonce came back over it. `is_resumed`: the session was known here."""

    session: str
    attempt: int
    nonce: str
    heartbeat_interval_s: float
    limits: AttachedLimits
    is_resumed: bool = False
    token_expires_in_s: float | None = None


class Subscribed(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One channel of the answer to a confirm: from where it goes on, or the error that ended it.

    `recovered` false: publications between the client's position and `position` cannot be had (a reset).
    """

    channel: str
    position: WirePosition | None = None
    recovered: bool = True
    error: int = 0


class SubscribedAll(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The whole truth about a session's channels; what is not in it has ended. `sealed` for polled sessions."""

    channels: list[Subscribed]
    sealed: str = ""


class WireError(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An error as a peer sees it, on any transport; `number` and `name` from the table."""

    number: int
    name: str
    detail: str = ""
    retry_after_s: float | None = None


class WirePublication(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A publication; `data` is any JSON value, or bytes in MessagePack. Written without copying as `msgspec.Raw`.

    `data` has no default: with one, null would be left out of the wire.
    """

    channel: str
    offset: int
    epoch: str
    tag: str
    data: Any
    type: str | None = None
    binary: bool = False


class PresenceItem(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One principal on a channel."""

    subject: str
    client: str = ""


class Reply(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The answer to the command with this `id` (and `n`, where it was numbered): a result, or `error`."""

    id: int = 0
    n: int = 0
    error: WireError | None = None
    position: WirePosition | None = None
    recovered: bool | None = None
    repeated: bool = False
    publications: list[WirePublication] | None = None
    head: WirePosition | None = None
    entries: list[PresenceItem] | None = None
    result: Any = msgspec.UNSET
    token_expires_in_s: float | None = None
    sealed: str = ""


class PresencePush(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Somebody came to a channel, or left it."""

    channel: str
    subject: str
    client: str = ""


class Unsubscribed(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The server ended a subscription; `error` says why (0: it was asked to)."""

    channel: str
    error: int = 0


class Invitation(msgspec.Struct, frozen=True, gc=False):
    """The server asks the client to subscribe to a channel, after `position`; it permits nothing."""

    channel: str
    position: WirePosition


class Reset(msgspec.Struct, frozen=True, gc=False):
    """Publications of this channel were lost to this client; it goes on after `position`."""

    channel: str
    position: WirePosition


class Expiring(msgspec.Struct, frozen=True, gc=False):
    """The token's time is nearly over: refresh."""

    in_s: float


class HeartbeatPush(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The server lives; its clock lets the client see late and lumped delivery. `echo`: the number of what asked."""

    at_ms: int
    echo: int = 0


class Disconnect(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The leg ends now. `reconnect` false: stay away; otherwise come back after `delay_ms`."""

    code: int
    reason: str
    reconnect: bool = True
    delay_ms: int = 0


class Push(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The envelope: exactly one field is set, and `seq` where the push is numbered."""

    attached: Attached | None = None
    subscribed: SubscribedAll | None = None
    reply: Reply | None = None
    publication: WirePublication | None = None
    join: PresencePush | None = None
    leave: PresencePush | None = None
    subscribe: Invitation | None = None
    unsubscribed: Unsubscribed | None = None
    reset: Reset | None = None
    expiring: Expiring | None = None
    heartbeat: HeartbeatPush | None = None
    disconnect: Disconnect | None = None
    seq: int = 0
