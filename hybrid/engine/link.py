"""What the engine asks of one open pipe to one client, kept beside its caller (the implementations are in `links/`).

A link moves bytes. It knows how its transport frames a payload, and nothing of channels, sessions, tokens or JSON.
All calls and all callbacks happen on the event loop's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

Segment: TypeAlias = bytes | tuple[bytes, ...]
"""What `Link.write` takes: bytes ready for the socket, or for message-based pipes one item per message.

Made once by a `Framing` and shared by all links of that framing: it must never be changed after it was made.
"""

Framing: TypeAlias = Callable[[Sequence[bytes]], Segment]
"""Joins payloads into one segment as a kind of pipe frames them. Links of the same kind carry the *same* function:

the hub groups its links by it and calls it once per flush, not once per link.
"""


class Deflated(bytes):
    """A payload as permessage-deflate carries it (RFC 7692, section 7.2.1): raw DEFLATE without its last four bytes.

    Only for links that take it (`Link.takes_deflated`): their framing tells it from others by its type.
    """

    __slots__ = ()


class LinkOwner(Protocol):
    """What a link calls. No callback may raise; `link_closed` comes exactly once and last."""

    def link_received(self, message: bytes, is_text: bool) -> None:
        """One whole message from the peer. Text has been checked to be UTF-8. Never called on one-way links."""

    def link_paused(self) -> None:
        """More than the high-water mark waits in the link's buffer: stop writing publications.

        May be called from inside `Link.write`.
        """

    def link_resumed(self) -> None:
        """The buffer has drained below the low-water mark."""

    def link_closed(self, code: int, reason: str) -> None:
        """The pipe has ended, whoever ended it. `code` is the peer's close code, ours, 1005 (none) or 1006 (lost)."""


class Link(Protocol):
    """One open pipe, from after its handshake to its end."""

    @property
    def framing(self) -> Framing:
        """How this kind of pipe frames payloads; the same function object for all links of the kind."""

    @property
    def is_bidirectional(self) -> bool:
        """True when the peer can send messages on it (WebSocket)."""

    @property
    def takes_deflated(self) -> bool:
        """True when the peer has agreed to permessage-deflate: payloads may be `Deflated`, each for itself."""

    @property
    def peer(self) -> str:
        """Address and port of the client, for logs; empty where the server does not tell."""

    @property
    def last_received_s(self) -> float:
        """Monotonic time of the last bytes from the peer (control frames count)."""

    def write(self, segment: Segment) -> None:
        """Queue a segment made by this link's own framing. Never raises and never waits; does nothing once closed."""

    def buffered(self) -> int:
        """Bytes written but not yet taken by the operating system (or by the server, for an ASGI link)."""

    def probe(self) -> None:
        """Send whatever makes an idle peer show that it lives and keeps middle boxes awake: a ping, or a comment."""

    def pause_reading(self) -> None:
        """Stop reading from the peer, so that TCP holds it back. Messages already parsed may still arrive."""

    def resume_reading(self) -> None:
        """Read again."""

    def close(self, code: int, reason: str = "") -> None:
        """Say goodbye after all that was written: a close frame, or the end of the stream. Safe to call twice.

        `reason` is cut to 123 bytes of UTF-8. A peer that does not answer, or does not read, within
        `close_timeout_s` is aborted.
        """

    def abort(self) -> None:
        """End at once, losing what was not sent."""


class MessageLink(Link, Protocol):
    """A link on which the peer can send messages."""

    message_max_bytes: int
    """Larger messages end the link with 1009. May be raised at any time; it holds for the next message."""


def address_of(peer: str) -> str:
    """The address in what `Link.peer` says: `192.0.2.1:99`, `[2001:db8::1]:99`, or without a port."""
    if peer.startswith("["):
        return peer[1:].partition("]")[0]
    return peer if peer.count(":") > 1 else peer.partition(":")[0]
