"""Sealed subscription lists: what a polled session is allowed to read, carried by the client, trusted by every node.

The list travels in the clear with an HMAC-SHA256 over principal, session, token and channels, so that any node can
answer any poll without asking anyone. Another token, another session or another key breaks the seal, and the node then
authorises again; a broken seal is therefore never an error, only work.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable

import msgspec

from hybrid.model import Principal

SEAL_KEY_BYTES = 32
_DIGEST_BYTES = 32
_DECODER = msgspec.json.Decoder(list[str])


class Sealer:
    """Makes and checks seals with one secret key of `SEAL_KEY_BYTES`, shared by all nodes."""

    def __init__(self, key: bytes) -> None:
        if len(key) < SEAL_KEY_BYTES:
            raise ValueError(f"a seal key has at least {SEAL_KEY_BYTES} bytes")
        self._key = key

    def seal(self, principal: Principal, session: str, channels: Iterable[str]) -> str:
        """The sealed list, URL-safe text. The token's own end bounds it, since its hash is part of it."""
        body = msgspec.json.encode(sorted(channels))
        return urlsafe_b64encode(self._digest(principal, session, body) + body).decode().rstrip("=")

    def open(self, sealed: str, principal: Principal, session: str) -> list[str] | None:
        """The channels, sorted; None when the seal does not fit this principal, token and session. Never raises."""
        try:
            raw = urlsafe_b64decode(sealed.encode("ascii") + b"=" * (-len(sealed) % 4))
            digest, body = raw[:_DIGEST_BYTES], raw[_DIGEST_BYTES:]
            if not hmac.compare_digest(digest, self._digest(principal, session, body)):
                return None
            return _DECODER.decode(body)
        except (ValueError, msgspec.MsgspecError):
            return None

    def _digest(self, principal: Principal, session: str, body: bytes) -> bytes:
        bound_to = msgspec.json.encode(
            [principal.issuer, principal.subject, principal.client, session, principal.token_hash]
        )
        return hmac.digest(self._key, len(bound_to).to_bytes(4, "big") + bound_to + body, "sha256")
