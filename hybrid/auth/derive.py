"""Keys for single purposes, out of the one secret that all nodes share.

One secret is easier to keep than five, and no part of the server can use another part's key.
"""

from __future__ import annotations

import hmac
import secrets

KEY_BYTES = 32


def derive_key(secret: str, purpose: str) -> bytes:
    """The key of 32 bytes for a purpose: HMAC-SHA256 of its name (the expanding half of RFC 5869, section 2.3).

    Without a secret, for a process that shares with nobody, a random one that ends with it.
    """
    if not secret:
        return secrets.token_bytes(KEY_BYTES)
    return hmac.digest(secret.encode(), f"hybrid {purpose}\x01".encode(), "sha256")
