"""Proofs of possession, made as a client would make them, or wrong in exactly one way."""

from __future__ import annotations

import secrets
from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import Any

from joserfc.jwk import ECKey, OKPKey, RSAKey

from tests.support.tokens import sign

CLIENT_KEY = ECKey.generate_key("P-256")
OTHER_CLIENT_KEY = ECKey.generate_key("P-256")


def digest(token: str) -> str:
    """The `ath` of a token (RFC 9449, section 4.2)."""
    return urlsafe_b64encode(sha256(token.encode()).digest()).rstrip(b"=").decode()


def proof(
    token: str,
    url: str,
    now_s: float,
    method: str = "GET",
    *,
    key: ECKey | RSAKey | OKPKey = CLIENT_KEY,
    alg: str = "ES256",
    header: dict[str, Any] | None = None,
    **changes: Any,
) -> str:
    """A proof in order, but for the changes; a value of None leaves the claim, or the member of the header, out."""
    claims = {
        "jti": secrets.token_hex(8),
        "htm": method,
        "htu": url,
        "iat": int(now_s),
        "ath": digest(token),
        **changes,
    }
    payload = {name: value for name, value in claims.items() if value is not None}
    members = {"typ": "dpop+jwt", "jwk": key.as_dict(private=False), "kid": None, **(header or {})}
    return sign(payload, key, alg, **members)
