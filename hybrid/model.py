"""The frozen values that every part of hybrid speaks of.

Nothing here does I/O, reads a clock or knows a wire format. The words are those of `docs/protocol.md`.
"""

from __future__ import annotations

from typing import Final

import msgspec


class Position(msgspec.Struct, frozen=True, gc=False):
    """Where a reader is in one channel: the last publication its application has got.

    `epoch` names one life of the channel's log, `offset` rises by one from 1, `tag` is eight hex digits drawn anew for
    every entry. Without the tag a log restored from a stale copy could re-use offsets in the same epoch unnoticed.
    """

    offset: int
    epoch: str = ""
    tag: str = ""

    @property
    def is_start(self) -> bool:
        """True for offset 0: nothing has been read yet, so it continues into any epoch."""
        return self.offset == 0


START: Final = Position(0)
"""The position before the first publication of a channel: no epoch, no tag."""


UNVERIFIED_TAG: Final = "00000000"
"""The tag of a place in a log that has no entry: that before the oldest one kept, whose tag was never known, or the
first of an epoch that a purge began. Its reader has read nothing that the log could contradict, so it continues
wherever the next publication is still kept. It has the form of a tag because it travels in cursors.
"""


class Publication(msgspec.Struct, frozen=True, gc=False):
    """One published datum with its place in the log.

    `data` is compact, checked JSON without raw line breaks (see `protocol.data`). `is_binary` says that it is the JSON
    text `{"base64": "..."}` standing for bytes. `type` is None where the publisher gave none.
    """

    channel: str
    offset: int
    epoch: str
    tag: str
    data: bytes
    type: str | None = None
    is_binary: bool = False

    @property
    def position(self) -> Position:
        """The position of a reader who has got this publication."""
        return Position(self.offset, self.epoch, self.tag)


class Grant(msgspec.Struct, frozen=True, gc=False):
    """Permission for one action on the channels that match `pattern`.

    `action` is "subscribe" (which covers history and presence where the namespace offers them), "publish", or another
    of `auth.grants.Action`. `pattern` is an exact channel name, or a prefix followed by one `*` at its end.
    """

    action: str
    pattern: str


class Principal(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Who a credential speaks for; all that the inside of hybrid ever sees of it.

    `issued_at_s` and `expires_at_s` are Unix times, 0 and infinity where the token does not tell. `token_hash` is the
    first 16 bytes of the token's SHA-256, for seals and revocation; the token itself is kept nowhere. `token_id` is its
    `jti`, `sign_in` the `sid` of the sign-in that it comes from (OpenID Connect Front-Channel Logout 1.0, section 3).
    `proof_key` is the thumbprint of the key that the token is bound to (RFC 9449, section 6; RFC 7638); empty for a
    bearer token. `is_introspected`: the issuer was asked about it, and can be asked again. `channels` are those that
    its sessions are told to subscribe to when they begin; it may read them. An anonymous principal has empty `issuer`
    and `subject` and no grants.
    """

    issuer: str
    subject: str
    client: str = ""
    grants: tuple[Grant, ...] = ()
    expires_at_s: float = float("inf")
    token_id: str = ""
    token_hash: bytes = b""
    sign_in: str = ""
    issued_at_s: float = 0.0
    proof_key: str = ""
    is_introspected: bool = False
    channels: tuple[str, ...] = ()

    @property
    def is_anonymous(self) -> bool:
        """True when nobody showed a credential."""
        return not self.subject

    def is_same_party(self, other: Principal) -> bool:
        """True when both speak for the same subject of the same issuer through the same client."""
        return (self.issuer, self.subject, self.client) == (other.issuer, other.subject, other.client)


ANONYMOUS: Final = Principal(issuer="", subject="")


class PresenceEntry(msgspec.Struct, frozen=True, gc=False):
    """One principal that is on a channel now, counted once however many sessions it has there."""

    subject: str
    client: str = ""
