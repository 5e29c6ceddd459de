"""What nodes tell each other, and the seal on it. Sans-I/O.

A message is sealed for one node and one life of it: HMAC-SHA256 over sender, receiver, a rising count and the body. So
whoever can write to the broker, but does not know the nodes' secret, can neither speak for a node nor repeat what one
has said, to it or to another. Unknown fields and kinds are ignored: two versions of hybrid run side by side during an
upgrade.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from typing import Final, TypeAlias

import msgspec

from hybrid.model import Principal

CONTROL_KEY_BYTES: Final = 32
_DIGEST_BYTES: Final = 32
_SENDERS_MAX: Final = 1_024
"""Lives of nodes whose counts are remembered; the one longest unheard goes first."""


class Ask(msgspec.Struct, frozen=True, tag="ask"):
    """Carry out one command of a session that lives at the receiver, for this principal.

    `command` is JSON as the client sent it; `last_seq` acknowledges pushes.
    """

    id: int
    session: str
    principal: Principal
    command: bytes
    last_seq: int = 0


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """The reply to an `Ask`, as JSON; empty where the command has none."""

    id: int
    reply: bytes = b""


class Moved(msgspec.Struct, frozen=True, tag="moved"):
    """The client of a session that lives at the receiver goes on at the sender, since `attempt`."""

    session: str
    principal: Principal
    attempt: int


class Opened(msgspec.Struct, frozen=True, tag="opened"):
    """The stream of a channels ticket was opened at the sender, for the `number`-th time: an older one can end."""

    ticket: bytes
    number: int


class Order(msgspec.Struct, frozen=True, tag="order"):
    """Carry out an order of `protocol.orders`, which `order` is as MessagePack, and answer with an `Outcome`."""

    id: int
    order: bytes


class Outcome(msgspec.Struct, frozen=True, tag="outcome"):
    """What came of an `Order`, as MessagePack; or the name of the error that it was refused with."""

    id: int
    result: bytes = b""
    error: str = ""
    detail: str = ""


ControlMessage: TypeAlias = Ask | Answer | Moved | Opened | Order | Outcome


class _Envelope(msgspec.Struct, frozen=True, array_like=True):
    sender: str
    receiver: str
    count: int
    body: msgspec.Raw


_encode: Final = msgspec.msgpack.Encoder().encode
_open: Final = msgspec.msgpack.Decoder(_Envelope).decode
_decode: Final = msgspec.msgpack.Decoder(ControlMessage).decode


class ControlCodec:
    """Seals and opens for one life of one node; `node` is drawn anew at every start."""

    def __init__(self, key: bytes, node: str) -> None:
        if len(key) < CONTROL_KEY_BYTES:
            raise ValueError(f"a control key has at least {CONTROL_KEY_BYTES} bytes")
        self._key = key
        self._node = node
        self._count = 0
        self._heard: OrderedDict[str, int] = OrderedDict()

    def seal(self, receiver: str, message: ControlMessage) -> bytes:
        """The message, sealed for one node. Messages have to be sent in the order of these calls."""
        self._count += 1
        text = _encode(_Envelope(self._node, receiver, self._count, msgspec.Raw(_encode(message))))
        return self._digest(text) + text

    def open(self, sealed: bytes) -> tuple[str, ControlMessage] | None:
        """Who sent it, and what. None for what is not sealed for us, was heard before, or is of a kind not known."""
        digest, text = sealed[:_DIGEST_BYTES], sealed[_DIGEST_BYTES:]
        if not hmac.compare_digest(digest, self._digest(text)):
            return None
        try:
            envelope = _open(text)
            if envelope.receiver != self._node or envelope.count <= self._heard.get(envelope.sender, 0):
                return None
            self._heard[envelope.sender] = envelope.count
            self._heard.move_to_end(envelope.sender)
            if len(self._heard) > _SENDERS_MAX:
                self._heard.popitem(last=False)
            return envelope.sender, _decode(envelope.body)
        except (ValueError, RecursionError):  # all that msgspec raises for what it cannot read
            return None

    def _digest(self, text: bytes) -> bytes:
        return hmac.digest(self._key, text, "sha256")
