"""The ways in which a publication is listened to, as values that the hub can group links by.

There is one instance per way, compared by identity: a publication is encoded once for each that somebody listens to,
however many links there are. What the bytes look like is `protocol.publications`' affair.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from hybrid.model import Publication
from hybrid.protocol.codec import JSON, MSGPACK, push_event
from hybrid.protocol.publications import plain_event, plain_json, session_event, session_json, session_msgpack
from hybrid.protocol.pushes import Push


def _not_carried(push: Push) -> bytes | None:
    return None


class Encodable(Protocol):
    """What keeps the payloads of one publication: an entry of a ring or of a page."""

    def payload(self, encoding: Encoding) -> bytes:
        """The publication in this encoding."""


class Encoding:
    """One way to write publications, and joins and leaves where it carries them."""

    __slots__ = ("announce", "encode", "name")

    def __init__(
        self,
        name: str,
        encode: Callable[[Publication], bytes],
        announce: Callable[[Push], bytes | None] = _not_carried,
    ) -> None:
        self.name = name
        self.encode = encode
        """The payload of a publication, before it is framed for a link."""
        self.announce = announce
        """The payload of a `join` or `leave` push; None where this way of listening has none."""

    def payloads(self, channel: object, entries: Sequence[Encodable]) -> list[bytes]:
        """The payload of each entry, kept with it. The channel does not matter here (it does to bundles)."""
        return [entry.payload(self) for entry in entries]

    def __repr__(self) -> str:
        return f"<Encoding {self.name}>"


SESSION_JSON: Final = Encoding("session-json", session_json, JSON.encode_push)
SESSION_MSGPACK: Final = Encoding("session-msgpack", session_msgpack, MSGPACK.encode_push)
SESSION_EVENT: Final = Encoding("session-event", session_event, push_event)
PLAIN_JSON: Final = Encoding("plain-json", plain_json)
PLAIN_EVENT: Final = Encoding("plain-event", plain_event)
