"""How a broker recognises that two publishes with one idempotency key have the same body."""

from __future__ import annotations

from hashlib import blake2b

from hybrid.broker.base import Append


def body_digest(append: Append) -> bytes:
    """16 bytes that stand for channel, type, kind and data; the key and the bounds of the history do not count."""
    flag = b"b" if append.is_binary else b"j"
    head = f"{append.channel}\0{append.type or ''}\0".encode()  # neither can contain NUL
    return blake2b(head + flag + append.data, digest_size=16).digest()
